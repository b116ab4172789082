#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "src/base/checked.h"
#include "src/base/half.h"
#include "src/kernels/attention.h"
#include "src/kernels/kernels.h"

namespace turboquant::kernels::reference {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();

float Dot(const float* a, const float* b, size_t dim) {
  float lanes[16] = {};
  for (size_t j = 0; j < dim; ++j) lanes[j % 16] = std::fma(a[j], b[j], lanes[j % 16]);
  return AddLanes(lanes);
}

float ElementAt(const ExactRows& rows, size_t t, size_t j) {
  const size_t at = t * rows.stride + j;
  if (rows.type == ExactType::kF32) return static_cast<const float*>(rows.rows)[at];
  return F16ToF32({static_cast<const uint16_t*>(rows.rows)[at]});
}

float SoftmaxOf(float* scores, TokenRange range, float offset, SoftmaxState& state) {
  const auto [begin, end] = range;
  const float old_max = state.max;
  for (size_t t = begin; t < end; ++t) state.max = std::max(state.max, scores[t] + offset);
  float lanes[16] = {};
  for (size_t t = 0; t < RoundUp(end, 16); ++t) {
    const bool seen = t >= begin && t < end;
    scores[t] = seen ? Exp2((scores[t] + offset) - state.max) : 0.0f;
    lanes[t % 16] += scores[t];
  }
  const float keep = Exp2(old_max - state.max);
  state.sum = state.sum * keep + AddLanes(lanes);
  return keep;
}

void Softmax(const QueryRows<float>& scores, size_t rows, const TokenRange* ranges,
             const float* offsets, SoftmaxState* states, float* keep) {
  for (size_t r = 0; r < rows; ++r) {
    keep[r] = ranges[r].empty()
                  ? 1.0f
                  : SoftmaxOf(scores.data + r * scores.stride, ranges[r], offsets[r], states[r]);
  }
}

float WeightDigitsOf(const float* weights, const uint16_t* scales, size_t count, uint8_t* high,
                     uint8_t* low) {
  const float most = low == nullptr ? kOneWeightDigitMax : kTwoWeightDigitsMax;
  float largest = 0.0f;
  for (size_t t = 0; t < count; ++t)
    largest = std::max(largest, weights[t] * F16ToF32({scales[t]}));
  const float inverse = largest < kLeastWeight ? 0.0f : most / largest;
  for (size_t t = 0; t < count; ++t) {
    const float p = weights[t] * F16ToF32({scales[t]});
    const long digit = std::lrintf(p * inverse);  // to nearest even
    high[t] = static_cast<uint8_t>(low == nullptr ? digit : digit >> 7);
    if (low != nullptr) low[t] = static_cast<uint8_t>(digit & 127);
  }
  return largest < kLeastWeight ? 0.0f : largest / most;
}

void MakeWeightDigits(const QueryRows<const float>& weights, size_t rows, const uint16_t* scales,
                      size_t count, uint8_t* high, uint8_t* low, float* gain) {
  for (size_t r = 0; r < rows; ++r) {
    const size_t at = r * kBlockTokens;
    gain[r] = WeightDigitsOf(weights.data + r * weights.stride, scales, count, high + at,
                             low == nullptr ? nullptr : low + at);
  }
}

void AccumulateValues(const ScorePlan& plan, const BlocksView& blocks, const WeightDigits& weights,
                      size_t queries, const float* keep, const float* gain,
                      const QueryRows<float>& sums) {
  const PackedBlocks packed = {const_cast<uint8_t*>(blocks.blocks), plan.dim, plan.bits, true};
  const size_t tokens = 64 * blocks.count;
  std::vector<uint8_t> codes(plan.dim);
  std::vector<int64_t> totals(queries * plan.dim, 0);
  for (size_t t = 0; t < tokens; ++t) {
    UnpackCodes(packed, t, 1, codes.data());
    for (size_t q = 0; q < queries; ++q) {
      const size_t at = q * kBlockTokens + t;
      const int64_t digit =
          weights.low == nullptr ? weights.high[at] : 128 * weights.high[at] + weights.low[at];
      for (size_t j = 0; j < plan.dim; ++j)
        totals[q * plan.dim + j] += plan.levels[codes[j]] * digit;
    }
  }
  for (size_t q = 0; q < queries; ++q) {
    float* row = sums.data + q * sums.stride;
    for (size_t j = 0; j < plan.dim; ++j) {
      const float added = static_cast<float>(totals[q * plan.dim + j]) * gain[q];
      row[j] = row[j] * keep[q] + added;
    }
  }
}

void ScoreExact(const ExactRows& rows, size_t count, const QueryRows<const float>& queries,
                size_t query_count, const QueryRows<float>& scores) {
  std::vector<float> row(rows.dim);
  for (size_t t = 0; t < count; ++t) {
    for (size_t j = 0; j < rows.dim; ++j) row[j] = ElementAt(rows, t, j);
    for (size_t q = 0; q < query_count; ++q) {
      scores.data[q * scores.stride + t] =
          Dot(queries.data + q * queries.stride, row.data(), rows.dim);
    }
  }
}

void AccumulateExact(const ExactRows& rows, size_t count, const QueryRows<const float>& weights,
                     size_t query_count, const float* keep, const QueryRows<float>& sums) {
  for (size_t q = 0; q < query_count; ++q) {
    float* row = sums.data + q * sums.stride;
    for (size_t j = 0; j < rows.dim; ++j) {
      float sum = 0.0f;
      for (size_t t = 0; t < count; ++t)
        sum = std::fma(weights.data[q * weights.stride + t], ElementAt(rows, t, j), sum);
      row[j] = row[j] * keep[q] + sum;
    }
  }
}

void Merge(SoftmaxState& into, float* into_sums, const SoftmaxState& from, const float* from_sums,
           size_t count) {
  if (from.max == kNothing) return;
  const float max = std::max(into.max, from.max);
  const float keep = Exp2(into.max - max);
  const float add = Exp2(from.max - max);
  into.max = max;
  into.sum = into.sum * keep + from.sum * add;
  for (size_t j = 0; j < count; ++j) into_sums[j] = into_sums[j] * keep + from_sums[j] * add;
}

// R^T row.
void TurnBack(const FramePlan& plan, const float* row, float* out) {
  const size_t pairs = plan.rotary_dim / 2;
  for (size_t i = 0; i < pairs; ++i) {
    const size_t first = plan.interleaved ? 2 * i : i;
    const size_t second = plan.interleaved ? 2 * i + 1 : i + pairs;
    const float x = row[first];
    const float y = row[second];
    out[first] = x * plan.cosines[i] + y * plan.sines[i];
    out[second] = y * plan.cosines[i] - x * plan.sines[i];
  }
  for (size_t j = plan.rotary_dim; j < plan.dim; ++j) out[j] = row[j];
}

void FrameKey(const FramePlan& plan, const float* key, float* out) {
  TurnBack(plan, key, out);
  for (size_t j = 0; j < plan.dim; ++j) {
    if (plan.center != nullptr) out[j] -= plan.center[j];
    if (plan.scale != nullptr) out[j] *= plan.scale[j];
  }
}

float FrameQuery(const FramePlan& plan, const float* query, float* out) {
  TurnBack(plan, query, out);
  const float offset = plan.center == nullptr ? 0.0f : Dot(out, plan.center, plan.dim);
  for (size_t j = 0; j < plan.dim && plan.scale != nullptr; ++j) out[j] *= plan.scale[j];
  return offset;
}

void FramedDigits(const FramePlan& frame, const RotationPlan& rotation,
                  const FramedQueries& queries, float* scratch) {
  for (size_t q = 0; q < queries.count; ++q) {
    queries.offsets[q] = FrameQuery(frame, queries.Query(q), scratch);
    Rotate(rotation, scratch);
    queries.largest[q] = RoundQuery(scratch, frame.dim, queries.High(q), queries.Low(q));
  }
}

}  // namespace

float Exp2(float x) {
  if (!(x >= kExp2Lowest)) return 0.0f;
  const float whole = std::nearbyint(x);
  const float part = x - whole;
  float p = kExp2Coefficients[6];
  for (int i = 5; i >= 0; --i) p = std::fma(p, part, kExp2Coefficients[i]);
  const int32_t exponent = static_cast<int32_t>(whole);
  return std::bit_cast<float>(std::bit_cast<int32_t>(p) + exponent * (1 << 23));
}

const AttentionKernels kAttention = {
    .softmax = Softmax,
    .weight_digits = MakeWeightDigits,
    .accumulate_values = AccumulateValues,
    .score_exact = ScoreExact,
    .accumulate_exact = AccumulateExact,
    .merge = Merge,
    .frame_key = FrameKey,
    .frame_query = FrameQuery,
    .framed_digits = FramedDigits,
};

}  // namespace turboquant::kernels::reference
