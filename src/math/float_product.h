// Products of float matrices, for statistics that are taken once a sequence.
#ifndef TURBOQUANT_SRC_MATH_FLOAT_PRODUCT_H_
#define TURBOQUANT_SRC_MATH_FLOAT_PRODUCT_H_

#include <cstddef>

#include "turboquant/matrix_view.h"

namespace turboquant {

// Elements at data + row · row_stride + column · column_stride.
struct StridedMatrix {
  const float* data;
  size_t row_stride;
  size_t column_stride;
};

// out[i][j] = sum over k < right.rows of left[i][k] · right[k][j]; out is [rows × right.cols] and
// overlaps neither. Each sum starts at 0 and runs in the order of k: the same bits on every
// platform. About 4 multiplications a cycle with vectors of four.
void MultiplyFloats(const StridedMatrix& left, MatrixView<const float> right,
                    MatrixView<float> out);

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_MATH_FLOAT_PRODUCT_H_
