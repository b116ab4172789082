// Exponentials, the online softmax, weight digits and the merge of two parts on AVX-512. Private to
// avx512.cc, which brings the instructions, their target and everything else this file names.
#ifndef TURBOQUANT_SRC_KERNELS_AVX512_SOFTMAX_H_
#define TURBOQUANT_SRC_KERNELS_AVX512_SOFTMAX_H_

namespace turboquant::kernels {
namespace {

// As Exp2 of softmax-inl.h, 0 outside the mask. What lies below kExp2Lowest becomes anything, and
// then 0.
TQ_INLINE __m512 Exp2(__m512 x, __mmask16 mask = 0xFFFF) {
  const __m512 magic = _mm512_set1_ps(12582912.0f);
  const __m512 shifted = _mm512_add_ps(x, magic);
  const __m512 part = _mm512_sub_ps(x, _mm512_sub_ps(shifted, magic));
  __m512 p = _mm512_set1_ps(kExp2Coefficients[6]);
#pragma GCC unroll 6
  for (int i = 5; i >= 0; --i) p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(kExp2Coefficients[i]));
  const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
  const __mmask16 kept = _mm512_cmp_ps_mask(x, _mm512_set1_ps(kExp2Lowest), _CMP_GE_OQ);
  return _mm512_castsi512_ps(_mm512_maskz_add_epi32(static_cast<__mmask16>(kept & mask),
                                                    _mm512_castps_si512(p), exponent));
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

// Lanes of a vector that starts at token t and lie in the range.
TQ_INLINE __mmask16 Seen(size_t t, TokenRange range) {
  const __mmask16 below_end = FloatsBelow(range.end - t);
  return t >= range.begin ? below_end
                          : static_cast<__mmask16>(below_end & ~FloatsBelow(range.begin - t));
}

// body(t, mask) for the vectors of 16 tokens that touch the range, masked at its ends.
template <class Body>
TQ_INLINE void ForVectors(TokenRange range, const Body& body) {
  if (range.empty()) return;
  size_t t = range.begin / 16 * 16;
  if (t < range.begin) {
    body(t, Seen(t, range));
    t += 16;
  }
  for (; t + 16 <= range.end; t += 16) body(t, __mmask16{0xFFFF});
  if (t < range.end) body(t, Seen(t, range));
}

// Rows whose reductions run side by side.
constexpr size_t kSoftmaxRows = 8;

void SoftmaxTogether(const QueryRows<float>& scores, size_t rows, const TokenRange* ranges,
                     const float* offsets, SoftmaxState* states, float* keep) {
  const __m512 nothing = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  __m512 lanes[kSoftmaxRows];
  for (size_t r = 0; r < rows; ++r) {
    const float* row = scores.data + r * scores.stride;
    __m512 largest = nothing;
    ForVectors(ranges[r], [&](size_t t, __mmask16 mask) {
      largest = Larger(largest, _mm512_mask_mov_ps(nothing, mask, _mm512_loadu_ps(row + t)));
    });
    lanes[r] = largest;
  }
  alignas(64) float fall[16] = {};  // of the maxima
  for (size_t r = 0; r < rows; ++r) {
    const float old_max = states[r].max;
    if (ranges[r].empty()) continue;
    states[r].max = std::max(old_max, LargestLane(lanes[r]) + offsets[r]);  // rounding keeps order
    fall[r] = old_max - states[r].max;
  }
  _mm512_store_ps(fall, Exp2(_mm512_load_ps(fall)));
  for (size_t r = 0; r < rows; ++r) {
    float* row = scores.data + r * scores.stride;
    keep[r] = fall[r];
    const __m512 max = _mm512_set1_ps(states[r].max);
    const __m512 offset = _mm512_set1_ps(offsets[r]);
    __m512 sums = _mm512_setzero_ps();
    if (ranges[r].empty()) continue;
    std::fill(row, row + ranges[r].begin / 16 * 16, 0.0f);
    ForVectors(ranges[r], [&](size_t t, __mmask16 mask) {
      const __m512 score = _mm512_add_ps(_mm512_loadu_ps(row + t), offset);
      const __m512 weight = Exp2(_mm512_sub_ps(score, max), mask);
      sums = _mm512_add_ps(sums, weight);
      _mm512_storeu_ps(row + t, weight);
    });
    lanes[r] = sums;
  }
  for (size_t r = 0; r < rows; ++r) {
    if (!ranges[r].empty()) states[r].sum = states[r].sum * keep[r] + AddLanes(lanes[r]);
  }
}

void Softmax(const QueryRows<float>& scores, size_t rows, const TokenRange* ranges,
             const float* offsets, SoftmaxState* states, float* keep) {
  for (size_t r = 0; r < rows; r += kSoftmaxRows) {
    SoftmaxTogether({scores.data + r * scores.stride, scores.stride},
                    std::min(kSoftmaxRows, rows - r), ranges + r, offsets + r, states + r,
                    keep + r);
  }
}

// Low bytes of 64 words within [0, 2^15), in order.
TQ_INLINE __m512i BytesOf(__m512i words_ab, __m512i words_cd) {
  const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
  return _mm512_permutexvar_epi32(order, _mm512_packus_epi16(words_ab, words_cd));
}

// The row of weights times scales.
struct ScaledWeights {
  const float* weights;
  const float* scales;

