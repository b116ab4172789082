// encode_rows on AVX-512 for rows of the dims that models have, at most 256: a row stays in
// registers from the rotation to its codes where the codebook has cells, and to the grid with 5 to
// 8 bits. Private to avx512.cc, behind avx512_encode.h.
#ifndef TURBOQUANT_SRC_KERNELS_AVX512_SHORT_ROWS_H_
#define TURBOQUANT_SRC_KERNELS_AVX512_SHORT_ROWS_H_

#include "src/kernels/avx512_encode.h"

namespace turboquant::kernels {
namespace {

// 16-coordinate vectors to vectors of 32, the last half empty where their number is odd.
template <size_t kVectors>
inline constexpr size_t kPairsOf = (kVectors + 1) / 2;

// One row of 16 · kVectors coordinates on the grid, 32 a vector, zero behind the last, and what
// every candidate needs of it.
template <size_t kVectors>
struct GridRow {
  static constexpr size_t kPairs = kPairsOf<kVectors>;
  __m512i z[kPairs];
  __m512i magnitude[kPairs];
  __m512i cell[kPairs];
};

// Zero behind the last coordinate.
template <size_t kVectors>
TQ_INLINE __m512i Inside(size_t pair, __m512i words) {
  return 2 * pair + 1 < kVectors ? words : _mm512_maskz_mov_epi16(0xFFFF, words);
}

// kRows rows side by side, so that one's additions fill the waits of another's.
template <size_t kVectors, size_t kRows>
TQ_INLINE void RotateToGrid(const RotationPlan& plan, const float* rows, size_t stride,
                            const float* gains, GridRow<kVectors>* out) {
  __m512 v[kVectors][kRows];
#pragma GCC unroll 16
  for (size_t i = 0; i < kVectors; ++i) {
#pragma GCC unroll 2
    for (size_t r = 0; r < kRows; ++r) v[i][r] = _mm512_loadu_ps(rows + r * stride + 16 * i);
  }
  RotateVectors(plan, v);
#pragma GCC unroll 2
  for (size_t r = 0; r < kRows; ++r) {
    const __m512 gain = _mm512_set1_ps(gains[r]);
#pragma GCC unroll 8
    for (size_t i = 0; i < kPairsOf<kVectors>; ++i) {
      const __m512 high = 2 * i + 1 < kVectors ? v[2 * i + 1][r] : _mm512_setzero_ps();
      out[r].z[i] = ToGrid32(v[2 * i][r], high, gain);
      out[r].magnitude[i] = _mm512_abs_epi16(out[r].z[i]);
      out[r].cell[i] = CellOf(out[r].magnitude[i]);
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
  __m512i index[kPairsOf<kVectors>];

  TQ_INLINE Indices(const GridRow<kVectors>& row, const Cells& cells) {
#pragma GCC unroll 8
    for (size_t i = 0; i < kPairsOf<kVectors>; ++i)
      index[i] = LevelIndex(cells, row.cell[i], row.magnitude[i]);
  }
};

template <size_t kVectors>
TQ_INLINE LaneSums SumCandidate(const GridRow<kVectors>& row, const Indices<kVectors>& indices,
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
TQ_INLINE int BestCandidate(const EncodePlan& plan, const GridRow<kVectors>& row, __m512i levels,
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
TQ_INLINE void StoreCodes(const EncodePlan& plan, const GridRow<kVectors>& row,
                          const Indices<kVectors>& indices, uint8_t* codes) {
  const __m512i half = _mm512_set1_epi16(static_cast<int16_t>(plan.codes / 2));
#pragma GCC unroll 8
  for (size_t i = 0; i < kPairsOf<kVectors>; ++i) {
    const __m512i code = Inside<kVectors>(i, CodeOf(half, row.z[i], indices.index[i]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + 32 * i), _mm512_cvtepi16_epi8(code));
  }
}

// Sums of the lanes of two pairs of vectors, in this order.
TQ_INLINE __m128i SumsOf4(const LaneSums& a, const LaneSums& b) {
  const __m512i fours = AddUnpacked64(AddUnpacked32(a.grid_level, a.level_level),
                                      AddUnpacked32(b.grid_level, b.level_level));
  const __m256i two =
      _mm256_add_epi32(_mm512_castsi512_si256(fours), _mm512_extracti64x4_epi64(fours, 1));
  return _mm_add_epi32(_mm256_castsi256_si128(two), _mm256_extracti128_si256(two, 1));
}

template <size_t kVectors, int kBits, size_t kRows>
TQ_INLINE void EncodeTogether(const EncodePlan& plan, const float* rows, size_t stride,
                              const float* gains, const PackedBlocks& into, size_t lane,
                              __m512i levels, RowSums* sums) {
  GridRow<kVectors> row[kRows];
  RotateToGrid<kVectors, kRows>(plan.rotation, rows, stride, gains, row);
  alignas(64) uint8_t codes[kRows][32 * kPairsOf<kVectors>];
  if (plan.candidates > 1) {
    for (size_t r = 0; r < kRows; ++r) {
      const int best = BestCandidate(plan, row[r], levels, sums[r]);
      StoreCodes(plan, row[r], Indices<kVectors>(row[r], LoadCells(plan, best)), codes[r]);
    }
  } else {
    const Cells cells = LoadCells(plan, 0);
    LaneSums lanes[2];
#pragma GCC unroll 2
    for (size_t r = 0; r < kRows; ++r) {
      const Indices<kVectors> indices(row[r], cells);
      lanes[r] = SumCandidate(row[r], indices, levels);
      StoreCodes(plan, row[r], indices, codes[r]);
    }
    alignas(16) int32_t four[4];
    _mm_store_si128(reinterpret_cast<__m128i*>(four), SumsOf4(lanes[0], lanes[kRows - 1]));
    for (size_t r = 0; r < kRows; ++r) sums[r] = {four[2 * r], four[2 * r + 1]};
  }
  for (size_t r = 0; r < kRows; ++r) PackRow<kBits>(into, lane + r, codes[r]);
}

// kRows rows to the grid in memory, RoundUp(16 · kVectors, 32) values each. The same for all
// widths, so not inlined.
template <size_t kVectors, size_t kRows>
void StoreGrid(const RotationPlan& plan, const float* rows, size_t stride, const float* gains,
               int16_t* grid) {
  GridRow<kVectors> row[kRows];
  RotateToGrid<kVectors, kRows>(plan, rows, stride, gains, row);
#pragma GCC unroll 2
  for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (size_t i = 0; i < kPairsOf<kVectors>; ++i, grid += 32) {
      _mm512_store_si512(grid, row[r].z[i]);
    }
  }
}

// As EncodeTogether, with 5 to 8 bits.
template <size_t kVectors, int kBits, size_t kRows>
TQ_INLINE void EncodeWideTogether(const EncodePlan& plan, const float* rows, size_t stride,
                                  const float* gains, const PackedBlocks& into, size_t lane,
                                  const WideBook<kBits>& book, RowSums* sums) {
  alignas(64) int16_t grid[kRows][32 * kPairsOf<kVectors>];
  alignas(64) uint8_t codes[32 * kPairsOf<kVectors>];
  StoreGrid<kVectors, kRows>(plan.rotation, rows, stride, gains, grid[0]);
  for (size_t r = 0; r < kRows; ++r) {
    sums[r] = WideSearch<kBits>(plan, book, 16 * kVectors, grid[r], codes);
    PackRow<kBits>(into, lane + r, codes);
  }
}

// What all rows of a call share.
template <int kBits>
TQ_INLINE auto SharedTables(const EncodePlan& plan) {
  if constexpr (kBits > 4) {
    return WideBook<kBits>(plan);
  } else {
    return PositiveLevels(plan);
  }
}

template <size_t kVectors, int kBits>
void EncodeShortRows(const EncodePlan& plan, const float* rows, size_t stride, size_t count,
                     const float* gains, const PackedBlocks& into, size_t first_lane,
                     RowSums* sums) {
  const auto tables = SharedTables<kBits>(plan);
  for (size_t r = 0; r < count; ++r) {
    const auto encode = [&]<size_t kRows>() {
      const float* row = rows + r * stride;
      if constexpr (kBits > 4) {
        EncodeWideTogether<kVectors, kBits, kRows>(plan, row, stride, gains + r, into,
                                                   first_lane + r, tables, sums + r);
      } else {
        EncodeTogether<kVectors, kBits, kRows>(plan, row, stride, gains + r, into, first_lane + r,
                                               tables, sums + r);
      }
    };
    if (gains[r] == 0.0f) {
      sums[r] = {0, 0};
    } else if (kVectors <= 8 && r + 1 < count && gains[r + 1] != 0.0f) {
      encode.template operator()<kVectors <= 8 ? 2 : 1>();
      ++r;
    } else {
      encode.template operator()<1>();
    }
  }
}

// False where rows of this kind take the general way.
bool EncodedShortRows(const EncodePlan& plan, const float* rows, size_t stride, size_t count,
                      const float* gains, const PackedBlocks& into, size_t first_lane,
                      RowSums* sums) {
  if (plan.bits <= 4 && plan.cells == nullptr) return false;
  if (plan.candidates != 1 && plan.candidates != kCandidates) return false;
  const auto encode = [&]<size_t kVectors>() {
    WithBits(into.bits, [&]<int kBits>() {
      EncodeShortRows<kVectors, kBits>(plan, rows, stride, count, gains, into, first_lane, sums);
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
