// norms_squared and the rotations on AVX-512. Private to avx512.cc, which brings the
// instructions and their target, and everything else this file names.
#ifndef TURBOQUANT_SRC_KERNELS_AVX512_ROTATE_H_
#define TURBOQUANT_SRC_KERNELS_AVX512_ROTATE_H_

#include "src/kernels/avx512_row_in_registers.h"

namespace turboquant::kernels {
namespace {

// Blocks of 128 bits: of both 0 + 1 and 2 + 3, the second's behind the first's.
TQ_INLINE __m512d AddBlockPairs(__m512d a, __m512d b) {
  const __m512 x = _mm512_castpd_ps(a);
  const __m512 y = _mm512_castpd_ps(b);
  return _mm512_add_pd(_mm512_castps_pd(_mm512_shuffle_f32x4(x, y, 0x88)),
                       _mm512_castps_pd(_mm512_shuffle_f32x4(x, y, 0xDD)));
}

// Side by side, so that one row's additions fill the waits of another's, and all rows' lanes are
// added up together.
template <size_t kRows>
TQ_INLINE void NormsSquaredOf(const float* row, size_t stride, size_t dim, double* norms_squared) {
  __m512d low[kRows];  // accumulators 0 to 7
  __m512d high[kRows];
#pragma GCC unroll 4
  for (size_t r = 0; r < kRows; ++r) low[r] = high[r] = _mm512_setzero_pd();
  const auto add = [](__m256 eight, __m512d& sums) {
    const __m512d x = _mm512_cvtps_pd(eight);
    sums = _mm512_fmadd_pd(x, x, sums);  // x² is exact, so fused or not is the same
  };
  size_t j = 0;
  for (; j + 16 <= dim; j += 16) {
#pragma GCC unroll 4
    for (size_t r = 0; r < kRows; ++r) {
      add(_mm256_loadu_ps(row + r * stride + j), low[r]);
      add(_mm256_loadu_ps(row + r * stride + j + 8), high[r]);
    }
  }
  if (j < dim) {
    const __mmask16 lanes = FloatsBelow(dim - j);
#pragma GCC unroll 4
    for (size_t r = 0; r < kRows; ++r) {
      const __m512 x = _mm512_maskz_loadu_ps(lanes, row + r * stride + j);
      add(_mm512_castps512_ps256(x), low[r]);
      add(_mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1)), high[r]);
    }
  }
  // 0 + 1, 8 + 9, 2 + 3, 10 + 11, ...; then pairs of those of either half; then the halves.
  __m512d pairs[4];
#pragma GCC unroll 4
  for (size_t r = 0; r < 4; ++r) {
    const size_t from = r % kRows;
    pairs[r] = _mm512_add_pd(_mm512_unpacklo_pd(low[from], high[from]),
                             _mm512_unpackhi_pd(low[from], high[from]));
  }
  const __m512d halves =
      AddBlockPairs(AddBlockPairs(pairs[0], pairs[1]), AddBlockPairs(pairs[2], pairs[3]));
  alignas(64) double sums[8];
  _mm512_store_pd(sums, _mm512_add_pd(halves, _mm512_unpackhi_pd(halves, halves)));
  for (size_t r = 0; r < kRows; ++r) norms_squared[r] = sums[2 * r];
}

void NormsSquared(const QueryRows<const float>& rows, size_t count, size_t dim,
                  double* norms_squared) {
  size_t r = 0;
  for (; r + 4 <= count; r += 4) {
    NormsSquaredOf<4>(rows.data + r * rows.stride, rows.stride, dim, norms_squared + r);
  }
  for (; r < count; ++r) {
    NormsSquaredOf<1>(rows.data + r * rows.stride, rows.stride, dim, norms_squared + r);
  }
}

// Flips signs (masks may be null), then all strides inside each group of kGroup vectors.
template <size_t kGroup>
TQ_INLINE void GroupButterflies(const uint32_t* masks, size_t count, float* x) {
  for (size_t j = 0; j < count; j += 16 * kGroup) {
    __m512 v[kGroup];
#pragma GCC unroll 8
    for (size_t i = 0; i < kGroup; ++i) {
      v[i] = _mm512_loadu_ps(x + j + 16 * i);
      if (masks != nullptr) v[i] = FlipSigns(v[i], _mm512_loadu_si512(masks + j + 16 * i));
      v[i] = ButterfliesInside(v[i]);
    }
#pragma GCC unroll 3
    for (size_t stride = 1; stride < kGroup; stride *= 2) {
#pragma GCC unroll 8
      for (size_t i = 0; i < kGroup; ++i) {
        if (!(i & stride)) Butterfly(v[i], v[i + stride]);
      }
    }
#pragma GCC unroll 8
    for (size_t i = 0; i < kGroup; ++i) _mm512_storeu_ps(x + j + 16 * i, v[i]);
  }
}

