// Exponentials, the online softmax, weight digits and the merge of two parts on AVX-512. Private to
// avx512.cc, which brings the instructions, their target and everything else this file names.
#ifndef TURBOQUANT_SRC_KERNELS_AVX512_SOFTMAX_H_
#define TURBOQUANT_SRC_KERNELS_AVX512_SOFTMAX_H_

namespace turboquant::kernels {
namespace {

// As Exp2 of attention-inl.h.
TQ_INLINE __m512 Exp2(__m512 x) {
  const __m512 lowest = _mm512_set1_ps(kExp2Lowest);
  const __m512 magic = _mm512_set1_ps(12582912.0f);
  const __m512 held = Larger(x, lowest);
  const __m512 shifted = _mm512_add_ps(held, magic);
  const __m512 part = _mm512_sub_ps(held, _mm512_sub_ps(shifted, magic));
  __m512 p = _mm512_set1_ps(kExp2Coefficients[6]);
#pragma GCC unroll 6
  for (int i = 5; i >= 0; --i) p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(kExp2Coefficients[i]));
  const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
  const __m512i power = _mm512_add_epi32(_mm512_castps_si512(p), exponent);
  return _mm512_castsi512_ps(
      _mm512_maskz_mov_epi32(_mm512_cmp_ps_mask(x, lowest, _CMP_GE_OQ), power));
}

TQ_INLINE float Exp2(float x) { return FirstLane(Exp2(_mm512_set1_ps(x))); }

// i with i + 8, + 4, + 2, + 1.
TQ_INLINE float AddLanes(__m512 lanes) {
  __m512 sum = _mm512_add_ps(lanes, _mm512_shuffle_f32x4(lanes, lanes, 0x4E));
  sum = _mm512_add_ps(sum, _mm512_shuffle_f32x4(sum, sum, 0xB1));
  sum = _mm512_add_ps(sum, _mm512_permute_ps(sum, 0x4E));
  return FirstLane(_mm512_add_ps(sum, _mm512_permute_ps(sum, 0xB1)));
}

// AddLanes of 16 vectors at once: lane k of the result is that of vectors[k].
TQ_INLINE __m512 AddLanesOf16(const __m512* vectors) {
  __m512 eights[8];
#pragma GCC unroll 8
  for (size_t k = 0; k < 8; ++k) {
    const __m512 a = vectors[2 * k];
    const __m512 b = vectors[2 * k + 1];
    eights[k] = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
  }
  __m512 fours[4];
#pragma GCC unroll 4
  for (size_t k = 0; k < 4; ++k) {
    const __m512 a = eights[2 * k];
    const __m512 b = eights[2 * k + 1];
    fours[k] = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xDD));
  }
  __m512 twos[2];
#pragma GCC unroll 2
  for (size_t k = 0; k < 2; ++k) {
    const __m512d a = _mm512_castps_pd(fours[2 * k]);
    const __m512d b = _mm512_castps_pd(fours[2 * k + 1]);
    twos[k] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
                            _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
  }
  // Lane 4i + j is that of vector i + 4j.
  const __m512 sums = _mm512_add_ps(_mm512_shuffle_ps(twos[0], twos[1], 0x88),
                                    _mm512_shuffle_ps(twos[0], twos[1], 0xDD));
  const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
  return _mm512_permutexvar_ps(order, sums);
}

// Lanes of a vector that starts at token t and lie in [begin, end).
TQ_INLINE __mmask16 Seen(size_t t, size_t begin, size_t end) {
  if (t >= begin && t + 16 <= end) return static_cast<__mmask16>(0xFFFF);
  const __mmask16 below_end = FloatsBelow(end - t);
  return t >= begin ? below_end : static_cast<__mmask16>(below_end & ~FloatsBelow(begin - t));
}

float Softmax(float* scores, size_t begin, size_t end, float offset, SoftmaxState& state) {
  const size_t first = begin / 16 * 16;
  const __m512 nothing = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  __m512 largest = nothing;
  for (size_t t = first; t < end; t += 16) {
    const __m512 score = _mm512_loadu_ps(scores + t);
    largest = Larger(largest, _mm512_mask_mov_ps(nothing, Seen(t, begin, end), score));
  }
  const float old_max = state.max;
  state.max = std::max(old_max, LargestLane(largest) + offset);  // rounding keeps order
  const __m512 max = _mm512_set1_ps(state.max);
  const __m512 offsets = _mm512_set1_ps(offset);
  __m512 lanes = _mm512_setzero_ps();
  std::fill(scores, scores + first, 0.0f);
  for (size_t t = first; t < end; t += 16) {
    const __m512 score = _mm512_add_ps(_mm512_loadu_ps(scores + t), offsets);
    const __m512 weight = _mm512_maskz_mov_ps(Seen(t, begin, end), Exp2(_mm512_sub_ps(score, max)));
    lanes = _mm512_add_ps(lanes, weight);
    _mm512_storeu_ps(scores + t, weight);
  }
  const float keep = Exp2(old_max - state.max);
  state.sum = state.sum * keep + AddLanes(lanes);
  return keep;
}

TQ_INLINE __m512 ScaledWeights(const float* weights, const uint16_t* scales) {
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales));
  return _mm512_mul_ps(_mm512_loadu_ps(weights), _mm512_cvtph_ps(halves));
}

float MakeWeightDigits(const float* weights, const uint16_t* scales, size_t count, uint8_t* high,
                       uint8_t* low) {
  __m512 largest = _mm512_setzero_ps();
  for (size_t t = 0; t < count; t += 16)
    largest = Larger(largest, ScaledWeights(weights + t, scales + t));
  const float most = low == nullptr ? kOneWeightDigitMax : kTwoWeightDigitsMax;
  const float max = LargestLane(largest);
  const __m512 inverse = _mm512_set1_ps(max < kLeastWeight ? 0.0f : most / max);
  for (size_t t = 0; t < count; t += 16) {
    const __m512i digit =
        _mm512_cvtps_epi32(_mm512_mul_ps(ScaledWeights(weights + t, scales + t), inverse));
    const __m512i upper = low == nullptr ? digit : _mm512_srli_epi32(digit, 7);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(high + t), _mm512_cvtepi32_epi8(upper));
    if (low == nullptr) continue;
    const __m512i lower = _mm512_and_si512(digit, _mm512_set1_epi32(127));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(low + t), _mm512_cvtepi32_epi8(lower));
  }
  return max < kLeastWeight ? 0.0f : max / most;
}

void Merge(SoftmaxState& into, float* into_sums, const SoftmaxState& from, const float* from_sums,
           size_t count) {
  if (from.max == -std::numeric_limits<float>::infinity()) return;
  const float max = std::max(into.max, from.max);
  const float keep = Exp2(into.max - max);
  const float add = Exp2(from.max - max);
  into.max = max;
  into.sum = into.sum * keep + from.sum * add;
  for (size_t j = 0; j < count; j += 16) {
    const __mmask16 mask = FloatsBelow(count - j);
    const __m512 kept =
        _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, into_sums + j), _mm512_set1_ps(keep));
    const __m512 added =
        _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, from_sums + j), _mm512_set1_ps(add));
    _mm512_mask_storeu_ps(into_sums + j, mask, _mm512_add_ps(kept, added));
  }
}

}  // namespace
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_AVX512_SOFTMAX_H_
