#include "src/cli/tensor_rows.h"

#include <fmt/format.h>

#include "src/base/failure.h"
#include "src/base/try.h"

namespace turboquant::cli {

Result<TensorRows> ReadTensorRows(const std::string& path, const std::string& name) {
  TQ_TRY(const SafetensorsFile file, SafetensorsFile::Open(path, UnknownTensors::kKeep));
  const TensorView* tensor = file.Find(name);
  if (tensor == nullptr) {
    std::string known;
    for (const TensorView& other : file.tensors()) {
      known += (known.empty() ? "" : ", ") + other.name;
    }
    return Fail(ErrorCode::kInvalidArgument, path, " has no tensor \"", name, "\"; it has ",
                known.empty() ? "none" : known);
  }
  if (tensor->shape.empty()) {
    return Fail(ErrorCode::kInvalidArgument, "tensor \"", name, "\" is a scalar, not rows");
  }
  TensorRows rows;
  rows.dim = tensor->shape.back();
  TQ_TRY(rows.elements, ReadFloats(*tensor));
  rows.rows = rows.dim == 0 ? 0 : rows.elements.size() / rows.dim;
  return rows;
}

double BitsPerCoordinate(const EncodedRowsFile& file, size_t dim) {
  if (file.rows == 0) return 0.0;
  double bits = 0.0;
  for (const TensorView& tensor : file.tensors) {
    const bool kept_once = tensor.name == "outlier_channels" || tensor.name == "codebook_levels";
    if (!kept_once) bits += 8.0 * static_cast<double>(tensor.bytes.size());
  }
  return bits / (static_cast<double>(file.rows) * static_cast<double>(dim));
}

std::string TensorSummary(const TensorView& tensor) {
  return fmt::format("{} [{}]", TensorTypeName(tensor.type), fmt::join(tensor.shape, ", "));
}

}  // namespace turboquant::cli
