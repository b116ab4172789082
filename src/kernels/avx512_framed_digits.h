// framed_digits on AVX-512: queries of the dims that models have stay in registers from their frame
// to their digits. Private to avx512.cc, which brings the instructions, their target and everything
// else this file names.
#ifndef TURBOQUANT_SRC_KERNELS_AVX512_FRAMED_DIGITS_H_
#define TURBOQUANT_SRC_KERNELS_AVX512_FRAMED_DIGITS_H_

namespace turboquant::kernels {
namespace {

// R^T of rows of 16 · kVectors coordinates whose halves are pairs, or that don't turn; see
// TurnBack.
template <size_t kVectors, size_t kRows>
TQ_INLINE void TurnBackVectors(const FramePlan& frame, __m512 (&v)[kVectors][kRows]) {
  constexpr size_t kPairs = kVectors / 2;
  if (frame.rotary_dim == 0) return;
#pragma GCC unroll 8
  for (size_t i = 0; i < kPairs; ++i) {
    const __m512 cosine = _mm512_loadu_ps(frame.cosines + 16 * i);
    const __m512 sine = _mm512_loadu_ps(frame.sines + 16 * i);
#pragma GCC unroll 2
    for (size_t r = 0; r < kRows; ++r) {
      const __m512 x = v[i][r];
      const __m512 y = v[i + kPairs][r];
      v[i][r] = _mm512_add_ps(_mm512_mul_ps(x, cosine), _mm512_mul_ps(y, sine));
      v[i + kPairs][r] = _mm512_sub_ps(_mm512_mul_ps(y, cosine), _mm512_mul_ps(x, sine));
    }
  }
}

// Centre and diagonal.
template <size_t kVectors, size_t kRows>
TQ_INLINE void MapVectors(const FramePlan& frame, __m512 (&v)[kVectors][kRows], float* offsets) {
  __m512 products[kRows];
#pragma GCC unroll 2
  for (__m512& sum : products) sum = _mm512_setzero_ps();
#pragma GCC unroll 16
  for (size_t i = 0; i < kVectors; ++i) {
#pragma GCC unroll 2
    for (size_t r = 0; r < kRows; ++r) {
      if (frame.center != nullptr)
        products[r] = _mm512_fmadd_ps(v[i][r], _mm512_loadu_ps(frame.center + 16 * i), products[r]);
      if (frame.scale != nullptr)
        v[i][r] = _mm512_mul_ps(v[i][r], _mm512_loadu_ps(frame.scale + 16 * i));
    }
  }
#pragma GCC unroll 2
  for (size_t r = 0; r < kRows; ++r)
    offsets[r] = frame.center == nullptr ? 0.0f : AddLanes(products[r]);
}

// Digits of row r, whose largest coordinate is not 0.
template <size_t kVectors, size_t kRows>
TQ_INLINE void RoundVectors(const __m512 (&v)[kVectors][kRows], size_t r, __m512 gain, int8_t* high,
                            int8_t* low) {
  static_assert(kVectors % 2 == 0);
#pragma GCC unroll 8
  for (size_t i = 0; i < kVectors; i += 2) {
    Round32(v[i][r], v[i + 1][r], gain, high + 16 * i, low == nullptr ? nullptr : low + 16 * i);
  }
}

// kRows queries side by side, so that one's additions fill the waits of another's.
template <size_t kVectors, size_t kRows>
TQ_INLINE void FramedDigitsTogether(const FramePlan& frame, const RotationPlan& rotation,
                                    const FramedQueries& queries, size_t q) {
  __m512 v[kVectors][kRows];
  const uint32_t* masks[kRows];
#pragma GCC unroll 2
  for (size_t r = 0; r < kRows; ++r) {
    masks[r] = rotation.sign_masks;
    const float* row = queries.Query(q + r);
#pragma GCC unroll 16
    for (size_t i = 0; i < kVectors; ++i) v[i][r] = _mm512_loadu_ps(row + 16 * i);
  }
  TurnBackVectors(frame, v);
  MapVectors(frame, v, queries.offsets + q);
  RotateVectors(rotation.rounds, masks, v);
  __m512 peaks[kRows];
#pragma GCC unroll 2
  for (size_t r = 0; r < kRows; ++r) {
    peaks[r] = _mm512_setzero_ps();
#pragma GCC unroll 16
    for (size_t i = 0; i < kVectors; ++i) peaks[r] = LargerMagnitude(peaks[r], v[i][r]);
    queries.largest[q + r] = LargestLane(peaks[r]);
  }
  const int digit_max = queries.low == nullptr ? kOneDigitMax : kTwoDigitMax;
#pragma GCC unroll 2
  for (size_t r = 0; r < kRows; ++r) {
    const float largest = queries.largest[q + r];
    int8_t* high = queries.High(q + r);
    int8_t* low = queries.Low(q + r);
    if (largest == 0.0f) {
      NoDigits(16 * kVectors, high, low);
    } else {
      RoundVectors(v, r, _mm512_set1_ps(QueryGain(largest, digit_max)), high, low);
    }
  }
}

template <size_t kVectors>
void FramedDigitsInRegisters(const FramePlan& frame, const RotationPlan& rotation,
                             const FramedQueries& queries) {
  size_t q = 0;
  if constexpr (kVectors <= 8) {  // the registers suffice for two
    for (; q + 2 <= queries.count; q += 2)
      FramedDigitsTogether<kVectors, 2>(frame, rotation, queries, q);
  }
  for (; q < queries.count; ++q) FramedDigitsTogether<kVectors, 1>(frame, rotation, queries, q);
}

void FramedDigits(const FramePlan& frame, const RotationPlan& rotation,
                  const FramedQueries& queries, float* scratch) {
  const bool halves = frame.rotary_dim == frame.dim && !frame.interleaved;
  if (frame.rotary_dim == 0 || halves) {
    switch (frame.dim) {
      case 64:
        return FramedDigitsInRegisters<4>(frame, rotation, queries);
      case 96:
        return FramedDigitsInRegisters<6>(frame, rotation, queries);
      case 128:
        return FramedDigitsInRegisters<8>(frame, rotation, queries);
      case 256:
        return FramedDigitsInRegisters<16>(frame, rotation, queries);
      default:
        break;
    }
  }
  for (size_t q = 0; q < queries.count; ++q) {
    queries.offsets[q] = FrameQuery(frame, queries.Query(q), scratch);
    Rotate(rotation, scratch);
    queries.largest[q] = RoundQuery(scratch, frame.dim, queries.High(q), queries.Low(q));
  }
}

}  // namespace
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_AVX512_FRAMED_DIGITS_H_
