#include "src/storage/rows_tensors.h"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "src/base/checked.h"
#include "src/base/failure.h"
#include "src/base/half.h"
#include "src/base/try.h"
#include "src/storage/option_rules.h"
#include "src/storage/rows_options.h"
#include "src/storage/tensor_elements.h"
#include "src/storage/text.h"

namespace turboquant {
namespace {

enum class Content {
  kCodes,    // U8, a bit stream a row
  kNumbers,  // of the file's scale type: scales, norms, radii
  kLevels,   // I16, ascending, one vector for all rows
  kChannels  // U32, ascending, one vector for all rows
};

struct Expected {
  std::string_view name;
  Content content;
  // kCodes: bits of a row that are in use; otherwise elements of a row, or of the vector.
  size_t count;
  bool a_row_each_is_scalar = false;  // shape [rows], not [rows, 1]
};

constexpr int kMaxLevel = 8192;  // 8 sigma in steps of sigma / 1024

Expected Codes(std::string_view name, uint64_t bits) { return {name, Content::kCodes, bits}; }
Expected Numbers(std::string_view name) { return {name, Content::kNumbers, 1, true}; }

size_t PolarBits(size_t dim, std::span<const int> level_bits) {
  size_t bits = 0;
  for (const int level : level_bits) {
    dim /= 2;
    bits += dim * static_cast<size_t>(level);
  }
  return bits;
}

void AddLevels(const RowsOptions& options, uint64_t bits, std::vector<Expected>& tensors) {
  if (options.Text("codebook") != "custom") return;
  tensors.push_back({"codebook_levels", Content::kLevels, size_t{1} << bits});
}

std::vector<Expected> TensorsOf(std::string_view method, const RowsOptions& options) {
  const uint64_t dim = options.Number("dim");
  std::vector<Expected> tensors;
  if (method == "mse") {
    const uint64_t bits = options.Number("bits");
    tensors = {Codes("codes", dim * bits), Numbers("scales")};
    AddLevels(options, bits, tensors);
  } else if (method == "prod") {
    const uint64_t bits = options.Number("bits") - 1;
    tensors = {Codes("codes", dim * bits), Numbers("scales"),
               Codes("signs", options.Number("sketch_rows")), Numbers("residual_norms")};
    AddLevels(options, bits, tensors);
  } else if (method == "qjl") {
    tensors = {Codes("signs", options.Number("sketch_rows")), Numbers("norms")};
  } else if (method == "polar") {
    const std::vector<int> level_bits = *ParseLevelBits(options.Text("level_bits"));
    tensors = {Codes("codes", PolarBits(dim, level_bits)),
               {"radii", Content::kNumbers, dim >> level_bits.size()}};
  } else {
    const uint64_t bits = options.Number("bits");
    const uint64_t outlier_dim = options.Number("outlier_dim");
    tensors = {Codes("outlier_codes", outlier_dim * (bits + 1)),
               Numbers("outlier_scales"),
               Codes("regular_codes", (dim - outlier_dim) * bits),
               Numbers("regular_scales"),
               {"outlier_channels", Content::kChannels, outlier_dim}};
  }
  return tensors;
}

TensorType TypeOf(Content content, const RowsOptions& options) {
  switch (content) {
    case Content::kCodes:
      return TensorType::kU8;
    case Content::kNumbers:
      return options.Text("scale_type") == "f16" ? TensorType::kF16 : TensorType::kF32;
    case Content::kLevels:
      return TensorType::kI16;
    case Content::kChannels:
      return TensorType::kU32;
  }
  return TensorType::kUnknown;
}

std::vector<size_t> ShapeOf(const Expected& expected, size_t rows) {
  switch (expected.content) {
    case Content::kCodes:
      return {rows, CeilDivide(expected.count, 8)};
    case Content::kNumbers:
      if (expected.a_row_each_is_scalar) return {rows};
      return {rows, expected.count};
    case Content::kLevels:
    case Content::kChannels:
      break;
  }
  return {expected.count};
}

Result<void> CheckPadding(const TensorView& tensor, size_t bits) {
  const size_t row_bytes = CeilDivide(bits, 8);
  const unsigned bits_in_last = static_cast<unsigned>(bits % 8);
  if (bits_in_last == 0) return {};
  for (size_t last = row_bytes - 1; last < tensor.bytes.size(); last += row_bytes) {
    if (std::to_integer<unsigned>(tensor.bytes[last]) >> bits_in_last != 0) {
      return Fail(ErrorCode::kCorruptData, tensor.name, "[", last / row_bytes,
                  "] has padding bits that are not zero");
    }
  }
  return {};
}

// A uniform codebook has 255 centroids: code 255 names none. Its codes are whole bytes.
Result<void> CheckUniformCodes(const TensorView& tensor, size_t dim) {
  for (size_t i = 0; i < tensor.bytes.size(); ++i) {
    if (tensor.bytes[i] == std::byte{255}) {
      return Fail(ErrorCode::kCorruptData, tensor.name, "[", i / dim, "] has code 255 at column ",
                  i % dim, ", a uniform codebook has 255 centroids");
    }
  }
  return {};
}

template <class Stored, class Widen>
Result<void> CheckNumbers(const TensorView& tensor, size_t a_row, const Widen& widen) {
  const size_t count = tensor.bytes.size() / sizeof(Stored);
  for (size_t i = 0; i < count; ++i) {
    const float number = widen(LoadElement<Stored>(tensor.bytes, i));
    if (!std::isfinite(number) || std::signbit(number)) {
      return Fail(ErrorCode::kCorruptData, tensor.name, "[", i / a_row, "] has ",
                  static_cast<double>(number), ", not a finite number >= 0");
    }
  }
  return {};
}

template <class Stored>
Result<void> CheckAscending(const TensorView& tensor, int64_t min, int64_t max) {
  int64_t previous = min - 1;
  for (size_t i = 0; i < tensor.bytes.size() / sizeof(Stored); ++i) {
    const int64_t element = LoadElement<Stored>(tensor.bytes, i);
    if (element <= previous || element > max) {
      return Fail(ErrorCode::kCorruptData, tensor.name, "[", i, "] is ", element,
                  ", they must ascend from ", min, " to ", max);
    }
    previous = element;
  }
  return {};
}

Result<void> CheckContent(const TensorView& tensor, const Expected& expected,
                          const RowsOptions& options) {
  const uint64_t dim = options.Number("dim");
  switch (expected.content) {
    case Content::kCodes:
      if (options.Has("codebook") && options.Text("codebook") == "uniform") {
        TQ_CHECK(CheckUniformCodes(tensor, dim));
      }
      return CheckPadding(tensor, expected.count);
    case Content::kNumbers:
      if (tensor.type == TensorType::kF32) {
        return CheckNumbers<float>(tensor, expected.count, [](float number) { return number; });
      }
      return CheckNumbers<uint16_t>(tensor, expected.count,
                                    [](uint16_t bits) { return F16ToF32({bits}); });
    case Content::kLevels:
      return CheckAscending<int16_t>(tensor, -kMaxLevel, kMaxLevel);
    case Content::kChannels:
      return CheckAscending<uint32_t>(tensor, 0, static_cast<int64_t>(dim) - 1);
  }
  return {};
}

Result<void> CheckForm(const TensorView& tensor, const Expected& expected, size_t rows,
                       const RowsOptions& options) {
  const TensorType type = TypeOf(expected.content, options);
  if (tensor.type != type) {
    return Fail(ErrorCode::kCorruptData, "tensor '", expected.name, "' has dtype ",
                TensorTypeName(tensor.type), ", not ", TensorTypeName(type));
  }
  const std::vector<size_t> shape = ShapeOf(expected, rows);
  if (tensor.shape != shape) {
    return Fail(ErrorCode::kCorruptData, "tensor '", expected.name, "' has shape ",
                ShapeText(tensor.shape), ", not ", ShapeText(shape));
  }
  // Holds for all that was read from a file; not for what a caller put together.
  const std::optional<size_t> elements = ElementCount(shape);
  if (!elements || CheckedMultiply(*elements, TensorTypeBytes(type)) != tensor.bytes.size()) {
    return Fail(ErrorCode::kCorruptData, "tensor '", expected.name, "' with shape ",
                ShapeText(shape), " has ", tensor.bytes.size(), " bytes");
  }
  return {};
}

Result<void> CheckNames(const EncodedRowsFile& file, std::span<const Expected> expected) {
  for (const Expected& tensor : expected) {
    if (!file.Find(tensor.name)) {
      return Fail(ErrorCode::kCorruptData, "method ", file.method, " needs tensor '", tensor.name,
                  "', which is missing");
    }
  }
  for (const TensorView& tensor : file.tensors) {
    bool known = false;
    for (const Expected& one : expected) known |= one.name == tensor.name;
    if (!known) {
      return Fail(ErrorCode::kCorruptData, "method ", file.method, " has no tensor ",
                  Quoted(tensor.name));
    }
  }
  return {};
}

}  // namespace

Result<size_t> CheckRowsTensors(const EncodedRowsFile& file) {
  const RowsOptions options(file.options);
  const std::vector<Expected> expected = TensorsOf(file.method, options);
  TQ_CHECK(CheckNames(file, expected));
  // The first tensor has a row of codes or signs for every row; the others must have as many.
  const TensorView& first = *file.Find(expected[0].name);
  const size_t rows = first.shape.empty() ? 0 : first.shape[0];
  for (const Expected& one : expected) {
    const TensorView& tensor = *file.Find(one.name);
    TQ_CHECK(CheckForm(tensor, one, rows, options));
    TQ_CHECK(CheckContent(tensor, one, options));
  }
  return rows;
}

}  // namespace turboquant
