// encode_rows on AVX-512 for rows of the dims that models have, at most 256: a row stays in
// registers from the rotation to its codes where the codebook has cells, and to the grid with 5 to
// 8 bits. Private to avx512.cc, behind avx512_encode.h.
#ifndef TURBOQUANT_SRC_KERNELS_AVX512_SHORT_ROWS_H_
#define TURBOQUANT_SRC_KERNELS_AVX512_SHORT_ROWS_H_

#include "src/kernels/avx512_encode.h"
#include "src/kernels/avx512_pack_codes.h"

namespace turboquant::kernels {
namespace {

// What every candidate needs of a row on the grid, 16 · kVectors coordinates, zero behind the last.
template <size_t kVectors>
struct CellRow {
  Words<kVectors> magnitude;
  Words<kVectors> cell;

  TQ_INLINE explicit CellRow(const Words<kVectors>& grid) {
#pragma GCC unroll 8
    for (size_t i = 0; i < kPairsOf<kVectors>; ++i) {
      magnitude[i] = _mm512_abs_epi16(grid[i]);
      cell[i] = CellOf(magnitude[i]);
    }
  }
};

// kRows rows on the grid, side by side, so that one's additions fill the waits of another's.
template <size_t kVectors, size_t kRows>
TQ_INLINE void RotateToGrid(const EncodeRow* rows, Words<kVectors>* out) {
  __m512 v[kVectors][kRows];
  const uint32_t* masks[kRows];
#pragma GCC unroll 2
  for (size_t r = 0; r < kRows; ++r) masks[r] = rows[r].plan->rotation.sign_masks;
#pragma GCC unroll 16
  for (size_t i = 0; i < kVectors; ++i) {
#pragma GCC unroll 2
    for (size_t r = 0; r < kRows; ++r) v[i][r] = _mm512_loadu_ps(rows[r].coordinates + 16 * i);
  }
  RotateVectors(rows[0].plan->rotation.rounds, masks, v);
#pragma GCC unroll 2
  for (size_t r = 0; r < kRows; ++r) {
    const __m512 gain = _mm512_set1_ps(rows[r].gain);
#pragma GCC unroll 8
    for (size_t i = 0; i < kPairsOf<kVectors>; ++i) {
      const __m512 high = 2 * i + 1 < kVectors ? v[2 * i + 1][r] : _mm512_setzero_ps();
      out[r][i] = ToPackedGrid(v[2 * i][r], high, gain);
    }
  }
}

// Sums of one candidate, still spread over 16 lanes.
struct LaneSums {
  __m512i grid_level;
  __m512i level_level;
};

// Level indices of the row's magnitudes under a candidate.
template <size_t kVectors>
struct Indices {
  Words<kVectors> index;

