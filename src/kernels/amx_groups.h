// Digits of any number of queries, a tile of rows at a time, times columns. Private to amx.cc.
#ifndef TURBOQUANT_SRC_KERNELS_AMX_GROUPS_H_
#define TURBOQUANT_SRC_KERNELS_AMX_GROUPS_H_

#include "src/kernels/amx_product.h"

namespace turboquant::kernels {
namespace {

// Most chunks of a column: 1024 coordinates.
constexpr size_t kMostChunks = 16;

// Tiles of levels at hand: of one pass, or a panel of columns that many groups of queries share.
constexpr size_t kLevelTiles = 32;

// Digits of queries: row q of `depth` bytes at q · stride. low is null for one digit.
struct DigitRows {
  const uint8_t* high;
  const uint8_t* low;
  size_t stride;
  size_t depth;
  size_t queries;

  size_t digits() const { return low == nullptr ? 1 : 2; }
  // That share a tile.
  size_t group() const { return std::min(queries, kTileRows / digits()); }
};

// A group of queries: its digits as tiles, the high ones above the low ones.
struct Group {
  size_t first;
  size_t count;
  size_t low_row;  // 0: one digit
  Tile digits[kMostChunks];
  int32_t excess[kTileRows];  // of its sums, where levels are unsigned
};

// store(q, sums of query q) for the group's queries in one column.
template <class Store>
TQ_INLINE void ForQueries(const Group& group, const ColumnSums& sums, const Store& store) {
  const size_t count = group.count;
  const size_t low_row = group.low_row;
  const size_t first = group.first;
  for (size_t q = 0; q < count; ++q) {
    __m512i total = _mm512_load_si512(sums.lanes[q]);
    if (low_row != 0) {
      total =
          _mm512_add_epi32(_mm512_slli_epi32(total, 7), _mm512_load_si512(sums.lanes[low_row + q]));
    }
    store(first + q, _mm512_sub_epi32(total, _mm512_set1_epi32(group.excess[q])));
  }
}

// Bytes [at, at + 64) of a row, zero behind its depth.
TQ_INLINE __m512i DigitsAt(const uint8_t* row, size_t at, size_t depth) {
  if (at + kChunkDepth <= depth) return _mm512_loadu_si512(row + at);
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + at));
  return _mm512_inserti64x4(_mm512_setzero_si512(), half, 0);  // depths are multiples of 32
}

void GatherRow(const uint8_t* row, size_t depth, size_t chunks, size_t tile_row, Group& group) {
  for (size_t chunk = 0; chunk < chunks; ++chunk) {
    const __m512i digits =
        row == nullptr ? _mm512_setzero_si512() : DigitsAt(row, chunk * kChunkDepth, depth);
    _mm512_store_si512(group.digits[chunk].row[tile_row], digits);
  }
}

// Rows of queries that a last group lacks are zero.
void GatherDigits(const DigitRows& rows, size_t first, size_t chunks, Group& group) {
  const size_t room = rows.group();
  group.first = first;
  group.count = std::min(room, rows.queries - first);
  group.low_row = rows.low == nullptr ? 0 : room;
  for (size_t q = 0; q < room; ++q) {
    const size_t at = (first + q) * rows.stride;
    const bool here = q < group.count;
    GatherRow(here ? rows.high + at : nullptr, rows.depth, chunks, q, group);
    if (rows.low == nullptr) continue;
    GatherRow(here ? rows.low + at : nullptr, rows.depth, chunks, room + q, group);
  }
}

// Of query q.
int32_t SumOfDigits(size_t chunks, const Group& group, size_t q) {
  const __m512i ones = _mm512_set1_epi8(1);
  __m512i high = _mm512_setzero_si512();
  __m512i low = _mm512_setzero_si512();
  for (size_t chunk = 0; chunk < chunks; ++chunk) {
    const Tile& digits = group.digits[chunk];
    high = _mm512_dpbusd_epi32(high, ones, _mm512_load_si512(digits.row[q]));
    if (group.low_row != 0)
      low = _mm512_dpbusd_epi32(low, ones, _mm512_load_si512(digits.row[group.low_row + q]));
  }
  if (group.low_row != 0) high = _mm512_add_epi32(_mm512_slli_epi32(high, 7), low);
  alignas(64) int32_t lanes[kLanes];
  _mm512_store_si512(lanes, high);
  return std::accumulate(lanes, lanes + kLanes, 0);
}

// The codes of 8 bits are their levels plus 127.
void SumGroup(size_t chunks, Group& group) {
  for (size_t q = 0; q < group.count; ++q) group.excess[q] = 127 * SumOfDigits(chunks, group, q);
}

// finish(group, column, sums) for all columns and groups of queries.
template <int kBits, class Finish>
void MultiplyGroups(const ScorePlan& plan, const Columns& columns, const DigitRows& rows,
                    const Finish& finish) {
  assert(columns.count > 0 && columns.chunks <= kMostChunks);
  const LevelDecoder<kBits> decoder(plan, 0);
  const bool one_group = rows.queries == rows.group();
  const bool in_place = kBits == 8 && columns.WholeChunks();
  const size_t panel =
      one_group ? columns.count : kLevelTiles / columns.chunks / kPassColumns * kPassColumns;
  Tile tiles[kLevelTiles];
  Group group;
  std::fill_n(group.excess, kTileRows, 0);
  const TilesInUse in_use(rows.group() * rows.digits());
  for (size_t first = 0; first < columns.count; first += panel) {
    Columns part = Part(columns, first, std::min(panel, columns.count - first));
    if (!one_group && !in_place) part = DecodeAll(decoder, part, tiles);
    const auto finish_column = [&](size_t column, const ColumnSums& sums) {
      finish(group, first + column, sums);
    };
    const ColumnFinish finish_columns = FinishBy(finish_column);
    for (size_t q = 0; q < rows.queries; q += rows.group()) {
      GatherDigits(rows, q, columns.chunks, group);
      if (in_place) {
        SumGroup(columns.chunks, group);
        MultiplyColumns(group.digits, LinesInPlace<false>{part}, finish_columns);
      } else if (one_group) {
        MultiplyColumns(group.digits, DecodedLines<kBits>{part, decoder, tiles}, finish_columns);
      } else {
        MultiplyColumns(group.digits, LinesInPlace<true>{part}, finish_columns);
      }
      part.ahead = {};  // once is enough
    }
  }
}

}  // namespace
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_AMX_GROUPS_H_
