// Random orthogonal matrices.
#ifndef TURBOQUANT_SRC_MATH_QR_H_
#define TURBOQUANT_SRC_MATH_QR_H_

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

namespace turboquant {

// The orthogonal factor Q of A = L Q, L lower triangular with a positive diagonal, for the dim ×
// dim matrix A whose rows `fill_row` writes in order. With independent N(0, 1) entries Q is
// Haar-distributed (Mezzadri 2007: it is the sign condition that makes it so). Row-major, dim²
// doubles, ~4 dim³ floating-point operations.
//
// Only + - * / and sqrt in a fixed order: the same bits on every IEEE 754 platform.
// The rows of A must be linearly independent; Gaussian ones are.
std::vector<double> OrthogonalFromRows(size_t dim,
                                       const std::function<void(std::span<double>)>& fill_row);

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_MATH_QR_H_
