// Encoded-row files back into rows and the quantizers that read them.
#include <string>
#include <utility>
#include <vector>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/storage/option_names.h"
#include "src/storage/option_rules.h"
#include "src/storage/rows_options.h"
#include "src/storage/rows_tensors.h"
#include "src/storage/tensor_elements.h"
#include "src/storage/text.h"
#include "turboquant/rows_file.h"

namespace turboquant {
namespace {

// A file may also come from the caller's hands: it is checked as if it had just been read.
Result<void> CheckFile(const EncodedRowsFile& file, std::string_view method) {
  if (file.method != method) {
    return Fail(ErrorCode::kInvalidArgument, "the file's method is ", Quoted(file.method), ", not ",
                method);
  }
  TQ_CHECK(CheckRowsOptions(file.method, file.options));
  TQ_TRY(const size_t rows, CheckRowsTensors(file));
  if (rows == file.rows) return {};
  return Fail(ErrorCode::kCorruptData, "the tensors hold ", rows, " rows, not ", file.rows);
}

// What a quantizer thinks wrong with options or rows is the file's fault.
template <class T>
Result<T> BlameFile(Result<T> result) {
  if (!result && (result.error().code == ErrorCode::kInvalidArgument ||
                  result.error().code == ErrorCode::kDimensionMismatch)) {
    result.error().code = ErrorCode::kCorruptData;
    result.error().message = "the file's options make no quantizer: " + result.error().message;
  }
  return result;
}

template <class Options>
void SetCommon(const RowsOptions& from, Options& options) {
  options.dim = from.Number("dim");
  options.seed = from.Number("seed");
  options.stream = {static_cast<uint32_t>(from.Number("layer")),
                    static_cast<uint32_t>(from.Number("head")),
                    static_cast<uint32_t>(from.Number("side"))};
}

ScaleType NumberType(const RowsOptions& from) {
  return OptionOf(kScaleTypeNames, from.Text("scale_type"));
}

template <class Options>
void SetRotation(const RowsOptions& from, Options& options) {
  options.rotation = OptionOf(kRotationNames, from.Text("rotation"));
  if (options.rotation == RotationKind::kHadamard) {
    options.rotation_rounds = static_cast<int>(from.Number("rotation_rounds"));
  }
}

// Sets density or the custom codebook, as the file says.
template <class Options>
Result<void> SetCodebook(const EncodedRowsFile& file, const RowsOptions& from, Options& options) {
  if (from.Has("codebook_density")) {
    options.density = OptionOf(kDensityNames, from.Text("codebook_density"));
  }
  if (from.Text("codebook") != "custom") return {};
  const TensorView& levels = *file.Find("codebook_levels");
  std::vector<double> centroids(levels.shape[0]);
  for (size_t i = 0; i < centroids.size(); ++i) {
    centroids[i] = LoadElement<int16_t>(levels.bytes, i) / 1024.0;
  }
  TQ_TRY(options.custom_codebook, BlameFile(Codebook::FromCentroids(options.dim, centroids)));
  return {};
}

Result<void> CheckFingerprint(std::string_view name, const RowsOptions& from,
                              const Codebook& codebook) {
  if (from.Hex(name) == codebook.fingerprint()) return {};
  return Fail(ErrorCode::kCorruptData, "the codebook of these options has CRC-32 ",
              Hex32(codebook.fingerprint()), ", option '", name, "' says ", from.Text(name));
}

std::span<const uint8_t> BytesOf(const EncodedRowsFile& file, std::string_view name) {
  const std::span<const std::byte> bytes = file.Find(name)->bytes;
  return {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()};
}

Result<std::vector<float>> NumbersOf(const EncodedRowsFile& file, std::string_view name) {
  return ReadFloats(*file.Find(name));
}

}  // namespace

Result<LoadedMseRows> ImportMseRows(const EncodedRowsFile& file,
                                    const ImportOptions& import_options) {
  TQ_CHECK(CheckFile(file, "mse"));
  const RowsOptions from(file.options);
  MseOptions options;
  SetCommon(from, options);
  SetRotation(from, options);
  options.bits = static_cast<int>(from.Number("bits"));
  options.scale = OptionOf(kScaleNames, from.Text("scale"));
  options.scale_search = from.Text("scale_search") == "true";
  options.scale_type = NumberType(from);
  options.codebook = OptionOf(kCodebookNames, from.Text("codebook"));
  options.backend = import_options.backend;
  TQ_CHECK(SetCodebook(file, from, options));
  TQ_TRY(MseQuantizer quantizer, BlameFile(MseQuantizer::Create(options)));
  TQ_CHECK(CheckFingerprint("codebook_crc32", from, quantizer.codebook()));
  TQ_TRY(const std::vector<float> scales, NumbersOf(file, "scales"));
  TQ_TRY(MseRows rows,
         quantizer.ImportCanonical(BytesOf(file, "codes"), scales, import_options.tiling));
  return LoadedMseRows{std::move(quantizer), std::move(rows)};
}

Result<LoadedProdRows> ImportProdRows(const EncodedRowsFile& file,
                                      const ImportOptions& import_options) {
  TQ_CHECK(CheckFile(file, "prod"));
  const RowsOptions from(file.options);
  ProdOptions options;
  SetCommon(from, options);
  SetRotation(from, options);
  options.bits = static_cast<int>(from.Number("bits"));
  options.sketch = OptionOf(kSketchNames, from.Text("sketch"));
  options.sketch_rows = from.Number("sketch_rows");
  options.scale_type = NumberType(from);
  options.backend = import_options.backend;
  TQ_CHECK(SetCodebook(file, from, options));
  TQ_TRY(ProdQuantizer quantizer, BlameFile(ProdQuantizer::Create(options)));
  TQ_CHECK(CheckFingerprint("codebook_crc32", from, quantizer.mse().codebook()));
  TQ_TRY(const std::vector<float> scales, NumbersOf(file, "scales"));
  TQ_TRY(const std::vector<float> norms, NumbersOf(file, "residual_norms"));
  TQ_TRY(ProdRows rows,
         quantizer.Import(BytesOf(file, "codes"), scales, BytesOf(file, "signs"), norms));
  return LoadedProdRows{std::move(quantizer), std::move(rows)};
}

Result<LoadedSignRows> ImportSignRows(const EncodedRowsFile& file) {
  TQ_CHECK(CheckFile(file, "qjl"));
  const RowsOptions from(file.options);
  QjlOptions options;
  SetCommon(from, options);
  options.kind = OptionOf(kSketchNames, from.Text("sketch"));
  options.sketch_rows = from.Number("sketch_rows");
  options.norm_type = NumberType(from);
  TQ_TRY(QjlSketch sketch, BlameFile(QjlSketch::Create(options)));
  TQ_TRY(const std::vector<float> norms, NumbersOf(file, "norms"));
  TQ_TRY(SignRows rows, sketch.Import(BytesOf(file, "signs"), norms));
  return LoadedSignRows{std::move(sketch), std::move(rows)};
}

Result<LoadedPolarRows> ImportPolarRows(const EncodedRowsFile& file) {
  TQ_CHECK(CheckFile(file, "polar"));
  const RowsOptions from(file.options);
  PolarOptions options;
  SetCommon(from, options);
  SetRotation(from, options);
  options.form = OptionOf(kPolarFormNames, from.Text("form"));
  options.level_bits = *ParseLevelBits(from.Text("level_bits"));
  options.radius_type = NumberType(from);
  TQ_TRY(PolarQuantizer quantizer, BlameFile(PolarQuantizer::Create(options)));
  TQ_TRY(const std::vector<float> radii, NumbersOf(file, "radii"));
  TQ_TRY(PolarRows rows, quantizer.Import(BytesOf(file, "codes"), radii));
  return LoadedPolarRows{std::move(quantizer), std::move(rows)};
}

Result<LoadedOutlierRows> ImportOutlierRows(const EncodedRowsFile& file,
                                            const ImportOptions& import_options) {
  TQ_CHECK(CheckFile(file, "outlier"));
  const RowsOptions from(file.options);
  OutlierOptions options;
  SetCommon(from, options);
  SetRotation(from, options);
  options.bits = static_cast<int>(from.Number("bits"));
  options.scale = OptionOf(kScaleNames, from.Text("scale"));
  const std::string& search = from.Text("scale_search");
  if (search != "auto") options.scale_search = search == "true";
  options.scale_type = NumberType(from);
  options.density = OptionOf(kDensityNames, from.Text("codebook_density"));
  options.backend = import_options.backend;
  const TensorView& channels = *file.Find("outlier_channels");
  for (size_t i = 0; i < channels.shape[0]; ++i) {
    options.outlier_channels.push_back(LoadElement<uint32_t>(channels.bytes, i));
  }
  TQ_TRY(OutlierQuantizer quantizer, BlameFile(OutlierQuantizer::Create(options)));
  TQ_CHECK(CheckFingerprint("outlier_codebook_crc32", from, quantizer.outliers().codebook()));
  TQ_CHECK(CheckFingerprint("regular_codebook_crc32", from, quantizer.regular().codebook()));
  TQ_TRY(const std::vector<float> outlier_scales, NumbersOf(file, "outlier_scales"));
  TQ_TRY(const std::vector<float> regular_scales, NumbersOf(file, "regular_scales"));
  TQ_TRY(OutlierRows rows,
         quantizer.Import(BytesOf(file, "outlier_codes"), outlier_scales,
                          BytesOf(file, "regular_codes"), regular_scales, import_options.tiling));
  return LoadedOutlierRows{std::move(quantizer), std::move(rows)};
}

}  // namespace turboquant
