// query_digits and score_keys on AVX-512. Private to avx512.cc, which brings the
// instructions and their target, and everything else this file names.
#ifndef TURBOQUANT_SRC_KERNELS_AVX512_SCORE_H_
#define TURBOQUANT_SRC_KERNELS_AVX512_SCORE_H_

namespace turboquant::kernels {
namespace {

// Digits of 32 coordinates; no clamp, see query-inl.h.
TQ_INLINE void Round32(__m512 x, __m512 y, __m512 gain, int8_t* high, int8_t* low) {
  const __m512i order = _mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0);
  const __m512i a = _mm512_cvtps_epi32(_mm512_mul_ps(x, gain));
  const __m512i b = _mm512_cvtps_epi32(_mm512_mul_ps(y, gain));
  const __m512i t = _mm512_permutexvar_epi64(order, _mm512_packs_epi32(a, b));
  __m512i upper = t;
  if (low != nullptr) {
    upper = _mm512_srai_epi16(_mm512_add_epi16(t, _mm512_set1_epi16(64)), 7);
    const __m512i rest = _mm512_sub_epi16(t, _mm512_slli_epi16(upper, 7));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(low), _mm512_cvtepi16_epi8(rest));
  }
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(high), _mm512_cvtepi16_epi8(upper));
}

TQ_INLINE void Round32(const float* x, __m512 gain, int8_t* high, int8_t* low) {
  Round32(_mm512_loadu_ps(x), _mm512_loadu_ps(x + 16), gain, high, low);
}

// Masked, because g++ 12 warns of its own unmasked maximum.
TQ_INLINE __m512 Larger(__m512 a, __m512 b) { return _mm512_maskz_max_ps(0xFFFF, a, b); }

TQ_INLINE float FirstLane(__m512 v) { return _mm_cvtss_f32(_mm512_castps512_ps128(v)); }
TQ_INLINE float LargestLane(__m512 lanes) {
  __m512 most = Larger(lanes, _mm512_shuffle_f32x4(lanes, lanes, 0x4E));
  most = Larger(most, _mm512_shuffle_f32x4(most, most, 0xB1));
  most = Larger(most, _mm512_permute_ps(most, 0x4E));
  return FirstLane(Larger(most, _mm512_permute_ps(most, 0xB1)));
}

TQ_INLINE __m512 LargerMagnitude(__m512 most, __m512 x) { return Larger(most, _mm512_abs_ps(x)); }

// Of a query of zeros.
float NoDigits(size_t dim, int8_t* high, int8_t* low) {
  std::fill_n(high, PaddedDim(dim), int8_t{0});
  if (low != nullptr) std::fill_n(low, PaddedDim(dim), int8_t{0});
  return 0.0f;
}

float RoundQuery(const float* rotated, size_t dim, int8_t* high, int8_t* low) {
  const size_t whole = dim / 32 * 32;
  alignas(64) float tail[32] = {};  // the row ends where it ends
  std::copy(rotated + whole, rotated + dim, tail);
  __m512 peaks = LargerMagnitude(_mm512_abs_ps(_mm512_load_ps(tail)), _mm512_load_ps(tail + 16));
  for (size_t j = 0; j < whole; j += 16) {
    peaks = LargerMagnitude(peaks, _mm512_loadu_ps(rotated + j));
  }
  const float largest = LargestLane(peaks);
  if (largest == 0.0f) return NoDigits(dim, high, low);
  const int digit_max = low == nullptr ? kOneDigitMax : kTwoDigitMax;
  const __m512 gain = _mm512_set1_ps(QueryGain(largest, digit_max));
  for (size_t j = 0; j < whole; j += 32) {
    Round32(rotated + j, gain, high + j, low == nullptr ? nullptr : low + j);
  }
  if (whole < dim) Round32(tail, gain, high + whole, low == nullptr ? nullptr : low + whole);
  return largest;
}

// padded: a multiple of 32.
TQ_INLINE int32_t SumOfDigits(const int8_t* digits, size_t padded) {
  __m256i sums = _mm256_setzero_si256();
  for (size_t j = 0; j < padded; j += 32) {
    sums = _mm256_dpbusd_epi32(sums, _mm256_set1_epi8(1),
                               _mm256_loadu_si256(reinterpret_cast<const __m256i*>(digits + j)));
  }
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
  return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xB1)));
}

TQ_INLINE __m512i BroadcastQuad(const int8_t* digits) {
  int32_t quad;
  std::memcpy(&quad, digits, sizeof(quad));
  return _mm512_set1_epi32(quad);
}

