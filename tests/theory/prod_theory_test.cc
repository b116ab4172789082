// TurboQuant-Prod: unbiased, with the variance that the theory gives, and never below that of the
// unbiased MSE quantizer at as many bits.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/support/random_rows.h"
#include "turboquant/mse_quantizer.h"
#include "turboquant/prod_quantizer.h"

namespace turboquant {
namespace {

using test::Rows;

constexpr size_t kDim = 128;

// Unit queries at cosine rho to unit rows.
Rows QueriesAtCosine(const Rows& rows, double rho, uint64_t seed) {
  Rows queries = test::NormalRows(rows.rows, rows.dim, seed);
  for (size_t r = 0; r < queries.rows; ++r) {
    const double along = test::Dot(queries[r], rows[r]);
    for (size_t j = 0; j < queries.dim; ++j) {
      queries[r][j] -= static_cast<float>(along * static_cast<double>(rows[r][j]));
    }
    const double across = std::sqrt(1.0 - rho * rho) / test::Norm(queries[r]);
    for (size_t j = 0; j < queries.dim; ++j) {
      queries[r][j] = static_cast<float>(across * static_cast<double>(queries[r][j]) +
                                         rho * static_cast<double>(rows[r][j]));
    }
  }
  return queries;
}

// Errors <query, decoded> - rho over `draws` quantizers made by `create(seed)`.
template <class Create>
test::Sample Errors(const Create& create, double rho, uint64_t draws, size_t pairs) {
  test::Sample errors;
  for (uint64_t seed = 0; seed < draws; ++seed) {
    const auto quantizer = create(seed);
    EXPECT_TRUE(quantizer);
    const Rows rows = test::UnitRows(pairs, kDim, 1000 + seed);
    const Rows queries = QueriesAtCosine(rows, rho, 2000000 + seed);
    Rows decoded(pairs, kDim);
    EXPECT_TRUE(quantizer->Decode(*quantizer->Encode(rows.view()), decoded.view()));
    for (size_t r = 0; r < pairs; ++r) errors.Add(test::Dot(queries[r], decoded[r]) - rho);
  }
  return errors;
}

auto MakeProd(int bits, SketchKind sketch) {
  return [=](uint64_t seed) {
    return ProdQuantizer::Create(
        {.dim = kDim, .bits = bits, .sketch = sketch, .scale_type = ScaleType::kF32, .seed = seed});
  };
}

auto MakeUnbiased(int bits) {
  return [=](uint64_t seed) {
    return MseQuantizer::Create(
        {.dim = kDim, .bits = bits, .scale_type = ScaleType::kF32, .seed = seed});
  };
}

class ProdBitsTest : public testing::TestWithParam<int> {
 protected:
  int bits() const { return GetParam(); }
  // At 2 to 5 bits in total.
  double Expected(const double (&values)[4]) const { return values[bits() - 2]; }
};

TEST_P(ProdBitsTest, GaussianSketchHasTheVarianceOfTheTheory) {
  const double expected = Expected({.565, .1814, .0531, .0146});
  const test::Sample errors = Errors(MakeProd(bits(), SketchKind::kGaussian), 0.0, 240, 80);
  EXPECT_NEAR(kDim * errors.variance(), expected, 0.04 * expected);
  EXPECT_NEAR(errors.mean(), 0.0, 4.0 * errors.standard_error());
}

TEST_P(ProdBitsTest, OrthogonalSketchHasTheVarianceOfTheTheory) {
  const double expected = Expected({.205, .065, .0191, .0052});
  const test::Sample errors = Errors(MakeProd(bits(), SketchKind::kOrthogonal), 0.0, 400, 60);
  EXPECT_NEAR(kDim * errors.variance(), expected, 0.04 * expected);
  EXPECT_NEAR(errors.mean(), 0.0, 4.0 * errors.standard_error());
}

// Slope of <y, decoded> on the cosine: 1, where the MSE stage alone has 1 - D.
TEST_P(ProdBitsTest, SlopeIsOne) {
  const double stage_distortion = Expected({.36338, .11748, .034548, .0095010});
  for (const SketchKind sketch : {SketchKind::kGaussian, SketchKind::kOrthogonal}) {
    const test::Sample errors = Errors(MakeProd(bits(), sketch), 1.0, 100, 40);
    EXPECT_NEAR(errors.mean(), 0.0, 4.0 * errors.standard_error());
    EXPECT_LT(4.0 * errors.standard_error(), 0.08 * stage_distortion) << "power of the test";
  }
}

// Row, query and rotation fixed: the mean over S alone is the exact inner product.
TEST_P(ProdBitsTest, UnbiasedOverTheSketchForEachFixedRow) {
  const auto mse = MseQuantizer::Create({.dim = kDim,
                                         .bits = bits() - 1,
                                         .scale = Scale::kNorm,
                                         .scale_search = false,
                                         .scale_type = ScaleType::kF32});
  ASSERT_TRUE(mse);
  Rows rows = test::UnitRows(2, kDim, 5);
  for (size_t j = 0; j < kDim; ++j) rows[1][j] = j == 3 ? 1.0f : 0.0f;
  Rows queries = QueriesAtCosine(rows, 0.9, 6);
  Rows rotated_queries(2, kDim);
  Rows residuals(2, kDim);
  Rows centroids(2, kDim);
  ASSERT_TRUE(mse->rotation().Apply(queries.view(), rotated_queries.view()));
  ASSERT_TRUE(mse->rotation().Apply(rows.view(), residuals.view()));
  ASSERT_TRUE(mse->DecodeRotated(*mse->Encode(rows.view()), centroids.view()));
  for (size_t i = 0; i < residuals.values.size(); ++i) residuals.values[i] -= centroids.values[i];
  for (const SketchKind kind : {SketchKind::kGaussian, SketchKind::kOrthogonal}) {
    std::vector<test::Sample> errors(2);
    const uint64_t draws = kind == SketchKind::kGaussian ? 400 : 4000;
    for (uint64_t seed = 0; seed < draws; ++seed) {
      const auto sketch = QjlSketch::Create(
          {.dim = kDim, .kind = kind, .norm_type = ScaleType::kF32, .seed = seed});
      ASSERT_TRUE(sketch);
      Rows scores(2, 2);
      ASSERT_TRUE(sketch->Score(*sketch->Prepare(rotated_queries.view()),
                                *sketch->Encode(residuals.view()), scores.view()));
      for (size_t r = 0; r < 2; ++r) {
        errors[r].Add(static_cast<double>(scores[r][r]) +
                      test::Dot(rotated_queries[r], centroids[r]) - test::Dot(queries[r], rows[r]));
      }
    }
    for (size_t r = 0; r < 2; ++r) {
      EXPECT_NEAR(errors[r].mean(), 0.0, 4.0 * errors[r].standard_error()) << "row " << r;
      EXPECT_GT(errors[r].standard_error(), 0.0);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Bits, ProdBitsTest, testing::Range(2, 6));

// Unbiased MSE < Prod with orthogonal S < Prod with Gaussian S, at every number of bits.
class ProdOrderTest : public testing::TestWithParam<int> {};

TEST_P(ProdOrderTest, UnbiasedMseHasTheSmallestVariance) {
  const int bits = GetParam();
  for (const double rho : {0.0, 0.3, 0.7}) {
    const double mse = Errors(MakeUnbiased(bits), rho, 60, 40).variance();
    const double orthogonal =
        Errors(MakeProd(bits, SketchKind::kOrthogonal), rho, 60, 40).variance();
    const double gaussian = Errors(MakeProd(bits, SketchKind::kGaussian), rho, 60, 40).variance();
    EXPECT_LT(mse, orthogonal) << "rho " << rho;
    EXPECT_LT(orthogonal, gaussian) << "rho " << rho;
    EXPECT_LT(gaussian, 24.0 * mse) << "rho " << rho;
  }
}

INSTANTIATE_TEST_SUITE_P(Bits, ProdOrderTest, testing::Range(2, 9));

}  // namespace
}  // namespace turboquant
