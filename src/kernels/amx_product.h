// Rows of digits times columns of levels in tiles. Private to amx.cc.
//
// Tiles: two of sums, one for each column of a pass; the digits of four chunks, which stay for all
// columns up to 256 coordinates; two of levels. The vector units decode the levels of the next pass
// and finish the columns of the last one while the tile unit multiplies.
#ifndef TURBOQUANT_SRC_KERNELS_AMX_PRODUCT_H_
#define TURBOQUANT_SRC_KERNELS_AMX_PRODUCT_H_

#include "src/kernels/amx_lines.h"
#include "src/kernels/amx_tiles.h"

namespace turboquant::kernels {
namespace {

constexpr int kSumsTile = 0;    // and 1
constexpr int kDigitsTile = 2;  // to 5
constexpr int kLevelsTile = 6;  // and 7

// Tiles configured for `rows` rows of digits while it lives.
class TilesInUse {
 public:
  explicit TilesInUse(size_t rows) {
    TileShapes shapes;
    for (int tile = 0; tile < 8; ++tile) {
      shapes.row_bytes[tile] = kTileRowBytes;
      shapes.rows[tile] = static_cast<uint8_t>(tile < kLevelsTile ? rows : kTileRows);
    }
    ConfigureTiles(shapes);
  }
  TilesInUse(const TilesInUse&) = delete;
  TilesInUse& operator=(const TilesInUse&) = delete;
  ~TilesInUse() { ReleaseTiles(); }
};

// Sums of one column: row r of digits, lane by lane.
struct alignas(64) ColumnSums {
  int32_t lanes[kTileRows][kLanes];
};

TQ_INLINE Pass After(const Columns& columns, Pass pass) {
  pass.chunk += kPassChunks;
  if (pass.chunk < columns.chunks) return pass;
  pass.chunk = 0;
  pass.column += kPassColumns;
  return pass;
}

template <int kChunk>
TQ_INLINE void LoadDigits(const Tile* digits, size_t chunks) {
  if (kChunk < chunks) LoadTile<kDigitsTile + kChunk>(digits + kChunk, kTileRowBytes);
}

template <int kChunk, int kSide, class Lines>
TQ_INLINE void MultiplyChunk(const Columns& columns, const Lines& lines, const Pass& pass,
                             const Pass& next) {
  if (IsIn(columns, pass, kSide, kChunk)) {
    LoadTile<kLevelsTile + kSide>(lines.At(pass, kSide, kChunk), kTileRowBytes);
    AddProduct<kSumsTile + kSide, kDigitsTile + kChunk, kLevelsTile + kSide, Lines::kSigned>();
  }
  lines.Prepare(next, kSide, kChunk);
}

template <int kChunk, class Lines>
TQ_INLINE void MultiplySides(const Columns& columns, const Lines& lines, const Pass& pass,
                             const Pass& next) {
  MultiplyChunk<kChunk, 0>(columns, lines, pass, next);
  MultiplyChunk<kChunk, 1>(columns, lines, pass, next);
}

// What is done with the sums of a column. A plain pointer to function, so that the loop below is
// compiled once for keys and values: it is called once in a pass.
struct ColumnFinish {
  void (*call)(const void* context, size_t first, size_t count, const ColumnSums* sums);
  const void* context;

  // Of columns [first, first + 2) as far as there are so many.
  TQ_INLINE void operator()(size_t columns, size_t first, const ColumnSums* sums) const {
    call(context, first, std::min(kPassColumns, columns - first), sums);
  }
};

template <class Finish>
void CallFinish(const void* context, size_t first, size_t count, const ColumnSums* sums) {
  const Finish& finish = *static_cast<const Finish*>(context);
  for (size_t i = 0; i < count; ++i) finish(first + i, sums[i]);
}

// Calls finish(column, sums), for as long as it lives.
template <class Finish>
ColumnFinish FinishBy(const Finish& finish) {
  return {CallFinish<Finish>, &finish};
}

// finish(column, sums) for every column of `given` in order; digits are a tile a chunk. At least
// one column.
template <class Lines>
void MultiplyColumns(const Tile* digits, const Lines& given, const ColumnFinish& finish) {
  const Lines lines = given;  // in registers: nobody else knows where this copy lies
  const Columns& columns = lines.columns;
  ColumnSums sums[kPassColumns];
  Pass pass = {0, 0};
  for (size_t i = 0; i < kPassTiles; ++i) lines.Prepare(pass, i % 2, i / 2);
  while (pass.column < columns.count) {
    const Pass next = After(columns, pass);
    if (pass.chunk == 0) {
      ZeroTile<kSumsTile>();
      ZeroTile<kSumsTile + 1>();
    }
    if (pass.column == 0 || columns.chunks > kPassChunks) {
      const size_t left = columns.chunks - pass.chunk;
      LoadDigits<0>(digits + pass.chunk, left);
      LoadDigits<1>(digits + pass.chunk, left);
      LoadDigits<2>(digits + pass.chunk, left);
      LoadDigits<3>(digits + pass.chunk, left);
    }
    MultiplySides<0>(columns, lines, pass, next);
    MultiplySides<1>(columns, lines, pass, next);
    MultiplySides<2>(columns, lines, pass, next);
    MultiplySides<3>(columns, lines, pass, next);
    if (next.chunk == 0) {  // these columns are complete
      if (pass.column > 0) finish(columns.count, pass.column - kPassColumns, sums);
      StoreTile<kSumsTile>(sums[0].lanes, kTileRowBytes);
      StoreTile<kSumsTile + 1>(sums[1].lanes, kTileRowBytes);
    }
    pass = next;
  }
  finish(columns.count, pass.column - kPassColumns, sums);
}

}  // namespace
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_AMX_PRODUCT_H_
