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
  const auto round = [&](const float* at)
                         HWY_ATTR { return hn::NearestInt(hn::Mul(hn::LoadU(d, at), gain)); };
  const auto store = [](VI16 a, VI16 b, int8_t* to) HWY_ATTR {
    hn::StoreU(hn::BitCast(DI8(), NarrowToOrder(a, b)), DI8(), to);
  };
  for (size_t j = 0; j < 32; j += kVectorBytes) {
    VI16 upper[2], rest[2];
    for (size_t i = 0; i < 2; ++i) {
      const float* at = x + j + 2 * i * kFloats;
      const VI16 t = NarrowUnordered(round(at), round(at + kFloats));
      upper[i] = kTwo ? hn::ShiftRight<7>(hn::Add(t, hn::Set(DI16(), 64))) : t;
      rest[i] = hn::Sub(t, hn::ShiftLeft<7>(upper[i]));
    }
    store(upper[0], upper[1], high + j);
    if constexpr (kTwo) store(rest[0], rest[1], low + j);
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
  for (size_t j = 0; whole < dim && j < 32; j += kFloats) {
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
