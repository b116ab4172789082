// encode, decode and inspect, from file to file.
#include <cmath>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/cli/decode_command.h"
#include "src/cli/encode_command.h"
#include "src/cli/inspect_command.h"
#include "tests/support/random_rows.h"
#include "tests/support/temporary_folder.h"
#include "turboquant/mse_quantizer.h"
#include "turboquant/safetensors.h"

namespace turboquant::cli {
namespace {

using test::TemporaryFolder;
using ::testing::HasSubstr;

constexpr const char* kTrace =
    TURBOQUANT_SOURCE_DIR "/data/smollm2-135m-news-layer15-head0-postrope.safetensors";

EncodeOptions Encode(const std::string& input, const std::string& output) {
  EncodeOptions options;
  options.input = input;
  options.tensor = "keys";
  options.output = output;
  return options;
}

std::vector<float> ReadTensor(const std::string& path, const std::string& name) {
  const auto file = SafetensorsFile::Open(path);
  EXPECT_TRUE(file.has_value()) << file.error().message;
  const TensorView* tensor = file->Find(name);
  EXPECT_NE(tensor, nullptr);
  return ReadFloats(*tensor).value();
}

double Nmse(const std::vector<float>& exact, const std::vector<float>& decoded, size_t dim) {
  EXPECT_EQ(exact.size(), decoded.size());
  double sum = 0;
  for (size_t r = 0; r < exact.size() / dim; ++r) {
    const auto row = std::span(exact).subspan(r * dim, dim);
    sum +=
        test::SquaredDistance(row, std::span(decoded).subspan(r * dim, dim)) / test::Dot(row, row);
  }
  return sum / static_cast<double>(exact.size() / dim);
}

struct Case {
  const char* name;
  std::function<void(EncodeOptions&)> change;
  double bits;        // per coordinate, at dim 64
  double least_nmse;  // of the decoded keys
  double most_nmse;
};

class RoundTripTest : public ::testing::TestWithParam<Case> {};

TEST_P(RoundTripTest, DecodedRowsAreAsCloseAsTheMethodIs) {
  const TemporaryFolder folder;
  EncodeOptions encode = Encode(kTrace, folder / "keys.tq");
  GetParam().change(encode);
  std::ostringstream out;
  const auto encoded = RunEncode(encode, out);
  ASSERT_TRUE(encoded.has_value()) << encoded.error().message;
  EXPECT_THAT(out.str(), HasSubstr("512 rows of dim 64"));
  std::ostringstream bits;
  bits << GetParam().bits << " bits per coordinate";
  EXPECT_THAT(out.str(), HasSubstr(bits.str()));

  DecodeOptions decode;
  decode.input = folder / "keys.tq";
  decode.output = folder / "keys.safetensors";
  const auto decoded = RunDecode(decode, out);
  ASSERT_TRUE(decoded.has_value()) << decoded.error().message;
  const double nmse = Nmse(ReadTensor(kTrace, "keys"), ReadTensor(decode.output, "rows"), 64);
  EXPECT_GT(nmse, GetParam().least_nmse);
  EXPECT_LT(nmse, GetParam().most_nmse);

  InspectOptions inspect;
  inspect.input = folder / "keys.tq";
  inspect.format = "json";
  std::ostringstream facts;
  ASSERT_TRUE(RunInspect(inspect, facts).has_value());
  const auto json = nlohmann::json::parse(facts.str());
  EXPECT_EQ(json["schema"], "turboquant.inspect.rows/1");
  EXPECT_EQ(json["rows"], 512);
  EXPECT_EQ(json["option dim"], "64");
  EXPECT_DOUBLE_EQ(json["bits_per_coordinate"].get<double>(), GetParam().bits);
}

INSTANTIATE_TEST_SUITE_P(
    Methods, RoundTripTest,
    ::testing::Values(Case{"mse", [](EncodeOptions&) {}, 4.25, 0.006, 0.009},
                      Case{"mse_paper",
                           [](EncodeOptions& o) {
                             o.bits = 2;
                             o.scale = "norm";
                             o.no_scale_search = true;
                             o.rotation = "dense";
                           },
                           2.25, 0.10, 0.13},
                      Case{"mse_f32",
                           [](EncodeOptions& o) {
                             o.bits = 3;
                             o.scale = "least-squares";
                             o.scale_type = "f32";
                             o.rotation_rounds = 3;
                           },
                           3.5, 0.024, 0.036},
                      Case{"uniform",
                           [](EncodeOptions& o) {
                             o.bits = 8;
                             o.codebook = "uniform";
                           },
                           8.25, 5e-5, 2e-4},
                      Case{"outlier", [](EncodeOptions& o) { o.bits = 2.5; }, 2.75, 0.04, 0.13},
                      Case{"prod",
                           [](EncodeOptions& o) {
                             o.method = "prod";
                             o.bits = 4;
                           },
                           4.5, 0.014, 0.024},
                      Case{"qjl",
                           [](EncodeOptions& o) {
                             o.method = "qjl";
                             o.sketch = "gaussian";
                             o.bits = 2;
                           },
                           2.25, 0.6, 1.0},
                      Case{"polar", [](EncodeOptions& o) { o.method = "polar"; }, 3.875, 0.025,
                           0.040}),
    [](const auto& param_info) { return std::string(param_info.param.name); });

TEST(RowsCommandsTest, ThreadsDoNotChangeTheBytes) {
  const TemporaryFolder folder;
  std::ostringstream out;
  EncodeOptions one = Encode(kTrace, folder / "one");
  EncodeOptions two = Encode(kTrace, folder / "two");
  two.threads = 2;
  ASSERT_TRUE(RunEncode(one, out).has_value());
  ASSERT_TRUE(RunEncode(two, out).has_value());
  EXPECT_EQ(test::ReadWholeFile(folder / "one"), test::ReadWholeFile(folder / "two"));
  two.seed = 43;
  ASSERT_TRUE(RunEncode(two, out).has_value());
  EXPECT_NE(test::ReadWholeFile(folder / "one"), test::ReadWholeFile(folder / "two"));
}

TEST(RowsCommandsTest, AFailedCommandWritesNothing) {
  const TemporaryFolder folder;
  std::ostringstream out;
  EncodeOptions encode = Encode(kTrace, folder / "keys.tq");
  encode.tensor = "kees";
  const auto missing = RunEncode(encode, out);
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(missing.error().message, HasSubstr("kees"));
  EXPECT_THAT(missing.error().message, HasSubstr("queries"));
  encode.tensor = "query_positions";  // integers
  EXPECT_EQ(RunEncode(encode, out).error().code, ErrorCode::kUnsupported);
  encode.tensor = "keys";
  encode.bits = 9;
  EXPECT_EQ(RunEncode(encode, out).error().code, ErrorCode::kInvalidArgument);
  encode.bits = 3.25;
  EXPECT_EQ(RunEncode(encode, out).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(folder.FileCount(), 0u);
  EXPECT_EQ(out.str(), "");

  encode.bits = 4;
  ASSERT_TRUE(RunEncode(encode, out).has_value());
  std::string bytes = test::ReadWholeFile(folder / "keys.tq");
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  std::ofstream(folder / "keys.tq", std::ios::binary) << bytes;
  DecodeOptions decode;
  decode.input = folder / "keys.tq";
  decode.output = folder / "out.safetensors";
  EXPECT_EQ(RunDecode(decode, out).error().code, ErrorCode::kCorruptData);
  EXPECT_FALSE(RunInspect({decode.input, "table"}, out).has_value());
  EXPECT_EQ(folder.FileCount(), 1u);
  decode.input = kTrace;
  EXPECT_FALSE(RunDecode(decode, out).has_value());
  EXPECT_EQ(folder.FileCount(), 1u);
}

TEST(RowsCommandsTest, AFlagWithoutUseIsRefusedAtDecodingToo) {
  const TemporaryFolder folder;
  std::ostringstream out;
  EncodeOptions encode = Encode(kTrace, folder / "keys.tq");
  encode.method = "polar";
  ASSERT_TRUE(RunEncode(encode, out).has_value());
  DecodeOptions decode;
  decode.input = folder / "keys.tq";
  decode.output = folder / "out";
  decode.backend = "scalar";
  EXPECT_EQ(RunDecode(decode, out).error().code, ErrorCode::kInvalidArgument);
}

TEST(RowsCommandsTest, InspectTellsTracesFromOtherFiles) {
  std::ostringstream trace;
  ASSERT_TRUE(RunInspect({kTrace, "table"}, trace).has_value());
  EXPECT_THAT(trace.str(), HasSubstr("turboquant.trace"));
  EXPECT_THAT(trace.str(), HasSubstr("F32 [1, 512, 64]"));
  EXPECT_THAT(trace.str(), HasSubstr("post"));

  const TemporaryFolder folder;
  const std::vector<float> numbers = {1, 2, 3};
  TensorView tensor;
  tensor.name = "a";
  tensor.type = TensorType::kF32;
  tensor.shape = {3};
  tensor.bytes = std::as_bytes(std::span(numbers));
  ASSERT_TRUE(WriteSafetensors(folder / "a", std::span(&tensor, 1), {{"by", "me"}}).has_value());
  std::ostringstream other;
  ASSERT_TRUE(RunInspect({folder / "a", "csv"}, other).has_value());
  EXPECT_THAT(other.str(), HasSubstr("tensor a,F32 [3]"));
  EXPECT_THAT(other.str(), HasSubstr("metadata by,me"));
  std::ofstream(folder / "b") << "not safetensors";
  EXPECT_EQ(RunInspect({folder / "b", "csv"}, other).error().code, ErrorCode::kCorruptData);
}

}  // namespace
}  // namespace turboquant::cli
