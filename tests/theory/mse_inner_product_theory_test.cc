// Inner products with encoded rows: bias, variance, and how far integer scores lie from the dot
// product with the decoded row.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tests/support/encoded_rows.h"
#include "tests/support/random_rows.h"
#include "tests/support/sphere_density.h"
#include "turboquant/mse_quantizer.h"

namespace turboquant {
namespace {

using test::MakeMse;
using test::Rows;

constexpr size_t kDim = 128;
constexpr size_t kRows = 20000;

// Inner products of decoded rows with the unit row itself, and with a random unit vector across
// it. A query at cosine rho scores rho · along + sqrt(1 - rho²) · across.
struct Components {
  std::vector<double> along;
  std::vector<double> across;

  double At(size_t r, double rho) const {
    return rho * along[r] + std::sqrt(1.0 - rho * rho) * across[r];
  }
};

Components Measure(const MseOptions& options) {
  static const Rows rows = test::UnitRows(kRows, kDim, 1);
  static const Rows other = test::UnitRows(kRows, kDim, 2);
  const MseQuantizer quantizer = MakeMse(options);
  Rows decoded(kRows, kDim);
  EXPECT_TRUE(quantizer.Decode(*quantizer.Encode(rows.view()), decoded.view()));
  Components components;
  for (size_t r = 0; r < kRows; ++r) {
    const double cosine = test::Dot(rows[r], other[r]);
    const double along = test::Dot(rows[r], decoded[r]);
    components.along.push_back(along);
    components.across.push_back((test::Dot(other[r], decoded[r]) - cosine * along) /
                                std::sqrt(1.0 - cosine * cosine));
  }
  return components;
}

struct Slope {
  double value;
  double standard_error;
};

// Least squares of the inner product on its true value rho, which runs over [-0.95, 0.95].
Slope Regress(const Components& components) {
  const auto rho_of = [](size_t r) {
    return 1.9 * (static_cast<double>(r) + 0.5) / double{kRows} - 0.95;
  };
  double rho_rho = 0.0;
  double rho_product = 0.0;
  test::Sample products;
  for (size_t r = 0; r < kRows; ++r) products.Add(components.At(r, rho_of(r)));
  for (size_t r = 0; r < kRows; ++r) {
    const double rho = rho_of(r);
    rho_rho += rho * rho;
    rho_product += rho * (components.At(r, rho) - products.mean());
  }
  const double slope = rho_product / rho_rho;
  double squared_residuals = 0.0;
  for (size_t r = 0; r < kRows; ++r) {
    const double residual = components.At(r, rho_of(r)) - products.mean() - slope * rho_of(r);
    squared_residuals += residual * residual;
  }
  return {slope, std::sqrt(squared_residuals / (double{kRows} - 2.0) / rho_rho)};
}

class MseSlopeTest : public testing::TestWithParam<int> {
 protected:
  // With the codebook of the sphere itself, so that centroids are the means of their cells.
  Slope Measured(Scale scale) const {
    return Regress(Measure({.dim = kDim,
                            .bits = GetParam(),
                            .scale = scale,
                            .scale_search = false,
                            .scale_type = ScaleType::kF32,
                            .density = CodebookDensity::kSphere}));
  }
  double Distortion() const {
    const auto codebook =
        Codebook::Create({.dim = kDim, .bits = GetParam(), .density = CodebookDensity::kSphere});
    EXPECT_TRUE(codebook);
    return test::SphereDistortion(kDim, *codebook);
  }
  static void ExpectSlope(const Slope& slope, double expected) {
    EXPECT_NEAR(slope.value, expected,
                0.02 * std::fabs(1.0 - expected) + 4.0 * slope.standard_error);
  }
};

TEST_P(MseSlopeTest, NormScaleShrinksByTheDistortion) {
  const Slope slope = Measured(Scale::kNorm);
  ExpectSlope(slope, 1.0 - Distortion());
  EXPECT_LT(4.0 * slope.standard_error, 0.5 * Distortion()) << "power of the test";
}

TEST_P(MseSlopeTest, LeastSquaresScaleShrinksByTheDistortion) {
  ExpectSlope(Measured(Scale::kLeastSquares), 1.0 - Distortion());
}

TEST_P(MseSlopeTest, MatchedScaleShrinksByHalfAsMuch) {
  ExpectSlope(Measured(Scale::kMatched), std::sqrt(1.0 - Distortion()));
}

TEST_P(MseSlopeTest, UnbiasedScaleDoesNotShrink) { ExpectSlope(Measured(Scale::kUnbiased), 1.0); }

INSTANTIATE_TEST_SUITE_P(Bits, MseSlopeTest, testing::Range(1, 7));

class MseVarianceTest : public testing::TestWithParam<int> {};

TEST_P(MseVarianceTest, UnbiasedScaleHasTheVarianceOfTheTheory) {
  const double expected[] = {.574, .130, .0342, .0094, .0024};
  const int bits = GetParam();
  const Components components =
      Measure({.dim = kDim, .bits = bits, .scale_search = false, .scale_type = ScaleType::kF32});
  for (const double rho : {0.0, 0.3, 0.7, 0.95}) {
    test::Sample errors;
    for (size_t r = 0; r < kRows; ++r) errors.Add(components.At(r, rho) - rho);
    const double at_zero = double{kDim} * errors.variance() / (1.0 - rho * rho);
    EXPECT_NEAR(at_zero, expected[bits - 1], 0.04 * expected[bits - 1]) << "rho " << rho;
    EXPECT_NEAR(errors.mean(), 0.0, 4.0 * errors.standard_error()) << "rho " << rho;
  }
  // The inner product with the row itself is exact, up to the grid and float.
  for (size_t r = 0; r < kRows; ++r) ASSERT_NEAR(components.along[r], 1.0, 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Bits, MseVarianceTest, testing::Range(1, 6));

// Score against the dot product with the decoded row, for one shape.
class ScoreErrors {
 public:
  ScoreErrors(const MseOptions& options, int digits, std::string name)
      : digits_(digits), name_(std::move(name)), quantizer_(MakeMse(options)) {}

  void Check() {
    const size_t dim = quantizer_.options().dim;
    const Rows rows = test::NormalRows(50, dim, 1);
    Rows queries = test::NormalRows(6, dim, 2);
    for (size_t j = 1; j < dim; ++j) queries[5][j] = 0.0f;  // one-hot
    const auto encoded = quantizer_.Encode(rows.view());
    const auto prepared = quantizer_.Prepare(queries.view(), {.digits = digits_});
    ASSERT_TRUE(encoded && prepared);
    Rows scores(6, 50), decoded(50, dim), centroids(50, dim), rotated(6, dim);
    ASSERT_TRUE(quantizer_.Score(*prepared, *encoded, scores.view()));
    ASSERT_TRUE(quantizer_.Decode(*encoded, decoded.view()));
    ASSERT_TRUE(quantizer_.DecodeRotated(*encoded, centroids.view()));
    ASSERT_TRUE(quantizer_.rotation().Apply(queries.view(), rotated.view()));
    test::Sample squares;  // of errors in units of what rounding a query at random gives
    for (size_t q = 0; q < 6; ++q) {
      float largest = 0.0f;
      for (const float y : rotated[q]) largest = std::max(largest, std::fabs(y));
      // The largest coordinate becomes 63 or 63 · 128 + 63.
      const double step = static_cast<double>(largest) / (digits_ == 2 ? 8127.0 : 63.0);
      for (size_t r = 0; r < 50; ++r) {
        double l1 = 0.0;
        for (const float c : centroids[r]) l1 += std::fabs(static_cast<double>(c));
        const double error = static_cast<double>(scores[q][r]) - test::Dot(queries[q], decoded[r]);
        const double norms = test::Norm(queries[q]) * test::Norm(decoded[r]);
        ASSERT_LE(std::fabs(error), 0.5 * step * l1 + 2e-6 * norms) << name_;
        const double unit = error / (step / std::sqrt(12.0) * test::Norm(centroids[r]));
        if (q < 5) squares.Add(unit * unit);
      }
    }
    // Two-sided: rounding errors are uniform in a step, so the mean square is 1.
    if (dim >= 64) {
      EXPECT_NEAR(squares.mean(), 1.0, 0.35) << name_;
    }
  }

 private:
  int digits_;
  std::string name_;
  MseQuantizer quantizer_;
};

TEST(MseScoreTest, ScoreIsDecodeThenDotWithinTheStepOfTheQuery) {
  for (const size_t dim : {2, 3, 16, 33, 64, 80, 112, 128, 130, 256, 2080}) {
    for (int bits = 1; bits <= 8; ++bits) {
      for (const int digits : {1, 2}) {
        const std::string name = "dim " + std::to_string(dim) + " bits " + std::to_string(bits) +
                                 " digits " + std::to_string(digits);
        MseOptions options = {
            .dim = dim, .bits = bits, .scale_search = false, .rotation_rounds = 1 + bits % 3};
        ScoreErrors(options, digits, name).Check();
        if (dim > 256) continue;
        options.rotation = RotationKind::kDense;
        options.scale_type = ScaleType::kF32;
        ScoreErrors(options, digits, name + " dense").Check();
        options.codebook = CodebookKind::kUniform;
        if (bits == 8) ScoreErrors(options, digits, name + " uniform").Check();
      }
    }
  }
}

}  // namespace
}  // namespace turboquant
