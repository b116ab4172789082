// Rotations are orthogonal for every dim, and the dense one is Haar-distributed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <vector>

#include "tests/support/random_rows.h"
#include "turboquant/rotation.h"

namespace turboquant {
namespace {

using test::Rows;

std::vector<size_t> SupportedDims(size_t largest) {
  std::vector<size_t> dims;
  for (size_t dim = 2; dim <= 130; ++dim) dims.push_back(dim);
  for (const size_t dim : {160, 192, 256, 384, 576, 768, 1024, 1536}) {
    if (dim <= largest) dims.push_back(dim);
  }
  return dims;
}

// Norms, round trips and Gram matrix of `rotation` within `tolerance` of those of an orthogonal
// map.
void ExpectOrthogonal(const Rotation& rotation, double tolerance) {
  const size_t dim = rotation.dim();
  const Rows rows = test::NormalRows(4, dim, dim);
  Rows rotated(4, dim);
  Rows back(4, dim);
  Rows transposed_first(4, dim);
  ASSERT_TRUE(rotation.Apply(rows.view(), rotated.view()));
  ASSERT_TRUE(rotation.ApplyInverse(rotated.view(), back.view()));
  ASSERT_TRUE(rotation.ApplyInverse(rows.view(), transposed_first.view()));
  ASSERT_TRUE(rotation.Apply(transposed_first.view(), transposed_first.view()));
  for (size_t r = 0; r < rows.rows; ++r) {
    const double norm = test::Norm(rows[r]);
    EXPECT_NEAR(test::Norm(rotated[r]), norm, tolerance * norm) << "dim " << dim;
    EXPECT_LE(std::sqrt(test::SquaredDistance(back[r], rows[r])), tolerance * norm) << dim;
    EXPECT_LE(std::sqrt(test::SquaredDistance(transposed_first[r], rows[r])), tolerance * norm)
        << dim;
    // A rotation that does nothing would pass all of the above.
    EXPECT_GT(std::sqrt(test::SquaredDistance(rotated[r], rows[r])), 0.01 * norm) << dim;
  }
  // Columns of Π: all of them for small dims, 48 spread over large ones.
  const size_t columns = std::min<size_t>(dim, 48);
  Rows basis(columns, dim);
  for (size_t c = 0; c < columns; ++c) basis[c][c * dim / columns] = 1.0f;
  ASSERT_TRUE(rotation.Apply(basis.view(), basis.view()));
  for (size_t a = 0; a < columns; ++a) {
    for (size_t b = 0; b <= a; ++b) {
      ASSERT_NEAR(test::Dot(basis[a], basis[b]), a == b ? 1.0 : 0.0, tolerance)
          << "dim " << dim << " columns " << a << ", " << b;
    }
  }
}

TEST(RotationTheoryTest, HadamardIsOrthogonalForEveryDim) {
  for (const size_t dim : SupportedDims(1536)) {
    for (int rounds = 1; rounds <= 3; ++rounds) {
      const auto rotation = Rotation::Create({.dim = dim, .rounds = rounds});
      ASSERT_TRUE(rotation);
      ExpectOrthogonal(*rotation, 1e-6);
    }
  }
}

TEST(RotationTheoryTest, DenseIsOrthogonalForEveryDim) {
  for (const size_t dim : SupportedDims(256)) {
    const auto rotation = Rotation::Create({.dim = dim, .kind = RotationKind::kDense});
    ASSERT_TRUE(rotation);
    ExpectOrthogonal(*rotation, 1e-5);
  }
}

TEST(RotationTheoryTest, DenseIsOrthogonalForLargeDims) {
  if (std::getenv("TURBOQUANT_LONG_TESTS") == nullptr) {
    GTEST_SKIP() << "QR up to dim 1536 takes 4 s: set TURBOQUANT_LONG_TESTS=1";
  }
  for (const size_t dim : {384, 576, 768, 1024, 1536}) {
    const auto rotation = Rotation::Create({.dim = dim, .kind = RotationKind::kDense});
    ASSERT_TRUE(rotation);
    ExpectOrthogonal(*rotation, 1e-5);
  }
}

// The trace of a Haar matrix has mean 0 and variance 1 (Diaconis and Shahshahani 1994), and its
// first entry variance 1/dim; QR without the sign condition fails the first.
TEST(RotationTheoryTest, DenseIsHaarDistributed) {
  constexpr size_t kDim = 8;
  constexpr int kDraws = 4000;
  test::Sample traces;
  test::Sample squared_traces;
  test::Sample squared_entries;
  for (int draw = 0; draw < kDraws; ++draw) {
    const auto rotation = Rotation::Create(
        {.dim = kDim, .kind = RotationKind::kDense, .seed = static_cast<uint64_t>(draw)});
    ASSERT_TRUE(rotation);
    double trace = 0.0;
    for (size_t i = 0; i < kDim; ++i)
      trace += static_cast<double>(rotation->matrix()[i * (kDim + 1)]);
    traces.Add(trace);
    squared_traces.Add(trace * trace);
    const double entry = static_cast<double>(rotation->matrix()[0]);
    squared_entries.Add(entry * entry);
  }
  EXPECT_NEAR(traces.mean(), 0.0, 4.0 * traces.standard_error());
  EXPECT_NEAR(squared_traces.mean(), 1.0, 4.0 * squared_traces.standard_error());
  EXPECT_NEAR(squared_entries.mean(), 1.0 / kDim, 4.0 * squared_entries.standard_error());
  EXPECT_LT(traces.standard_error(), 0.02);
}

// Where one round sends a one-hot row is +-1/sqrt(dim) everywhere; a second round mixes that into
// coordinates of mean square 1/dim each, whatever the dim.
TEST(RotationTheoryTest, TwoRoundsSpreadOneHotRowsEvenly) {
  for (const size_t dim : {64, 80, 96, 112, 128}) {
    std::vector<test::Sample> energy(dim);
    for (uint64_t seed = 0; seed < 2000; ++seed) {
      const auto rotation = Rotation::Create({.dim = dim, .seed = seed});
      ASSERT_TRUE(rotation);
      Rows one_hot(1, dim);
      one_hot[0][seed % dim] = 1.0f;
      ASSERT_TRUE(rotation->Apply(one_hot.view(), one_hot.view()));
      for (size_t j = 0; j < dim; ++j) {
        const double x = static_cast<double>(one_hot[0][j]);
        energy[j].Add(x * x * static_cast<double>(dim));
      }
    }
    double chi_square = 0.0;
    for (const test::Sample& sample : energy) {
      const double z = (sample.mean() - 1.0) / sample.standard_error();
      chi_square += z * z;
    }
    // dim degrees of freedom less one for the fixed sum; 6 sigma each way.
    const double freedom = static_cast<double>(dim);
    EXPECT_NEAR(chi_square, freedom, 6.0 * std::sqrt(2.0 * freedom)) << "dim " << dim;
  }
}

}  // namespace
}  // namespace turboquant