// One pass over the blocks for kQueries queries, kBlocks blocks side by side so that a broadcast
// digit serves them all. Stores blocks [block, block + kBlocks).
template <int kBits, size_t kQueries, size_t kDigits, size_t kBlocks>
TQ_INLINE void ScoreBlocks(const LevelDecoder<kBits>& decoder, size_t units, size_t block_bytes,
                           const BlocksView& blocks, size_t block, const RowScales& scales,
                           const int8_t* const* digits, const int32_t* start, const float* factors,
                           float* scores, size_t score_stride) {
  using Decoder = LevelDecoder<kBits>;
  constexpr size_t kRows = kQueries * kDigits;
  __m512i sums[kBlocks][kRows];
#pragma GCC unroll 8
  for (size_t b = 0; b < kBlocks; ++b) {
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) sums[b][r] = _mm512_set1_epi32(start[r]);
  }
  for (size_t unit = 0; unit < units; ++unit) {
    constexpr size_t kLines = kBlocks * Decoder::kUnitLines;
    blocks.ahead.Prefetch(block * block_bytes + unit * kLines * kLineBytes, kLines);
    __m512i levels[kBlocks][Decoder::kUnitQuads];
#pragma GCC unroll 8
    for (size_t b = 0; b < kBlocks; ++b) {
      const size_t at = (block + b) * block_bytes + unit * Decoder::kUnitLines * kLineBytes;
      decoder(blocks.blocks + at, levels[b]);
    }
#pragma GCC unroll 8
    for (size_t quad = 0; quad < Decoder::kUnitQuads; ++quad) {
#pragma GCC unroll 8
      for (size_t r = 0; r < kRows; ++r) {
        const __m512i digit = BroadcastQuad(digits[r] + 4 * (unit * Decoder::kUnitQuads + quad));
#pragma GCC unroll 4
        for (size_t b = 0; b < kBlocks; ++b) AddByteProducts(sums[b][r], levels[b][quad], digit);
      }
    }
  }
#pragma GCC unroll 8
  for (size_t b = 0; b < kBlocks; ++b) {
    const size_t row = (block + b) * kKeyBlockRows;
    const __m512 scale = LoadScales(scales, row);
#pragma GCC unroll 8
    for (size_t q = 0; q < kQueries; ++q) {
      __m512i sum = sums[b][q];
      if constexpr (kDigits == 2)
        sum = _mm512_add_epi32(_mm512_slli_epi32(sum, 7), sums[b][kQueries + q]);
      const __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(factors[q]));
      _mm512_storeu_ps(scores + q * score_stride + row, _mm512_mul_ps(product, scale));
    }
  }
}

template <int kBits, size_t kQueries, size_t kDigits>
void ScoreQueries(const ScorePlan& plan, const BlocksView& blocks, const RowScales& scales,
                  const QueryDigits& queries, size_t first, float* scores, size_t score_stride) {
  using Decoder = LevelDecoder<kBits>;
  constexpr size_t kRows = kQueries * kDigits;
  constexpr size_t kBlocks = kRows <= 2 ? 4 : 2;
  const Decoder decoder(plan, 128);
  const size_t units = CeilDivide(CeilDivide(plan.dim, 4), Decoder::kUnitQuads);
  const size_t block_bytes = KeyBlockBytes(plan.dim, kBits);
  const int8_t* digits[kRows];
  int32_t start[kRows];  // takes the levels' offset off: -128 · sum of digits
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r) {
    digits[r] =
        (r < kQueries ? queries.high : queries.low) + (first + r % kQueries) * queries.stride;
    start[r] = -128 * SumOfDigits(digits[r], PaddedDim(plan.dim));
  }
  float* out = scores + first * score_stride;
  const float* factors = queries.factors + first;
  size_t block = 0;
  for (; block + kBlocks <= blocks.count; block += kBlocks) {
    ScoreBlocks<kBits, kQueries, kDigits, kBlocks>(decoder, units, block_bytes, blocks, block,
                                                   scales, digits, start, factors, out,
                                                   score_stride);
  }
  for (; block < blocks.count; ++block) {
    ScoreBlocks<kBits, kQueries, kDigits, 1>(decoder, units, block_bytes, blocks, block, scales,
                                             digits, start, factors, out, score_stride);
  }
}

template <int kBits, size_t kDigits>
void ScoreFixed(const ScorePlan& plan, BlocksView blocks, const RowScales& scales,
                const QueryDigits& queries, float* scores, size_t score_stride) {
  constexpr size_t kMost = 8 / kDigits;
  size_t first = 0;
  const auto pass = [&]<size_t kQueries>() {
    ScoreQueries<kBits, kQueries, kDigits>(plan, blocks, scales, queries, first, scores,
                                           score_stride);
    blocks.ahead = {};  // once is enough
    return kQueries;
  };
  while (queries.queries - first >= kMost) first += pass.template operator()<kMost>();
  if (queries.queries - first >= 4) first += pass.template operator()<4>();
  if (queries.queries - first >= 2) first += pass.template operator()<2>();
  if (queries.queries - first >= 1) first += pass.template operator()<1>();
}

void ScoreKeys(const ScorePlan& plan, const BlocksView& blocks, const RowScales& scales,
               const QueryDigits& queries, float* scores, size_t score_stride) {
  const auto fixed = [&]<int kBits>() {
    if (queries.low != nullptr) {
      ScoreFixed<kBits, 2>(plan, blocks, scales, queries, scores, score_stride);
    } else {
      ScoreFixed<kBits, 1>(plan, blocks, scales, queries, scores, score_stride);
    }
  };
  if (plan.int8_levels && plan.dim <= kMaxInt32Dim && WithByteLevels(plan.bits, fixed)) return;
  reference::ScoreKeys(plan, blocks, scales, queries, scores, score_stride);
}

}  // namespace
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_AVX512_SCORE_H_
