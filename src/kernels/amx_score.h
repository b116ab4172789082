// score_keys in tiles. Private to amx.cc.
#ifndef TURBOQUANT_SRC_KERNELS_AMX_SCORE_H_
#define TURBOQUANT_SRC_KERNELS_AMX_SCORE_H_

#include "src/kernels/amx_groups.h"
#include "src/kernels/avx512_lanes.h"

namespace turboquant::kernels {
namespace {

template <int kBits>
void ScoreInTiles(const ScorePlan& plan, const BlocksView& blocks, const RowScales& scales,
                  const DigitRows& rows, const float* factors, float* scores, size_t score_stride) {
  const auto finish = [=](const Group& group, size_t block, const ColumnSums& sums) {
    const size_t row = block * kKeyBlockRows;
    const __m512 scale = LoadScales(scales, row);
    ForQueries(group, sums, [=](size_t q, __m512i sum) {
      const __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(factors[q]));
      _mm512_storeu_ps(scores + q * score_stride + row, _mm512_mul_ps(product, scale));
    });
  };
  MultiplyGroups<kBits>(plan, KeyColumns(plan, blocks), rows, finish);
}

// A tile product takes its 16 cycles whatever it is given, and the kernel of AVX-512 half its time
// where there is one digit (docs/decisions/0010).
bool TilesPay(const ScorePlan& plan, const DigitRows& rows) {
  const bool one_digit = rows.digits() == 1 && plan.bits < 8;
  return rows.queries >= (one_digit ? kTileRows : 4);
}

void ScoreKeys(const ScorePlan& plan, const BlocksView& blocks, const RowScales& scales,
               const QueryDigits& queries, float* scores, size_t score_stride) {
  const DigitRows rows = {reinterpret_cast<const uint8_t*>(queries.high),
                          reinterpret_cast<const uint8_t*>(queries.low), queries.stride,
                          PaddedDim(plan.dim), queries.queries};
  const bool pays = plan.int8_levels && blocks.count > 0 && plan.dim <= kMostChunks * kChunkDepth &&
                    TilesPay(plan, rows);
  const bool done =
      pays && WithByteLevels(plan.bits, [&]<int kBits>() {
        ScoreInTiles<kBits>(plan, blocks, scales, rows, queries.factors, scores, score_stride);
      });
  if (!done) Avx512Table().score_keys(plan, blocks, scales, queries, scores, score_stride);
}

}  // namespace
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_AMX_SCORE_H_
