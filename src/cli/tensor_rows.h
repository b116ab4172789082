// Rows between files and commands.
#ifndef TURBOQUANT_SRC_CLI_TENSOR_ROWS_H_
#define TURBOQUANT_SRC_CLI_TENSOR_ROWS_H_

#include <cstddef>
#include <string>
#include <vector>

#include "turboquant/error.h"
#include "turboquant/matrix_view.h"
#include "turboquant/rows_file.h"
#include "turboquant/safetensors.h"

namespace turboquant::cli {

struct TensorRows {
  size_t rows = 0;
  size_t dim = 0;
  std::vector<float> elements;  // [rows × dim]

  MatrixView<const float> view() const { return {elements.data(), rows, dim}; }
};

// Tensor `name` [..., dim] of a safetensors file, all leading axes as rows. Errors: those of
// SafetensorsFile and ReadFloats; kInvalidArgument for a missing tensor, naming those there are, or
// one without axes.
[[nodiscard]] Result<TensorRows> ReadTensorRows(const std::string& path, const std::string& name);

// What the file keeps of each row, beyond what it keeps once, per coordinate. 0 without rows.
double BitsPerCoordinate(const EncodedRowsFile& file, size_t dim);

// "F32 [1, 512, 64]".
std::string TensorSummary(const TensorView& tensor);

}  // namespace turboquant::cli

#endif  // TURBOQUANT_SRC_CLI_TENSOR_ROWS_H_
