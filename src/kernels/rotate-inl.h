// norms_squared, rotate, rotate_inverse; included once per target.
#if defined(TURBOQUANT_SRC_KERNELS_ROTATE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TURBOQUANT_SRC_KERNELS_ROTATE_INL_H_
#undef TURBOQUANT_SRC_KERNELS_ROTATE_INL_H_
#else
#define TURBOQUANT_SRC_KERNELS_ROTATE_INL_H_
#endif

#include <algorithm>
#include <bit>
#include <cmath>

#include "src/kernels/kernels.h"
#include "src/kernels/scratch.h"
#include "src/kernels/simd-inl.h"

#if TURBOQUANT_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace turboquant::kernels::HWY_NAMESPACE {

#if HWY_TARGET == HWY_AVX2

// Sums of neighbours, of those, and so on to one: 16 lanes in 4 vectors.
template <class V>
HWY_INLINE double AddPairs(const V (&lanes)[4]) {
  const auto pairs = [](V a, V b) HWY_ATTR {  // of each: 0 + 1 and 2 + 3, one half each
    const __m256d two = _mm256_hadd_pd(a.raw, b.raw);
    return _mm_add_pd(_mm256_castpd256_pd128(two), _mm256_extractf128_pd(two, 1));
  };
  const __m128d eights = _mm_hadd_pd(pairs(lanes[0], lanes[1]), pairs(lanes[2], lanes[3]));
  return _mm_cvtsd_f64(_mm_hadd_pd(eights, eights));
}

#else  // NEON

template <class V>
HWY_INLINE double AddPairs(const V (&lanes)[8]) {
  float64x2_t sums[8];
  for (size_t i = 0; i < 8; ++i) sums[i] = lanes[i].raw;
  for (size_t count = 8; count > 1; count /= 2) {
    for (size_t i = 0; i < count / 2; ++i) sums[i] = vpaddq_f64(sums[2 * i], sums[2 * i + 1]);
  }
  return vpaddd_f64(sums[0]);
}

#endif

inline double NormSquared(const float* row, size_t dim) {
  const hn::ScalableTag<double> dd;
  const hn::Rebind<float, decltype(dd)> df;
  constexpr size_t kDoubles = kFloats / 2;
  constexpr size_t kVectors = 16 / kDoubles;
  hn::Vec<decltype(dd)> sums[kVectors];
  HWY_UNROLL(8)
  for (size_t i = 0; i < kVectors; ++i) sums[i] = hn::Zero(dd);
  float tail[16];
  for (size_t j = 0; j < dim; j += 16) {
    const float* x = row + j;
    if (HWY_UNLIKELY(dim - j < 16)) {
      std::fill(std::copy(x, row + dim, tail), tail + 16, 0.0f);
      x = tail;
    }
    HWY_UNROLL(8)
    for (size_t i = 0; i < kVectors; ++i) {
      const auto v = hn::PromoteTo(dd, hn::LoadU(df, x + i * kDoubles));
      sums[i] = hn::MulAdd(v, v, sums[i]);  // v² is exact, so fused or not is the same
    }
  }
  return AddPairs(sums);
}

inline void NormsSquared(const QueryRows<const float>& rows, size_t count, size_t dim,
                         double* norms_squared) {
  for (size_t r = 0; r < count; ++r)
    norms_squared[r] = NormSquared(rows.data + r * rows.stride, dim);
}

// Butterflies of stride 1, 2 (and 4 with eight lanes) inside one vector: x_even + x_odd and
// x_even - x_odd as swapped + x · (1 or, in the odd half, -1). The product is exact: they round
// alike.
HWY_INLINE VF ButterfliesInside(VF v) {
  const DF d;
  alignas(32) static constexpr float kOdd1[8] = {1, -1, 1, -1, 1, -1, 1, -1};
  alignas(32) static constexpr float kOdd2[8] = {1, 1, -1, -1, 1, 1, -1, -1};
  v = hn::MulAdd(v, hn::Load(d, kOdd1), hn::Shuffle2301(v));
  v = hn::MulAdd(v, hn::Load(d, kOdd2), hn::Shuffle1032(v));
#if HWY_TARGET == HWY_AVX2
  alignas(32) static constexpr float kOdd4[8] = {1, 1, 1, 1, -1, -1, -1, -1};
  v = hn::MulAdd(v, hn::Load(d, kOdd4), hn::ConcatLowerUpper(d, v, v));
#endif
  return v;
}

HWY_INLINE void Butterfly(VF& a, VF& b) {
  const VF sum = hn::Add(a, b);
  b = hn::Sub(a, b);
  a = sum;
}

