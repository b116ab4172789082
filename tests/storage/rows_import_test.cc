// Rows of real quantizers through files and back.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "src/base/random.h"
#include "src/storage/text.h"
#include "tests/storage/storage_testing.h"
#include "turboquant/rows_file.h"

namespace turboquant {
namespace {

constexpr size_t kRows = 37;

std::vector<float> RandomRows(size_t dim) {
  RandomBits random(1, {.stage = 15});
  std::vector<float> rows(kRows * dim);
  for (float& x : rows) x = static_cast<float>(random.NextNormal());
  std::fill_n(rows.begin() + static_cast<ptrdiff_t>(5 * dim), dim, 0.0f);  // a zero row is a row
  return rows;
}

template <class Quantizer, class Rows>
std::vector<float> Decoded(const Quantizer& quantizer, const Rows& rows) {
  const size_t dim = quantizer.options().dim;
  std::vector<float> out(rows.size() * dim);
  const auto done = quantizer.Decode(rows, {out.data(), rows.size(), dim});
  EXPECT_TRUE(done.has_value()) << done.error().message;
  return out;
}

template <class T>
T Unwrap(Result<T> result) {
  EXPECT_TRUE(result.has_value()) << result.error().message;
  return std::move(result).value();
}

// Encodes, writes, reads, and expects the same decoded rows and the same file again.
template <class Quantizer, class Options, class ImportFunction>
void ExpectRoundTrip(const Options& options, const ImportFunction& import) {
  const Quantizer quantizer = Unwrap(Quantizer::Create(options));
  const std::vector<float> rows = RandomRows(options.dim);
  const MatrixView<const float> view(rows.data(), kRows, options.dim);
  const auto encoded = Unwrap(quantizer.Encode(view));
  const TemporaryFolder folder;
  const EncodedRowsFile exported = Unwrap(ExportRows(quantizer, encoded));
  ASSERT_TRUE(WriteEncodedRows(folder / "rows", exported).has_value());
  const EncodedRowsFile file = Unwrap(ReadEncodedRows(folder / "rows"));
  EXPECT_EQ(file.rows, kRows);
  const auto loaded = Unwrap(import(file));
  EXPECT_EQ(loaded.quantizer.fingerprint(), quantizer.fingerprint());
  EXPECT_EQ(Decoded(loaded.quantizer, loaded.rows), Decoded(quantizer, encoded));
  EXPECT_EQ(Unwrap(SerializeEncodedRows(Unwrap(ExportRows(loaded.quantizer, loaded.rows)))),
            Unwrap(SerializeEncodedRows(file)));
  // The rows of an equal quantizer go on behind those of the file.
  auto more = loaded.rows;
  EXPECT_TRUE(more.Append(encoded).has_value());
}

const auto kImportMse = [](const EncodedRowsFile& file) { return ImportMseRows(file); };
const auto kImportProd = [](const EncodedRowsFile& file) { return ImportProdRows(file); };
const auto kImportOutlier = [](const EncodedRowsFile& file) { return ImportOutlierRows(file); };

TEST(RowsImportTest, MseComesBackAtEveryWidth) {
  for (int bits = 1; bits <= 8; ++bits) {
    MseOptions options;
    options.dim = 36;
    options.bits = bits;
    options.stream = {3, 4, 1};
    options.seed = ~uint64_t{0};
    ExpectRoundTrip<MseQuantizer>(options, kImportMse);
  }
}

TEST(RowsImportTest, MseComesBackWithEveryOption) {
  MseOptions options;
  options.dim = 32;
  for (const Scale scale :
       {Scale::kNorm, Scale::kMatched, Scale::kLeastSquares, Scale::kUnbiased}) {
    options.scale = scale;
    options.scale_search = scale == Scale::kMatched;
    options.scale_type = scale == Scale::kNorm ? ScaleType::kF32 : ScaleType::kF16;
    options.rotation_rounds = scale == Scale::kNorm ? 1 : 3;
    ExpectRoundTrip<MseQuantizer>(options, kImportMse);
  }
  options.rotation = RotationKind::kDense;
  options.density = CodebookDensity::kGaussian;
  ExpectRoundTrip<MseQuantizer>(options, kImportMse);
  options.density = CodebookDensity::kAuto;
  options.bits = 8;
  options.codebook = CodebookKind::kUniform;
  options.scale_search = false;
  ExpectRoundTrip<MseQuantizer>(options, kImportMse);
}

TEST(RowsImportTest, ACustomCodebookTravelsWithItsRows) {
  const double centroids[] = {-1.5, -0.123, 0.25, 2.0};
  MseOptions mse;
  mse.dim = 32;
  mse.bits = 2;
  mse.codebook = CodebookKind::kCustom;
  mse.custom_codebook = Unwrap(Codebook::FromCentroids(32, centroids));
  ExpectRoundTrip<MseQuantizer>(mse, kImportMse);
  ProdOptions prod{.dim = 32, .bits = 3, .custom_codebook = mse.custom_codebook};
  ExpectRoundTrip<ProdQuantizer>(prod, kImportProd);
}

TEST(RowsImportTest, ProdQjlPolarAndOutlierRowsComeBack) {
  ExpectRoundTrip<ProdQuantizer>(ProdOptions{.dim = 36, .bits = 4}, kImportProd);
  ExpectRoundTrip<ProdQuantizer>(ProdOptions{.dim = 36,
                                             .bits = 2,
                                             .sketch = SketchKind::kGaussian,
                                             .sketch_rows = 50,
                                             .scale_type = ScaleType::kF32},
                                 kImportProd);
  const auto import_signs = [](const EncodedRowsFile& file) { return ImportSignRows(file); };
  ExpectRoundTrip<QjlSketch>(QjlOptions{.dim = 36, .sketch_rows = 75}, import_signs);
  ExpectRoundTrip<QjlSketch>(
      QjlOptions{.dim = 36, .kind = SketchKind::kGaussian, .norm_type = ScaleType::kF32},
      import_signs);
  const auto import_polar = [](const EncodedRowsFile& file) { return ImportPolarRows(file); };
  ExpectRoundTrip<PolarQuantizer>(PolarOptions{.dim = 48}, import_polar);
  ExpectRoundTrip<PolarQuantizer>(PolarOptions{.dim = 32,
                                               .form = PolarForm::kFull,
                                               .radius_type = ScaleType::kF32,
                                               .rotation = RotationKind::kDense},
                                  import_polar);
  ExpectRoundTrip<OutlierQuantizer>(
      OutlierOptions{.dim = 36, .bits = 2, .outlier_channels = {0, 7, 35}}, kImportOutlier);
  ExpectRoundTrip<OutlierQuantizer>(OutlierOptions{.dim = 80,
                                                   .bits = 3,
                                                   .outlier_channels = {1, 2},
                                                   .scale = Scale::kMatched,
                                                   .scale_search = false,
                                                   .scale_type = ScaleType::kF32},
                                    kImportOutlier);
}

TEST(RowsImportTest, ReadMseRowsTakesTilingAndBackend) {
  const TemporaryFolder folder;
  MseOptions options;
  options.dim = 64;
  const MseQuantizer quantizer = Unwrap(MseQuantizer::Create(options));
  const std::vector<float> rows = RandomRows(64);
  const MseRows encoded = Unwrap(quantizer.Encode(MatrixView<const float>(rows.data(), kRows, 64)));
  ASSERT_TRUE(WriteMseRows(folder / "rows", quantizer, encoded).has_value());
  const auto loaded = Unwrap(
      ReadMseRows(folder / "rows", {.backend = Backend::kScalar, .tiling = Tiling::kValues}));
  EXPECT_EQ(loaded.quantizer.backend(), Backend::kScalar);
  EXPECT_EQ(loaded.rows.tiling(), Tiling::kValues);
  EXPECT_EQ(loaded.quantizer.options().scale, Scale::kUnbiased);
  EXPECT_EQ(Decoded(loaded.quantizer, loaded.rows), Decoded(quantizer, encoded));
}

TEST(RowsImportTest, RowsOfAnotherQuantizerAreNotExported) {
  MseOptions options;
  options.dim = 32;
  const MseQuantizer writer = Unwrap(MseQuantizer::Create(options));
  options.seed = 43;
  const MseQuantizer other = Unwrap(MseQuantizer::Create(options));
  EXPECT_TRUE(FailsWith(ExportRows(other, writer.MakeRows()), ErrorCode::kInvalidArgument,
                        {"another MSE quantizer"}));
}

// A payload whose options were changed, checksums and all: told by the codebook, or decoded by the
// rows' own fingerprint as other rows.
TEST(RowsImportTest, ACodebookThatIsNotTheFilesIsRefused) {
  MseOptions options;
  options.dim = 32;
  const MseQuantizer quantizer = Unwrap(MseQuantizer::Create(options));
  EncodedRowsFile file = Unwrap(ExportRows(quantizer, quantizer.MakeRows()));
  const std::string fingerprint = file.options["codebook_crc32"];
  file.options["codebook_crc32"] = Hex32(*ParseHex32(fingerprint) ^ 1u);
  EXPECT_TRUE(FailsWith(ImportMseRows(file), ErrorCode::kCorruptData,
                        {"codebook_crc32", fingerprint, file.options["codebook_crc32"]}));
  file.options["codebook_crc32"] = fingerprint;
  file.options["codebook_density"] = "gaussian";
  EXPECT_TRUE(FailsWith(ImportMseRows(file), ErrorCode::kCorruptData, {"codebook"}));
}

TEST(RowsImportTest, AnotherSeedIsAnotherQuantizer) {
  MseOptions options;
  options.dim = 32;
  const MseQuantizer quantizer = Unwrap(MseQuantizer::Create(options));
  EncodedRowsFile file = Unwrap(ExportRows(quantizer, quantizer.MakeRows()));
  file.options["seed"] = "43";
  const auto loaded = Unwrap(ImportMseRows(file));
  std::vector<float> none;
  EXPECT_TRUE(FailsWith(quantizer.Decode(loaded.rows, {none.data(), 0, 32}),
                        ErrorCode::kInvalidArgument, {}));
}

TEST(RowsImportTest, RefusesAnotherMethodAndOptionsThatMakeNoQuantizer) {
  const QjlSketch sketch = Unwrap(QjlSketch::Create({.dim = 32}));
  EncodedRowsFile file = Unwrap(ExportRows(sketch, sketch.MakeRows()));
  EXPECT_TRUE(FailsWith(ImportMseRows(file), ErrorCode::kInvalidArgument, {"'qjl'", "mse"}));
  // 2^16 dims by 2^11 Gaussian rows are more than a sketch may have: only its Create knows.
  file.options["dim"] = "65536";
  file.options["sketch"] = "gaussian";
  file.options["sketch_rows"] = "2048";
  file.tensors[0].shape = {0, 256};
  EXPECT_TRUE(FailsWith(ImportSignRows(file), ErrorCode::kCorruptData, {"Gaussian"}));
}

TEST(RowsImportTest, ChecksFilesPutTogetherByHand) {
  MseOptions options;
  options.dim = 32;
  const MseQuantizer quantizer = Unwrap(MseQuantizer::Create(options));
  EncodedRowsFile file = Unwrap(ExportRows(quantizer, quantizer.MakeRows()));
  file.rows = 1;
  EXPECT_TRUE(FailsWith(ImportMseRows(file), ErrorCode::kCorruptData, {"0 rows", "1"}));
  file.rows = 0;
  file.tensors.pop_back();
  EXPECT_TRUE(FailsWith(ImportMseRows(file), ErrorCode::kCorruptData, {"missing"}));
}

}  // namespace
}  // namespace turboquant
