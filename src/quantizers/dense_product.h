// Products with the dense matrices of rotations and sketches.
#ifndef TURBOQUANT_SRC_QUANTIZERS_DENSE_PRODUCT_H_
#define TURBOQUANT_SRC_QUANTIZERS_DENSE_PRODUCT_H_

#include <algorithm>
#include <cstddef>
#include <vector>

#include "src/kernels/kernels.h"
#include "src/quantizers/direction.h"
#include "turboquant/matrix_view.h"

namespace turboquant {

// Row r of `out` [rows × matrix.rows] = matrix · row r of `in`, summed in double in order of the
// columns and rounded once. in and out may be the same memory.
inline void MultiplyRows(const kernels::DenseMatrix& matrix, MatrixView<const float> in,
                         MatrixView<float> out) {
  constexpr size_t kChunkRows = 64;
  std::vector<double> sums(std::min(kChunkRows, in.rows) * matrix.rows);
  for (size_t first = 0; first < in.rows; first += kChunkRows) {
    const size_t count = std::min(kChunkRows, in.rows - first);
    FastestKernels().multiply_dense(matrix, {in.Row(first), in.stride}, count,
                                    {sums.data(), matrix.rows});
    for (size_t r = 0; r < count; ++r) {
      for (size_t i = 0; i < matrix.rows; ++i) {
        out.Row(first + r)[i] = static_cast<float>(sums[r * matrix.rows + i]);
      }
    }
  }
}

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_QUANTIZERS_DENSE_PRODUCT_H_
