// Quantizers' rows as encoded-row files.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "src/base/failure.h"
#include "src/base/half.h"
#include "src/base/try.h"
#include "src/storage/option_names.h"
#include "src/storage/owned_tensors.h"
#include "src/storage/text.h"
#include "turboquant/rows_file.h"

namespace turboquant {
namespace {

// The tensors of a file of so many rows.
class RowTensors : public OwnedTensors {
 public:
  explicit RowTensors(size_t rows) : rows_(rows) {}

  // A [rows, row_bytes] tensor to be filled in.
  std::span<uint8_t> AddCodes(std::string name, size_t row_bytes) {
    const std::span<std::byte> bytes = Add(std::move(name), TensorType::kU8, {rows_, row_bytes});
    return {reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()};
  }

  // Numbers that `type` holds exactly.
  void AddNumbers(std::string name, ScaleType type, std::vector<size_t> shape,
                  std::span<const float> numbers) {
    if (type == ScaleType::kF32) {
      AddElements(std::move(name), TensorType::kF32, std::move(shape), numbers);
      return;
    }
    std::vector<uint16_t> halves;
    halves.reserve(numbers.size());
    for (const float number : numbers) halves.push_back(F32ToF16(number).bits);
    AddElements(std::move(name), TensorType::kF16, std::move(shape),
                std::span<const uint16_t>(halves));
  }

  EncodedRowsFile MakeFile(std::string method, StringMap options) const {
    return {std::move(method), std::move(options), rows_, views(), owner()};
  }