  TQ_INLINE Indices(const CellRow<kVectors>& row, const Cells& cells) {
#pragma GCC unroll 8
    for (size_t i = 0; i < kPairsOf<kVectors>; ++i)
      index[i] = LevelIndex(cells, row.cell[i], row.magnitude[i]);
  }
};

template <size_t kVectors>
TQ_INLINE LaneSums SumCandidate(const CellRow<kVectors>& row, const Indices<kVectors>& indices,
                                __m512i levels) {
  LaneSums sums = {_mm512_setzero_si512(), _mm512_setzero_si512()};
#pragma GCC unroll 8
  for (size_t i = 0; i < kPairsOf<kVectors>; ++i) {
    const __m512i level = Inside<kVectors>(i, _mm512_permutexvar_epi16(indices.index[i], levels));
    sums.grid_level = _mm512_dpwssd_epi32(sums.grid_level, row.magnitude[i], level);
    sums.level_level = _mm512_dpwssd_epi32(sums.level_level, level, level);
  }
  return sums;
}

TQ_INLINE __m512i AddUnpacked32(__m512i a, __m512i b) {
  return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
}

TQ_INLINE __m512i AddUnpacked64(__m512i a, __m512i b) {
  return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

// Lane k of the result is the sum of the lanes of vectors[k].
TQ_INLINE __m512i SumsOf16(const __m512i* vectors) {
  __m512i fours[4];
#pragma GCC unroll 4
  for (size_t i = 0; i < 4; ++i) {
    const __m512i* v = vectors + 4 * i;
    fours[i] = AddUnpacked64(AddUnpacked32(v[0], v[1]), AddUnpacked32(v[2], v[3]));
  }
  __m512i eights[2];
#pragma GCC unroll 2
  for (size_t i = 0; i < 2; ++i) {
    const __m512i a = fours[2 * i];
    const __m512i b = fours[2 * i + 1];
    eights[i] =
        _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x44), _mm512_shuffle_i32x4(a, b, 0xEE));
  }
  return _mm512_add_epi32(_mm512_shuffle_i32x4(eights[0], eights[1], 0x88),
                          _mm512_shuffle_i32x4(eights[0], eights[1], 0xDD));
}

// SquaredCosine of four candidates.
TQ_INLINE __m256d SquaredCosines(const int32_t* grid_level, const int32_t* level_level) {
  const __m256d product =
      _mm256_cvtepi32_pd(_mm_load_si128(reinterpret_cast<const __m128i*>(grid_level)));
  const __m256d square =
      _mm256_cvtepi32_pd(_mm_load_si128(reinterpret_cast<const __m128i*>(level_level)));
  const __m256d cosine = _mm256_div_pd(_mm256_mul_pd(product, product), square);
  const __m256d positive = _mm256_cmp_pd(product, _mm256_setzero_pd(), _CMP_GT_OQ);
  return _mm256_blendv_pd(_mm256_set1_pd(-1.0), cosine, positive);
}

// The first of the 16 candidates with the largest squared cosine.
template <size_t kVectors>
TQ_INLINE int BestCandidate(const EncodePlan& plan, const CellRow<kVectors>& row, __m512i levels,
                            RowSums& sums) {
  __m512i grid_level[kCandidates];
  __m512i level_level[kCandidates];
  for (int k = 0; k < kCandidates; ++k) {
    const LaneSums lanes = SumCandidate(row, Indices<kVectors>(row, LoadCells(plan, k)), levels);
    grid_level[k] = lanes.grid_level;
    level_level[k] = lanes.level_level;
  }
  alignas(64) int32_t products[kCandidates];
  alignas(64) int32_t squares[kCandidates];
  alignas(64) double cosines[kCandidates];
  _mm512_store_si512(products, SumsOf16(grid_level));
  _mm512_store_si512(squares, SumsOf16(level_level));
  for (int k = 0; k < kCandidates; k += 4)
    _mm256_store_pd(cosines + k, SquaredCosines(products + k, squares + k));
  const int best = static_cast<int>(std::max_element(cosines, cosines + kCandidates) - cosines);
  sums = {products[best], squares[best]};
  return best;
}

template <size_t kVectors>
TQ_INLINE void CodesOf(const EncodePlan& plan, const Words<kVectors>& grid,
                       const Indices<kVectors>& indices, Words<kVectors>& codes) {
  const __m512i half = _mm512_set1_epi16(static_cast<int16_t>(plan.codes / 2));
#pragma GCC unroll 8
  for (size_t i = 0; i < kPairsOf<kVectors>; ++i) {
    codes[i] = Inside<kVectors>(i, CodeOf(half, grid[i], indices.index[i]));
  }
}

// Codes without a search, and their sums.
template <size_t kVectors>
TQ_INLINE LaneSums NearestCodes(const EncodePlan& plan, const Words<kVectors>& grid,
                                Words<kVectors>& codes) {
  const __m512i base = _mm512_loadu_si512(plan.signed_cells);
  const __m512i thresholds = _mm512_loadu_si512(plan.signed_cells + kCells);
  const __m512i levels = _mm512_loadu_si512(plan.levels);
  LaneSums sums = {_mm512_setzero_si512(), _mm512_setzero_si512()};
#pragma GCC unroll 8
  for (size_t i = 0; i < kPairsOf<kVectors>; ++i) {
    const __m512i twice = _mm512_adds_epi16(grid[i], grid[i]);
    const __m512i cell = _mm512_srli_epi16(twice, kSignedCellShift);
    const __m512i low = _mm512_permutexvar_epi16(cell, base);
    const __mmask32 above =
        _mm512_cmpgt_epi16_mask(twice, _mm512_permutexvar_epi16(cell, thresholds));
    const __m512i code = _mm512_mask_add_epi16(low, above, low, _mm512_set1_epi16(1));
    const __m512i level = Inside<kVectors>(i, _mm512_permutexvar_epi16(code, levels));
    sums.grid_level = _mm512_dpwssd_epi32(sums.grid_level, grid[i], level);
    sums.level_level = _mm512_dpwssd_epi32(sums.level_level, level, level);
    codes[i] = Inside<kVectors>(i, code);
  }
  return sums;
}

// Sums of the lanes of two pairs of vectors, in this order.
TQ_INLINE __m128i SumsOf4(const LaneSums& a, const LaneSums& b) {
  const __m512i fours = AddUnpacked64(AddUnpacked32(a.grid_level, a.level_level),
                                      AddUnpacked32(b.grid_level, b.level_level));
  const __m256i two =
      _mm256_add_epi32(_mm512_castsi512_si256(fours), _mm512_extracti64x4_epi64(fours, 1));
  return _mm_add_epi32(_mm256_castsi256_si128(two), _mm256_extracti128_si256(two, 1));
}

// Both rows of a call go to one pair of lanes that share words.
TQ_INLINE bool SideBySide(const EncodeRow* rows) {
  return rows[0].into.blocks == rows[1].into.blocks && rows[0].lane % 2 == 0 &&
         rows[1].lane == rows[0].lane + 1;
}

template <size_t kVectors, int kBits, size_t kRows>
TQ_INLINE void PackCodesOf(const EncodeRow& row, const Words<kVectors>* codes) {
  if (row.into.values) {
    PackValueCodes<kVectors, kBits, kRows>(codes, row.into.blocks, row.lane);
  } else {
    PackKeyCodes<kVectors, kBits, kRows>(codes, row.into.blocks, row.lane);
  }
}

template <size_t kVectors, int kBits, size_t kRows, bool kSearch>
void EncodeTogether(const EncodeRow* rows, RowSums* sums) {
  Words<kVectors> grid[kRows];
  RotateToGrid<kVectors, kRows>(rows, grid);
  Words<kVectors> codes[kRows];
  LaneSums lanes[2];
#pragma GCC unroll 2
  for (size_t r = 0; r < kRows; ++r) {
    const EncodePlan& plan = *rows[r].plan;
    if constexpr (kSearch) {
      const CellRow<kVectors> cells(grid[r]);
      const int best = BestCandidate(plan, cells, PositiveLevels(plan), sums[r]);
      CodesOf(plan, grid[r], Indices<kVectors>(cells, LoadCells(plan, best)), codes[r]);
    } else {
      lanes[r] = NearestCodes<kVectors>(plan, grid[r], codes[r]);
    }
  }
  if constexpr (!kSearch) {
    alignas(16) int32_t four[4];
    _mm_store_si128(reinterpret_cast<__m128i*>(four), SumsOf4(lanes[0], lanes[kRows - 1]));
    for (size_t r = 0; r < kRows; ++r) sums[r] = {four[2 * r], four[2 * r + 1]};
  }
  if (kRows == 2 && SideBySide(rows)) {
    PackCodesOf<kVectors, kBits, kRows>(rows[0], codes);
  } else {
    for (size_t r = 0; r < kRows; ++r) PackCodesOf<kVectors, kBits, 1>(rows[r], codes + r);
  }
}

// kRows rows to the grid in memory, RoundUp(16 · kVectors, 32) values each. The same for all
// widths, so not inlined.
template <size_t kVectors, size_t kRows>
void StoreGrid(const EncodeRow* rows, int16_t* grid) {
  Words<kVectors> row[kRows];
  RotateToGrid<kVectors, kRows>(rows, row);
#pragma GCC unroll 2
  for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (size_t i = 0; i < kPairsOf<kVectors>; ++i, grid += 32) {
      _mm512_store_si512(grid, InOrder(row[r][i]));
    }
  }
}

