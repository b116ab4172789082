// Linear maps that spread two covariances alike, and what they need of matrices.
#ifndef TURBOQUANT_SRC_MATH_BALANCED_MAP_H_
#define TURBOQUANT_SRC_MATH_BALANCED_MAP_H_

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace turboquant {

// Keys of covariance K and queries of second moment Q; a quantizer of isotropic noise then causes
// an error of tr(A^-1 A^-T Q) · tr(A K Aᵀ) in the inner products of mapped keys and queries. The
// maps below make it smallest among matrices, or diagonal ones; A K Aᵀ and A^-T Q A^-1 become equal
// up to a factor (their diagonals do). K and Q are symmetric, positive semidefinite and not zero;
// their eigenvalues (diagonals) below 1e-9 of the largest are raised to that. The trace of A is
// dim.

// The symmetric A with Aᵀ A ~ K^-1/2 (K^1/2 Q K^1/2)^1/2 K^-1/2; [dim × dim], ~50 dim³ operations.
std::vector<double> BalancedMap(size_t dim, std::span<const double> key_covariance,
                                std::span<const double> query_moment);

// The diagonal A, a_j ~ (Q_jj / K_jj)^1/4, from the diagonals; [dim].
std::vector<double> BalancedScales(std::span<const double> key_variances,
                                   std::span<const double> query_moments);

// Row-major [dim × dim], by elimination with pivots; nullopt for a matrix that is singular, or so
// up to rounding: a pivot of at most 1e-12 times the largest |element|.
std::optional<std::vector<double>> InvertMatrix(size_t dim, std::span<const double> matrix);

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_MATH_BALANCED_MAP_H_
