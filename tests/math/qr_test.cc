#include "src/math/qr.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "src/base/checksum.h"
#include "src/base/random.h"

namespace turboquant {
namespace {

double DotOf(const std::vector<double>& a, size_t i, const std::vector<double>& b, size_t j,
             size_t dim) {
  double sum = 0.0;
  for (size_t k = 0; k < dim; ++k) sum += a[i * dim + k] * b[j * dim + k];
  return sum;
}

std::vector<double> NormalMatrix(size_t dim, uint64_t seed) {
  RandomBits bits(seed, {.stage = 15});
  std::vector<double> matrix(dim * dim);
  for (double& element : matrix) element = bits.NextNormal();
  return matrix;
}

std::vector<double> OrthogonalFrom(const std::vector<double>& matrix, size_t dim) {
  size_t next = 0;
  return OrthogonalFromRows(dim, [&](std::span<double> row) {
    std::copy_n(matrix.begin() + static_cast<std::ptrdiff_t>(next * dim), dim, row.begin());
    ++next;
  });
}

void ExpectOrthonormalRows(const std::vector<double>& q, size_t dim, double tolerance) {
  for (size_t i = 0; i < dim; ++i) {
    for (size_t j = 0; j <= i; ++j) {
      ASSERT_NEAR(DotOf(q, i, q, j, dim), i == j ? 1.0 : 0.0, tolerance)
          << "dim " << dim << " rows " << i << ", " << j;
    }
  }
}

// A = L Q: entry (i, j) of L is row i of A times row j of Q.
TEST(QrTest, FactorsIntoLowerTriangularWithPositiveDiagonal) {
  for (const size_t dim : {1, 2, 3, 7, 8, 9, 31, 32, 33, 63, 64, 65, 100}) {
    const std::vector<double> a = NormalMatrix(dim, dim);
    const std::vector<double> q = OrthogonalFrom(a, dim);
    ASSERT_EQ(q.size(), dim * dim);
    ExpectOrthonormalRows(q, dim, 1e-14);
    for (size_t i = 0; i < dim; ++i) {
      EXPECT_GT(DotOf(a, i, q, i, dim), 0.0) << "dim " << dim << " row " << i;
      for (size_t j = i + 1; j < dim; ++j) {
        ASSERT_NEAR(DotOf(a, i, q, j, dim), 0.0, 1e-12) << "dim " << dim << " " << i << ", " << j;
      }
    }
  }
}

// One pass of Gram-Schmidt leaves 1e-16 times the condition number, here 1e-9 and worse.
TEST(QrTest, StaysOrthogonalForNearlyDependentRows) {
  for (const size_t dim : {20, 70}) {
    std::vector<double> a = NormalMatrix(dim, 1);
    for (size_t i = 1; i < dim; ++i) {
      for (size_t k = 0; k < dim; ++k) a[i * dim + k] = a[k] + 1e-7 * a[i * dim + k];
    }
    ExpectOrthonormalRows(OrthogonalFrom(a, dim), dim, 1e-14);
  }
}

TEST(QrTest, KeepsAnOrthogonalMatrixAndUndoesAScaledOne) {
  // Rows ±3 e_i: already orthogonal, so that Q is the matrix with its rows normalised.
  constexpr size_t kDim = 40;
  std::vector<double> a(kDim * kDim);
  for (size_t i = 0; i < kDim; ++i) a[i * kDim + (i * 7) % kDim] = i % 3 == 0 ? -3.0 : 3.0;
  const std::vector<double> q = OrthogonalFrom(a, kDim);
  for (size_t i = 0; i < a.size(); ++i) EXPECT_EQ(q[i], a[i] / 3.0) << i;
}

// Part of the file format (dense rotations), so that the bits may never change.
TEST(QrTest, BitsAreFrozen) {
  const std::vector<double> q = OrthogonalFrom(NormalMatrix(77, 42), 77);
  EXPECT_EQ(Crc32(std::as_bytes(std::span(q))), 3484707160u);
}

// Moments of the Haar measure on O(4): each entry has mean 0, variance 1/4 and fourth moment
// 3/24; the trace has mean 0 and variance 1. Without the sign condition the means are off.
TEST(QrTest, IsHaarDistributed) {
  constexpr size_t kDim = 4;
  constexpr int kDraws = 20000;
  RandomBits bits(7, {.stage = 15});
  std::vector<double> mean(kDim * kDim), square(kDim * kDim), fourth(kDim * kDim);
  double trace_mean = 0.0;
  double trace_square = 0.0;
  for (int draw = 0; draw < kDraws; ++draw) {
    const std::vector<double> q = OrthogonalFromRows(kDim, [&](std::span<double> row) {
      for (double& element : row) element = bits.NextNormal();
    });
    double trace = 0.0;
    for (size_t i = 0; i < q.size(); ++i) {
      mean[i] += q[i] / kDraws;
      square[i] += q[i] * q[i] / kDraws;
      fourth[i] += q[i] * q[i] * q[i] * q[i] / kDraws;
      if (i % (kDim + 1) == 0) trace += q[i];
    }
    trace_mean += trace / kDraws;
    trace_square += trace * trace / kDraws;
  }
  const double root = std::sqrt(kDraws);
  for (size_t i = 0; i < mean.size(); ++i) {
    EXPECT_NEAR(mean[i], 0.0, 4.5 * 0.5 / root) << i;
    EXPECT_NEAR(square[i], 0.25, 4.5 * 0.25 / root) << i;    // sd of q² is .25
    EXPECT_NEAR(fourth[i], 0.125, 4.5 * 0.199 / root) << i;  // sd of q⁴: E q⁸ = 7/128
  }
  EXPECT_NEAR(trace_mean, 0.0, 4.5 / root);
  EXPECT_NEAR(trace_square, 1.0, 4.5 * std::sqrt(2.0) / root);  // E tr⁴ = 3
}

}  // namespace
}  // namespace turboquant
