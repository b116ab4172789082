#include "tests/cache/attend_reference.h"

#include <algorithm>
#include <cmath>

namespace turboquant::test {
namespace {

double DotInDouble(std::span<const float> a, std::span<const float> b) {
  double lanes[8] = {};
  size_t j = 0;
  for (; j + 8 <= a.size(); j += 8) {
    for (size_t i = 0; i < 8; ++i)
      lanes[i] += static_cast<double>(a[j + i]) * static_cast<double>(b[j + i]);
  }
  for (; j < a.size(); ++j) lanes[0] += static_cast<double>(a[j]) * static_cast<double>(b[j]);
  double sum = 0.0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

}  // namespace

Queries::Queries(size_t tokens_in, size_t heads_in, size_t dim_in, double deviation, uint64_t seed)
    : tokens(tokens_in),
      heads(heads_in),
      dim(dim_in),
      rows(NormalRows(tokens_in * heads_in, dim_in, seed)) {
  for (float& x : rows.values) x *= static_cast<float>(deviation);
}

double LogitScale(const AttendOptions& options, size_t head_dim) {
  if (options.scale != 0.0f) return static_cast<double>(options.scale);
  return 1.0 / std::sqrt(static_cast<double>(head_dim));
}

void SoftmaxInDouble(const Decoded& decoded, size_t kv_head, DenseRow& row) {
  const size_t tokens = row.logits.size();
  row.weights.assign(tokens, 0.0);
  row.output.assign(decoded.dim, 0.0);
  row.log_sum_exp = kHidden;
  const double largest = tokens == 0 ? kHidden : *std::ranges::max_element(row.logits);
  if (largest == kHidden) return;
  double sum = 0.0;
  for (size_t t = 0; t < tokens; ++t) sum += row.weights[t] = std::exp(row.logits[t] - largest);
  row.log_sum_exp = largest + std::log(sum);
  for (size_t t = 0; t < tokens; ++t) {
    row.weights[t] /= sum;
    if (row.weights[t] == 0.0) continue;
    const std::span<const float> value = decoded.Row(true, t, kv_head);
    for (size_t j = 0; j < decoded.dim; ++j)
      row.output[j] += row.weights[t] * static_cast<double>(value[j]);
  }
}

DenseAttention::DenseAttention(const KvCache& cache)
    : decoded_(cache), next_position_(static_cast<int64_t>(cache.next_position())) {
  const KvView view = cache.view();
  for (size_t t = 0; t < view.tokens(); ++t) {
    positions_.push_back(static_cast<int64_t>(t < view.sinks.count
                                                  ? view.first_position + t
                                                  : view.packed_position + (t - view.sinks.count)));
  }
}

DenseRow DenseAttention::Attend(const Queries& queries, size_t token, size_t head,
                                const AttendOptions& options) const {
  const size_t kv_head = KvHead(queries, head);
  const double scale = LogitScale(options, queries.dim);
  const int64_t first = options.query_position
                            ? static_cast<int64_t>(*options.query_position)
                            : next_position_ - static_cast<int64_t>(queries.tokens);
  const int64_t own = first + static_cast<int64_t>(token);
  const std::span<const float> query = queries.Row(token, head);
  DenseRow row;
  row.logits.assign(tokens(), kHidden);
  for (size_t t = 0; t < tokens(); ++t) {
    const int64_t distance = own - positions_[t];  // backwards
    if (options.causal && distance < 0) continue;
    if (options.sliding_window != 0 && distance >= 0 &&
        static_cast<size_t>(distance) >= options.sliding_window) {
      continue;
    }
    double logit = scale * DotInDouble(query, decoded_.Row(false, t, kv_head));
    if (options.logit_softcap != 0.0f) {
      const double cap = static_cast<double>(options.logit_softcap);
      logit = cap * std::tanh(logit / cap);
    }
    if (!options.alibi_slopes.empty()) {
      logit -= static_cast<double>(options.alibi_slopes[head]) * static_cast<double>(distance);
    }
    if (options.bias.data != nullptr) logit += static_cast<double>(options.bias.Row(token)[t]);
    row.logits[t] = logit;
  }
  SoftmaxInDouble(decoded_, kv_head, row);
  return row;
}

Attended::Attended(const KvCache& cache, const Queries& queries, AttendOptions options)
    : Attended(cache.view(), queries.view(), std::move(options)) {}

Attended::Attended(const KvView& view, const HeadsView& queries, AttendOptions options)
    : outputs(queries.tokens * queries.heads * queries.dim, -7.0f),
      log_sum_exp(queries.tokens * queries.heads, -7.0f) {
  options.log_sum_exp = log_sum_exp;
  const auto done = turboquant::Attend(
      queries, view, options,
      HeadsOutput::TokenMajor(outputs.data(), queries.tokens, queries.heads, queries.dim));
  EXPECT_TRUE(done) << done.error().message;
}

std::vector<float> LogitsOf(const KvCache& cache, const Queries& queries,
                            const AttendOptions& options) {
  const size_t rows = queries.tokens * queries.heads;
  std::vector<float> logits(rows * cache.size(), -7.0f);
  const auto done =
      AttentionLogits(queries.view(), cache.view(), options, {logits.data(), rows, cache.size()});
  EXPECT_TRUE(done) << done.error().message;
  return logits;
}

}  // namespace turboquant::test
