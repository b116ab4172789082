#include "src/eval/synthetic_workload.h"

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/eval/metrics.h"
#include "src/eval/result_output.h"
#include "tests/eval/json_schema.h"

namespace turboquant::eval {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

SyntheticOptions Small() {
  SyntheticOptions options;
  options.rows = 1024;
  options.queries = 16;
  options.samples = 2;
  options.methods = {{MethodKind::kMse, 4, Policy::kNoSearch}};
  return options;
}

RunContext Fast() {
  RunContext run;
  run.repeats = 1;
  return run;
}

BenchmarkResult Measure(const SyntheticOptions& options) {
  BenchmarkResult result;
  result.workload = "synthetic";
  result.machine = ThisMachine();
  const auto ran = RunSynthetic(options, Fast(), result);
  EXPECT_TRUE(ran.has_value()) << ran.error().message;
  return result;
}

TEST(SyntheticWorkloadTest, DirectionsAreUnitAndStreamsDiffer) {
  const auto rows = RandomDirections(50, 17, 3, 0);
  for (size_t r = 0; r < 50; ++r) {
    EXPECT_NEAR(Norm(std::span(rows).subspan(r * 17, 17)), 1.0, 1e-6);
  }
  EXPECT_EQ(rows, RandomDirections(50, 17, 3, 0));
  EXPECT_NE(rows, RandomDirections(50, 17, 3, 1));
  EXPECT_NE(rows, RandomDirections(50, 17, 4, 0));
}

TEST(SyntheticWorkloadTest, MeasuresWhatTheoryPredicts) {
  SyntheticOptions options = Small();
  options.dims = {64, 128};
  options.methods = {{MethodKind::kMse, 2, Policy::kNoSearch},
                     {MethodKind::kMse, 4, Policy::kNoSearch},
                     {MethodKind::kMse, 4, Policy::kPaper},
                     {MethodKind::kProd, 3, Policy::kDefault}};
  const BenchmarkResult result = Measure(options);
  ASSERT_EQ(result.rows.size(), 8u);
  for (const BenchmarkRow& row : result.rows) {
    ASSERT_TRUE(row.nmse_theory.has_value());
    EXPECT_NEAR(row.nmse / *row.nmse_theory, 1.0, 0.01)
        << row.method << row.bits << row.policy << row.dim;
    if (row.method == "mse") {
      EXPECT_NEAR(row.value_nmse / row.nmse, 1.0, 0.04);
    }
    EXPECT_NEAR(row.key_mse * static_cast<double>(row.dim) / row.nmse, 1.0, 1e-5);
    // The paper's scale shrinks by D, the others not at all.
    const double bias = row.policy == "paper" ? -row.nmse : 0.0;
    EXPECT_NEAR(row.ip_bias, bias, 4 * std::sqrt(row.nmse / 16384.0)) << row.method << row.bits;
    EXPECT_GT(row.nmse, row.nmse_shannon);
  }
}

TEST(SyntheticWorkloadTest, VarianceAndKlOfTheUnbiasedScaleAreAsComputed) {
  SyntheticOptions options = Small();
  options.queries = 32;
  options.samples = 4;
  const BenchmarkResult result = Measure(options);
  // d Var = .0094 at 4 bits; KL at logit std 2 and 1024 keys: .0176.
  EXPECT_NEAR(128 * result.rows[0].ip_variance, 0.0094, 0.06 * 0.0094);
  EXPECT_NEAR(result.rows[0].softmax_kl, 0.0176, 0.15 * 0.0176);
  // Logits are 2 sqrt(d) times inner products.
  EXPECT_NEAR(result.rows[0].logit_rmse / (2 * std::sqrt(128.0) * result.rows[0].ip_rmse), 1.0,
              1e-5);
}

TEST(SyntheticWorkloadTest, RowsCarryEveryFieldOfTheSchema) {
  std::ifstream file(TURBOQUANT_SOURCE_DIR "/docs/benchmark.schema.json");
  const test::JsonSchema schema(nlohmann::json::parse(file));
  SyntheticOptions options = Small();
  options.rows = 64;
  options.samples = 1;
  const double bits[] = {2, 2.5, 3};
  const Policy policies[] = {Policy::kDefault};
  options.methods = ExpandMethods({}, bits, policies, MissingWidth::kDrop).value();
  const BenchmarkResult result = Measure(options);
  EXPECT_THAT(schema.Validate(nlohmann::json::parse(ToJson(result))), IsEmpty());
  EXPECT_EQ(result.rows.size(), options.methods.size());
  EXPECT_EQ(result.rows[0].source, "random directions");
  EXPECT_FALSE(result.rows[0].model.has_value());
}

TEST(SyntheticWorkloadTest, QualityDoesNotDependOnThreads) {
  SyntheticOptions options = Small();
  options.rows = 300;
  RunContext backwards = Fast();
  backwards.parallel_for = [](size_t tasks, const std::function<void(size_t)>& body) {
    for (size_t i = tasks; i-- > 0;) body(i);
  };
  BenchmarkResult threaded;
  ASSERT_TRUE(RunSynthetic(options, backwards, threaded).has_value());
  const BenchmarkResult plain = Measure(options);
  EXPECT_EQ(threaded.rows[0].nmse, plain.rows[0].nmse);
  EXPECT_EQ(threaded.rows[0].softmax_kl, plain.rows[0].softmax_kl);
}

TEST(SyntheticWorkloadTest, MethodsThatDoNotExistAtADimAreErrorsOrLeftOut) {
  SyntheticOptions options = Small();
  options.dims = {100};
  options.rows = 32;
  options.methods.push_back({MethodKind::kPolar, 3.875, Policy::kDefault});
  BenchmarkResult result;
  const auto refused = RunSynthetic(options, Fast(), result);
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().message, HasSubstr("polar"));
  EXPECT_TRUE(result.rows.empty());
  options.methods_by_default = true;
  ASSERT_TRUE(RunSynthetic(options, Fast(), result).has_value());
  EXPECT_EQ(result.rows.size(), 1u);
  ASSERT_EQ(result.left_out.size(), 1u);
  EXPECT_EQ(result.left_out[0].method, "polar");
  EXPECT_EQ(result.left_out[0].dim, 100u);
}

TEST(SyntheticWorkloadTest, RefusesImpossibleOptions) {
  const auto refused = [](auto change) {
    SyntheticOptions options = Small();
    change(options);
    BenchmarkResult result;
    const auto ran = RunSynthetic(options, Fast(), result);
    return !ran.has_value() && ran.error().code == ErrorCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused([](SyntheticOptions& o) { o.dims = {}; }));
  EXPECT_TRUE(refused([](SyntheticOptions& o) { o.dims = {1}; }));
  EXPECT_TRUE(refused([](SyntheticOptions& o) { o.dims = {65537}; }));
  EXPECT_TRUE(refused([](SyntheticOptions& o) { o.rows = 0; }));
  EXPECT_TRUE(refused([](SyntheticOptions& o) { o.queries = 0; }));
  EXPECT_TRUE(refused([](SyntheticOptions& o) { o.samples = 0; }));
  EXPECT_TRUE(refused([](SyntheticOptions& o) { o.rows = SIZE_MAX / 2; }));
  EXPECT_TRUE(refused([](SyntheticOptions& o) { o.logit_std = 0; }));
  EXPECT_TRUE(refused([](SyntheticOptions& o) { o.logit_std = std::nan(""); }));
  EXPECT_TRUE(refused([](SyntheticOptions& o) { o.methods = {}; }));
}

}  // namespace
}  // namespace turboquant::eval
