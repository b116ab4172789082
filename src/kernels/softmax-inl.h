// Exponentials, the online softmax, weight digits and the merge of two parts. Included once per
// target.
#if defined(TURBOQUANT_SRC_KERNELS_SOFTMAX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TURBOQUANT_SRC_KERNELS_SOFTMAX_INL_H_
#undef TURBOQUANT_SRC_KERNELS_SOFTMAX_INL_H_
#else
#define TURBOQUANT_SRC_KERNELS_SOFTMAX_INL_H_
#endif

#include <algorithm>
#include <limits>

#include "src/kernels/attention.h"
#include "src/kernels/line_layout.h"
#include "src/kernels/simd-inl.h"

#if TURBOQUANT_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace turboquant::kernels::HWY_NAMESPACE {

inline constexpr size_t kLaneVectors = 16 / kFloats;  // of the 16 accumulators of a float sum

// 14 operations. Adding 1.5 · 2^23 rounds to an integer, whose low bits are those of the sum.
HWY_INLINE VF Exp2(VF x) {
  const DF d;
  const VF lowest = hn::Set(d, kExp2Lowest);
  const VF magic = hn::Set(d, 12582912.0f);
  const VF shifted = hn::Add(hn::Max(x, lowest), magic);
  const VF part = hn::Sub(hn::Max(x, lowest), hn::Sub(shifted, magic));
  VF p = hn::Set(d, kExp2Coefficients[6]);
  for (int i = 5; i >= 0; --i) p = hn::MulAdd(p, part, hn::Set(d, kExp2Coefficients[i]));
  const VI32 exponent = hn::ShiftLeft<23>(hn::BitCast(DI32(), shifted));
  const VF power = hn::BitCast(d, hn::Add(hn::BitCast(DI32(), p), exponent));
  return hn::IfThenElseZero(hn::Ge(x, lowest), power);
}

HWY_INLINE float Exp2(float x) { return hn::GetLane(Exp2(hn::Set(DF(), x))); }

// 16 accumulators: i with i + 8, + 4, + 2, + 1.
HWY_INLINE float AddLanes(const VF* lanes) {
#if HWY_TARGET == HWY_AVX2
  const hn::FixedTag<float, 4> d4;
  const VF eight = hn::Add(lanes[0], lanes[1]);
  const auto four = hn::Add(hn::LowerHalf(d4, eight), hn::UpperHalf(d4, eight));
#else
  const auto four = hn::Add(hn::Add(lanes[0], lanes[2]), hn::Add(lanes[1], lanes[3]));
#endif
  const auto two = hn::Add(four, hn::Shuffle1032(four));
  return hn::GetLane(hn::Add(two, hn::Shuffle2301(two)));
}

// Lanes [begin - t, end - t) of a vector that starts at token t.
HWY_INLINE hn::Mask<DF> Seen(size_t t, size_t begin, size_t end) {
  const DF d;
  const DI32 di;
  const VI32 token = hn::Iota(di, static_cast<int32_t>(t));
  const auto below_end = hn::Lt(token, hn::Set(di, static_cast<int32_t>(end)));
  const auto below_begin = hn::Lt(token, hn::Set(di, static_cast<int32_t>(begin)));
  return hn::RebindMask(d, hn::AndNot(below_begin, below_end));
}

inline float SoftmaxOf(float* scores, TokenRange range, float offset, SoftmaxState& state) {
  const DF d;
  const auto [begin, end] = range;
  const size_t stop = RoundUp(end, 16);
  const size_t first = begin / kFloats * kFloats;
  VF largest = hn::Set(d, -std::numeric_limits<float>::infinity());
  for (size_t t = first; t < end; t += kFloats) {
    VF score = hn::LoadU(d, scores + t);
    if (HWY_UNLIKELY(t < begin || t + kFloats > end))
      score = hn::IfThenElse(Seen(t, begin, end), score, largest);
    largest = hn::Max(largest, score);
  }
  const float old_max = state.max;
  // Rounding keeps order: the largest score plus the offset is the largest of the sums.
  state.max = std::max(old_max, hn::GetLane(hn::MaxOfLanes(d, largest)) + offset);
  const VF max = hn::Set(d, state.max);
  const VF offsets = hn::Set(d, offset);
  VF lanes[kLaneVectors];
  for (VF& lane : lanes) lane = hn::Zero(d);
  std::fill(scores, scores + begin / 16 * 16, 0.0f);
  for (size_t t = begin / 16 * 16; t < stop; t += 16) {
    for (size_t v = 0; v < kLaneVectors; ++v) {
      const size_t at = t + v * kFloats;
      VF weight = Exp2(hn::Sub(hn::Add(hn::LoadU(d, scores + at), offsets), max));
      if (HWY_UNLIKELY(at < begin || at + kFloats > end))
        weight = hn::IfThenElseZero(Seen(at, begin, end), weight);
      lanes[v] = hn::Add(lanes[v], weight);
      hn::StoreU(weight, d, scores + at);
    }
  }
  const float keep = Exp2(old_max - state.max);
  state.sum = state.sum * keep + AddLanes(lanes);
  return keep;
}

