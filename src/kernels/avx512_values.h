// Weighted sums of packed value rows on AVX-512. Private to avx512.cc,
// which brings the instructions, their target and everything else this file names.
#ifndef TURBOQUANT_SRC_KERNELS_AVX512_VALUES_H_
#define TURBOQUANT_SRC_KERNELS_AVX512_VALUES_H_

namespace turboquant::kernels {
namespace {

// Sums of kGroups groups of 16 dims side by side, so that a broadcast weight serves them all.
template <int kBits, size_t kQueries, size_t kDigits, size_t kGroups>
TQ_INLINE void AccumulateGroups(const LevelDecoder<kBits>& decoder, const BlocksView& blocks,
                                size_t first_byte, size_t block_bytes, const WeightDigits& weights,
                                const float* keep, const float* gain, size_t dims, float* sums,
                                size_t stride) {
  using Decoder = LevelDecoder<kBits>;
  constexpr size_t kRows = kQueries * kDigits;
  constexpr size_t kUnits = 16 / Decoder::kUnitQuads;
  __m512i totals[kGroups][kRows];
#pragma GCC unroll 8
  for (size_t g = 0; g < kGroups; ++g) {
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) totals[g][r] = _mm512_setzero_si512();
  }
  for (size_t block = 0; block < blocks.count; ++block) {
    for (size_t unit = 0; unit < kUnits; ++unit) {
      constexpr size_t kLines = kGroups * Decoder::kUnitLines;
      blocks.ahead.Prefetch(first_byte + block * block_bytes + unit * kLines * kLineBytes, kLines);
      __m512i levels[kGroups][Decoder::kUnitQuads];
#pragma GCC unroll 8
      for (size_t g = 0; g < kGroups; ++g) {
        const size_t at = first_byte + block * block_bytes + g * ValueGroupBytes(kBits) +
                          unit * Decoder::kUnitLines * kLineBytes;
        decoder(blocks.blocks + at, levels[g]);
      }
#pragma GCC unroll 8
      for (size_t quad = 0; quad < Decoder::kUnitQuads; ++quad) {
#pragma GCC unroll 8
        for (size_t r = 0; r < kRows; ++r) {
          const uint8_t* row =
              (r < kQueries ? weights.high : weights.low) + r % kQueries * kBlockTokens;
          const size_t at = block * kValueBlockRows + 4 * (unit * Decoder::kUnitQuads + quad);
          const __m512i digit = BroadcastQuad(reinterpret_cast<const int8_t*>(row + at));
#pragma GCC unroll 4
          for (size_t g = 0; g < kGroups; ++g)
            AddByteProducts(totals[g][r], digit, levels[g][quad]);
        }
      }
    }
  }
#pragma GCC unroll 8
  for (size_t g = 0; g < kGroups; ++g) {
    const __mmask16 mask = FloatsBelow(dims - 16 * g);
#pragma GCC unroll 8
    for (size_t q = 0; q < kQueries; ++q) {
      __m512i total = totals[g][q];
      if constexpr (kDigits == 2)
        total = _mm512_add_epi32(_mm512_slli_epi32(total, 7), totals[g][kQueries + q]);
      float* row = sums + q * stride + 16 * g;
      const __m512 added = _mm512_mul_ps(_mm512_cvtepi32_ps(total), _mm512_set1_ps(gain[q]));
      const __m512 kept = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, row), _mm512_set1_ps(keep[q]));
      _mm512_mask_storeu_ps(row, mask, _mm512_add_ps(kept, added));
    }
  }
}

template <int kBits, size_t kQueries, size_t kDigits>
void AccumulateQueries(const ScorePlan& plan, const BlocksView& blocks, const WeightDigits& weights,
                       size_t first, const float* keep, const float* gain, float* sums,
                       size_t stride) {
  const LevelDecoder<kBits> decoder(plan, 0);
  const WeightDigits digits = {weights.high + first * kBlockTokens,
                               kDigits == 2 ? weights.low + first * kBlockTokens : nullptr};
  const size_t block_bytes = ValueBlockBytes(plan.dim, kBits);
  size_t j = 0;
  for (; j + 16 < plan.dim; j += 32) {
    AccumulateGroups<kBits, kQueries, kDigits, 2>(
        decoder, blocks, j / kLanes * ValueGroupBytes(kBits), block_bytes, digits, keep + first,
        gain + first, plan.dim - j, sums + first * stride + j, stride);
  }
  if (j < plan.dim) {
    AccumulateGroups<kBits, kQueries, kDigits, 1>(
        decoder, blocks, j / kLanes * ValueGroupBytes(kBits), block_bytes, digits, keep + first,
        gain + first, plan.dim - j, sums + first * stride + j, stride);
  }
}

template <int kBits, size_t kDigits>
void AccumulateFixed(const ScorePlan& plan, BlocksView blocks, const WeightDigits& weights,
                     size_t queries, const float* keep, const float* gain,
                     const QueryRows<float>& sums) {
  constexpr size_t kMost = 8 / kDigits;
  size_t first = 0;
  const auto pass = [&]<size_t kQueries>() {
    AccumulateQueries<kBits, kQueries, kDigits>(plan, blocks, weights, first, keep, gain, sums.data,
                                                sums.stride);
    blocks.ahead = {};  // once is enough
    return kQueries;
  };
  while (queries - first >= kMost) first += pass.template operator()<kMost>();
  if (queries - first >= 4) first += pass.template operator()<4>();
  if (queries - first >= 2) first += pass.template operator()<2>();
  if (queries - first >= 1) first += pass.template operator()<1>();
}

void AccumulateValues(const ScorePlan& plan, const BlocksView& blocks, const WeightDigits& weights,
                      size_t queries, const float* keep, const float* gain,
                      const QueryRows<float>& sums) {
  const auto fixed = [&]<int kBits>() {
    const auto accumulate =
        weights.low != nullptr ? AccumulateFixed<kBits, 2> : AccumulateFixed<kBits, 1>;
    accumulate(plan, blocks, weights, queries, keep, gain, sums);
  };
  if (plan.int8_levels && WithByteLevels(plan.bits, fixed)) return;
  reference::kAttention.accumulate_values(plan, blocks, weights, queries, keep, gain, sums);
}

}  // namespace
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_AVX512_VALUES_H_
