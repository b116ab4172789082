#include "src/math/symmetric_eigen.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <span>
#include <vector>

#include "src/base/checksum.h"
#include "src/base/random.h"

namespace turboquant {
namespace {

std::vector<double> SymmetricNormal(size_t dim, uint64_t seed) {
  RandomBits bits(seed, {.stage = 15});
  std::vector<double> matrix(dim * dim);
  for (size_t i = 0; i < dim; ++i) {
    for (size_t j = 0; j <= i; ++j) {
      matrix[i * dim + j] = matrix[j * dim + i] = bits.NextNormal();
    }
  }
  return matrix;
}

double Largest(std::span<const double> numbers) {
  double largest = 0.0;
  for (const double x : numbers) largest = std::max(largest, std::abs(x));
  return largest;
}

// A v = lambda v for each pair, orthonormal vectors, ascending values; in units of the largest.
void ExpectEigen(size_t dim, std::span<const double> matrix, const SymmetricEigen& eigen) {
  ASSERT_EQ(eigen.eigenvalues.size(), dim);
  ASSERT_EQ(eigen.eigenvectors.size(), dim * dim);
  const double scale = Largest(eigen.eigenvalues);
  const double tolerance = 4e-16 * (10.0 + static_cast<double>(dim));
  ASSERT_TRUE(std::is_sorted(eigen.eigenvalues.begin(), eigen.eigenvalues.end()));
  for (size_t i = 0; i < dim; ++i) {
    const double* v = eigen.eigenvectors.data() + i * dim;
    for (size_t row = 0; row < dim; ++row) {
      double product = 0.0;
      double inner = 0.0;
      for (size_t k = 0; k < dim; ++k) {
        product += matrix[row * dim + k] * v[k];
        inner += eigen.eigenvectors[row * dim + k] * v[k];
      }
      ASSERT_NEAR(product, eigen.eigenvalues[i] * v[row], tolerance * scale)
          << "dim " << dim << " eigenvalue " << i << " row " << row;
      ASSERT_NEAR(inner, i == row ? 1.0 : 0.0, tolerance) << "dim " << dim;
    }
  }
}

TEST(SymmetricEigenTest, SolvesRandomMatricesOfManySizes) {
  for (const size_t dim : {1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 64, 65, 128, 256}) {
    const std::vector<double> matrix = SymmetricNormal(dim, dim);
    ExpectEigen(dim, matrix, DecomposeSymmetric(dim, matrix));
  }
}

// -1, 2, -1 along the diagonals: 2 - 2 cos(pi k / (n + 1)).
TEST(SymmetricEigenTest, FindsTheSpectrumOfTheSecondDifference) {
  constexpr size_t kDim = 50;
  std::vector<double> matrix(kDim * kDim);
  for (size_t i = 0; i < kDim; ++i) {
    matrix[i * kDim + i] = 2.0;
    if (i + 1 < kDim) matrix[i * kDim + i + 1] = matrix[(i + 1) * kDim + i] = -1.0;
  }
  const SymmetricEigen eigen = DecomposeSymmetric(kDim, matrix);
  for (size_t k = 0; k < kDim; ++k) {
    const double angle = std::numbers::pi * static_cast<double>(k + 1) / (kDim + 1);
    EXPECT_NEAR(eigen.eigenvalues[k], 2.0 - 2.0 * std::cos(angle), 1e-14) << k;
  }
}

// Fiedler's matrix |i - j|: one positive eigenvalue, the others negative; trace 0.
TEST(SymmetricEigenTest, CountsTheSignsOfFiedlersMatrix) {
  constexpr size_t kDim = 33;
  std::vector<double> matrix(kDim * kDim);
  for (size_t i = 0; i < kDim * kDim; ++i) {
    matrix[i] = std::abs(static_cast<double>(i / kDim) - static_cast<double>(i % kDim));
  }
  const SymmetricEigen eigen = DecomposeSymmetric(kDim, matrix);
  ExpectEigen(kDim, matrix, eigen);
  EXPECT_LT(eigen.eigenvalues[kDim - 2], 0.0);
  double trace = 0.0;
  for (const double x : eigen.eigenvalues) trace += x;
  EXPECT_NEAR(trace, 0.0, 1e-12);
}

TEST(SymmetricEigenTest, SolvesDegenerateMatrices) {
  constexpr size_t kDim = 24;
  const std::vector<double> zero(kDim * kDim);
  std::vector<double> identity = zero;
  std::vector<double> ones(kDim * kDim, 1.0);
  std::vector<double> blocks = zero;  // eigenvalues -1 and 1, twelve times each
  for (size_t i = 0; i < kDim; ++i) {
    identity[i * kDim + i] = 1.0;
    blocks[i * kDim + (i ^ 1)] = 1.0;
  }
  for (const std::vector<double>& matrix : {zero, identity, ones, blocks}) {
    ExpectEigen(kDim, matrix, DecomposeSymmetric(kDim, matrix));
  }
  const SymmetricEigen rank_one = DecomposeSymmetric(kDim, ones);
  EXPECT_NEAR(rank_one.eigenvalues.back(), kDim, 1e-13);
  EXPECT_NEAR(rank_one.eigenvalues[kDim - 2], 0.0, 1e-13);
  const SymmetricEigen pairs = DecomposeSymmetric(kDim, blocks);
  EXPECT_NEAR(pairs.eigenvalues[11], -1.0, 1e-14);
  EXPECT_NEAR(pairs.eigenvalues[12], 1.0, 1e-14);
}

// Elements far from 1 neither overflow nor vanish.
TEST(SymmetricEigenTest, ScalesWithTheMatrix) {
  constexpr size_t kDim = 20;
  const std::vector<double> matrix = SymmetricNormal(kDim, 3);
  const SymmetricEigen expected = DecomposeSymmetric(kDim, matrix);
  for (const double factor : {0x1p-900, 0x1p900}) {
    std::vector<double> scaled = matrix;
    for (double& x : scaled) x *= factor;
    const SymmetricEigen eigen = DecomposeSymmetric(kDim, scaled);
    for (size_t i = 0; i < kDim; ++i) {
      EXPECT_EQ(eigen.eigenvalues[i], expected.eigenvalues[i] * factor) << factor << " " << i;
    }
  }
}

// Wide spectra, as covariances have: small eigenvalues to 1e-16 of the largest.
TEST(SymmetricEigenTest, SolvesGradedMatrices) {
  constexpr size_t kDim = 40;
  std::vector<double> matrix = SymmetricNormal(kDim, 4);
  for (size_t i = 0; i < kDim; ++i) {
    for (size_t j = 0; j < kDim; ++j) {
      matrix[i * kDim + j] *= std::pow(10.0, -static_cast<double>(i + j) / 4.0);
    }
  }
  ExpectEigen(kDim, matrix, DecomposeSymmetric(kDim, matrix));
}

// Key maps hang on it, and key maps are what files are compared by.
TEST(SymmetricEigenTest, BitsAreFrozen) {
  const SymmetricEigen eigen = DecomposeSymmetric(48, SymmetricNormal(48, 42));
  EXPECT_EQ(Crc32(std::as_bytes(std::span(eigen.eigenvalues))), 3317690013u);
  EXPECT_EQ(Crc32(std::as_bytes(std::span(eigen.eigenvectors))), 436272826u);
}

}  // namespace
}  // namespace turboquant