// Two rows at a time where their registers suffice.
template <size_t kVectors, class Encode>
TQ_INLINE void InPairs(size_t count, const Encode& encode) {
  size_t r = 0;
  if constexpr (kVectors <= 8) {
    for (; r + 2 <= count; r += 2) encode.template operator()<2>(r);
  }
  for (; r < count; ++r) encode.template operator()<1>(r);
}

template <size_t kVectors, int kBits>
void EncodeNarrowRows(const EncodeRow* rows, size_t count, RowSums* sums) {
  const bool search = rows[0].plan->candidates > 1;
  InPairs<kVectors>(count, [&]<size_t kRows>(size_t r) {
    if (search) {
      EncodeTogether<kVectors, kBits, kRows, true>(rows + r, sums + r);
    } else {
      EncodeTogether<kVectors, kBits, kRows, false>(rows + r, sums + r);
    }
  });
}

// By way of grids in memory, whose search is the same for all dims.
template <size_t kVectors, int kBits>
void EncodeWideRows(const EncodeRow* rows, size_t count, RowSums* sums) {
  const EncodePlan* plan = rows[0].plan;
  WideBook<kBits> book(*plan);
  alignas(64) uint8_t codes[32 * kPairsOf<kVectors>];
  InPairs<kVectors>(count, [&]<size_t kRows>(size_t first) {
    alignas(64) int16_t grid[kRows][32 * kPairsOf<kVectors>];
    StoreGrid<kVectors, kRows>(rows + first, grid[0]);
    for (size_t r = first; r < first + kRows; ++r) {
      const EncodePlan& next = *rows[r].plan;  // heads differ in their rotations alone
      if (next.thresholds != plan->thresholds || next.levels != plan->levels) {
        book = WideBook<kBits>(next);
      }
      plan = &next;
      sums[r] = WideSearch<kBits>(next, book, 16 * kVectors, grid[r - first], codes);
      PackRow<kBits>(rows[r].into, rows[r].lane, codes);
    }
  });
}

