#include "src/eval/measure.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

#include "src/base/try.h"
#include "src/eval/theory.h"

namespace turboquant::eval {
namespace {

constexpr size_t kQueryBatch = 8;

}  // namespace

Result<double> ShortestSeconds(int repeats, const std::function<Result<void>()>& call) {
  double shortest = std::numeric_limits<double>::infinity();
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    TQ_CHECK(call());
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    shortest = std::min(shortest, elapsed.count());
  }
  return shortest;
}

MethodMeasurement::MethodMeasurement(const MethodSpec& spec, std::vector<PositionErrors> bins)
    : spec_(spec) {
  errors_.by_position = std::move(bins);
}

Result<void> MethodMeasurement::Add(const ExactAttention& exact, const MethodContext& context,
                                    const RunContext& run) {
  const AttentionCase& attention_case = exact.attention_case();
  const size_t tokens = attention_case.keys.rows;
  const size_t dim = attention_case.keys.cols;
  const size_t queries = attention_case.queries.rows;
  TQ_TRY(const auto keys, MakeRowMethod(spec_, context));
  MethodContext value_context = context;
  value_context.values = true;
  TQ_TRY(const auto values, MakeRowMethod(ValueMethod(spec_), value_context));
  TQ_CHECK(keys->Encode(attention_case.keys, run.parallel_for));
  TQ_CHECK(values->Encode(attention_case.values, run.parallel_for));

  std::vector<float> decoded_keys(tokens * dim);
  std::vector<float> decoded_values(tokens * dim);
  std::vector<float> scores(queries * tokens);
  const MatrixView keys_view(decoded_keys.data(), tokens, dim);
  const MatrixView values_view(decoded_values.data(), tokens, dim);
  const MatrixView scores_view(scores.data(), queries, tokens);
  TQ_CHECK(keys->Decode(keys_view, run.parallel_for));
  TQ_CHECK(values->Decode(values_view, run.parallel_for));
  TQ_CHECK(keys->Prepare(attention_case.queries));
  TQ_CHECK(keys->Score(scores_view, run.parallel_for));
  AddAttentionErrors(exact, {keys_view, values_view, scores_view}, errors_);

  if (row_.samples == 0) {
    row_.dim = dim;
    row_.rows = tokens;
    row_.queries = queries;
    row_.bits_per_coordinate = keys->BitsPerCoordinate();
    row_.nmse_theory = keys->TheoryNmse();
    row_.target = keys->Target();
    if (!keys->Adapter().empty()) row_.adapter = keys->Adapter();
    TQ_CHECK(Time(attention_case, *keys, run));
  }
  ++row_.samples;
  return {};
}

Result<void> MethodMeasurement::Time(const AttentionCase& attention_case, RowMethod& method,
                                     const RunContext& run) {
  const MatrixView<const float> keys = attention_case.keys;
  const size_t batch = std::min(kQueryBatch, attention_case.queries.rows);
  std::vector<float> decoded(keys.rows * keys.cols);
  std::vector<float> scores(batch * keys.rows);
  const MatrixView decoded_view(decoded.data(), keys.rows, keys.cols);
  const auto nanoseconds_per = [&](size_t count,
                                   const std::function<Result<void>()>& call) -> Result<double> {
    TQ_TRY(const double seconds, ShortestSeconds(run.repeats, call));
    return seconds * 1e9 / static_cast<double>(count);
  };
  TQ_TRY(row_.encode_ns_per_row,
         nanoseconds_per(keys.rows, [&] { return method.Encode(keys, run.parallel_for); }));
  TQ_TRY(row_.decode_ns_per_row,
         nanoseconds_per(keys.rows, [&] { return method.Decode(decoded_view, run.parallel_for); }));
  TQ_TRY(row_.prepare_ns_per_query, nanoseconds_per(batch, [&] {
           return method.Prepare(attention_case.queries.Slice(0, batch));
         }));
  const MatrixView all_scores(scores.data(), batch, keys.rows);
  TQ_TRY(row_.score8_ns_per_row, nanoseconds_per(batch * keys.rows, [&] {
           return method.Score(all_scores, run.parallel_for);
         }));
  TQ_CHECK(method.Prepare(attention_case.queries.Slice(0, 1)));
  TQ_TRY(row_.score_ns_per_row, nanoseconds_per(keys.rows, [&] {
           return method.Score(all_scores.Slice(0, 1), run.parallel_for);
         }));
  row_.threads = run.threads;
  return {};
}

BenchmarkRow MethodMeasurement::Row() const {
  BenchmarkRow row = row_;
  row.method = MethodName(spec_.kind);
  row.bits = spec_.bits;
  row.policy = PolicyName(spec_.policy);
  row.bytes_per_row = row.bits_per_coordinate * static_cast<double>(row.dim) / 8.0;
  row.compression_vs_f16 = 16.0 / row.bits_per_coordinate;
  row.compression_vs_f32 = 32.0 / row.bits_per_coordinate;
  row.nmse = errors_.keys.relative.Value();
  row.nmse_shannon = ShannonNmse(row.bits_per_coordinate);
  row.key_mse = errors_.keys.per_coordinate.Value();
  row.ip_bias = errors_.scores.Bias();
  row.ip_variance = errors_.scores.Variance();
  row.ip_rmse = errors_.scores.Rmse();
  row.logit_rmse = errors_.logit_squared.Root();
  row.logit_correlation = errors_.logit_correlation.Value();
  row.softmax_kl = errors_.softmax_kl.Value();
  row.recall_at_1 = errors_.recall[0].Value();
  row.recall_at_5 = errors_.recall[1].Value();
  row.recall_at_10 = errors_.recall[2].Value();
  const MethodSpec value_spec = ValueMethod(spec_);
  row.value_method = MethodName(value_spec.kind);
  row.value_bits = value_spec.bits;
  row.value_nmse = errors_.values.relative.Value();
  row.output_rmse = errors_.output_squared.Root();
  row.output_nmse =
      errors_.output_energy > 0.0 ? errors_.output_error / errors_.output_energy : 0.0;
  row.error_by_position = PositionRows(errors_.by_position);
  return row;
}

}  // namespace turboquant::eval
