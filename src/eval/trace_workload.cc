#include "src/eval/trace_workload.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <utility>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/eval/attention_errors.h"
#include "src/eval/cache_measure.h"
#include "src/eval/metrics.h"
#include "src/eval/workload_methods.h"
#include "turboquant/trace.h"

namespace turboquant::eval {
namespace {

std::string FileName(const std::string& path) {
  return std::filesystem::path(path).filename().string();
}

std::string HeadName(const TraceHead& head) {
  std::string name;
  if (head.layer()) name += ", layer " + std::to_string(*head.layer());
  if (head.head()) name += ", head " + std::to_string(*head.head());
  return name;
}

std::string RopeName(const KvTrace& trace) {
  if (!trace.rope()) return "undeclared";
  return trace.rope()->state == TraceRope::State::kPost ? "post" : "pre";
}

// Copies of the given rows, in order; of length 1 if asked for. Zero rows stay zero.
std::vector<float> CopyRows(MatrixView<const float> rows, std::span<const size_t> which,
                            bool normalize) {
  std::vector<float> copy;
  copy.reserve(which.size() * rows.cols);
  for (const size_t r : which) {
    const std::span<const float> row = rows.RowSpan(r);
    const double norm = normalize ? Norm(row) : 1.0;
    const double factor = norm == 0.0 ? 1.0 : 1.0 / norm;
    for (const float x : row) copy.push_back(static_cast<float>(x * factor));
  }
  return copy;
}

// Keys, values and chosen queries of one sample.
struct SampleRows {
  std::vector<float> keys;
  std::vector<float> values;
  std::vector<float> queries;
  std::vector<size_t> positions;

  AttentionCase Case(size_t dim) const {
    AttentionCase attention_case;
    attention_case.keys = {keys.data(), keys.size() / dim, dim};
    attention_case.values = {values.data(), values.size() / dim, dim};
    attention_case.queries = {queries.data(), queries.size() / dim, dim};
    attention_case.positions = positions;
    attention_case.logit_scale = 1.0 / std::sqrt(static_cast<double>(dim));
    return attention_case;
  }
};

SampleRows ReadSample(const TraceHead& head, size_t sample, const TraceOptions& options) {
  const std::vector<size_t> tokens = SpreadEvenly(head.tokens(), 0);
  const std::vector<size_t> queries = SpreadEvenly(head.queries(), options.max_queries);
  SampleRows rows;
  rows.keys = CopyRows(head.keys(sample), tokens, options.normalize);
  rows.values = CopyRows(head.values(sample), tokens, options.normalize);
  rows.queries = CopyRows(head.query_rows(sample), queries, options.normalize);
  for (const size_t q : queries) rows.positions.push_back(head.query_positions(sample)[q]);
  return rows;
}

// Keys before RoPE have no frames; of undeclared ones nothing is known, so they have none either,
// and no map.
HeadOrigin OriginOf(const KvTrace& trace, const TraceHead& head, const TraceOptions& options) {
  HeadOrigin origin;
  origin.layer = static_cast<uint32_t>(head.layer().value_or(0));
  origin.seed = options.seed;
  origin.backend = options.backend;
  if (!trace.rope()) return origin;
  origin.first_position = trace.rope()->first_position;
  origin.rope.emplace();
  if (trace.rope()->state == TraceRope::State::kPost) {
    const bool half = trace.rope()->pairing == TraceRope::Pairing::kHalf;
    origin.rope = RopeParameters::FromTheta(trace.rope()->theta, trace.rope()->rotary_dim,
                                            half ? RopePairing::kHalf : RopePairing::kInterleaved);
  }
  return origin;
}

// What rows of all kinds say about the head.
template <class Row>
Row Labelled(Row row, const KvTrace& trace, const TraceHead& head, const std::string& file) {
  row.workload = "trace";
  row.source = file;
  const auto model = trace.metadata().find("model");
  if (model != trace.metadata().end()) row.model = model->second;
  row.layer = head.layer();
  row.head = head.head();
  row.rope = RopeName(trace);
  return row;
}

Result<void> RunHead(const KvTrace& trace, const TraceHead& head, const std::string& file,
                     const TraceOptions& options, const RunContext& run, BenchmarkResult& result) {
  if (head.sample_count() == 0 || head.tokens() == 0 || head.queries() == 0) {
    return Fail(ErrorCode::kInvalidArgument, "a trace needs tokens and queries, it has ",
                head.sample_count(), " samples of ", head.tokens(), " tokens and ", head.queries(),
                " queries");
  }
  MethodContext context;
  context.dim = head.head_dim();
  context.seed = options.seed;
  context.backend = options.backend;
  context.maker = options.maker;
  const std::vector<PositionErrors> bins = PositionBins(head.tokens());
  std::vector<MethodMeasurement> methods;
  if (!options.methods.empty()) {
    TQ_TRY(methods, StartMeasurements(options.methods, options.methods_by_default, context, bins,
                                      result.left_out));
  }
  std::vector<CacheMeasurement> caches;
  for (const CacheSpec& spec : options.caches) caches.emplace_back(spec, bins);
  const std::string label = file + HeadName(head);
  for (size_t sample = 0; sample < head.sample_count(); ++sample) {
    const SampleRows rows = ReadSample(head, sample, options);
    const ExactAttention exact(rows.Case(context.dim));
    TQ_CHECK(AddToAll(exact, context, run, label, methods));
    TQ_CHECK(AddToAll(exact, OriginOf(trace, head, options), run, label, caches));
  }
  for (const MethodMeasurement& measurement : methods) {
    result.rows.push_back(Labelled(measurement.Row(), trace, head, file));
  }
  for (const CacheMeasurement& measurement : caches) {
    result.cache_rows.push_back(Labelled(measurement.Row(), trace, head, file));
  }
  return {};
}

std::unexpected<Error> Prefixed(const std::string& file, Error error) {
  // Errors of files name the path already.
  if (error.message.find(file) == std::string::npos) error.message = file + ": " + error.message;
  return std::unexpected(std::move(error));
}

}  // namespace

std::vector<size_t> SpreadEvenly(size_t available, size_t count) {
  if (count == 0 || count > available) count = available;
  std::vector<size_t> chosen;
  for (size_t i = 0; i < count; ++i) {
    chosen.push_back(count == 1 ? available - 1 : i * (available - 1) / (count - 1));
  }
  return chosen;
}

Result<void> RunTrace(const TraceOptions& options, const RunContext& run, BenchmarkResult& result) {
  if (options.files.empty()) return Fail(ErrorCode::kInvalidArgument, "no trace files given");
  if (options.methods.empty() && options.caches.empty()) {
    return Fail(ErrorCode::kInvalidArgument, "neither methods nor caches given");
  }
  for (const std::string& path : options.files) {
    const std::string file = FileName(path);
    const Result<KvTrace> trace = KvTrace::Load(path);
    if (!trace) return Prefixed(path, trace.error());
    for (const TraceHead& head : trace->heads()) {
      const Result<void> ran = RunHead(*trace, head, file, options, run, result);
      if (!ran) return Prefixed(file, ran.error());
    }
  }
  return {};
}

}  // namespace turboquant::eval
