// Weighted sums of packed value rows. Included once per target.
#if defined(TURBOQUANT_SRC_KERNELS_VALUES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TURBOQUANT_SRC_KERNELS_VALUES_INL_H_
#undef TURBOQUANT_SRC_KERNELS_VALUES_INL_H_
#else
#define TURBOQUANT_SRC_KERNELS_VALUES_INL_H_
#endif

#include "src/kernels/attention.h"
#include "src/kernels/kernels.h"
#include "src/kernels/line_layout.h"
#include "src/kernels/score-inl.h"
#include "src/kernels/simd-inl.h"
#include "src/kernels/with_bits.h"

#if TURBOQUANT_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace turboquant::kernels::HWY_NAMESPACE {

// Sums of one vector of dims over all tokens to a row of sums.
template <size_t kQueries>
HWY_INLINE void StoreSums(const VI32* totals, const float* keep, const float* gain, size_t dims,
                          float* sums, size_t stride) {
  const DF d;
  for (size_t q = 0; q < kQueries; ++q) {
    float* row = sums + q * stride;
    const VF added = hn::Mul(hn::ConvertTo(d, totals[q]), hn::Set(d, gain[q]));
    if (HWY_LIKELY(dims >= kFloats)) {
      hn::StoreU(hn::Add(hn::Mul(hn::LoadU(d, row), hn::Set(d, keep[q])), added), d, row);
      continue;
    }
    alignas(64) float last[kFloats];
    hn::Store(added, d, last);
    for (size_t j = 0; j < dims; ++j) row[j] = row[j] * keep[q] + last[j];
  }
}

template <int kBits, size_t kQueries, size_t kDigits>
HWY_NOINLINE void AccumulateQueries(const ScorePlan& plan, const BlocksView& blocks,
                                    const WeightDigits& weights, size_t first, const float* keep,
                                    const float* gain, float* sums, size_t stride) {
  using Decoder = LevelDecoder<kBits>;
  constexpr bool kWide = HWY_TARGET == HWY_AVX2 && kDigits == 2;
  constexpr size_t kRows = kWide ? kQueries : kQueries * kDigits;
  constexpr size_t kVectors = kRows <= 4 ? 2 : 1;
  constexpr size_t kUnits = 16 / Decoder::kUnitQuads;
  const DI32 di;
  const Decoder decoder(plan, kWide ? kLevelOffset : 0);
  const uint8_t* low = weights.low == nullptr ? nullptr : weights.low + first * kBlockTokens;
  const QueryDigits as_queries = {
      reinterpret_cast<const int8_t*>(weights.high + first * kBlockTokens),
      reinterpret_cast<const int8_t*>(low), kBlockTokens, kQueries, nullptr};
  int32_t start[kRows] = {};
#if HWY_TARGET == HWY_AVX2
  alignas(64) int16_t wide[kWide ? kQueries * kBlockTokens : 1];
  const size_t tokens = kValueBlockRows * blocks.count;
  if constexpr (kWide) WidenDigits<kQueries>(as_queries, 0, tokens, wide, start);
#endif
  for (size_t j = 0; j < plan.dim; j += kVectors * kFloats) {
    const uint8_t* lines = blocks.blocks + j / kLanes * ValueGroupBytes(kBits) + 4 * (j % kLanes);
    VI32 totals[kVectors][kRows];
    for (auto& vector : totals) {
      for (size_t r = 0; r < kRows; ++r) vector[r] = hn::Set(di, start[r]);
    }
    for (size_t block = 0; block < blocks.count;
         ++block, lines += ValueBlockBytes(plan.dim, kBits)) {
      if (j % kLanes == 0) {
        constexpr size_t kLines = ValueGroupBytes(kBits) / kLineBytes;
        blocks.ahead.Prefetch(static_cast<size_t>(lines - blocks.blocks), kLines);
      }
#if HWY_TARGET == HWY_AVX2
      if constexpr (kWide) {
        SumLanesWide<kBits, kQueries, kVectors>(decoder, lines, kUnits,
                                                wide + block * kValueBlockRows, tokens, totals);
        continue;
      }
#endif
      if constexpr (!kWide) {
        const int8_t* rows[kRows];
        for (size_t r = 0; r < kRows; ++r) {
          const int8_t* digits = r < kQueries ? as_queries.high : as_queries.low;
          rows[r] = digits + r % kQueries * kBlockTokens + block * kValueBlockRows;
        }
        SumLanes<kBits, kRows, kVectors, Unsigned::kDigits>(decoder, lines, kUnits, rows, totals);
      }
    }
    for (size_t v = 0; v < kVectors && j + v * kFloats < plan.dim; ++v) {
      if constexpr (!kWide && kDigits == 2) {
        for (size_t q = 0; q < kQueries; ++q)
          totals[v][q] = hn::Add(hn::ShiftLeft<7>(totals[v][q]), totals[v][kQueries + q]);
      }
      const size_t at = j + v * kFloats;
      StoreSums<kQueries>(totals[v], keep + first, gain + first, plan.dim - at,
                          sums + first * stride + at, stride);
    }
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

inline void AccumulateValues(const ScorePlan& plan, const BlocksView& blocks,
                             const WeightDigits& weights, size_t queries, const float* keep,
                             const float* gain, const QueryRows<float>& sums) {
  const auto fixed = [&]<int kBits>() HWY_ATTR {
    const auto accumulate =
        weights.low != nullptr ? AccumulateFixed<kBits, 2> : AccumulateFixed<kBits, 1>;
    accumulate(plan, blocks, weights, queries, keep, gain, sums);
  };
  if (plan.int8_levels && WithByteLevels(plan.bits, fixed)) return;
  reference::kAttention.accumulate_values(plan, blocks, weights, queries, keep, gain, sums);
}

}  // namespace turboquant::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // TURBOQUANT_SIMD_TARGET

#endif  // per-target include guard
