// Where the tiles of levels come from: packed lines, decoded while the tile unit multiplies those
// before them, or lines that are tiles as they lie. Private to amx.cc.
#ifndef TURBOQUANT_SRC_KERNELS_AMX_LINES_H_
#define TURBOQUANT_SRC_KERNELS_AMX_LINES_H_

#include "src/kernels/amx_columns.h"
#include "src/kernels/avx512_levels.h"

namespace turboquant::kernels {
namespace {

// One step of a product: columns [column, column + 2) by chunks [chunk, chunk + 4).
struct Pass {
  size_t column;
  size_t chunk;
};
constexpr size_t kPassColumns = 2;
constexpr size_t kPassChunks = 4;
constexpr size_t kPassTiles = kPassColumns * kPassChunks;

TQ_INLINE bool IsIn(const Columns& columns, const Pass& pass, size_t side, size_t c) {
  return pass.column + side < columns.count && pass.chunk + c < columns.chunks;
}

template <int kBits>
TQ_INLINE void DecodeUnit(const LevelDecoder<kBits>& decoder, const uint8_t* lines, size_t unit,
                          Tile& tile) {
  using Decoder = LevelDecoder<kBits>;
  __m512i levels[Decoder::kUnitQuads];
  decoder(lines + unit * Decoder::kUnitLines * kLineBytes, levels);
#pragma GCC unroll 8
  for (size_t quad = 0; quad < Decoder::kUnitQuads; ++quad)
    _mm512_store_si512(tile.row[unit * Decoder::kUnitQuads + quad], levels[quad]);
}

// The levels of a last chunk that is not whole; zero behind its last quad.
template <int kBits>
__attribute__((noinline)) void DecodePartialChunk(const LevelDecoder<kBits>& decoder,
                                                  const Columns& columns, size_t at, Tile& tile) {
  using Decoder = LevelDecoder<kBits>;
  const size_t units = CeilDivide(columns.last_quads, Decoder::kUnitQuads);
  columns.ahead.Prefetch(at, units * Decoder::kUnitLines);
  for (size_t unit = 0; unit < units; ++unit) DecodeUnit(decoder, columns.bytes + at, unit, tile);
  for (size_t row = units * Decoder::kUnitQuads; row < kTileRows; ++row)
    _mm512_store_si512(tile.row[row], _mm512_setzero_si512());
}

template <int kBits>
TQ_INLINE void DecodeChunk(const LevelDecoder<kBits>& decoder, const Columns& columns,
                           size_t column, size_t chunk, Tile& tile) {
  using Decoder = LevelDecoder<kBits>;
  constexpr size_t kUnits = kChunkQuads / Decoder::kUnitQuads;
  const size_t at = columns.At(column, chunk);
  if (chunk + 1 == columns.chunks && !columns.WholeChunks()) {
    // Copies, so that the originals' address is not known outside and they stay in registers.
    const LevelDecoder<kBits> same_decoder = decoder;
    const Columns same_columns = columns;
    return DecodePartialChunk(same_decoder, same_columns, at, tile);
  }
  columns.ahead.Prefetch(at, kUnits * Decoder::kUnitLines);
#pragma GCC unroll 16
  for (size_t unit = 0; unit < kUnits; ++unit) DecodeUnit(decoder, columns.bytes + at, unit, tile);
}

// Packed lines, decoded one pass ahead: a tile in memory is written anew as soon as it was loaded.
template <int kBits>
struct DecodedLines {
  static constexpr bool kSigned = true;

  Columns columns;
  LevelDecoder<kBits> decoder;
  Tile* tiles;

  TQ_INLINE const void* At(const Pass&, size_t side, size_t c) const {
    return tiles + side * kPassChunks + c;
  }
  TQ_INLINE void Prepare(const Pass& pass, size_t side, size_t c) const {
    if (!IsIn(columns, pass, side, c)) return;
    DecodeChunk(decoder, columns, pass.column + side, pass.chunk + c,
                tiles[side * kPassChunks + c]);
  }
};

// Whole chunks of levels, or of the codes of 8 bits: unsigned, level + 127.
template <bool kSignedLevels>
struct LinesInPlace {
  static constexpr bool kSigned = kSignedLevels;

  Columns columns;

  TQ_INLINE const void* At(const Pass& pass, size_t side, size_t c) const {
    return columns.bytes + columns.At(pass.column + side, pass.chunk + c);
  }
  TQ_INLINE void Prepare(const Pass& pass, size_t side, size_t c) const {
    if (!IsIn(columns, pass, side, c)) return;
    columns.ahead.Prefetch(columns.At(pass.column + side, pass.chunk + c), kTileRows);
  }
};

// All chunks of the columns as levels, and the columns that they are.
template <int kBits>
Columns DecodeAll(const LevelDecoder<kBits>& decoder, const Columns& columns, Tile* tiles) {
  for (size_t column = 0; column < columns.count; ++column) {
    for (size_t chunk = 0; chunk < columns.chunks; ++chunk)
      DecodeChunk(decoder, columns, column, chunk, tiles[column * columns.chunks + chunk]);
  }
  return {tiles[0].row[0],
          columns.count,
          columns.chunks * sizeof(Tile),
          columns.chunks,
          sizeof(Tile),
          kChunkQuads,
          {}};
}

}  // namespace
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_AMX_LINES_H_