inline void Softmax(const QueryRows<float>& scores, size_t rows, const TokenRange* ranges,
                    const float* offsets, SoftmaxState* states, float* keep) {
  for (size_t r = 0; r < rows; ++r) {
    keep[r] = ranges[r].empty()
                  ? 1.0f
                  : SoftmaxOf(scores.data + r * scores.stride, ranges[r], offsets[r], states[r]);
  }
}

HWY_INLINE VF LoadF16(const uint16_t* numbers) {
  const hn::Rebind<hwy::float16_t, DF> dh;
  return hn::PromoteTo(DF(), hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(numbers)));
}

inline float WeightDigitsOf(const float* weights, const uint16_t* scales, size_t count,
                            uint8_t* high, uint8_t* low) {
  const DF d;
  const hn::Repartition<uint32_t, DF> du;
  const hn::Rebind<uint8_t, DF> d8;
  VF largest = hn::Zero(d);
  for (size_t t = 0; t < count; t += kFloats)
    largest = hn::Max(largest, hn::Mul(hn::LoadU(d, weights + t), LoadF16(scales + t)));
  const float most = low == nullptr ? kOneWeightDigitMax : kTwoWeightDigitsMax;
  const float max = hn::GetLane(hn::MaxOfLanes(d, largest));
  const VF inverse = hn::Set(d, max < kLeastWeight ? 0.0f : most / max);
  for (size_t t = 0; t < count; t += kFloats) {
    const VF p = hn::Mul(hn::LoadU(d, weights + t), LoadF16(scales + t));
    const auto digit = hn::BitCast(du, hn::NearestInt(hn::Mul(p, inverse)));
    if (low == nullptr) {
      hn::StoreU(hn::U8FromU32(digit), d8, high + t);
      continue;
    }
    hn::StoreU(hn::U8FromU32(hn::ShiftRight<7>(digit)), d8, high + t);
    hn::StoreU(hn::U8FromU32(hn::And(digit, hn::Set(du, 127u))), d8, low + t);
  }
  return max < kLeastWeight ? 0.0f : max / most;
}

inline void MakeWeightDigits(const QueryRows<const float>& weights, size_t rows,
                             const uint16_t* scales, size_t count, uint8_t* high, uint8_t* low,
                             float* gain) {
  for (size_t r = 0; r < rows; ++r) {
    const size_t at = r * kBlockTokens;
    gain[r] = WeightDigitsOf(weights.data + r * weights.stride, scales, count, high + at,
                             low == nullptr ? nullptr : low + at);
  }
}

inline void Merge(SoftmaxState& into, float* into_sums, const SoftmaxState& from,
                  const float* from_sums, size_t count) {
  if (from.max == -std::numeric_limits<float>::infinity()) return;
  const DF d;
  const float max = std::max(into.max, from.max);
  const float keep = Exp2(into.max - max);
  const float add = Exp2(from.max - max);
  into.max = max;
  into.sum = into.sum * keep + from.sum * add;
  size_t j = 0;
  for (; j + kFloats <= count; j += kFloats) {
    const VF kept = hn::Mul(hn::LoadU(d, into_sums + j), hn::Set(d, keep));
    const VF added = hn::Mul(hn::LoadU(d, from_sums + j), hn::Set(d, add));
    hn::StoreU(hn::Add(kept, added), d, into_sums + j);
  }
  for (; j < count; ++j) into_sums[j] = into_sums[j] * keep + from_sums[j] * add;
}

}  // namespace turboquant::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // TURBOQUANT_SIMD_TARGET

#endif  // per-target include guard
