// encode_rows and dequantize on AVX-512. Private to avx512.cc, which brings the
// instructions and their target, and everything else this file names.
#ifndef TURBOQUANT_SRC_KERNELS_AVX512_ENCODE_H_
#define TURBOQUANT_SRC_KERNELS_AVX512_ENCODE_H_

#include "src/kernels/avx512_rotate.h"
#include "src/kernels/avx512_wide_codes.h"

namespace turboquant::kernels {
namespace {

// 32 rotated coordinates to the grid, in the order of _mm512_packs_epi32. Rounds to nearest even in
// the default mode; the products stay below 2^22.
TQ_INLINE __m512i ToPackedGrid(__m512 low, __m512 high, __m512 gain) {
  const __m512i a = _mm512_cvtps_epi32(_mm512_mul_ps(low, gain));
  const __m512i b = _mm512_cvtps_epi32(_mm512_mul_ps(high, gain));
  return _mm512_max_epi16(_mm512_packs_epi32(a, b), _mm512_set1_epi16(-kGridMax));
}

// Words as they came to _mm512_packs_epi32.
TQ_INLINE __m512i InOrder(__m512i packed) {
  return _mm512_permutexvar_epi64(_mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0), packed);
}

// A whole row; zero behind dim.
void ToGrid(float* coordinates, size_t dim, float gain, int16_t* grid) {
  std::fill(coordinates + dim, coordinates + RoundUp(dim, 32), 0.0f);
  const __m512 gains = _mm512_set1_ps(gain);
  for (size_t j = 0; j < dim; j += 32) {
    const __m512 low = _mm512_loadu_ps(coordinates + j);
    const __m512 high = _mm512_loadu_ps(coordinates + j + 16);
    _mm512_storeu_si512(grid + j, InOrder(ToPackedGrid(low, high, gains)));
  }
}

// Cell lookups of one candidate: 3 permutes, a compare and an add for 32 coordinates.
struct Cells {
  __m512i base;
  __m512i threshold;
};

TQ_INLINE Cells LoadCells(const EncodePlan& plan, int candidate) {
  return {_mm512_loadu_si512(plan.cells + candidate * 2 * kCells),
          _mm512_loadu_si512(plan.cells + candidate * 2 * kCells + kCells)};
}

TQ_INLINE __m512i CellOf(__m512i magnitude) {
  return _mm512_srli_epi16(
      _mm512_min_epi16(magnitude, _mm512_set1_epi16((kCells << kCellShift) - 1)), kCellShift);
}

// Number of thresholds below the magnitude.
TQ_INLINE __m512i LevelIndex(const Cells& cells, __m512i cell, __m512i magnitude) {
  const __m512i base = _mm512_permutexvar_epi16(cell, cells.base);
  const __mmask32 above =
      _mm512_cmpgt_epi16_mask(magnitude, _mm512_permutexvar_epi16(cell, cells.threshold));
  return _mm512_mask_add_epi16(base, above, base, _mm512_set1_epi16(1));
}

// Above zero half + index, else half - 1 - index; half is half the number of codes.
TQ_INLINE __m512i CodeOf(__m512i half, __m512i z, __m512i index) {
  const __mmask32 positive = _mm512_cmpgt_epi16_mask(z, _mm512_setzero_si512());
  const __m512i below = _mm512_sub_epi16(_mm512_sub_epi16(half, _mm512_set1_epi16(1)), index);
  return _mm512_mask_add_epi16(below, positive, half, index);
}

// The upper half of a codebook with cells, zero behind the last, as the levels of a plan are.
TQ_INLINE __m512i PositiveLevels(const EncodePlan& plan) {
  assert(plan.codes <= 64);
  return _mm512_loadu_si512(plan.levels + plan.codes / 2);
}

RowSums CandidateSums(const EncodePlan& plan, int candidate, const int16_t* grid) {
  const Cells cells = LoadCells(plan, candidate);
  const __m512i levels = PositiveLevels(plan);
  const size_t dim = plan.rotation.dim;
  RowSums total = {0, 0};
  for (size_t first = 0; first < dim; first += kMaxInt32Dim) {  // int32 holds 2048 coordinates
    __m512i grid_level = _mm512_setzero_si512();
    __m512i level_level = _mm512_setzero_si512();
    for (size_t j = first; j < std::min(dim, first + kMaxInt32Dim); j += 32) {
      const __m512i magnitude = _mm512_abs_epi16(_mm512_loadu_si512(grid + j));
      const __m512i index = LevelIndex(cells, CellOf(magnitude), magnitude);
      const __m512i level =
          _mm512_maskz_mov_epi16(LanesBelow(dim - j), _mm512_permutexvar_epi16(index, levels));
      grid_level = _mm512_dpwssd_epi32(grid_level, magnitude, level);
      level_level = _mm512_dpwssd_epi32(level_level, level, level);
    }
    total.grid_level += _mm512_reduce_add_epi32(grid_level);
    total.level_level += _mm512_reduce_add_epi32(level_level);
  }
  return total;
}

void CandidateCodes(const EncodePlan& plan, int candidate, const int16_t* grid, uint8_t* codes) {
  const Cells cells = LoadCells(plan, candidate);
  const size_t dim = plan.rotation.dim;
  const __m512i half = _mm512_set1_epi16(static_cast<int16_t>(plan.codes / 2));
  for (size_t j = 0; j < dim; j += 32) {
    const __m512i z = _mm512_loadu_si512(grid + j);
    const __m512i magnitude = _mm512_abs_epi16(z);
    const __m512i code = CodeOf(half, z, LevelIndex(cells, CellOf(magnitude), magnitude));
    const __m512i kept = _mm512_maskz_mov_epi16(LanesBelow(dim - j), code);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + j), _mm512_cvtepi16_epi8(kept));
  }
}

