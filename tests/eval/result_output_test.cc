#include "src/eval/result_output.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/eval/report.h"
#include "tests/eval/json_schema.h"

namespace turboquant::eval {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

test::JsonSchema Schema() {
  std::ifstream file(TURBOQUANT_SOURCE_DIR "/docs/benchmark.schema.json");
  return test::JsonSchema(nlohmann::json::parse(file));
}

BenchmarkRow Row(const std::string& method, double bits, double nmse) {
  BenchmarkRow row;
  row.workload = "trace";
  row.method = method;
  row.bits = bits;
  row.policy = "default";
  row.target = "plain";
  row.source = "a,\"b\".safetensors";
  row.model = "<model> & more";
  row.layer = 15;
  row.head = 0;
  row.rope = "post";
  row.dim = 64;
  row.samples = 1;
  row.rows = 512;
  row.queries = 65;
  row.bits_per_coordinate = bits + 0.25;
  row.bytes_per_row = (bits + 0.25) * 8;
  row.compression_vs_f16 = 16 / (bits + 0.25);
  row.compression_vs_f32 = 32 / (bits + 0.25);
  row.nmse = nmse;
  row.softmax_kl = nmse / 2;
  row.value_method = method;
  row.value_bits = bits;
  row.encode_ns_per_row = row.decode_ns_per_row = row.prepare_ns_per_query = 70;
  row.score_ns_per_row = row.score8_ns_per_row = 1.25;
  row.error_by_position = {{0, 15, 2, 0.01, 0.02, std::nullopt}, {16, 31, 0, {}, {}, 0.5}};
  return row;
}

BenchmarkResult Result() {
  BenchmarkResult result;
  result.workload = "trace";
  result.seed = 42;
  result.machine = {"some \"CPU\"", 2, "scalar", "gcc", "0.1.0"};
  result.rows = {Row("mse", 4, 0.009), Row("mse", 2, 0.12), Row("fp8", 8, 0.0007)};
  result.rows[0].nmse_theory = 0.0094;
  result.left_out = {{"polar", 100, "dim must be a multiple of 16, got 100"}};
  return result;
}

CacheRow Cache(const std::string& policy, double bits, double kl) {
  CacheRow row;
  row.workload = "trace";
  row.method = policy.empty() ? "q4_0" : "cache";
  row.bits = row.key_bits = row.value_bits = bits;
  row.policy = policy;
  row.target = "plain";
  row.source = "a,\"b\".safetensors";
  row.model = "<model> & more";
  row.layer = 15;
  row.rope = "post";
  row.dim = 64;
  row.samples = 1;
  row.tokens = 512;
  row.queries = 65;
  row.key_method = row.value_method = policy.empty() ? "q4_0" : "mse";
  row.sinks = 4;
  row.window = 64;
  row.key_map = policy.empty() ? "none" : "diagonal";
  row.key_map_tokens = 256;
  row.bytes_per_token = 68;
  row.mean_bytes_per_token = 70 + bits;
  row.compression_vs_f16 = 256 / (70 + bits);
  row.softmax_kl = kl;
  row.output_relative_rmse = kl * 10;
  row.error_by_position = {{0, 15, 2, 0.01, 0.02, std::nullopt}};
  if (!policy.empty()) row.held_bytes_per_token = 123;
  return row;
}

AttentionRow Attention(double bits, size_t tokens) {
  AttentionRow row;
  row.workload = "attention";
  row.method = "cache";
  row.bits = row.key_bits = row.value_bits = bits;
  row.policy = "balanced";
  row.target = "avx2";
  row.source = "random normal rows";
  row.key_method = row.value_method = "mse";
  row.key_map = "none";
  row.tokens = tokens;
  row.query_heads = 32;
  row.kv_heads = 8;
  row.head_dim = 128;
  row.bytes_per_token = 1056;
  row.compression_vs_f16 = 3.88;
  row.attention_ns_per_query_token = 2 * bits;
  row.f16_attention_ns_per_query_token = 16;
  row.f32_attention_ns_per_query_token = 32;
  row.memory_floor_ns_per_query_token = 0.5;
  return row;
}

// Rows of all kinds.
BenchmarkResult Mixed() {
  BenchmarkResult result = Result();
  result.cache_rows = {Cache("balanced", 4, 0.001), Cache("small", 3, 0.004), Cache("", 4, 0.01)};
  result.attention_rows = {Attention(4, 1024), Attention(4, 4096), Attention(3, 1024)};
  return result;
}

TEST(ResultOutputTest, JsonIsWhatTheSchemaSays) {
  const auto json = nlohmann::json::parse(ToJson(Result()));
  EXPECT_THAT(Schema().Validate(json), IsEmpty());
  EXPECT_EQ(json["schema"], "turboquant.benchmark/1");
  EXPECT_EQ(json["rows"][0]["nmse_theory"], 0.0094);
  EXPECT_TRUE(json["rows"][1]["nmse_theory"].is_null());
  EXPECT_EQ(json["rows"][0]["error_by_position"][1]["key_nmse"], 0.5);
  EXPECT_EQ(json["left_out"][0]["dim"], 100);
}

// A schema that accepts anything would make the test above worthless.
TEST(ResultOutputTest, TheSchemaRefusesWhatIsNotSo) {
  const auto good = nlohmann::json::parse(ToJson(Mixed()));
  const test::JsonSchema schema = Schema();
  ASSERT_THAT(schema.Validate(good), IsEmpty());
  for (const size_t row : {0, 3, 6}) {  // one of each kind
    for (const auto& [name, field] : good["rows"][row].items()) {
      auto missing = good;
      missing["rows"][row].erase(name);
      EXPECT_THAT(schema.Validate(missing), Not(IsEmpty())) << name;
      auto wrong_type = good;
      wrong_type["rows"][row][name] = nlohmann::json::object();
      EXPECT_THAT(schema.Validate(wrong_type), Not(IsEmpty())) << name;
    }
    auto other_kind = good;
    other_kind["rows"][row]["kind"] = good["rows"][(row + 3) % 9]["kind"];
    EXPECT_THAT(schema.Validate(other_kind), Not(IsEmpty()));
  }
  auto unknown = good;
  unknown["rows"][0]["extra"] = 1;
  EXPECT_THAT(schema.Validate(unknown), Not(IsEmpty()));
  auto negative = good;
  negative["rows"][0]["nmse"] = -0.1;
  EXPECT_THAT(schema.Validate(negative), Not(IsEmpty()));
  auto other = good;
  other["schema"] = "turboquant.benchmark/2";
  EXPECT_THAT(schema.Validate(other), Not(IsEmpty()));
}

TEST(ResultOutputTest, CsvHasAsManyFieldsInEveryLineAndQuotes) {
  const std::string csv = ToCsv(Result());
  std::istringstream lines(csv);
  std::string header, line;
  std::getline(lines, header);
  EXPECT_TRUE(header.starts_with("workload,method,bits,policy,target,threads,kind,source,"));
  const auto fields = std::ranges::count(header, ',') + 1;
  std::getline(lines, line);
  EXPECT_EQ(std::ranges::count(line, ',') + 1, fields + 1);  // one more inside the quotes
  EXPECT_THAT(line, HasSubstr("\"a,\"\"b\"\".safetensors\""));
  EXPECT_EQ(std::ranges::count(csv, '\n'), 4);
}

// Each kind of rows fills the columns it has; those it shares with another are one column.
TEST(ResultOutputTest, CsvOfSeveralKindsIsOneTable) {
  std::istringstream lines(ToCsv(Mixed()));
  std::string header, line;
  std::getline(lines, header);
  const auto commas = std::ranges::count(header, ',');
  const auto occurrences = [&](const std::string& name) {
    size_t count = 0;
    for (size_t at = header.find(name); at != std::string::npos; at = header.find(name, at + 1)) {
      ++count;
    }
    return count;
  };
  EXPECT_EQ(occurrences(",softmax_kl,"), 1u);
  EXPECT_EQ(occurrences(",held_bytes_per_token,"), 1u);
  EXPECT_EQ(occurrences(",memory_floor_ns_per_query_token,"), 1u);
  size_t rows = 0;
  for (; std::getline(lines, line); ++rows) {
    const auto inside_quotes = line.find('"') == std::string::npos ? 0 : 1;
    EXPECT_EQ(std::ranges::count(line, ','), commas + inside_quotes) << line;
  }
  EXPECT_EQ(rows, 9u);
}

TEST(ResultOutputTest, TablesOfCachesAndAttention) {
  const std::string table = ToTable(Mixed());
  EXPECT_THAT(table, HasSubstr("diagonal 256"));
  EXPECT_THAT(table, HasSubstr("attention: 32 query heads, 8 KV heads, head_dim 128, 1 thread\n"));
  EXPECT_THAT(table, HasSubstr("K3V3"));
  BenchmarkResult one_kind = Mixed();
  one_kind.rows.clear();
  EXPECT_THAT(ToTable(one_kind), Not(HasSubstr("enc ns")));
  EXPECT_EQ(GroupCaches(one_kind).size(), 1u);
  EXPECT_EQ(GroupAttention(one_kind).size(), 1u);
  EXPECT_EQ(CacheName(one_kind.cache_rows[0]), "balanced K4V4, 4 + 64 exact, diagonal");
  EXPECT_EQ(CacheName(one_kind.cache_rows[2]), "q4_0, 4 + 64 exact");
  for (const size_t row : {0, 2}) {
    one_kind.cache_rows[row].waits_for_map = true;
    EXPECT_THAT(CacheName(one_kind.cache_rows[row]), HasSubstr(", waiting"));
  }
}

TEST(ResultOutputTest, TheTableGroupsBySourceAndNamesWhatWasLeftOut) {
  BenchmarkResult result = Result();
  result.rows.push_back(Row("mse", 3, 0.03));
  result.rows.back().layer = 29;
  EXPECT_EQ(GroupRows(result).size(), 2u);
  EXPECT_EQ(GroupRows(result)[0].rows.size(), 3u);
  const std::string table = ToTable(result);
  EXPECT_THAT(table, HasSubstr("layer 29"));
  EXPECT_THAT(table, HasSubstr("left out: polar at dim 100: dim must be"));
  result.rows[0].policy = "paper";
  EXPECT_EQ(SeriesName(result.rows[0]), "mse (paper)");
}

TEST(ReportTest, IsOnePageWithAllChartsAndNoReferenceOutside) {
  const std::string html = RenderReport(Result());
  EXPECT_TRUE(html.starts_with("<!DOCTYPE html>"));
  EXPECT_THAT(html, HasSubstr("Shannon limit 4^-b"));
  EXPECT_THAT(html, HasSubstr("paper bound 2.7207 4^-b"));
  EXPECT_THAT(html, HasSubstr("Error by position"));
  EXPECT_THAT(html, HasSubstr("Time per row"));
  EXPECT_THAT(html, HasSubstr("prefers-color-scheme: dark"));
  EXPECT_THAT(html, HasSubstr("&lt;model&gt; &amp; more"));
  EXPECT_THAT(html, Not(HasSubstr("<model>")));
  EXPECT_THAT(html, Not(HasSubstr("<script")));
  EXPECT_THAT(html, Not(HasSubstr("href=")));
  EXPECT_THAT(html, Not(HasSubstr("src=")));
  EXPECT_THAT(html, Not(ContainsRegex("nan[^o]")));
  EXPECT_THAT(html, Not(HasSubstr("inf\"")));
}

TEST(ReportTest, ChartsCachesAndAttention) {
  const std::string html = RenderReport(Mixed());
  EXPECT_THAT(html, HasSubstr("Caches: error by policy"));
  EXPECT_THAT(html, HasSubstr("true bytes per token"));
  // Widths of one practice are points of a line.
  EXPECT_THAT(html, HasSubstr("cache, 4 + 64, diagonal"));
  EXPECT_THAT(html, HasSubstr("small K3V3, 4 + 64 exact, diagonal: 73 bytes, KL 0.004"));
  EXPECT_THAT(html, HasSubstr("tokens in the cache"));
  EXPECT_THAT(html, HasSubstr("balanced K4V4, 4096 tokens: 8 ns"));
  EXPECT_THAT(html, HasSubstr("read K3V3"));
  EXPECT_THAT(html, Not(HasSubstr("<model>")));
  EXPECT_THAT(html, Not(ContainsRegex("nan[^o]")));
  EXPECT_THAT(html, Not(HasSubstr("inf\"")));
  // The same head twice, as when a file is given twice, is no more columns than there are.
  BenchmarkResult twice = Mixed();
  twice.cache_rows.push_back(twice.cache_rows[0]);
  EXPECT_THAT(RenderReport(twice), HasSubstr("Caches: error by policy"));
  BenchmarkResult many = Mixed();  // heads
  for (uint64_t layer = 0; layer < 9; ++layer) {
    many.cache_rows.push_back(Cache("balanced", 4, 0.001));
    many.cache_rows.back().layer = layer;
  }
  EXPECT_THAT(RenderReport(many), HasSubstr("worst head"));
}

TEST(ReportTest, SurvivesRowsThatCannotBeDrawn) {
  BenchmarkResult result = Result();
  result.rows.resize(1);
  result.rows[0].nmse = 0;  // not on a logarithmic axis
  result.rows[0].softmax_kl = 0;
  result.rows[0].error_by_position.clear();
  const std::string html = RenderReport(result);
  EXPECT_THAT(html, Not(ContainsRegex("nan[^o]")));
  EXPECT_THAT(html, Not(HasSubstr("Error by position")));
  result.rows.clear();
  EXPECT_TRUE(RenderReport(result).ends_with("</html>\n"));
}

}  // namespace
}  // namespace turboquant::eval
