// Files of version 1 as this library first wrote them: they stay readable for ever, and equal rows
// still give equal bytes. tests/storage/golden holds them.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/storage/storage_testing.h"
#include "turboquant/rows_file.h"

namespace turboquant {
namespace {

constexpr size_t kRows = 3;
constexpr size_t kDim = 64;

// Row r, column j: multiples of 1/16 from -50/16 to 50/16, exact in every float type.
std::vector<float> GoldenRows() {
  std::vector<float> rows(kRows * kDim);
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i] = static_cast<float>(static_cast<int>(i * i * 37 % 101) - 50) / 16.0f;
  }
  return rows;
}

std::filesystem::path GoldenPath(const std::string& method) {
  return std::filesystem::path(TURBOQUANT_SOURCE_DIR) / "tests" / "storage" / "golden" /
         ("rows_v1_" + method + ".safetensors");
}

// Σ|x - decoded|² / Σ|x|².
template <class LoadedRows>
double ErrorOf(const LoadedRows& loaded) {
  const std::vector<float> rows = GoldenRows();
  std::vector<float> decoded(rows.size());
  EXPECT_TRUE(loaded.quantizer.Decode(loaded.rows, {decoded.data(), kRows, kDim}).has_value());
  double error = 0.0;
  double total = 0.0;
  for (size_t i = 0; i < rows.size(); ++i) {
    const double x = static_cast<double>(rows[i]);
    const double difference = x - static_cast<double>(decoded[i]);
    error += difference * difference;
    total += x * x;
  }
  return error / total;
}

// Encoding the golden rows anew gives the golden file.
template <class Quantizer>
void ExpectSameBytes(const Quantizer& quantizer, const EncodedRowsFile& golden) {
  const std::vector<float> rows = GoldenRows();
  const auto encoded = quantizer.Encode(MatrixView<const float>(rows.data(), kRows, kDim));
  ASSERT_TRUE(encoded.has_value()) << encoded.error().message;
  const auto exported = ExportRows(quantizer, *encoded);
  ASSERT_TRUE(exported.has_value()) << exported.error().message;
  EXPECT_EQ(SerializeEncodedRows(*exported).value(), SerializeEncodedRows(golden).value());
}

TEST(GoldenRowsTest, Mse) {
  const auto file = ReadEncodedRows(GoldenPath("mse"));
  ASSERT_TRUE(file.has_value()) << file.error().message;
  const auto loaded = ImportMseRows(*file);
  ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
  EXPECT_GT(ErrorOf(*loaded), 0.005);
  EXPECT_LT(ErrorOf(*loaded), 0.012);
  ExpectSameBytes(loaded->quantizer, *file);
}

TEST(GoldenRowsTest, Prod) {
  const auto file = ReadEncodedRows(GoldenPath("prod"));
  ASSERT_TRUE(file.has_value()) << file.error().message;
  const auto loaded = ImportProdRows(*file);
  ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
  EXPECT_GT(ErrorOf(*loaded), 0.01);
  EXPECT_LT(ErrorOf(*loaded), 0.04);
  ExpectSameBytes(loaded->quantizer, *file);
}

TEST(GoldenRowsTest, Qjl) {
  const auto file = ReadEncodedRows(GoldenPath("qjl"));
  ASSERT_TRUE(file.has_value()) << file.error().message;
  const auto loaded = ImportSignRows(*file);
  ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
  EXPECT_GT(ErrorOf(*loaded), 0.4);
  EXPECT_LT(ErrorOf(*loaded), 0.8);
  ExpectSameBytes(loaded->quantizer, *file);
}

// Its angles come from the platform's cosines, so only what they decode to is fixed.
TEST(GoldenRowsTest, Polar) {
  const auto file = ReadEncodedRows(GoldenPath("polar"));
  ASSERT_TRUE(file.has_value()) << file.error().message;
  const auto loaded = ImportPolarRows(*file);
  ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
  EXPECT_GT(ErrorOf(*loaded), 0.02);
  EXPECT_LT(ErrorOf(*loaded), 0.05);
}

TEST(GoldenRowsTest, Outlier) {
  const auto file = ReadEncodedRows(GoldenPath("outlier"));
  ASSERT_TRUE(file.has_value()) << file.error().message;
  const auto loaded = ImportOutlierRows(*file);
  ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
  EXPECT_GT(ErrorOf(*loaded), 0.05);
  EXPECT_LT(ErrorOf(*loaded), 0.15);
  ExpectSameBytes(loaded->quantizer, *file);
}

// The hex dump of docs/format.md, by its lines "00000010: 6461 7461 ...  text".
Bytes DocumentedExample() {
  std::ifstream page(std::filesystem::path(TURBOQUANT_SOURCE_DIR) / "docs" / "format.md");
  Bytes bytes;
  for (std::string line; std::getline(page, line);) {
    if (line.size() < 12 || line.compare(8, 2, ": ") != 0 || line.compare(0, 5, "00000") != 0) {
      continue;
    }
    std::istringstream groups(line.substr(10, 39));
    for (std::string group; groups >> group;) {
      for (size_t i = 0; i < group.size(); i += 2) {
        bytes.push_back(static_cast<std::byte>(std::stoul(group.substr(i, 2), nullptr, 16)));
      }
    }
  }
  return bytes;
}

TEST(GoldenRowsTest, TheDocumentedExampleIsWhatIsWritten) {
  MseOptions options;
  options.dim = 3;
  options.bits = 3;
  const auto quantizer = MseQuantizer::Create(options);
  ASSERT_TRUE(quantizer.has_value()) << quantizer.error().message;
  const float rows[] = {3, 0, -4, 0, 0, 0};
  const auto encoded = quantizer->Encode(MatrixView<const float>(rows, 2, 3));
  ASSERT_TRUE(encoded.has_value()) << encoded.error().message;
  const auto file = ExportRows(*quantizer, *encoded);
  ASSERT_TRUE(file.has_value()) << file.error().message;
  EXPECT_EQ(SerializeEncodedRows(*file).value(), DocumentedExample());
  float decoded[6];
  ASSERT_TRUE(quantizer->Decode(*encoded, {decoded, 2, 3}).has_value());
  const float documented[] = {2.56881f, -0.06813f, -4.32163f, 0, 0, 0};
  for (size_t i = 0; i < 6; ++i) EXPECT_NEAR(decoded[i], documented[i], 5e-6f) << i;
}

}  // namespace
}  // namespace turboquant