RowSums Codes(const EncodePlan& plan, const int16_t* grid, uint8_t* codes) {
  if (plan.cells == nullptr) return WideRowCodes(plan, grid, codes);
  int best = 0;
  RowSums best_sums = CandidateSums(plan, 0, grid);
  double best_cosine = SquaredCosine(best_sums);
  for (int k = 1; k < plan.candidates; ++k) {
    const RowSums sums = CandidateSums(plan, k, grid);
    if (const double cosine = SquaredCosine(sums); cosine > best_cosine) {
      best = k;
      best_cosine = cosine;
      best_sums = sums;
    }
  }
  CandidateCodes(plan, best, grid, codes);
  return best_sums;
}

// ORs 16 codes, one per lane, into a line at a bit position of each 32-bit lane.
TQ_INLINE void OrLine(const uint8_t* codes, const ValuePiece& piece, uint8_t* line) {
  __m512i word = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
  word = _mm512_and_si512(_mm512_srl_epi32(word, _mm_cvtsi32_si128(piece.right)),
                          _mm512_set1_epi32(static_cast<int>(piece.mask)));
  word = _mm512_sll_epi32(word, _mm_cvtsi32_si128(piece.left));
  _mm512_storeu_si512(line, _mm512_or_si512(_mm512_loadu_si512(line), word));
}

// codes: RoundUp(dim, 32) bytes, zero behind dim.
template <int kBits>
void PackRow(const PackedBlocks& into, size_t lane, const uint8_t* codes) {
  if (!into.values) {
    return PackKeyRow<kBits>(codes, into.dim,
                             into.blocks + lane / kKeyBlockRows * KeyBlockBytes(into.dim, kBits) +
                                 4 * (lane % kKeyBlockRows));
  }
  const ValuePieces pieces = PiecesOfValueRow(kBits, lane % kValueBlockRows);
  uint8_t* group = into.blocks + lane / kValueBlockRows * ValueBlockBytes(into.dim, kBits);
  for (size_t j = 0; j < into.dim; j += kLanes, group += ValueGroupBytes(kBits)) {
    for (size_t p = 0; p < pieces.count; ++p) {
      OrLine(codes + j, pieces.piece[p], group + pieces.piece[p].offset);
    }
  }
}

RowSums EncodeLongRow(const EncodeRow& row) {
  const EncodePlan& plan = *row.plan;
  const size_t dim = plan.rotation.dim;
  const size_t padded = RoundUp(dim, 32);
  Scratch<float> coordinates(padded);
  Scratch<int16_t> grid(padded);
  Scratch<uint8_t> codes(padded);
  std::copy_n(row.coordinates, dim, coordinates.data());
  Rotate(plan.rotation, coordinates.data());
  ToGrid(coordinates.data(), dim, row.gain, grid.data());
  const RowSums sums = Codes(plan, grid.data(), codes.data());
  WithBits(row.into.bits, [&]<int kBits>() { PackRow<kBits>(row.into, row.lane, codes.data()); });
  return sums;
}

// The AVX2 kernels, which every CPU with AVX-512 has, where wider ones would win nothing: moves of
// codes wait for memory more than for instructions.
const KernelTable& Narrower() {
  const KernelTable* simd = SimdKernels();
  return simd == nullptr ? reference::kTable : *simd;  // null in tests on other CPUs
}

void PackCodes(const PackedBlocks& into, size_t first_lane, size_t count, const uint8_t* codes) {
  Narrower().pack_codes(into, first_lane, count, codes);
}

void UnpackCodes(const PackedBlocks& from, size_t first_lane, size_t count, uint8_t* codes) {
  Narrower().unpack_codes(from, first_lane, count, codes);
}

// Wider vectors of doubles multiply no faster on CPUs with 256-bit units.
void MultiplyDense(const DenseMatrix& matrix, const QueryRows<const float>& vectors, size_t count,
                   const QueryRows<double>& sums) {
  Narrower().multiply_dense(matrix, vectors, count, sums);
}

// Small codebooks by a 32-entry permute; others from the table in memory.
void Dequantize(const ScorePlan& plan, const uint8_t* codes, float factor, float* out) {
  if (plan.codes > 32) return reference::Dequantize(plan, codes, factor, out);
  const __m512i levels = _mm512_loadu_si512(plan.levels);
  const __m512 factors = _mm512_set1_ps(factor);
  size_t j = 0;
  for (; j + 16 <= plan.dim; j += 16) {
    const __m256i wide =
        _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + j)));
    const __m512i level = _mm512_permutexvar_epi16(_mm512_castsi256_si512(wide), levels);
    const __m512 values = _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm512_castsi512_si256(level)));
    _mm512_storeu_ps(out + j, _mm512_mul_ps(values, factors));
  }
  for (; j < plan.dim; ++j) out[j] = static_cast<float>(plan.levels[codes[j]]) * factor;
}

}  // namespace
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_AVX512_ENCODE_H_
