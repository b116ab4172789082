#include "src/eval/attention_workload.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/eval/read_bytes.h"
#include "src/eval/result_output.h"
#include "tests/eval/json_schema.h"
#include "tests/support/expect_error.h"
#include "tests/support/threads.h"

namespace turboquant::eval {
namespace {

using test::FailsWith;
using ::testing::IsEmpty;

std::vector<CacheSpec> Caches(std::vector<KeyMapKind> key_maps, std::vector<KvMethod> methods) {
  CacheChoices choices;
  choices.policies = {"balanced", "small"};
  choices.key_maps = std::move(key_maps);
  choices.key_methods = choices.value_methods = std::move(methods);
  return *ExpandCaches(choices);
}

AttentionOptions Small() {
  AttentionOptions options;
  options.tokens = {300, 600};
  options.query_heads = 6;
  options.kv_heads = 2;
  options.head_dim = 32;
  options.caches = Caches({KeyMapKind::kDiagonal}, {KvMethod::kMse});
  return options;
}

RunContext Fast() {
  RunContext run;
  run.repeats = 1;
  return run;
}

BenchmarkResult Measure(const AttentionOptions& options, const RunContext& run = Fast()) {
  BenchmarkResult result;
  result.workload = "attention";
  result.machine = ThisMachine();
  const auto ran = RunAttention(options, run, result);
  EXPECT_TRUE(ran.has_value()) << ran.error().message;
  return result;
}

TEST(AttentionWorkloadTest, ARowForEachLengthAndCache) {
  const BenchmarkResult result = Measure(Small());
  ASSERT_EQ(result.attention_rows.size(), 4u);
  for (const AttentionRow& row : result.attention_rows) {
    EXPECT_EQ(row.workload, "attention");
    EXPECT_EQ(row.query_heads, 6u);
    EXPECT_EQ(row.kv_heads, 2u);
    EXPECT_EQ(row.head_dim, 32u);
    EXPECT_TRUE(row.page_frames);
    EXPECT_EQ(row.key_map, "diagonal");
    EXPECT_EQ(row.bytes_per_token, 2 * 2 * (32 * row.bits / 8 + 2));
    EXPECT_DOUBLE_EQ(row.compression_vs_f16, 2 * 2 * 32 * 2 / row.bytes_per_token);
    EXPECT_GT(row.memory_floor_ns_per_query_token, 0);
    EXPECT_GT(row.attention_ns_per_query_token, row.memory_floor_ns_per_query_token);
    EXPECT_GT(row.f16_attention_ns_per_query_token, 0);
    EXPECT_GT(row.f32_attention_ns_per_query_token, 0);
  }
  EXPECT_EQ(result.attention_rows[0].tokens, 300u);
  EXPECT_EQ(result.attention_rows[3].tokens, 600u);
  EXPECT_EQ(result.attention_rows[3].policy, "small");
  EXPECT_EQ(result.attention_rows[3].key_bits, 3);
  std::ifstream file(TURBOQUANT_SOURCE_DIR "/docs/benchmark.schema.json");
  const test::JsonSchema schema(nlohmann::json::parse(file));
  EXPECT_THAT(schema.Validate(nlohmann::json::parse(ToJson(result))), IsEmpty());
}

// Queries and weights have two 7-bit digits, rows of f16 or f32 are multiplied as they are.
TEST(AttentionWorkloadTest, MaxErrorIsThatOfTheKernels) {
  AttentionOptions options = Small();
  options.tokens = {600};
  options.caches =
      Caches({KeyMapKind::kNone, KeyMapKind::kCenter, KeyMapKind::kDiagonal, KeyMapKind::kFull},
             {KvMethod::kMse, KvMethod::kF16, KvMethod::kF32});
  size_t packed = 0;
  for (const AttentionRow& row : Measure(options).attention_rows) {
    if (row.key_method == "mse" || row.value_method == "mse") {
      ++packed;
      EXPECT_LT(row.max_error, 3e-3) << CacheName(row);
      EXPECT_GT(row.max_error, 1e-6) << CacheName(row);
    } else {
      EXPECT_LT(row.max_error, 2e-6) << CacheName(row);
    }
  }
  EXPECT_GT(packed, 0u);
}

TEST(AttentionWorkloadTest, ThreadsChangeNothingButTheTime) {
  const BenchmarkResult one = Measure(Small());
  RunContext run = Fast();
  run.threads = 3;
  run.parallel_for = test::Threads(3);
  const BenchmarkResult three = Measure(Small(), run);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(three.attention_rows[i].threads, 3);
    EXPECT_EQ(three.attention_rows[i].max_error, one.attention_rows[i].max_error);
  }
}

TEST(AttentionWorkloadTest, RefusesWhatMakesNoSense) {
  const auto run = [](auto change) {
    AttentionOptions options = Small();
    change(options);
    BenchmarkResult result;
    return RunAttention(options, Fast(), result);
  };
  const auto code = ErrorCode::kInvalidArgument;
  EXPECT_TRUE(FailsWith(run([](auto& o) { o.query_heads = 5; }), code, "multiple of kv_heads"));
  EXPECT_TRUE(FailsWith(run([](auto& o) { o.kv_heads = 0; }), code, "kv_heads"));
  EXPECT_TRUE(FailsWith(run([](auto& o) { o.tokens = {}; }), code, "no context lengths"));
  EXPECT_TRUE(FailsWith(run([](auto& o) { o.tokens = {0}; }), code, "0 tokens"));
  EXPECT_TRUE(FailsWith(run([](auto& o) { o.tokens = {size_t{1} << 62}; }), code, "too large"));
  EXPECT_TRUE(FailsWith(run([](auto& o) { o.head_dim = 1; }), code, "head_dim"));
  EXPECT_TRUE(FailsWith(run([](auto& o) { o.caches = {}; }), code, "no caches"));
}

TEST(ReadBytesTest, ReadsEveryByte) {
  alignas(64) uint8_t bytes[1024] = {};
  EXPECT_EQ(ReadBytes(bytes, sizeof(bytes)), 0u);
  for (size_t i = 0; i < sizeof(bytes); i += 8) {
    bytes[i] = 1;
    EXPECT_EQ(ReadBytes(bytes, sizeof(bytes)), 1u) << i;
    bytes[i] = 0;
  }
}

}  // namespace
}  // namespace turboquant::eval