  TQ_INLINE __m512 At(size_t t) const {
    return _mm512_mul_ps(_mm512_loadu_ps(weights + t), _mm512_load_ps(scales + t));
  }
};

// Digits of tokens [t, t + 64).
TQ_INLINE void StoreDigits64(const ScaledWeights& row, size_t t, __m512 inverse, uint8_t* high,
                             uint8_t* low) {
  __m512i digits[4];
#pragma GCC unroll 4
  for (size_t v = 0; v < 4; ++v)
    digits[v] = _mm512_cvtps_epi32(_mm512_mul_ps(row.At(t + 16 * v), inverse));
  const __m512i ab = _mm512_packs_epi32(digits[0], digits[1]);
  const __m512i cd = _mm512_packs_epi32(digits[2], digits[3]);
  if (low == nullptr) return _mm512_storeu_si512(high + t, BytesOf(ab, cd));
  const __m512i seven_bits = _mm512_set1_epi16(127);
  _mm512_storeu_si512(high + t, BytesOf(_mm512_srli_epi16(ab, 7), _mm512_srli_epi16(cd, 7)));
  _mm512_storeu_si512(low + t,
                      BytesOf(_mm512_and_si512(ab, seven_bits), _mm512_and_si512(cd, seven_bits)));
}

// Of the 16 tokens at t.
TQ_INLINE void StoreDigits16(const ScaledWeights& row, size_t t, __m512 inverse, uint8_t* high,
                             uint8_t* low) {
  const __m512i digit = _mm512_cvtps_epi32(_mm512_mul_ps(row.At(t), inverse));
  const __m512i upper = low == nullptr ? digit : _mm512_srli_epi32(digit, 7);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(high + t), _mm512_cvtepi32_epi8(upper));
  if (low == nullptr) return;
  const __m512i lower = _mm512_and_si512(digit, _mm512_set1_epi32(127));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(low + t), _mm512_cvtepi32_epi8(lower));
}

void MakeWeightDigits(const QueryRows<const float>& weights, size_t rows, const uint16_t* scales,
                      size_t count, uint8_t* high, uint8_t* low, float* gain) {
  assert(count <= kBlockTokens);
  alignas(64) float wide[kBlockTokens];  // the scales
  for (size_t t = 0; t < count; t += 16) {
    const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales + t));
    _mm512_store_ps(wide + t, _mm512_cvtph_ps(halves));
  }
  const float most = low == nullptr ? kOneWeightDigitMax : kTwoWeightDigitsMax;
  for (size_t r = 0; r < rows; ++r, high += kBlockTokens) {
    const ScaledWeights row = {weights.data + r * weights.stride, wide};
    __m512 largest = _mm512_setzero_ps();
    for (size_t t = 0; t < count; t += 16) largest = Larger(largest, row.At(t));
    const float max = LargestLane(largest);
    const __m512 inverse = _mm512_set1_ps(max < kLeastWeight ? 0.0f : most / max);
    gain[r] = max < kLeastWeight ? 0.0f : max / most;
    size_t t = 0;
    for (; t + 64 <= count; t += 64) StoreDigits64(row, t, inverse, high, low);
    for (; t < count; t += 16) StoreDigits16(row, t, inverse, high, low);
    if (low != nullptr) low += kBlockTokens;
  }
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
