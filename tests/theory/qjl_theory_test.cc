// QJL: unbiased, with the variance that the theory gives.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "tests/support/random_rows.h"
#include "turboquant/qjl.h"

namespace turboquant {
namespace {

using test::Rows;

// query = norm · (rho direction + sqrt(1 - rho²) orthogonal), for each row of unit `directions`.
Rows QueriesAtCosine(const Rows& directions, double rho, double norm, uint64_t seed) {
  Rows queries = test::NormalRows(directions.rows, directions.dim, seed);
  for (size_t r = 0; r < queries.rows; ++r) {
    const double along = test::Dot(queries[r], directions[r]);
    for (size_t j = 0; j < queries.dim; ++j) {
      queries[r][j] -= static_cast<float>(along * static_cast<double>(directions[r][j]));
    }
    const double across = norm * std::sqrt(1.0 - rho * rho) / test::Norm(queries[r]);
    for (size_t j = 0; j < queries.dim; ++j) {
      queries[r][j] = static_cast<float>(across * static_cast<double>(queries[r][j]) +
                                         norm * rho * static_cast<double>(directions[r][j]));
    }
  }
  return queries;
}

// Errors of <query, row> over `draws` sketches, with unit rows times row_norm.
test::Sample Errors(QjlOptions options, double rho, double row_norm, double query_norm, int draws,
                    size_t pairs) {
  test::Sample errors;
  options.norm_type = ScaleType::kF32;
  for (int draw = 0; draw < draws; ++draw) {
    options.seed = static_cast<uint64_t>(draw);
    const auto sketch = QjlSketch::Create(options);
    Rows rows = test::UnitRows(pairs, options.dim, 1000 + options.seed);
    const Rows queries = QueriesAtCosine(rows, rho, query_norm, 2000000 + options.seed);
    for (float& x : rows.values) x *= static_cast<float>(row_norm);
    const auto encoded = sketch->Encode(rows.view());
    const auto prepared = sketch->Prepare(queries.view());
    Rows scores(pairs, pairs);
    EXPECT_TRUE(sketch->Score(*prepared, *encoded, scores.view()));
    for (size_t r = 0; r < pairs; ++r) {
      errors.Add(static_cast<double>(scores[r][r]) - test::Dot(queries[r], rows[r]));
    }
  }
  return errors;
}

class QjlVarianceTest : public testing::TestWithParam<size_t> {};

TEST_P(QjlVarianceTest, GaussianVarianceIsTheFormulas) {
  const size_t sketch_rows = GetParam();
  const double row_norm = 1.5;
  const double query_norm = 2.0;
  for (const double rho : {0.0, 0.6, 0.95}) {
    const QjlOptions options = {
        .dim = 32, .sketch_rows = sketch_rows, .kind = SketchKind::kGaussian};
    const test::Sample errors = Errors(options, rho, row_norm, query_norm, 2000, 10);
    const double inner = rho * row_norm * query_norm;
    const double size = row_norm * query_norm;
    const double expected =
        (std::numbers::pi / 2.0 * size * size - inner * inner) / static_cast<double>(sketch_rows);
    EXPECT_NEAR(errors.variance(), expected, 0.03 * expected) << "rho " << rho;
    EXPECT_NEAR(errors.mean(), 0.0, 4.0 * errors.standard_error()) << "rho " << rho;
  }
}

INSTANTIATE_TEST_SUITE_P(SketchRows, QjlVarianceTest, testing::Values(24, 32, 80));

TEST(QjlTheoryTest, OrthogonalIsUnbiasedForEveryShape) {
  for (const auto& [dim, sketch_rows] :
       std::vector<std::pair<size_t, size_t>>{{8, 8}, {16, 40}, {64, 64}, {80, 40}, {96, 200}}) {
    const QjlOptions options = {.dim = dim, .sketch_rows = sketch_rows};
    const test::Sample errors = Errors(options, 0.9, 1.0, 1.0, 2000, 8);
    EXPECT_NEAR(errors.mean(), 0.0, 4.0 * errors.standard_error())
        << dim << " dims, " << sketch_rows << " signs";
    // The test has the power to see the constant of Gaussian sketches, 1 + 1/(4 dim) too large.
    if (dim == 8) {
      EXPECT_LT(4.0 * errors.standard_error(), 0.9 / (4.0 * 8.0));
    }
  }
}

// d Var at rho = 0, m = d = 128: 1.571 for Gaussian, .564-.571 for orthogonal S (acceptance rows 9
// and 10, b = 1).
TEST(QjlTheoryTest, GaussianVarianceAtDim128) {
  const test::Sample errors =
      Errors({.dim = 128, .kind = SketchKind::kGaussian}, 0.0, 1.0, 1.0, 600, 30);
  EXPECT_NEAR(128.0 * errors.variance(), 1.571, 0.04 * 1.571);
}

TEST(QjlTheoryTest, OrthogonalRowsTakeAwayMostOfTheVariance) {
  const test::Sample errors = Errors({.dim = 128}, 0.0, 1.0, 1.0, 600, 40);
  EXPECT_GT(128.0 * errors.variance(), 0.96 * 0.564);
  EXPECT_LT(128.0 * errors.variance(), 1.04 * 0.571);
}

// Row and query fixed, also the worst for a fast transform: the mean is over S alone.
TEST(QjlTheoryTest, UnbiasedForEachFixedRow) {
  constexpr size_t kDim = 64;
  Rows rows = test::UnitRows(3, kDim, 5);
  for (size_t j = 0; j < kDim; ++j) {
    rows[1][j] = j == 7 ? 1.0f : 0.0f;
    rows[2][j] = 0.125f;
  }
  Rows queries = test::UnitRows(3, kDim, 6);
  queries[1][7] = 0.8f;
  for (const SketchKind kind : {SketchKind::kGaussian, SketchKind::kOrthogonal}) {
    std::vector<test::Sample> errors(3);
    for (uint64_t seed = 0; seed < 4000; ++seed) {
      const auto sketch = QjlSketch::Create(
          {.dim = kDim, .kind = kind, .norm_type = ScaleType::kF32, .seed = seed});
      Rows scores(3, 3);
      ASSERT_TRUE(sketch->Score(*sketch->Prepare(queries.view()), *sketch->Encode(rows.view()),
                                scores.view()));
      for (size_t r = 0; r < 3; ++r) {
        errors[r].Add(static_cast<double>(scores[r][r]) - test::Dot(queries[r], rows[r]));
      }
    }
    for (size_t r = 0; r < 3; ++r) {
      EXPECT_NEAR(errors[r].mean(), 0.0, 4.0 * errors[r].standard_error()) << "row " << r;
      EXPECT_LT(errors[r].standard_error(), 0.003);
    }
  }
}

}  // namespace
}  // namespace turboquant
