#include "src/cli/encode_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <utility>
#include <vector>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/cli/backend_flag.h"
#include "src/cli/tbb_parallel_for.h"
#include "src/cli/tensor_rows.h"
#include "turboquant/rows_file.h"

namespace turboquant::cli {
namespace {

// A word of the command line and what it stands for.
template <class Choice, size_t n>
Result<Choice> Choose(std::string_view flag, std::string_view word,
                      const std::array<std::pair<std::string_view, Choice>, n>& choices) {
  std::string known;
  for (const auto& [name, choice] : choices) {
    if (name == word) return choice;
    known += known.empty() ? "" : ", ";
    known += name;
  }
  return Fail(ErrorCode::kInvalidArgument, "unknown ", flag, " \"", word, "\"; known: ", known);
}

template <class T>
using Choices = std::pair<std::string_view, T>;

Result<Scale> ParseScale(const EncodeOptions& options) {
  return Choose(
      "--scale", options.scale.value_or("unbiased"),
      std::array{Choices<Scale>{"unbiased", Scale::kUnbiased},
                 Choices<Scale>{"least-squares", Scale::kLeastSquares},
                 Choices<Scale>{"matched", Scale::kMatched}, Choices<Scale>{"norm", Scale::kNorm}});
}

Result<RotationKind> ParseRotation(const EncodeOptions& options) {
  return Choose("--rotation", options.rotation.value_or("hadamard"),
                std::array{Choices<RotationKind>{"hadamard", RotationKind::kHadamard},
                           Choices<RotationKind>{"dense", RotationKind::kDense}});
}

Result<ScaleType> ParseScaleType(const EncodeOptions& options) {
  return Choose("--scale-type", options.scale_type,
                std::array{Choices<ScaleType>{"f16", ScaleType::kF16},
                           Choices<ScaleType>{"f32", ScaleType::kF32}});
}

Result<SketchKind> ParseSketch(const EncodeOptions& options) {
  return Choose("--sketch", options.sketch.value_or("orthogonal"),
                std::array{Choices<SketchKind>{"orthogonal", SketchKind::kOrthogonal},
                           Choices<SketchKind>{"gaussian", SketchKind::kGaussian}});
}

Result<CodebookKind> ParseCodebook(const EncodeOptions& options) {
  return Choose("--codebook", options.codebook.value_or("lloyd-max"),
                std::array{Choices<CodebookKind>{"lloyd-max", CodebookKind::kLloydMax},
                           Choices<CodebookKind>{"uniform", CodebookKind::kUniform}});
}

bool IsFraction(double bits) { return bits == 2.5 || bits == 3.5; }

// The method as files name it: "mse" at a fractional width is "outlier".
std::string FileMethod(const EncodeOptions& options) {
  const bool fraction = options.bits && IsFraction(*options.bits);
  return options.method == "mse" && fraction ? "outlier" : options.method;
}

Result<int> WholeBits(const EncodeOptions& options, int otherwise) {
  const double bits = options.bits.value_or(otherwise);
  if (bits != std::floor(bits) || std::abs(bits) > 64) {
    return Fail(ErrorCode::kInvalidArgument, "method ", options.method, " has no width of ", bits,
                " bits");
  }
  return static_cast<int>(bits);
}

// A flag that the method would ignore is an error.
Result<void> CheckFlagsFitMethod(const EncodeOptions& options) {
  const std::string method = FileMethod(options);
  constexpr std::array kKnown = {"mse", "outlier", "prod", "qjl", "polar"};
  if (options.method == "outlier" && !options.bits) {
    return Fail(ErrorCode::kInvalidArgument, "method outlier needs --bits 2.5 or 3.5");
  }
  if (std::ranges::find(kKnown, method) == kKnown.end()) {
    return Fail(ErrorCode::kInvalidArgument, "unknown --method \"", options.method,
                "\"; known: mse, outlier, prod, qjl, polar");
  }
  const bool mse = method == "mse";
  const bool outlier = method == "outlier";
  const bool sketch = method == "prod" || method == "qjl";
  const struct {
    std::string_view flag;
    bool given;
    bool fits;
  } flags[] = {
      {"--bits", options.bits.has_value(), method != "polar"},
      {"--scale", options.scale.has_value(), mse || outlier},
      {"--no-scale-search", options.no_scale_search, mse || outlier},
      {"--rotation", options.rotation.has_value(), method != "qjl"},
      {"--rotation-rounds", options.rotation_rounds.has_value(),
       method != "qjl" && options.rotation.value_or("hadamard") == "hadamard"},
      {"--sketch", options.sketch.has_value(), sketch},
      {"--sketch-rows", options.sketch_rows.has_value(), sketch},
      {"--codebook", options.codebook.has_value(), mse},
      {"--backend", options.backend.has_value(), mse || outlier || method == "prod"},
  };
  for (const auto& [flag, given, fits] : flags) {
    if (given && !fits) {
      return Fail(ErrorCode::kInvalidArgument, flag, " has no use for method ", method,
                  options.rotation == "dense" ? " with the dense rotation" : "");
    }
  }
  if (method == "qjl" && options.bits && options.sketch_rows) {
    return Fail(ErrorCode::kInvalidArgument, "give qjl either --bits or --sketch-rows, not both");
  }
  return {};
}

// What MSE, outlier split, Prod and Polar share.
template <class Options>
Result<void> SetRotation(const EncodeOptions& flags, Options& options) {
  TQ_TRY(options.rotation, ParseRotation(flags));
  if (flags.rotation_rounds) options.rotation_rounds = *flags.rotation_rounds;
  options.seed = flags.seed;
  return {};
}

template <class Options>
Result<void> SetCodes(const EncodeOptions& flags, size_t dim, Options& options) {
  TQ_CHECK(SetRotation(flags, options));
  TQ_TRY(options.scale_type, ParseScaleType(flags));
  TQ_TRY(options.backend, ParseBackendFlag(flags.backend.value_or("auto")));
  options.dim = dim;
  return {};
}

template <class Options>
Result<void> SetScale(const EncodeOptions& flags, Options& options) {
  TQ_TRY(options.scale, ParseScale(flags));
  if (flags.no_scale_search) options.scale_search = false;
  return {};
}

Result<size_t> QjlSketchRows(const EncodeOptions& flags, size_t dim) {
  if (flags.sketch_rows) return *flags.sketch_rows;
  TQ_TRY(const int bits, WholeBits(flags, 1));
  if (bits < 1) return Fail(ErrorCode::kInvalidArgument, "bits must be at least 1, got ", bits);
  return dim * static_cast<size_t>(bits);
}

template <class Quantizer>
Result<EncodedRowsFile> EncodeWith(Result<Quantizer> created, MatrixView<const float> rows,
                                   const ParallelFor& parallel_for) {
  TQ_TRY(const Quantizer quantizer, std::move(created));
  auto encoded = quantizer.MakeRows();
  TQ_CHECK(quantizer.Append(rows, encoded, parallel_for));
  return ExportRows(quantizer, encoded);
}

Result<EncodedRowsFile> EncodeMse(const EncodeOptions& flags, MatrixView<const float> rows,
                                  const ParallelFor& parallel_for) {
  MseOptions options;
  TQ_CHECK(SetCodes(flags, rows.cols, options));
  TQ_CHECK(SetScale(flags, options));
  TQ_TRY(options.bits, WholeBits(flags, 4));
  TQ_TRY(options.codebook, ParseCodebook(flags));
  return EncodeWith(MseQuantizer::Create(options), rows, parallel_for);
}

// The channels are those of largest mean square in these rows, a quarter of them.
Result<EncodedRowsFile> EncodeOutlier(const EncodeOptions& flags, MatrixView<const float> rows,
                                      const ParallelFor& parallel_for) {
  OutlierOptions options;
  TQ_CHECK(SetCodes(flags, rows.cols, options));
  TQ_CHECK(SetScale(flags, options));
  if (!IsFraction(*flags.bits)) {
    return Fail(ErrorCode::kInvalidArgument, "method outlier has widths of 2.5 and 3.5 bits, got ",
                *flags.bits);
  }
  options.bits = static_cast<int>(*flags.bits);
  TQ_TRY(options.outlier_channels, ChooseOutlierChannels(rows, rows.cols / 4));
  return EncodeWith(OutlierQuantizer::Create(options), rows, parallel_for);
}

Result<EncodedRowsFile> EncodeProd(const EncodeOptions& flags, MatrixView<const float> rows,
                                   const ParallelFor& parallel_for) {
  ProdOptions options;
  TQ_CHECK(SetCodes(flags, rows.cols, options));
  TQ_TRY(options.bits, WholeBits(flags, 4));
  TQ_TRY(options.sketch, ParseSketch(flags));
  options.sketch_rows = flags.sketch_rows.value_or(0);
  return EncodeWith(ProdQuantizer::Create(options), rows, parallel_for);
}

Result<EncodedRowsFile> EncodeQjl(const EncodeOptions& flags, MatrixView<const float> rows,
                                  const ParallelFor& parallel_for) {
  QjlOptions options;
  options.dim = rows.cols;
  TQ_TRY(options.sketch_rows, QjlSketchRows(flags, rows.cols));
  TQ_TRY(options.kind, ParseSketch(flags));
  TQ_TRY(options.norm_type, ParseScaleType(flags));
  options.seed = flags.seed;
  return EncodeWith(QjlSketch::Create(options), rows, parallel_for);
}

Result<EncodedRowsFile> EncodePolar(const EncodeOptions& flags, MatrixView<const float> rows,
                                    const ParallelFor& parallel_for) {
  PolarOptions options;
  options.dim = rows.cols;
  TQ_CHECK(SetRotation(flags, options));
  TQ_TRY(options.radius_type, ParseScaleType(flags));
  return EncodeWith(PolarQuantizer::Create(options), rows, parallel_for);
}

}  // namespace

Result<void> RunEncode(const EncodeOptions& options, std::ostream& out) {
  TQ_CHECK(CheckFlagsFitMethod(options));
  TQ_TRY(const ParallelFor parallel_for, MakeParallelFor(options.threads));
  TQ_TRY(const TensorRows rows, ReadTensorRows(options.input, options.tensor));
  const std::string method = FileMethod(options);
  const auto encode = method == "mse"       ? EncodeMse
                      : method == "outlier" ? EncodeOutlier
                      : method == "prod"    ? EncodeProd
                      : method == "qjl"     ? EncodeQjl
                                            : EncodePolar;
  TQ_TRY(const EncodedRowsFile file, encode(options, rows.view(), parallel_for));
  TQ_CHECK(WriteEncodedRows(options.output, file));
  out << fmt::format("{}: {} rows of dim {}, {}, {:.6g} bits per coordinate\n", options.output,
                     rows.rows, rows.dim, method, BitsPerCoordinate(file, rows.dim));
  return {};
}

}  // namespace turboquant::cli
