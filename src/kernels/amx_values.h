// accumulate_values in tiles. Private to amx.cc.
#ifndef TURBOQUANT_SRC_KERNELS_AMX_VALUES_H_
#define TURBOQUANT_SRC_KERNELS_AMX_VALUES_H_

#include "src/kernels/amx_groups.h"
#include "src/kernels/avx512_lanes.h"

namespace turboquant::kernels {
namespace {

template <int kBits>
void AccumulateInTiles(const ScorePlan& plan, const BlocksView& blocks, const DigitRows& rows,
                       const float* keep, const float* gain, const QueryRows<float>& sums) {
  const size_t dim = plan.dim;
  const auto finish = [=](const Group& group, size_t column, const ColumnSums& totals) {
    const size_t j = column * kLanes;
    const __mmask16 mask = FloatsBelow(dim - j);
    ForQueries(group, totals, [=](size_t q, __m512i total) {
      float* row = sums.data + q * sums.stride + j;
      const __m512 added = _mm512_mul_ps(_mm512_cvtepi32_ps(total), _mm512_set1_ps(gain[q]));
      const __m512 kept = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, row), _mm512_set1_ps(keep[q]));
      _mm512_mask_storeu_ps(row, mask, _mm512_add_ps(kept, added));
    });
  };
  MultiplyGroups<kBits>(plan, ValueColumns(plan, blocks), rows, finish);
}

// Weights have two digits: with fewer queries a tile is not half full.
constexpr size_t kLeastQueries = 8;

void AccumulateValues(const ScorePlan& plan, const BlocksView& blocks, const WeightDigits& weights,
                      size_t queries, const float* keep, const float* gain,
                      const QueryRows<float>& sums) {
  const DigitRows rows = {weights.high, weights.low, kBlockTokens, blocks.count * kValueBlockRows,
                          queries};
  const bool pays = plan.int8_levels && blocks.count > 0 && queries >= kLeastQueries;
  const bool done = pays && WithByteLevels(plan.bits, [&]<int kBits>() {
                      AccumulateInTiles<kBits>(plan, blocks, rows, keep, gain, sums);
                    });
  if (!done) {
    Avx512Table().attention->accumulate_values(plan, blocks, weights, queries, keep, gain, sums);
  }
}

}  // namespace
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_AMX_VALUES_H_
