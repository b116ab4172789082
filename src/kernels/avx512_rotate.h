// norm_squared and the rotations on AVX-512. Private to avx512.cc, which brings the
// instructions and their target, and everything else this file names.
#ifndef TURBOQUANT_SRC_KERNELS_AVX512_ROTATE_H_
#define TURBOQUANT_SRC_KERNELS_AVX512_ROTATE_H_

#include "src/kernels/avx512_row_in_registers.h"

namespace turboquant::kernels {
namespace {

// In vectors of four doubles: on Zen 4 conversions to eight take longer than two to four.
double NormSquared(const float* row, size_t dim) {
  __m256d sums[4];
#pragma GCC unroll 4
  for (__m256d& sum : sums) sum = _mm256_setzero_pd();
  const auto add = [&](const float* x) {
#pragma GCC unroll 4
    for (size_t k = 0; k < 4; ++k) {
      const __m256d a = _mm256_cvtps_pd(_mm_loadu_ps(x + 4 * k));
      sums[k] = _mm256_fmadd_pd(a, a, sums[k]);  // a² is exact, so fused or not is the same
    }
  };
  size_t j = 0;
  for (; j + 16 <= dim; j += 16) add(row + j);
  if (j < dim) {
    float tail[16] = {};
    std::copy(row + j, row + dim, tail);
    add(tail);
  }
  // a0+a1, a4+a5, a2+a3, a6+a7; then halves.
  const auto fours = [](__m256d low, __m256d high) {
    const __m256d pairs = _mm256_hadd_pd(low, high);
    return _mm_add_pd(_mm256_castpd256_pd128(pairs), _mm256_extractf128_pd(pairs, 1));
  };
  const __m128d eights = _mm_hadd_pd(fours(sums[0], sums[1]), fours(sums[2], sums[3]));
  return _mm_cvtsd_f64(_mm_add_sd(eights, _mm_unpackhi_pd(eights, eights)));
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
