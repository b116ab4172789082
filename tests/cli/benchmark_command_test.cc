#include "src/cli/benchmark_command.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <tuple>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/eval/json_schema.h"
#include "tests/support/temporary_folder.h"

namespace turboquant::cli {
namespace {

using test::TemporaryFolder;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kTrace =
    TURBOQUANT_SOURCE_DIR "/data/smollm2-135m-news-layer15-head0-postrope.safetensors";

BenchmarkOptions Small() {
  BenchmarkOptions options;
  options.dims = {32};
  options.tokens = {48};
  options.queries = 3;
  options.samples = 1;
  options.repeats = 1;
  options.format = "json";
  return options;
}

nlohmann::json Measure(const BenchmarkOptions& options) {
  std::ostringstream out;
  const auto ran = RunBenchmark(options, out, nullptr);
  EXPECT_TRUE(ran.has_value()) << ran.error().message;
  return nlohmann::json::parse(out.str());
}

test::JsonSchema Schema() {
  std::ifstream file(TURBOQUANT_SOURCE_DIR "/docs/benchmark.schema.json");
  return test::JsonSchema(nlohmann::json::parse(file));
}

TEST(BenchmarkCommandTest, RunsEveryMethodByDefault) {
  BenchmarkOptions options = Small();
  options.bits = {3, 3.5};
  const auto json = Measure(options);
  EXPECT_THAT(Schema().Validate(json), IsEmpty());
  std::set<std::string> methods;
  std::set<std::string> policies;
  for (const auto& row : json["rows"]) {
    methods.insert(row["method"]);
    policies.insert(row["policy"]);
    EXPECT_EQ(row["workload"], "synthetic");
  }
  EXPECT_EQ(methods.size(), 12u);
  EXPECT_EQ(policies, (std::set<std::string>{"default", "paper"}));
}

TEST(BenchmarkCommandTest, DefaultWidthsFitTheMethodsThatAreNamed) {
  BenchmarkOptions options = Small();
  options.methods = {"prod"};
  options.policies = {"default"};
  options.quick = true;
  const auto json = Measure(options);
  EXPECT_EQ(json["rows"].size(), 3u);  // 2, 3 and 4 bits; no halves
  EXPECT_EQ(json["quick"], true);
}

TEST(BenchmarkCommandTest, TracesFitTheSchemaAndThreadsAreReported) {
  BenchmarkOptions options;
  options.workload = "trace";
  options.traces = {kTrace};
  options.max_queries = 4;
  options.repeats = 1;
  options.quick = true;
  options.threads = {2};
  options.format = "json";
  const auto json = Measure(options);
  EXPECT_THAT(Schema().Validate(json), IsEmpty());
  EXPECT_EQ(json["workload"], "trace");
  for (const auto& row : json["rows"]) {
    EXPECT_EQ(row["threads"], 2);
    EXPECT_EQ(row["layer"], 15);
  }
}

size_t RowsOfKind(const nlohmann::json& json, const std::string& kind) {
  size_t count = 0;
  for (const auto& row : json["rows"]) count += row["kind"] == kind ? 1 : 0;
  return count;
}

// Flags of methods, of caches, of both and of neither choose between the two kinds of rows.
TEST(BenchmarkCommandTest, FlagsChooseBetweenMethodsAndCachesOfATrace) {
  const auto run = [](auto change) {
    BenchmarkOptions options;
    options.workload = "trace";
    options.traces = {kTrace};
    options.max_queries = 3;
    options.repeats = 1;
    options.format = "json";
    options.quick = true;
    change(options);
    const auto json = Measure(options);
    EXPECT_THAT(Schema().Validate(json), IsEmpty());
    return json;
  };
  const auto neither = run([](BenchmarkOptions&) {});
  EXPECT_EQ(RowsOfKind(neither, "quantizer"), 19u);
  EXPECT_EQ(RowsOfKind(neither, "cache"), 5u + 2u * 7u);  // two sets of exact tokens
  const auto methods = run([](BenchmarkOptions& o) { o.methods = {"mse"}; });
  EXPECT_EQ(RowsOfKind(methods, "quantizer"), 5u);
  EXPECT_EQ(RowsOfKind(methods, "cache"), 0u);
  const auto caches = run([](BenchmarkOptions& o) {
    o.key_bits = {3, 4};
    o.windows = {0};
  });
  EXPECT_EQ(RowsOfKind(caches, "quantizer"), 0u);
  EXPECT_EQ(RowsOfKind(caches, "cache"), 2u + 7u);
  for (const auto& row : caches["rows"]) {
    EXPECT_EQ(row["window"], 0);
    EXPECT_EQ(row["sinks"], 4);
  }
  const auto both = run([](BenchmarkOptions& o) {
    o.methods = {"q8_0"};
    o.policies = {"small"};
  });
  EXPECT_EQ(RowsOfKind(both, "quantizer"), 1u);
  EXPECT_EQ(RowsOfKind(both, "cache"), 1u + 7u);
  const auto paper = run([](BenchmarkOptions& o) {
    o.policies = {"paper"};
    o.key_maps = {"full"};
    o.key_map_tokens = {300};
  });
  EXPECT_EQ(RowsOfKind(paper, "quantizer"), 0u);
  EXPECT_EQ(paper["rows"][0]["policy"], "paper");
  EXPECT_EQ(paper["rows"][0]["key_map"], "full");
  EXPECT_EQ(paper["rows"][0]["key_map_tokens"], 300);
}

TEST(BenchmarkCommandTest, AttentionTakesListsAndThreads) {
  BenchmarkOptions options;
  options.workload = "attention";
  options.tokens = {64, 320};
  options.key_bits = {2, 8};
  options.value_bits = {3};
  options.key_maps = {"none", "diagonal"};
  options.query_heads = {4};
  options.kv_heads = {2};
  options.head_dims = {32};
  options.threads = {2};
  options.repeats = 1;
  options.format = "json";
  const TemporaryFolder folder;
  options.report = folder / "report.html";
  const auto json = Measure(options);
  EXPECT_THAT(Schema().Validate(json), IsEmpty());
  EXPECT_EQ(json["workload"], "attention");
  ASSERT_EQ(RowsOfKind(json, "attention"), 8u);
  for (const auto& row : json["rows"]) {
    EXPECT_EQ(row["workload"], "attention");
    EXPECT_EQ(row["threads"], 2);
    EXPECT_EQ(row["value_bits"], 3);
    EXPECT_EQ(row["page_frames"], row["key_map"] == "diagonal");
    EXPECT_EQ(row["target"], json["machine"]["best_target"]);
    EXPECT_LT(row["max_error"], 0.005);
  }
  EXPECT_EQ(json["rows"][7]["tokens"], 320);
  EXPECT_EQ(json["rows"][7]["key_bits"], 8);
  EXPECT_THAT(test::ReadWholeFile(options.report),
              HasSubstr("Time against the length of the context"));
}

TEST(BenchmarkCommandTest, AttentionTakesEveryCombinationOfShapesAndThreads) {
  BenchmarkOptions options;
  options.workload = "attention";
  options.tokens = {64};
  options.key_bits = {4};
  options.value_bits = {4};
  options.key_maps = {"none"};
  options.query_heads = {4, 8};
  options.kv_heads = {1, 2};
  options.head_dims = {32, 40};
  options.threads = {1, 2};
  options.repeats = 1;
  options.format = "json";
  const auto json = Measure(options);
  EXPECT_THAT(Schema().Validate(json), IsEmpty());
  std::set<std::tuple<int, int, int, int>> shapes;
  for (const auto& row : json["rows"])
    shapes.emplace(row["query_heads"], row["kv_heads"], row["head_dim"], row["threads"]);
  EXPECT_EQ(json["rows"].size(), 16u);
  EXPECT_EQ(shapes.size(), 16u);
}

TEST(BenchmarkCommandTest, ListsThatDoNotFitAreRefusedBeforeAnythingRuns) {
  const auto message = [](auto change) {
    BenchmarkOptions options;
    options.workload = "attention";
    options.tokens = {64};
    change(options);
    std::ostringstream out, progress;
    const auto ran = RunBenchmark(options, out, &progress);
    EXPECT_FALSE(ran.has_value());
    EXPECT_EQ(progress.str().find("tokens,"), std::string::npos);
    return ran ? std::string() : ran.error().message;
  };
  EXPECT_THAT(message([](BenchmarkOptions& o) { o.query_heads = {16, 12}; }),
              HasSubstr("query_heads must be a multiple of kv_heads, got 12 and 8"));
  EXPECT_THAT(message([](BenchmarkOptions& o) { o.threads = {1, 0}; }),
              HasSubstr("threads must be 1 to 1024, got 0"));
  EXPECT_THAT(message([](BenchmarkOptions& o) { o.threads = {}; }), HasSubstr("--threads"));
  EXPECT_THAT(message([](BenchmarkOptions& o) {
                o.workload = "synthetic";
                o.threads = {1, 2};
              }),
              HasSubstr("--threads with several numbers is for --workload attention"));
}

TEST(BenchmarkCommandTest, TheScalarBackendIsNamedAsTarget) {
  BenchmarkOptions options = Small();
  options.methods = {"mse"};
  options.bits = {4};
  options.policies = {"no-search"};
  options.backend = "scalar";
  const auto scalar = Measure(options);
  EXPECT_EQ(scalar["rows"][0]["target"], "scalar");
  options.backend = "auto";
  const auto fastest = Measure(options);
  EXPECT_EQ(fastest["rows"][0]["target"], fastest["machine"]["best_target"]);
  EXPECT_EQ(fastest["rows"][0]["softmax_kl"], scalar["rows"][0]["softmax_kl"]);
}

TEST(BenchmarkCommandTest, WritesTheFilesAskedForAndNothingElse) {
  const TemporaryFolder folder;
  BenchmarkOptions options = Small();
  options.methods = {"mse", "q8_0"};
  options.bits = {4};
  options.output = folder / "rows.json";
  options.report = folder / "report.html";
  std::ostringstream out;
  ASSERT_TRUE(RunBenchmark(options, out, nullptr).has_value());
  EXPECT_EQ(out.str(), "");
  EXPECT_EQ(folder.FileCount(), 2u);
  EXPECT_THAT(Schema().Validate(nlohmann::json::parse(test::ReadWholeFile(options.output))),
              IsEmpty());
  EXPECT_THAT(test::ReadWholeFile(options.report), HasSubstr("<svg"));
  options.report = folder / "missing/report.html";
  EXPECT_EQ(RunBenchmark(options, out, nullptr).error().code, ErrorCode::kIo);
}

TEST(BenchmarkCommandTest, AnUnavailableBackendIsAnError) {
  BenchmarkOptions options = Small();
  bool refused = false;
  for (const char* backend : {"neon", "amx", "avx512"}) {  // no CPU has both of the first two
    options.backend = backend;
    options.methods = {"q8_0"};
    std::ostringstream out;
    const auto ran = RunBenchmark(options, out, nullptr);
    if (ran) continue;
    refused = true;
    EXPECT_EQ(ran.error().code, ErrorCode::kUnavailable);
    EXPECT_THAT(ran.error().message, HasSubstr(backend));
  }
  EXPECT_TRUE(refused);
}

}  // namespace
}  // namespace turboquant::cli
