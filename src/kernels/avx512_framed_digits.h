// framed_digits on AVX-512: a query of the dims that models have stays in registers from its frame
// to its digits. Private to avx512.cc, which brings the instructions, their target and everything
// else this file names.
#ifndef TURBOQUANT_SRC_KERNELS_AVX512_FRAMED_DIGITS_H_
#define TURBOQUANT_SRC_KERNELS_AVX512_FRAMED_DIGITS_H_

namespace turboquant::kernels {
namespace {

// R^T of 16 · kVectors coordinates whose halves are pairs, or that don't turn; see TurnBack.
template <size_t kVectors>
TQ_INLINE void TurnBackVectors(const FramePlan& frame, __m512 (&v)[kVectors][1]) {
  constexpr size_t kPairs = kVectors / 2;
  if (frame.rotary_dim == 0) return;
#pragma GCC unroll 8
  for (size_t i = 0; i < kPairs; ++i) {
    const __m512 x = v[i][0];
    const __m512 y = v[i + kPairs][0];
    const __m512 cosine = _mm512_loadu_ps(frame.cosines + 16 * i);
    const __m512 sine = _mm512_loadu_ps(frame.sines + 16 * i);
    v[i][0] = _mm512_add_ps(_mm512_mul_ps(x, cosine), _mm512_mul_ps(y, sine));
    v[i + kPairs][0] = _mm512_sub_ps(_mm512_mul_ps(y, cosine), _mm512_mul_ps(x, sine));
  }
}

// Centre and diagonal; returns the offset.
template <size_t kVectors>
TQ_INLINE float MapVectors(const FramePlan& frame, __m512 (&v)[kVectors][1]) {
  __m512 offset = _mm512_setzero_ps();
#pragma GCC unroll 16
  for (size_t i = 0; i < kVectors; ++i) {
    if (frame.center != nullptr)
      offset = _mm512_fmadd_ps(v[i][0], _mm512_loadu_ps(frame.center + 16 * i), offset);
    if (frame.scale != nullptr)
      v[i][0] = _mm512_mul_ps(v[i][0], _mm512_loadu_ps(frame.scale + 16 * i));
  }
  return frame.center == nullptr ? 0.0f : AddLanes(offset);
}

template <size_t kVectors>
TQ_INLINE float RoundVectors(const __m512 (&v)[kVectors][1], int8_t* high, int8_t* low) {
  __m512 peaks = _mm512_setzero_ps();
#pragma GCC unroll 16
  for (size_t i = 0; i < kVectors; ++i) peaks = LargerMagnitude(peaks, v[i][0]);
  const float largest = LargestLane(peaks);
  if (largest == 0.0f) return NoDigits(16 * kVectors, high, low);
  const int digit_max = low == nullptr ? kOneDigitMax : kTwoDigitMax;
  const __m512 gain = _mm512_set1_ps(QueryGain(largest, digit_max));
#pragma GCC unroll 8
  for (size_t i = 0; i < kVectors; i += 2) {
    const __m512 second = i + 1 < kVectors ? v[i + 1][0] : _mm512_setzero_ps();
    Round32(v[i][0], second, gain, high + 16 * i, low == nullptr ? nullptr : low + 16 * i);
  }
  return largest;
}

template <size_t kVectors>
float FramedDigitsInRegisters(const FramePlan& frame, const RotationPlan& rotation,
                              const float* query, int8_t* high, int8_t* low, float& offset) {
  __m512 v[kVectors][1];
#pragma GCC unroll 16
  for (size_t i = 0; i < kVectors; ++i) v[i][0] = _mm512_loadu_ps(query + 16 * i);
  TurnBackVectors(frame, v);
  offset = MapVectors(frame, v);
  RotateVectors(rotation.rounds, {rotation.sign_masks}, v);
  return RoundVectors(v, high, low);
}

float FramedDigits(const FramePlan& frame, const RotationPlan& rotation, const float* query,
                   float* scratch, int8_t* high, int8_t* low, float& offset) {
  const bool halves = frame.rotary_dim == frame.dim && !frame.interleaved;
  if (frame.rotary_dim == 0 || halves) {
    switch (frame.dim) {
      case 64:
        return FramedDigitsInRegisters<4>(frame, rotation, query, high, low, offset);
      case 96:
        return FramedDigitsInRegisters<6>(frame, rotation, query, high, low, offset);
      case 128:
        return FramedDigitsInRegisters<8>(frame, rotation, query, high, low, offset);
      case 256:
        return FramedDigitsInRegisters<16>(frame, rotation, query, high, low, offset);
      default:
        break;
    }
  }
  offset = FrameQuery(frame, query, scratch);
  Rotate(rotation, scratch);
  return RoundQuery(scratch, frame.dim, high, low);
}

}  // namespace
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_AVX512_FRAMED_DIGITS_H_