// Flips signs first (masks may be null), then all strides, of numbers `from` (which may be x) to x;
// count is a power of two of at least 4·kFloats.
inline void Butterflies(const uint32_t* masks, size_t count, const float* from, float* x) {
  const DF d;
  const hn::Repartition<uint32_t, DF> du;
  // Four neighbouring vectors: strides up to 2·kFloats without leaving registers.
  for (size_t j = 0; j < count; j += 4 * kFloats) {
    VF v[4];
    for (size_t i = 0; i < 4; ++i) {
      v[i] = hn::LoadU(d, from + j + i * kFloats);
      if (masks != nullptr) {
        v[i] = hn::Xor(v[i], hn::BitCast(d, hn::LoadU(du, masks + j + i * kFloats)));
      }
      v[i] = ButterfliesInside(v[i]);
    }
    Butterfly(v[0], v[1]);
    Butterfly(v[2], v[3]);
    Butterfly(v[0], v[2]);
    Butterfly(v[1], v[3]);
    for (size_t i = 0; i < 4; ++i) hn::StoreU(v[i], d, x + j + i * kFloats);
  }
  size_t stride = 4 * kFloats;
  for (; 4 * stride <= count; stride *= 4) {
    for (size_t base = 0; base < count; base += 4 * stride) {
      for (size_t j = base; j < base + stride; j += kFloats) {
        VF v[4];
        for (size_t i = 0; i < 4; ++i) v[i] = hn::LoadU(d, x + j + i * stride);
        Butterfly(v[0], v[1]);
        Butterfly(v[2], v[3]);
        Butterfly(v[0], v[2]);
        Butterfly(v[1], v[3]);
        for (size_t i = 0; i < 4; ++i) hn::StoreU(v[i], d, x + j + i * stride);
      }
    }
  }
  if (stride < count) {  // one stride is left: count / 2
    for (size_t j = 0; j < stride; j += kFloats) {
      VF a = hn::LoadU(d, x + j);
      VF b = hn::LoadU(d, x + j + stride);
      Butterfly(a, b);
      hn::StoreU(a, d, x + j);
      hn::StoreU(b, d, x + j + stride);
    }
  }
}

// Whole vectors: count is a multiple of kFloats.
inline void FlipSigns(const uint32_t* masks, size_t count, float* x) {
  const DF d;
  const hn::Repartition<uint32_t, DF> du;
  size_t j = 0;
  for (; j + kFloats <= count; j += kFloats) {
    hn::StoreU(hn::Xor(hn::LoadU(d, x + j), hn::BitCast(d, hn::LoadU(du, masks + j))), d, x + j);
  }
  for (; j < count; ++j) x[j] = std::bit_cast<float>(std::bit_cast<uint32_t>(x[j]) ^ masks[j]);
}

inline void Multiply(float factor, size_t count, float* x) {
  const DF d;
  for (size_t j = 0; j < count; j += kFloats) {
    hn::StoreU(hn::Mul(hn::LoadU(d, x + j), hn::Set(d, factor)), d, x + j);
  }
}

inline bool TooShort(size_t p) { return p < 4 * kFloats; }

// Of a row `from`, which may be `row`, to `row`.
inline void RotateTo(const RotationPlan& plan, const float* from, float* row) {
  const size_t dim = plan.dim;
  const size_t p = std::bit_floor(dim);
  const uint32_t* masks = plan.sign_masks;
  if (p == dim && plan.rounds > 0 && !TooShort(p)) {
    for (int round = 0; round < plan.rounds; ++round, masks += dim, from = row)
      Butterflies(masks, dim, from, row);
    return;
  }
  if (from != row) std::copy_n(from, dim, row);
  if (p == dim || TooShort(p)) return reference::Rotate(plan, row);
  const float factor = static_cast<float>(1.0 / std::sqrt(static_cast<double>(p)));
  const size_t evens = (dim + 1) / 2;
  Scratch<float> riffled(dim);
  for (int round = 0; round < plan.rounds; ++round, masks += dim + p) {
    FlipSigns(masks + p, dim - p, row + p);
    Butterflies(masks, p, row, row);
    Multiply(factor, p, row);
    Butterflies(masks + dim, p, row + (dim - p), row + (dim - p));
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

inline void Rotate(const RotationPlan& plan, float* row) { RotateTo(plan, row, row); }

inline void RotateInverse(const RotationPlan& plan, float* row) {
  const size_t dim = plan.dim;
  const size_t p = std::bit_floor(dim);
  if (TooShort(p)) return reference::RotateInverse(plan, row);
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
      float* tail = row + (dim - p);
      Butterflies(nullptr, p, tail, tail);
      Multiply(factor, p, tail);
      FlipSigns(masks + dim, p, tail);
    }
    Butterflies(nullptr, p, row, row);
    if (p < dim) Multiply(factor, p, row);
    FlipSigns(masks, dim, row);
  }
}

}  // namespace turboquant::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // TURBOQUANT_SIMD_TARGET

#endif  // per-target include guard
