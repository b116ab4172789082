#include "src/eval/trace_workload.h"

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/eval/result_output.h"
#include "tests/eval/json_schema.h"
#include "tests/eval/temporary_trace.h"
#include "tests/support/random_rows.h"

namespace turboquant::eval {
namespace {

using test::TemporaryTrace;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kLayer15 =
    TURBOQUANT_SOURCE_DIR "/data/smollm2-135m-news-layer15-head0-postrope.safetensors";

TraceOptions Options(std::vector<MethodSpec> methods) {
  TraceOptions options;
  options.files = {kLayer15};
  options.methods = std::move(methods);
  return options;
}

RunContext Fast() {
  RunContext run;
  run.repeats = 1;
  return run;
}

BenchmarkResult Measure(const TraceOptions& options) {
  BenchmarkResult result;
  result.workload = "trace";
  result.machine = ThisMachine();
  const auto ran = RunTrace(options, Fast(), result);
  EXPECT_TRUE(ran.has_value()) << ran.error().message;
  return result;
}

TEST(TraceWorkloadTest, SpreadEvenlyKeepsBothEnds) {
  EXPECT_EQ(SpreadEvenly(5, 0), (std::vector<size_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(SpreadEvenly(5, 9), (std::vector<size_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(SpreadEvenly(9, 3), (std::vector<size_t>{0, 4, 8}));
  EXPECT_EQ(SpreadEvenly(9, 1), (std::vector<size_t>{8}));
  EXPECT_THAT(SpreadEvenly(0, 3), IsEmpty());
}

TEST(TraceWorkloadTest, RealKeysBehaveAsTheTheoryOfRandomRotationsSays) {
  const BenchmarkResult result = Measure(Options({{MethodKind::kMse, 4, Policy::kNoSearch},
                                                  {MethodKind::kMse, 3, Policy::kNoSearch},
                                                  {MethodKind::kMse, 4, Policy::kDefault},
                                                  {MethodKind::kQ80, 8, Policy::kDefault}}));
  ASSERT_EQ(result.rows.size(), 4u);
  const BenchmarkRow& four = result.rows[0];
  EXPECT_EQ(four.dim, 64u);
  EXPECT_EQ(four.rows, 512u);
  EXPECT_EQ(four.queries, 65u);
  EXPECT_EQ(four.layer, 15u);
  EXPECT_EQ(four.head, 0u);
  EXPECT_EQ(four.rope, "post");
  EXPECT_EQ(four.model, "SmolLM2-135M-Instruct");
  // One rotation for keys that share an offset: more spread than for independent directions.
  EXPECT_NEAR(four.nmse / *four.nmse_theory, 1.0, 0.15);
  EXPECT_NEAR(four.value_nmse / *four.nmse_theory, 1.0, 0.05);
  EXPECT_GT(result.rows[1].softmax_kl, 2 * four.softmax_kl);
  EXPECT_LT(result.rows[2].nmse, 0.9 * four.nmse);  // scale search
  EXPECT_LT(result.rows[3].softmax_kl, 0.05 * four.softmax_kl);
  for (const BenchmarkRow& row : result.rows) {
    EXPECT_GT(row.logit_correlation, 0.9);
    EXPECT_GT(row.softmax_kl, 0);
    EXPECT_GT(row.output_nmse, 0);
    ASSERT_EQ(row.error_by_position.size(), 6u);
    EXPECT_EQ(row.error_by_position.front().first, 0u);
    EXPECT_EQ(row.error_by_position.back().last, 511u);
    size_t queries = 0;
    double kl = 0;
    for (const PositionRow& position : row.error_by_position) {
      queries += position.queries;
      kl += position.softmax_kl.value_or(0) * static_cast<double>(position.queries);
    }
    EXPECT_EQ(queries, row.queries);
    EXPECT_NEAR(kl / static_cast<double>(queries), row.softmax_kl, 1e-12);
  }
}

TEST(TraceWorkloadTest, RowsFitTheSchema) {
  std::ifstream file(TURBOQUANT_SOURCE_DIR "/docs/benchmark.schema.json");
  const test::JsonSchema schema(nlohmann::json::parse(file));
  TraceOptions options =
      Options({{MethodKind::kProd, 3, Policy::kDefault}, {MethodKind::kFp8, 8, Policy::kDefault}});
  options.max_queries = 5;
  const BenchmarkResult result = Measure(options);
  EXPECT_EQ(result.rows[0].queries, 5u);
  EXPECT_EQ(result.rows[0].value_method, "mse");
  EXPECT_EQ(result.rows[1].value_method, "fp8");
  EXPECT_THAT(schema.Validate(nlohmann::json::parse(ToJson(result))), IsEmpty());
}

TEST(TraceWorkloadTest, NormsMatterUnlessNormalized) {
  test::Rows keys = test::UnitRows(40, 32, 1);
  const test::Rows values = test::UnitRows(40, 32, 2);
  const test::Rows queries = test::UnitRows(40, 32, 3);
  const TemporaryTrace unit("unit", keys, values, queries);
  for (float& x : keys.values) x *= 50.0f;
  const TemporaryTrace large("large", keys, values, queries);
  TraceOptions options = Options({{MethodKind::kMse, 3, Policy::kDefault}});
  options.files = {unit.path(), large.path()};
  const BenchmarkResult real = Measure(options);
  EXPECT_NEAR(real.rows[1].logit_rmse / real.rows[0].logit_rmse, 50.0, 0.1);
  EXPECT_NEAR(real.rows[1].nmse / real.rows[0].nmse, 1.0, 0.01);
  // Logits are scores / sqrt(dim); these queries and keys are unit vectors.
  EXPECT_NEAR(real.rows[0].logit_rmse * std::sqrt(32.0) / real.rows[0].ip_rmse, 1.0, 1e-5);
  EXPECT_EQ(real.rows[0].rope, "undeclared");
  EXPECT_FALSE(real.rows[0].layer.has_value());
  options.normalize = true;
  const BenchmarkResult normalized = Measure(options);
  EXPECT_NEAR(normalized.rows[1].logit_rmse / normalized.rows[0].logit_rmse, 1.0, 1e-3);
}

// Queries as many as tokens and no positions: query i stands at token i.
TEST(TraceWorkloadTest, AttentionIsCausal) {
  const test::Rows keys = test::UnitRows(20, 32, 1);
  test::Rows values = test::UnitRows(20, 32, 2);
  const test::Rows queries = test::UnitRows(20, 32, 3);
  const TemporaryTrace trace("causal", keys, values, queries);
  TraceOptions options = Options({{MethodKind::kMse, 4, Policy::kDefault}});
  options.files = {trace.path()};
  options.max_queries = 2;  // the first sees one key: no divergence
  const BenchmarkResult result = Measure(options);
  const auto& bins = result.rows[0].error_by_position;
  ASSERT_EQ(bins.size(), 2u);
  EXPECT_EQ(bins[0].queries, 1u);
  EXPECT_NEAR(*bins[0].softmax_kl, 0.0, 1e-15);
  EXPECT_GT(*bins[1].softmax_kl, 1e-9);
}

TEST(TraceWorkloadTest, ErrorsNameTheFile) {
  TraceOptions options = Options({{MethodKind::kMse, 4, Policy::kDefault}});
  options.files = {};
  BenchmarkResult result;
  EXPECT_EQ(RunTrace(options, Fast(), result).error().code, ErrorCode::kInvalidArgument);
  options.files = {"/nonexistent/trace.safetensors"};
  const auto missing = RunTrace(options, Fast(), result);
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, ErrorCode::kIo);
  EXPECT_THAT(missing.error().message, HasSubstr("/nonexistent/trace.safetensors"));

  const test::Rows odd = test::UnitRows(4, 20, 1);  // polar needs a multiple of 16
  const TemporaryTrace trace("odd", odd, odd, odd);
  options.files = {trace.path()};
  options.methods = {{MethodKind::kPolar, 3.875, Policy::kDefault}};
  const auto refused = RunTrace(options, Fast(), result);
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().message, HasSubstr("odd"));
  EXPECT_THAT(refused.error().message, HasSubstr("polar"));
}

}  // namespace
}  // namespace turboquant::eval
