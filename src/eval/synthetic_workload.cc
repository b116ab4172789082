#include "src/eval/synthetic_workload.h"

#include <cmath>
#include <string>
#include <utility>

#include "src/base/checked.h"
#include "src/base/failure.h"
#include "src/base/random.h"
#include "src/base/try.h"
#include "src/eval/attention_errors.h"
#include "src/eval/workload_methods.h"

namespace turboquant::eval {
namespace {

Result<void> CheckOptions(const SyntheticOptions& options) {
  if (options.dims.empty()) return Fail(ErrorCode::kInvalidArgument, "no dims given");
  if (options.rows == 0 || options.queries == 0 || options.samples == 0) {
    return Fail(ErrorCode::kInvalidArgument, "rows, queries and samples must be at least 1, got ",
                options.rows, ", ", options.queries, " and ", options.samples);
  }
  if (!std::isfinite(options.logit_std) || options.logit_std <= 0.0) {
    return Fail(ErrorCode::kInvalidArgument, "logit_std must be positive, got ", options.logit_std);
  }
  constexpr size_t kMostNumbers = size_t{1} << 31;  // 8 GiB of floats
  for (const size_t dim : options.dims) {
    if (dim < 2 || dim > 65536) {
      return Fail(ErrorCode::kInvalidArgument, "dim must be 2 to 65536, got ", dim);
    }
    const auto keys = CheckedMultiply(options.rows, dim);
    const auto scores = CheckedMultiply(options.rows, options.queries);
    const auto queries = CheckedMultiply(options.queries, dim);
    if (!keys || !scores || !queries || *keys > kMostNumbers || *scores > kMostNumbers ||
        *queries > kMostNumbers) {
      return Fail(ErrorCode::kInvalidArgument, options.rows, " rows and ", options.queries,
                  " queries of dim ", dim, " are too many");
    }
  }
  return {};
}

}  // namespace

std::vector<float> RandomDirections(size_t count, size_t dim, uint64_t seed, uint32_t stream) {
  // Stage 15 is nobody's: the rows share no randomness with the quantizers of the same seed.
  RandomBits random(seed, {.layer = stream, .stage = 15});
  std::vector<float> rows(count * dim);
  std::vector<double> row(dim);
  for (size_t r = 0; r < count; ++r) {
    double squared_norm = 0.0;
    for (double& coordinate : row) {
      coordinate = random.NextNormal();
      squared_norm += coordinate * coordinate;
    }
    const double inverse_norm = 1.0 / std::sqrt(squared_norm);
    for (size_t j = 0; j < dim; ++j) {
      rows[r * dim + j] = static_cast<float>(row[j] * inverse_norm);
    }
  }
  return rows;
}

Result<void> RunSynthetic(const SyntheticOptions& options, const RunContext& run,
                          BenchmarkResult& result) {
  TQ_CHECK(CheckOptions(options));
  for (const size_t dim : options.dims) {
    MethodContext context;
    context.dim = dim;
    context.seed = options.seed;
    context.backend = options.backend;
    context.maker = options.maker;
    TQ_TRY(auto measurements, StartMeasurements(options.methods, options.methods_by_default,
                                                context, {}, result.left_out));
    const std::vector<size_t> positions(options.queries, options.rows - 1);
    for (size_t sample = 0; sample < options.samples; ++sample) {
      context.seed = options.seed + sample;
      const auto keys = RandomDirections(options.rows, dim, context.seed, 0);
      const auto values = RandomDirections(options.rows, dim, context.seed, 1);
      const auto queries = RandomDirections(options.queries, dim, context.seed, 2);
      AttentionCase attention_case;
      attention_case.keys = {keys.data(), options.rows, dim};
      attention_case.values = {values.data(), options.rows, dim};
      attention_case.queries = {queries.data(), options.queries, dim};
      attention_case.positions = positions;
      // <query, key> of random directions has variance 1/dim.
      attention_case.logit_scale = options.logit_std * std::sqrt(static_cast<double>(dim));
      TQ_CHECK(AddToAll(ExactAttention(attention_case), context, run, "dim " + std::to_string(dim),
                        measurements));
    }
    for (const MethodMeasurement& measurement : measurements) {
      BenchmarkRow row = measurement.Row();
      row.workload = "synthetic";
      row.source = "random directions";
      row.logit_std = options.logit_std;
      result.rows.push_back(std::move(row));
    }
  }
  return {};
}

}  // namespace turboquant::eval
