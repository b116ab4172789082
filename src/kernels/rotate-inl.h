// norm_squared, rotate, rotate_inverse; included once per target.
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

inline double NormSquared(const float* row, size_t dim) {
  const hn::ScalableTag<double> dd;
  const hn::Rebind<float, decltype(dd)> df;
  constexpr size_t kDoubles = kFloats / 2;
  constexpr size_t kVectors = 16 / kDoubles;
  hn::Vec<decltype(dd)> sums[kVectors];
  for (auto& sum : sums) sum = hn::Zero(dd);
  const auto add16 = [&](const float* x) HWY_ATTR {
    for (size_t i = 0; i < kVectors; ++i) {
      const auto v = hn::PromoteTo(dd, hn::LoadU(df, x + i * kDoubles));
      sums[i] = hn::MulAdd(v, v, sums[i]);  // v² is exact, so fused or not is the same
    }
  };
  size_t j = 0;
  for (; j + 16 <= dim; j += 16) add16(row + j);
  if (j < dim) {
    float tail[16] = {};
    std::copy(row + j, row + dim, tail);
    add16(tail);
  }
  alignas(64) double lanes[16];
  for (size_t i = 0; i < kVectors; ++i) hn::Store(sums[i], dd, lanes + i * kDoubles);
  for (size_t width = 1; width < 16; width *= 2) {
    for (size_t i = 0; i < 16; i += 2 * width) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

// Butterflies of stride 1, 2 (and 4 with eight lanes) inside one vector: x_even + x_odd and
// x_even - x_odd as swapped + (x with the odd half negated), which rounds alike.
HWY_INLINE VF ButterfliesInside(VF v) {
  const DF d;
  const hn::Repartition<uint32_t, DF> du;
  alignas(32) static constexpr uint32_t kOdd1[8] = {0, 1u << 31, 0, 1u << 31,
                                                    0, 1u << 31, 0, 1u << 31};
  alignas(32) static constexpr uint32_t kOdd2[8] = {0, 0, 1u << 31, 1u << 31,
                                                    0, 0, 1u << 31, 1u << 31};
  v = hn::Add(hn::Shuffle2301(v), hn::Xor(v, hn::BitCast(d, hn::Load(du, kOdd1))));
  v = hn::Add(hn::Shuffle1032(v), hn::Xor(v, hn::BitCast(d, hn::Load(du, kOdd2))));
#if HWY_TARGET == HWY_AVX2
  alignas(32) static constexpr uint32_t kOdd4[8] = {0,        0,        0,        0,
                                                    1u << 31, 1u << 31, 1u << 31, 1u << 31};
  v = hn::Add(hn::ConcatLowerUpper(d, v, v), hn::Xor(v, hn::BitCast(d, hn::Load(du, kOdd4))));
#endif
  return v;
}

HWY_INLINE void Butterfly(VF& a, VF& b) {
  const VF sum = hn::Add(a, b);
  b = hn::Sub(a, b);
  a = sum;
}

// Flips signs first (masks may be null), then all strides; count is a power of two of at least
// 4·kFloats.
inline void Butterflies(const uint32_t* masks, size_t count, float* x) {
  const DF d;
  const hn::Repartition<uint32_t, DF> du;
  // Four neighbouring vectors: strides up to 2·kFloats without leaving registers.
  for (size_t j = 0; j < count; j += 4 * kFloats) {
    VF v[4];
    for (size_t i = 0; i < 4; ++i) {
      v[i] = hn::LoadU(d, x + j + i * kFloats);
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

inline void Rotate(const RotationPlan& plan, float* row) {
  const size_t dim = plan.dim;
  const size_t p = std::bit_floor(dim);
  if (TooShort(p)) return reference::Rotate(plan, row);
  const uint32_t* masks = plan.sign_masks;
  if (p == dim) {
    for (int round = 0; round < plan.rounds; ++round, masks += dim) Butterflies(masks, dim, row);
    return;
  }
  const float factor = static_cast<float>(1.0 / std::sqrt(static_cast<double>(p)));
  const size_t evens = (dim + 1) / 2;
  Scratch<float> riffled(dim);
  for (int round = 0; round < plan.rounds; ++round, masks += dim + p) {
    FlipSigns(masks + p, dim - p, row + p);
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
      Butterflies(nullptr, p, tail);
      Multiply(factor, p, tail);
      FlipSigns(masks + dim, p, tail);
    }
    Butterflies(nullptr, p, row);
    if (p < dim) Multiply(factor, p, row);
    FlipSigns(masks, dim, row);
  }
}

}  // namespace turboquant::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // TURBOQUANT_SIMD_TARGET

#endif  // per-target include guard
