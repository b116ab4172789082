// query_digits; included once per target.
#if defined(TURBOQUANT_SRC_KERNELS_QUERY_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TURBOQUANT_SRC_KERNELS_QUERY_INL_H_
#undef TURBOQUANT_SRC_KERNELS_QUERY_INL_H_
#else
#define TURBOQUANT_SRC_KERNELS_QUERY_INL_H_
#endif

#include <algorithm>

#include "src/kernels/kernels.h"
#include "src/kernels/line_layout.h"
#include "src/kernels/simd-inl.h"

#if TURBOQUANT_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace turboquant::kernels::HWY_NAMESPACE {

// Digits of 32 coordinates. No clamp: a gain and a product are each off by half a last bit, and
// what the largest coordinate becomes still rounds to digit_max.
template <bool kTwo>
HWY_INLINE void Round32(const float* x, VF gain, int8_t* high, int8_t* low) {
  const DF d;
  const DI16 di;
  const hn::Rebind<int8_t, DI16> d8;
  for (size_t j = 0; j < 32; j += 2 * kFloats) {
    const VI32 a = hn::NearestInt(hn::Mul(hn::LoadU(d, x + j), gain));
    const VI32 b = hn::NearestInt(hn::Mul(hn::LoadU(d, x + j + kFloats), gain));
    const VI16 t = NarrowOrdered(a, b);
    if constexpr (kTwo) {
      const VI16 upper = hn::ShiftRight<7>(hn::Add(t, hn::Set(di, 64)));
      hn::StoreU(hn::DemoteTo(d8, upper), d8, high + j);
      hn::StoreU(hn::DemoteTo(d8, hn::Sub(t, hn::ShiftLeft<7>(upper))), d8, low + j);
    } else {
      hn::StoreU(hn::DemoteTo(d8, t), d8, high + j);
    }
  }
}

template <bool kTwo>
inline float RoundQueryTo(const float* rotated, size_t dim, int8_t* high, int8_t* low) {
  const DF d;
  const size_t whole = dim / 32 * 32;
  float tail[32] = {};  // the row ends where it ends
  std::copy(rotated + whole, rotated + dim, tail);
  VF peaks = hn::Zero(d);
  for (size_t j = 0; j < whole; j += kFloats) {
    peaks = hn::Max(peaks, hn::Abs(hn::LoadU(d, rotated + j)));
  }
  for (size_t j = 0; j < 32; j += kFloats) {
    peaks = hn::Max(peaks, hn::Abs(hn::LoadU(d, tail + j)));
  }
  const float largest = hn::GetLane(hn::MaxOfLanes(d, peaks));
  if (largest == 0.0f) {
    std::fill_n(high, PaddedDim(dim), int8_t{0});
    if (kTwo) std::fill_n(low, PaddedDim(dim), int8_t{0});
    return 0.0f;
  }
  const VF gain = hn::Set(d, QueryGain(largest, kTwo ? kTwoDigitMax : kOneDigitMax));
  for (size_t j = 0; j < whole; j += 32) {
    Round32<kTwo>(rotated + j, gain, high + j, kTwo ? low + j : nullptr);
  }
  if (whole < dim) Round32<kTwo>(tail, gain, high + whole, kTwo ? low + whole : nullptr);
  return largest;
}

inline float RoundQuery(const float* rotated, size_t dim, int8_t* high, int8_t* low) {
  return low == nullptr ? RoundQueryTo<false>(rotated, dim, high, low)
                        : RoundQueryTo<true>(rotated, dim, high, low);
}

}  // namespace turboquant::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // TURBOQUANT_SIMD_TARGET

#endif  // per-target include guard
