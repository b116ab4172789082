#include "src/eval/cache_measure.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>

#include "src/base/try.h"

namespace turboquant::eval {
namespace {

std::vector<size_t> InOrderOfPosition(std::span<const size_t> positions) {
  std::vector<size_t> order(positions.size());
  std::iota(order.begin(), order.end(), size_t{0});
  // Queries of one position stay in their order. Not stable_sort: clang refuses the deprecated
  // get_temporary_buffer in libstdc++ 12's.
  std::ranges::sort(order, {}, [&](size_t q) { return std::pair(positions[q], q); });
  return order;
}

// The rows a baseline gives back, and what it takes to keep them.
struct DecodedRows {
  std::vector<float> rows;
  double bytes_per_row = 0;
};

Result<DecodedRows> EncodeAndDecode(MethodKind kind, MatrixView<const float> rows,
                                    const MethodContext& context, const RunContext& run) {
  const MethodSpec spec = {kind, /*bits=*/8, Policy::kDefault};
  TQ_TRY(const auto method, MakeRowMethod(spec, context));
  TQ_CHECK(method->Encode(rows, run.parallel_for));
  DecodedRows decoded;
  decoded.rows.resize(rows.rows * rows.cols);
  TQ_CHECK(method->Decode({decoded.rows.data(), rows.rows, rows.cols}, run.parallel_for));
  decoded.bytes_per_row = method->BitsPerCoordinate() * static_cast<double>(rows.cols) / 8.0;
  return decoded;
}

// What attention reads when tokens [first, last) are not exact: the decoded rows there.
std::vector<float> Mixed(MatrixView<const float> exact, const std::vector<float>& decoded,
                         size_t first, size_t last, size_t tokens) {
  std::vector<float> rows;
  for (size_t t = 0; t < tokens; ++t) {
    const float* row = t >= first && t < last ? decoded.data() + t * exact.cols : exact.Row(t);
    rows.insert(rows.end(), row, row + exact.cols);
  }
  return rows;
}

}  // namespace

CacheMeasurement::CacheMeasurement(const CacheSpec& spec, std::vector<PositionErrors> bins)
    : spec_(spec) {
  errors_.by_position = std::move(bins);
}

Result<void> CacheMeasurement::Add(const ExactAttention& exact, const HeadOrigin& origin,
                                   const RunContext& run) {
  TQ_TRY(HeadCache head, HeadCache::Create(spec_, origin, exact.attention_case()));
  if (row_.samples == 0) {
    row_.dim = exact.attention_case().keys.cols;
    row_.tokens = exact.attention_case().keys.rows;
    row_.queries = exact.attention_case().queries.rows;
    row_.threads = run.threads;
    row_.waits_for_map = head.waits_for_map();
  }
  if (spec_.baseline) {
    TQ_CHECK(AddBaseline(exact, head, origin, run));
  } else {
    TQ_CHECK(AddCache(exact, head, run));
  }
  ++row_.samples;
  return {};
}

Result<void> CacheMeasurement::AddCache(const ExactAttention& exact, HeadCache& head,
                                        const RunContext& run) {
  const AttentionCase& attention_case = exact.attention_case();
  const size_t dim = attention_case.keys.cols;
  AttendOptions options;
  options.scale = static_cast<float>(attention_case.logit_scale);
  options.parallel_for = run.parallel_for;
  std::vector<float> output(dim);
  std::vector<float> logits;
  for (const size_t q : InOrderOfPosition(attention_case.positions)) {
    const size_t tokens = attention_case.positions[q] + 1;
    TQ_CHECK(head.FillTo(tokens, run.parallel_for));
    const HeadsView query = HeadsView::TokenMajor(attention_case.queries.Row(q), 1, 1, dim);
    TQ_CHECK(
        head.cache().Attend(query, options, HeadsOutput::TokenMajor(output.data(), 1, 1, dim)));
    logits.resize(tokens);
    TQ_CHECK(AttentionLogits(query, head.cache().view(), options, {logits.data(), 1, tokens}));
    std::vector<double> scores(logits.begin(), logits.end());
    for (double& score : scores) score /= attention_case.logit_scale;
    AddQueryErrors(exact, q, scores, std::vector<double>(output.begin(), output.end()), errors_);
  }
  TQ_CHECK(head.FillTo(attention_case.keys.rows, run.parallel_for));
  const KvCache& cache = head.cache();
  if (row_.samples == 0) {
    row_.target = BackendName(cache.format().backend());
    NoteSizes(cache, cache.format().BytesPerToken());
    const KvCacheStats stats = cache.Stats();
    row_.held_bytes_per_token =
        static_cast<double>(stats.total_bytes) / static_cast<double>(stats.tokens);
  }
  return {};
}

Result<void> CacheMeasurement::AddBaseline(const ExactAttention& exact, HeadCache& head,
                                           const HeadOrigin& origin, const RunContext& run) {
  const AttentionCase& attention_case = exact.attention_case();
  MethodContext context;
  context.dim = attention_case.keys.cols;
  context.seed = origin.seed;
  TQ_TRY(const DecodedRows keys,
         EncodeAndDecode(*spec_.baseline, attention_case.keys, context, run));
  context.values = true;
  TQ_TRY(const DecodedRows values,
         EncodeAndDecode(*spec_.baseline, attention_case.values, context, run));
  std::vector<double> output(context.dim);
  for (const size_t q : InOrderOfPosition(attention_case.positions)) {
    const size_t tokens = attention_case.positions[q] + 1;
    TQ_CHECK(head.FillTo(tokens, run.parallel_for));
    const KvView view = head.cache().view();
    const size_t first = view.sinks.count;
    const size_t last = first + view.packed_tokens;
    const std::vector<float> key_rows = Mixed(attention_case.keys, keys.rows, first, last, tokens);
    const std::vector<float> value_rows =
        Mixed(attention_case.values, values.rows, first, last, tokens);
    std::vector<double> scores;
    for (size_t t = 0; t < tokens; ++t) {
      scores.push_back(
          Dot(attention_case.queries.RowSpan(q), {key_rows.data() + t * context.dim, context.dim}));
    }
    std::vector<double> weights = scores;
    for (double& weight : weights) weight *= attention_case.logit_scale;
    Softmax(weights);
    WeightedSum(weights, {value_rows.data(), tokens, context.dim}, output);
    AddQueryErrors(exact, q, scores, output, errors_);
  }
  TQ_CHECK(head.FillTo(attention_case.keys.rows, run.parallel_for));
  if (row_.samples == 0) {
    row_.target = "plain";
    NoteSizes(head.cache(), keys.bytes_per_row + values.bytes_per_row);
  }
  return {};
}

void CacheMeasurement::NoteSizes(const KvCache& cache, double bytes_per_token) {
  const KvView view = cache.view();
  row_.key_map = KeyMapKindName(view.key_map == nullptr || spec_.baseline ? KeyMapKind::kNone
                                                                          : view.key_map->kind());
  row_.page_frames = !spec_.baseline && view.rotary_dim != 0;
  row_.packed_tokens = view.packed_tokens;
  row_.exact_tokens = view.sinks.count + view.window.count;
  row_.bytes_per_token = bytes_per_token;
  const double exact_bytes = 2.0 * static_cast<double>(row_.dim) *
                             (cache.options().exact_type == RowType::kF32 ? 4.0 : 2.0);
  const double tokens = static_cast<double>(row_.packed_tokens + row_.exact_tokens);
  row_.mean_bytes_per_token = (static_cast<double>(row_.packed_tokens) * bytes_per_token +
                               static_cast<double>(row_.exact_tokens) * exact_bytes) /
                              tokens;
}

CacheRow CacheMeasurement::Row() const {
  CacheRow row = row_;
  DescribeCacheSpec(spec_, row);
  if (row.samples > 0) {
    row.compression_vs_f16 = 4.0 * static_cast<double>(row.dim) / row.mean_bytes_per_token;
  }
  row.softmax_kl = errors_.softmax_kl.Value();
  row.logit_rmse = errors_.logit_squared.Root();
  row.logit_correlation = errors_.logit_correlation.Value();
  row.recall_at_1 = errors_.recall[0].Value();
  row.recall_at_5 = errors_.recall[1].Value();
  row.recall_at_10 = errors_.recall[2].Value();
  if (errors_.output_energy > 0.0) {
    row.output_relative_rmse = std::sqrt(errors_.output_error / errors_.output_energy);
    row.output_max_error = errors_.output_worst / errors_.output_largest;
  }
  row.error_by_position = PositionRows(errors_.by_position);
  return row;
}

Result<void> AddToAll(const ExactAttention& exact, const HeadOrigin& origin, const RunContext& run,
                      const std::string& label, std::span<CacheMeasurement> measurements) {
  for (CacheMeasurement& measurement : measurements) {
    const CacheRow row = measurement.Row();
    const std::string name = row.policy.empty() ? row.method : row.policy;
    if (run.progress) run.progress(fmt::format("{}, cache {}", label, name));
    Result<void> added = measurement.Add(exact, origin, run);
    if (added) continue;
    added.error().message.insert(0, "cache " + name + ": ");
    return added;
  }
  return {};
}

}  // namespace turboquant::eval