// Whether the codes of short rows are found in registers, by a look-up of their cells.
bool FewCells(const EncodePlan& plan) {
  return (plan.candidates == 1 ? plan.signed_cells : plan.cells) != nullptr;
}

// Whether rows of one call of EncodedShortRows may follow each other.
bool AlikeAndNotZero(const EncodeRow& a, const EncodeRow& b) {
  if (b.gain == 0.0f || a.into.values != b.into.values) return false;
  return a.plan == b.plan ||
         (a.plan->rotation.dim == b.plan->rotation.dim &&
          a.plan->rotation.rounds == b.plan->rotation.rounds && a.plan->bits == b.plan->bits &&
          a.plan->candidates == b.plan->candidates && FewCells(*a.plan) == FewCells(*b.plan));
}

// False where rows of this kind take the general way.
bool EncodedShortRows(const EncodeRow* rows, size_t count, RowSums* sums) {
  const EncodePlan& plan = *rows[0].plan;
  if (plan.bits <= 4 && !FewCells(plan)) return false;
  if (plan.candidates != 1 && plan.candidates != kCandidates) return false;
  const auto encode = [&]<size_t kVectors>() {
    WithBits(plan.bits, [&]<int kBits>() {
      if constexpr (kBits > 4) {
        EncodeWideRows<kVectors, kBits>(rows, count, sums);
      } else {
        EncodeNarrowRows<kVectors, kBits>(rows, count, sums);
      }
    });
    return true;
  };
  switch (plan.rotation.dim) {
    case 32:
      return encode.template operator()<2>();
    case 64:
      return encode.template operator()<4>();
    case 80:
      return encode.template operator()<5>();
    case 96:
      return encode.template operator()<6>();
    case 112:
      return encode.template operator()<7>();
    case 128:
      return encode.template operator()<8>();
    case 192:
      return encode.template operator()<12>();
    case 256:
      return encode.template operator()<16>();
    default:
      return false;
  }
}

}  // namespace
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_AVX512_SHORT_ROWS_H_
