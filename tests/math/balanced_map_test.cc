#include "src/math/balanced_map.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <optional>
#include <vector>

#include "src/base/random.h"

namespace turboquant {
namespace {

std::vector<double> Product(size_t dim, const std::vector<double>& a,
                            const std::vector<double>& b) {
  std::vector<double> product(dim * dim);
  for (size_t i = 0; i < dim; ++i) {
    for (size_t j = 0; j < dim; ++j) {
      for (size_t k = 0; k < dim; ++k) product[i * dim + j] += a[i * dim + k] * b[k * dim + j];
    }
  }
  return product;
}

std::vector<double> Transposed(size_t dim, const std::vector<double>& a) {
  std::vector<double> result(dim * dim);
  for (size_t i = 0; i < dim * dim; ++i) result[i % dim * dim + i / dim] = a[i];
  return result;
}

double Trace(size_t dim, const std::vector<double>& a) {
  double trace = 0.0;
  for (size_t i = 0; i < dim; ++i) trace += a[i * dim + i];
  return trace;
}

// Of random rows whose coordinates have very different sizes, kept away from singular.
std::vector<double> RandomMoment(size_t dim, uint64_t seed) {
  RandomBits bits(seed, {.stage = 15});
  std::vector<double> mixing(dim * dim);
  for (size_t i = 0; i < dim * dim; ++i) {
    mixing[i] = bits.NextNormal() * std::exp(static_cast<double>(i / dim % 5) / 2.0 - 1.0);
  }
  std::vector<double> moment = Product(dim, mixing, Transposed(dim, mixing));
  for (size_t i = 0; i < dim; ++i) moment[i * dim + i] += 0.1;
  return moment;
}

double Noise(size_t dim, const std::vector<double>& a, const std::vector<double>& keys,
             const std::vector<double>& queries) {
  const std::vector<double> inverse = *InvertMatrix(dim, a);
  return Trace(dim, Product(dim, Product(dim, inverse, Transposed(dim, inverse)), queries)) *
         Trace(dim, Product(dim, Product(dim, a, keys), Transposed(dim, a)));
}

std::vector<double> Diagonal(const std::vector<double>& scales) {
  const size_t dim = scales.size();
  std::vector<double> matrix(dim * dim);
  for (size_t i = 0; i < dim; ++i) matrix[i * dim + i] = scales[i];
  return matrix;
}

std::vector<double> DiagonalOf(size_t dim, const std::vector<double>& matrix) {
  std::vector<double> diagonal(dim);
  for (size_t i = 0; i < dim; ++i) diagonal[i] = matrix[i * dim + i];
  return diagonal;
}

TEST(BalancedMapTest, MakesBothCovariancesEqual) {
  for (const size_t dim : {2, 3, 16, 33}) {
    const std::vector<double> keys = RandomMoment(dim, 1);
    const std::vector<double> queries = RandomMoment(dim, 2);
    const std::vector<double> a = BalancedMap(dim, keys, queries);
    const std::vector<double> inverse = *InvertMatrix(dim, a);
    const std::vector<double> mapped = Product(dim, Product(dim, a, keys), Transposed(dim, a));
    const std::vector<double> met =
        Product(dim, Product(dim, Transposed(dim, inverse), queries), inverse);
    const double factor = Trace(dim, met) / Trace(dim, mapped);
    const double unit = Trace(dim, met) / static_cast<double>(dim);
    for (size_t i = 0; i < dim * dim; ++i) {
      ASSERT_NEAR(met[i] / unit, factor * mapped[i] / unit, 1e-8) << "dim " << dim << " at " << i;
      ASSERT_NEAR(a[i], a[i % dim * dim + i / dim], 1e-12) << "symmetric";
    }
    EXPECT_NEAR(Trace(dim, a), static_cast<double>(dim), 1e-10);
  }
}

TEST(BalancedMapTest, ScalesMakeTheDiagonalsEqual) {
  constexpr size_t kDim = 20;
  const std::vector<double> keys = DiagonalOf(kDim, RandomMoment(kDim, 1));
  const std::vector<double> queries = DiagonalOf(kDim, RandomMoment(kDim, 2));
  const std::vector<double> a = BalancedScales(keys, queries);
  double sum = 0.0;
  for (size_t j = 0; j < kDim; ++j) {
    sum += a[j];
    EXPECT_NEAR(a[j] * a[j] * keys[j] / (queries[j] / (a[j] * a[j])),
                a[0] * a[0] * keys[0] / (queries[0] / (a[0] * a[0])), 1e-10);
  }
  EXPECT_NEAR(sum, kDim, 1e-12);
}

// No neighbour of the optimum is better, and a step of 10 % costs: a minimum, of each kind.
TEST(BalancedMapTest, NoNeighbourHasLessNoise) {
  constexpr size_t kDim = 12;
  const std::vector<double> keys = RandomMoment(kDim, 5);
  const std::vector<double> queries = RandomMoment(kDim, 6);
  const std::vector<double> full = BalancedMap(kDim, keys, queries);
  const std::vector<double> scales =
      BalancedScales(DiagonalOf(kDim, keys), DiagonalOf(kDim, queries));
  const double least_full = Noise(kDim, full, keys, queries);
  const double least_diagonal = Noise(kDim, Diagonal(scales), keys, queries);
  EXPECT_LT(least_full, least_diagonal);
  EXPECT_LT(least_diagonal, Noise(kDim, Diagonal(std::vector<double>(kDim, 1.0)), keys, queries));
  RandomBits bits(7, {.stage = 15});
  for (int trial = 0; trial < 50; ++trial) {
    std::vector<double> other = full;
    for (double& x : other) x += 0.01 * bits.NextNormal();
    EXPECT_GE(Noise(kDim, other, keys, queries), least_full * (1.0 - 1e-9));
    std::vector<double> other_scales = scales;
    for (double& x : other_scales) x *= std::exp(0.1 * bits.NextNormal());
    EXPECT_GT(Noise(kDim, Diagonal(other_scales), keys, queries), least_diagonal * (1.0 + 1e-6));
  }
}

// With both covariances diagonal the two agree; the known value for 16 and 1.
TEST(BalancedMapTest, AgreesWithItsDiagonalForm) {
  const std::vector<double> keys = {1.0, 16.0, 1.0};
  const std::vector<double> queries = {16.0, 1.0, 1.0};
  const std::vector<double> scales = BalancedScales(keys, queries);
  const std::vector<double> expected = {2.0 / 3.5 * 3.0, 0.5 / 3.5 * 3.0, 1.0 / 3.5 * 3.0};
  const std::vector<double> full = BalancedMap(3, Diagonal(keys), Diagonal(queries));
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(scales[i], expected[i], 1e-15);
    for (size_t j = 0; j < 3; ++j) {
      EXPECT_NEAR(full[i * 3 + j], i == j ? expected[i] : 0.0, 1e-12);
    }
  }
}

// Fewer rows than dims: the missing directions are raised, not divided by.
TEST(BalancedMapTest, SurvivesSingularMoments) {
  constexpr size_t kDim = 6;
  std::vector<double> one(kDim * kDim);
  one[0] = 1.0;
  std::vector<double> other(kDim * kDim);
  other[7] = 1.0;
  for (const double x : BalancedMap(kDim, one, other)) EXPECT_TRUE(std::isfinite(x));
  for (const double x : BalancedScales(DiagonalOf(kDim, one), DiagonalOf(kDim, other))) {
    EXPECT_GT(x, 0.0);
    EXPECT_TRUE(std::isfinite(x));
  }
}

TEST(InvertMatrixTest, InvertsWithPivots) {
  for (const size_t dim : {1, 2, 5, 40}) {
    RandomBits bits(dim, {.stage = 15});
    std::vector<double> matrix(dim * dim);
    for (double& x : matrix) x = bits.NextNormal();
    if (dim > 1) matrix[0] = 0.0;
    const std::optional<std::vector<double>> inverse = InvertMatrix(dim, matrix);
    ASSERT_TRUE(inverse);
    const std::vector<double> product = Product(dim, matrix, *inverse);
    for (size_t i = 0; i < dim * dim; ++i) {
      EXPECT_NEAR(product[i], i % (dim + 1) == 0 ? 1.0 : 0.0, 1e-11) << dim;
    }
  }
}

TEST(InvertMatrixTest, RefusesSingularMatrices) {
  EXPECT_FALSE(InvertMatrix(1, std::vector<double>{0.0}));
  EXPECT_FALSE(InvertMatrix(2, std::vector<double>{1.0, 2.0, 2.0, 4.0}));
  EXPECT_FALSE(InvertMatrix(3, std::vector<double>{1, 2, 3, 4, 5, 6, 7, 8, 9}));
  EXPECT_TRUE(InvertMatrix(2, std::vector<double>{1.0, 2.0, 2.0, 4.001}));
  EXPECT_TRUE(InvertMatrix(1, std::vector<double>{1e-30}));
}

}  // namespace
}  // namespace turboquant