// The same over all strides; count is a power of two >= 16.
void Butterflies(const uint32_t* masks, size_t count, float* x) {
  switch (count) {
    case 16:
      return GroupButterflies<1>(masks, count, x);
    case 32:
      return GroupButterflies<2>(masks, count, x);
    case 64:
      return GroupButterflies<4>(masks, count, x);
    default:
      GroupButterflies<8>(masks, count, x);
  }
  for (size_t stride = 128; stride < count; stride *= 2) {
    for (size_t j = 0; j < count; j += 2 * stride) {
      for (size_t i = j; i < j + stride; i += 16) {
        __m512 a = _mm512_loadu_ps(x + i);
        __m512 b = _mm512_loadu_ps(x + i + stride);
        Butterfly(a, b);
        _mm512_storeu_ps(x + i, a);
        _mm512_storeu_ps(x + i + stride, b);
      }
    }
  }
}

void FlipAll(const uint32_t* masks, size_t count, float* x) {
  for (size_t j = 0; j < count; ++j)
    x[j] = std::bit_cast<float>(std::bit_cast<uint32_t>(x[j]) ^ masks[j]);
}

void Multiply(float factor, size_t count, float* x) {
  for (size_t j = 0; j < count; ++j) x[j] *= factor;
}

void Rotate(const RotationPlan& plan, float* row) {
  const size_t dim = plan.dim;
  const size_t p = std::bit_floor(dim);
  if (p < 16) return reference::Rotate(plan, row);
  if (RotatedInRegisters<false>(plan, row)) return;
  const uint32_t* masks = plan.sign_masks;
  if (p == dim) {
    for (int round = 0; round < plan.rounds; ++round, masks += dim) Butterflies(masks, dim, row);
    return;
  }
  const float factor = static_cast<float>(1.0 / std::sqrt(static_cast<double>(p)));
  const size_t evens = (dim + 1) / 2;
  Scratch<float> riffled(dim);
  for (int round = 0; round < plan.rounds; ++round, masks += dim + p) {
    FlipAll(masks + p, dim - p, row + p);
    Butterflies(masks, p, row);
    Multiply(factor, p, row);
    Butterflies(masks + dim, p, row + (dim - p));
    Multiply(factor, p, row + (dim - p));
    float* out = riffled.data();
    for (size_t j = 0; j < dim / 2; ++j) {
      out[j] = row[2 * j];
      out[evens + j] = row[2 * j + 1];
    }
    if (dim % 2 != 0) out[evens - 1] = row[dim - 1];
    std::copy_n(out, dim, row);
  }
}

void RotateInverse(const RotationPlan& plan, float* row) {
  const size_t dim = plan.dim;
  const size_t p = std::bit_floor(dim);
  if (p < 16) return reference::RotateInverse(plan, row);
  if (RotatedInRegisters<true>(plan, row)) return;
  const size_t masks_per_round = p == dim ? dim : dim + p;
  const float factor = static_cast<float>(1.0 / std::sqrt(static_cast<double>(p)));
  const size_t evens = (dim + 1) / 2;
  Scratch<float> unriffled(p == dim ? 0 : dim);
  for (int round = plan.rounds - 1; round >= 0; --round) {
    const uint32_t* masks = plan.sign_masks + static_cast<size_t>(round) * masks_per_round;
    if (p < dim) {
      float* out = unriffled.data();
      for (size_t j = 0; j < dim / 2; ++j) {
        out[2 * j] = row[j];
        out[2 * j + 1] = row[evens + j];
      }
      if (dim % 2 != 0) out[dim - 1] = row[evens - 1];
      std::copy_n(out, dim, row);
      Butterflies(nullptr, p, row + (dim - p));
      Multiply(factor, p, row + (dim - p));
      FlipAll(masks + dim, p, row + (dim - p));
    }
    Butterflies(nullptr, p, row);
    if (p < dim) Multiply(factor, p, row);
    FlipAll(masks, dim, row);
  }
}

}  // namespace
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_AVX512_ROTATE_H_