 private:
  size_t rows_;
};

std::unexpected<Error> WrittenByAnother(std::string_view method) {
  return Fail(ErrorCode::kInvalidArgument, "the rows were written by another ", method,
              " quantizer than the one they are exported with");
}

void AddCommon(size_t dim, ScaleType scale_type, uint64_t seed, const RandomStream& stream,
               StringMap& options) {
  options["dim"] = std::to_string(dim);
  options["scale_type"] = NameOf(kScaleTypeNames, scale_type);
  options["seed"] = std::to_string(seed);
  options["layer"] = std::to_string(stream.layer);
  options["head"] = std::to_string(stream.head);
  options["side"] = std::to_string(stream.side);
}

void AddRotation(RotationKind rotation, int rounds, StringMap& options) {
  options["rotation"] = NameOf(kRotationNames, rotation);
  if (rotation == RotationKind::kHadamard) options["rotation_rounds"] = std::to_string(rounds);
}

void AddCodebook(const MseQuantizer& quantizer, StringMap& options, RowTensors& tensors) {
  const Codebook& codebook = quantizer.codebook();
  options["codebook"] = NameOf(kCodebookNames, codebook.kind());
  options["codebook_crc32"] = Hex32(codebook.fingerprint());
  if (codebook.kind() == CodebookKind::kLloydMax) {
    options["codebook_density"] = NameOf(kDensityNames, quantizer.options().density);
  }
  if (codebook.kind() == CodebookKind::kCustom) {
    tensors.AddElements("codebook_levels", TensorType::kI16, {codebook.size()}, codebook.levels());
  }
}

Result<void> AddMse(const std::string& prefix, const MseRows& rows, RowTensors& tensors) {
  TQ_CHECK(rows.ExportCanonical(tensors.AddCodes(prefix + "codes", rows.CanonicalRowBytes())));
  std::vector<float> scales(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) scales[i] = rows.ScaleOf(i);
  tensors.AddNumbers(prefix + "scales", rows.scale_type(), {rows.size()}, scales);
  return {};
}

void AddSigns(const SignRows& rows, std::string norms_name, RowTensors& tensors) {
  std::ranges::copy(rows.signs(), tensors.AddCodes("signs", rows.RowBytes()).begin());
  std::vector<float> norms(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) norms[i] = rows.NormOf(i);
  tensors.AddNumbers(std::move(norms_name), rows.norm_type(), {rows.size()}, norms);
}

}  // namespace

Result<EncodedRowsFile> ExportRows(const MseQuantizer& quantizer, const MseRows& rows) {
  if (rows.quantizer_fingerprint() != quantizer.fingerprint()) return WrittenByAnother("MSE");
  const MseOptions& from = quantizer.options();
  RowTensors tensors(rows.size());
  StringMap options;
  AddCommon(from.dim, rows.scale_type(), from.seed, from.stream, options);
  AddRotation(from.rotation, from.rotation_rounds, options);
  AddCodebook(quantizer, options, tensors);
  options["bits"] = std::to_string(from.bits);
  options["scale"] = NameOf(kScaleNames, from.scale);
  options["scale_search"] = quantizer.scale_search() ? "true" : "false";
  TQ_CHECK(AddMse("", rows, tensors));
  return tensors.MakeFile("mse", std::move(options));
}

Result<EncodedRowsFile> ExportRows(const ProdQuantizer& quantizer, const ProdRows& rows) {
  if (rows.quantizer_fingerprint() != quantizer.fingerprint()) return WrittenByAnother("Prod");
  const ProdOptions& from = quantizer.options();
  RowTensors tensors(rows.size());
  StringMap options;
  AddCommon(from.dim, rows.codes().scale_type(), from.seed, from.stream, options);
  AddRotation(from.rotation, from.rotation_rounds, options);
  AddCodebook(quantizer.mse(), options, tensors);
  options["bits"] = std::to_string(from.bits);
  options["sketch"] = NameOf(kSketchNames, from.sketch);
  options["sketch_rows"] = std::to_string(from.sketch_rows);
  TQ_CHECK(AddMse("", rows.codes(), tensors));
  AddSigns(rows.residuals(), "residual_norms", tensors);
  return tensors.MakeFile("prod", std::move(options));
}

Result<EncodedRowsFile> ExportRows(const QjlSketch& sketch, const SignRows& rows) {
  if (rows.sketch_fingerprint() != sketch.fingerprint()) return WrittenByAnother("QJL");
  const QjlOptions& from = sketch.options();
  RowTensors tensors(rows.size());
  StringMap options;
  AddCommon(from.dim, rows.norm_type(), from.seed, from.stream, options);
  options["sketch"] = NameOf(kSketchNames, from.kind);
  options["sketch_rows"] = std::to_string(from.sketch_rows);
  AddSigns(rows, "norms", tensors);
  return tensors.MakeFile("qjl", std::move(options));
}

Result<EncodedRowsFile> ExportRows(const PolarQuantizer& quantizer, const PolarRows& rows) {
  if (rows.quantizer_fingerprint() != quantizer.fingerprint()) return WrittenByAnother("Polar");
  const PolarOptions& from = quantizer.options();
  RowTensors tensors(rows.size());
  StringMap options;
  AddCommon(from.dim, rows.radius_type(), from.seed, from.stream, options);
  AddRotation(from.rotation, from.rotation_rounds, options);
  options["form"] = NameOf(kPolarFormNames, from.form);
  std::string& level_bits = options["level_bits"];
  for (const int bits : from.level_bits) {
    if (!level_bits.empty()) level_bits += ',';
    level_bits += std::to_string(bits);
  }
  std::ranges::copy(rows.packed(), tensors.AddCodes("codes", rows.RowBytes()).begin());
  std::vector<float> radii;
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t block = 0; block < rows.RadiiPerRow(); ++block) {
      radii.push_back(rows.RadiusOf(i, block));
    }
  }
  tensors.AddNumbers("radii", rows.radius_type(), {rows.size(), rows.RadiiPerRow()}, radii);
  return tensors.MakeFile("polar", std::move(options));
}

Result<EncodedRowsFile> ExportRows(const OutlierQuantizer& quantizer, const OutlierRows& rows) {
  if (rows.quantizer_fingerprint() != quantizer.fingerprint()) return WrittenByAnother("outlier");
  const OutlierOptions& from = quantizer.options();
  RowTensors tensors(rows.size());
  StringMap options;
  AddCommon(from.dim, rows.regular().scale_type(), from.seed, from.stream, options);
  AddRotation(from.rotation, from.rotation_rounds, options);
  options["bits"] = std::to_string(from.bits);
  options["scale"] = NameOf(kScaleNames, from.scale);
  options["scale_search"] = !from.scale_search ? "auto" : *from.scale_search ? "true" : "false";
  options["codebook_density"] = NameOf(kDensityNames, from.density);
  options["outlier_dim"] = std::to_string(from.outlier_channels.size());
  options["outlier_codebook_crc32"] = Hex32(quantizer.outliers().codebook().fingerprint());
  options["regular_codebook_crc32"] = Hex32(quantizer.regular().codebook().fingerprint());
  tensors.AddElements("outlier_channels", TensorType::kU32, {from.outlier_channels.size()},
                      quantizer.outlier_channels());
  TQ_CHECK(AddMse("outlier_", rows.outliers(), tensors));
  TQ_CHECK(AddMse("regular_", rows.regular(), tensors));
  return tensors.MakeFile("outlier", std::move(options));
}

}  // namespace turboquant
