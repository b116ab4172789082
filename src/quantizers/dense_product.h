// Products with the dense matrices of rotations and sketches.
#ifndef TURBOQUANT_SRC_QUANTIZERS_DENSE_PRODUCT_H_
#define TURBOQUANT_SRC_QUANTIZERS_DENSE_PRODUCT_H_

#include <cstddef>

namespace turboquant {

// product[i] = <row i, vector> for kRows rows of a row-major matrix, each summed in double in order
// of the columns. Several rows side by side fill the waits of one another's additions.
template <size_t kRows>
void MultiplyRows(const float* matrix, size_t dim, const float* vector, float* product) {
  double sums[kRows] = {};
  for (size_t j = 0; j < dim; ++j) {
    const double x = static_cast<double>(vector[j]);
    for (size_t i = 0; i < kRows; ++i) sums[i] += static_cast<double>(matrix[i * dim + j]) * x;
  }
  for (size_t i = 0; i < kRows; ++i) product[i] = static_cast<float>(sums[i]);
}

// product[rows] = matrix [rows × dim] · vector[dim]; they may not overlap.
inline void Multiply(const float* matrix, size_t rows, size_t dim, const float* vector,
                     float* product) {
  constexpr size_t kTogether = 8;
  size_t i = 0;
  for (; i + kTogether <= rows; i += kTogether)
    MultiplyRows<kTogether>(matrix + i * dim, dim, vector, product + i);
  for (; i < rows; ++i) MultiplyRows<1>(matrix + i * dim, dim, vector, product + i);
}

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_QUANTIZERS_DENSE_PRODUCT_H_
