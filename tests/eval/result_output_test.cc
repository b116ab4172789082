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
  const auto good = nlohmann::json::parse(ToJson(Result()));
  const test::JsonSchema schema = Schema();
  for (const auto& [name, field] : good["rows"][0].items()) {
    auto missing = good;
    missing["rows"][0].erase(name);
    EXPECT_THAT(schema.Validate(missing), Not(IsEmpty())) << name;
    auto wrong_type = good;
    wrong_type["rows"][0][name] = nlohmann::json::object();
    EXPECT_THAT(schema.Validate(wrong_type), Not(IsEmpty())) << name;
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
