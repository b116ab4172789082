#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "src/base/half.h"
#include "tests/support/random_rows.h"
#include "tests/support/threads.h"
#include "turboquant/prod_quantizer.h"

namespace turboquant {
namespace {

using test::Rows;

ProdQuantizer MakeQuantizer(const ProdOptions& options) {
  auto quantizer = ProdQuantizer::Create(options);
  EXPECT_TRUE(quantizer) << quantizer.error().message;
  return *std::move(quantizer);
}

std::vector<ProdOptions> Shapes() {
  std::vector<ProdOptions> shapes;
  for (const SketchKind sketch : {SketchKind::kGaussian, SketchKind::kOrthogonal}) {
    for (const size_t dim : {2, 9, 48, 64, 80, 128}) {
      for (const int bits : {2, 3, 5, 8}) {
        shapes.push_back({.dim = dim, .bits = bits, .sketch = sketch});
      }
    }
    shapes.push_back({.dim = 32, .sketch = sketch, .sketch_rows = 11});
    shapes.push_back({.dim = 32, .sketch = sketch, .sketch_rows = 100});
    shapes.push_back({.dim = 40,
                      .sketch = sketch,
                      .scale_type = ScaleType::kF32,
                      .rotation = RotationKind::kDense});
  }
  return shapes;
}

std::string Describe(const ProdOptions& options) {
  std::string text = options.sketch == SketchKind::kGaussian ? "Gaussian" : "orthogonal";
  text.append(" dim ").append(std::to_string(options.dim));
  return text.append(" bits ").append(std::to_string(options.bits));
}

// Centroids of row r on the unit sphere's scale.
std::vector<float> CentroidsOf(const ProdQuantizer& quantizer, const ProdRows& rows, size_t r) {
  std::vector<uint8_t> codes(rows.dim());
  EXPECT_TRUE(rows.codes().Codes(r, codes));
  std::vector<float> centroids;
  for (const uint8_t code : codes) {
    centroids.push_back(static_cast<float>(quantizer.mse().codebook().Centroid(code) /
                                           std::sqrt(static_cast<double>(rows.dim()))));
  }
  return centroids;
}

TEST(ProdTest, FirstStageIsTheMseQuantizerAtOneBitLess) {
  for (const ProdOptions& options : Shapes()) {
    const ProdQuantizer quantizer = MakeQuantizer(options);
    const MseOptions& mse = quantizer.mse().options();
    EXPECT_EQ(mse.bits, options.bits - 1);
    EXPECT_EQ(mse.scale, Scale::kNorm);
    EXPECT_FALSE(quantizer.mse().scale_search());
    const Rows rows = test::NormalRows(3, options.dim, 1);
    const auto encoded = quantizer.Encode(rows.view());
    const auto codes = quantizer.mse().Encode(rows.view());
    ASSERT_TRUE(encoded && codes);
    EXPECT_EQ(encoded->bits(), options.bits);
    EXPECT_TRUE(std::ranges::equal(encoded->codes().blocks(), codes->blocks()));
    for (size_t r = 0; r < 3; ++r) {
      EXPECT_EQ(encoded->codes().ScaleOf(r), codes->ScaleOf(r));
      EXPECT_NEAR(encoded->codes().ScaleOf(r), test::Norm(rows[r]), 5e-4 * test::Norm(rows[r]));
    }
  }
}

TEST(ProdTest, SketchIsThatOfTheRotatedResidual) {
  for (const ProdOptions& options : Shapes()) {
    const ProdQuantizer quantizer = MakeQuantizer(options);
    const Rows rows = test::UnitRows(3, options.dim, 2);
    const auto encoded = quantizer.Encode(rows.view());
    ASSERT_TRUE(encoded);
    Rows residuals(3, options.dim);
    ASSERT_TRUE(quantizer.mse().rotation().Apply(rows.view(), residuals.view()));
    for (size_t r = 0; r < 3; ++r) {
      const std::vector<float> centroids = CentroidsOf(quantizer, *encoded, r);
      for (size_t j = 0; j < options.dim; ++j) residuals[r][j] -= centroids[j];
    }
    const auto sketched = quantizer.sketch().Encode(residuals.view());
    ASSERT_TRUE(sketched);
    for (size_t r = 0; r < 3; ++r) {
      EXPECT_NEAR(encoded->residuals().NormOf(r), sketched->NormOf(r), 1e-3f) << Describe(options);
      int different = 0;
      for (size_t byte = 0; byte < sketched->RowBytes(); ++byte) {
        different += std::popcount(static_cast<unsigned>(sketched->SignsOf(r)[byte] ^
                                                         encoded->residuals().SignsOf(r)[byte]));
      }
      EXPECT_LE(different, 1) << Describe(options);  // a projection that is all but zero
    }
  }
}

// The largest differences of scores, over the norms of query and decoded row.
struct ScoreErrors {
  double from_product;  // of the query with the decoded row
  double from_parts;    // the first stage's own score, and the product with what the sketch adds
};

ScoreErrors LargestScoreErrors(const ProdOptions& options, int digits) {
  constexpr size_t kRows = 70;  // more than one task
  const ProdQuantizer quantizer = MakeQuantizer(options);
  const Rows queries = test::NormalRows(3, options.dim, 4);
  const auto encoded = quantizer.Encode(test::NormalRows(kRows, options.dim, 3).view());
  const auto prepared = quantizer.Prepare(queries.view(), {.digits = digits});
  const auto for_codes = quantizer.mse().Prepare(queries.view(), {.digits = digits});
  EXPECT_TRUE(encoded && prepared && for_codes);
  Rows decoded(kRows, options.dim);
  Rows codes_alone(kRows, options.dim);
  Rows scores(3, kRows);
  Rows code_scores(3, kRows);
  EXPECT_TRUE(quantizer.Decode(*encoded, decoded.view()));
  EXPECT_TRUE(quantizer.mse().Decode(encoded->codes(), codes_alone.view()));
  EXPECT_TRUE(quantizer.Score(*prepared, *encoded, scores.view()));
  EXPECT_TRUE(quantizer.mse().Score(*for_codes, encoded->codes(), code_scores.view()));
  ScoreErrors largest = {0.0, 0.0};
  for (size_t q = 0; q < 3; ++q) {
    for (size_t r = 0; r < kRows; ++r) {
      const double norms = test::Norm(queries[q]) * test::Norm(decoded[r]);
      const double score = static_cast<double>(scores[q][r]);
      const double product = test::Dot(queries[q], decoded[r]);
      const double sketched = product - test::Dot(queries[q], codes_alone[r]);
      const double parts = static_cast<double>(code_scores[q][r]) + sketched;
      largest.from_product = std::max(largest.from_product, std::fabs(score - product) / norms);
      largest.from_parts = std::max(largest.from_parts, std::fabs(score - parts) / norms);
    }
  }
  return largest;
}

// But for the rounding of the query to digits of 7 bits, which is the first stage's.
TEST(ProdTest, ScoreIsDecodeThenDot) {
  for (const ProdOptions& options : Shapes()) {
    const ScoreErrors two = LargestScoreErrors(options, 2);
    EXPECT_LE(two.from_parts, 1e-5) << Describe(options);
    EXPECT_LE(two.from_product, 1e-4) << Describe(options);
    const ScoreErrors one = LargestScoreErrors(options, 1);
    EXPECT_LE(one.from_parts, 1e-5) << Describe(options);
    EXPECT_LE(one.from_product, 1e-2) << Describe(options);
    EXPECT_GT(one.from_product, 5 * two.from_product) << Describe(options);
  }
  const ProdQuantizer quantizer = MakeQuantizer({.dim = 16});
  EXPECT_EQ(quantizer.Prepare(test::NormalRows(1, 16, 1).view(), {.digits = 3}).error().message,
            "digits must be 1 or 2, got 3");
}

TEST(ProdTest, DecodeIsCentroidsPlusTheSketchsEstimateOfTheResidual) {
  for (const ProdOptions& options : Shapes()) {
    const ProdQuantizer quantizer = MakeQuantizer(options);
    const auto encoded = quantizer.Encode(test::NormalRows(2, options.dim, 5).view());
    ASSERT_TRUE(encoded);
    Rows decoded(2, options.dim);
    ASSERT_TRUE(quantizer.Decode(*encoded, decoded.view()));
    Rows rotated(2, options.dim);
    ASSERT_TRUE(quantizer.mse().rotation().Apply(decoded.view(), rotated.view()));
    // S^T signs from the columns of S.
    Rows basis(options.dim, options.dim);
    for (size_t j = 0; j < options.dim; ++j) basis[j][j] = 1.0f;
    const size_t sketch_rows = quantizer.sketch().options().sketch_rows;
    Rows columns(options.dim, sketch_rows);
    ASSERT_TRUE(quantizer.sketch().Project(basis.view(), columns.view()));
    for (size_t r = 0; r < 2; ++r) {
      const std::vector<float> centroids = CentroidsOf(quantizer, *encoded, r);
      const double gamma = static_cast<double>(encoded->residuals().NormOf(r));
      const double scale = static_cast<double>(encoded->codes().ScaleOf(r));
      for (size_t j = 0; j < options.dim; ++j) {
        double sum = 0.0;
        for (size_t i = 0; i < sketch_rows; ++i) {
          const bool negative = encoded->residuals().SignsOf(r)[i / 8] >> (i % 8) & 1;
          sum += static_cast<double>(negative ? -columns[j][i] : columns[j][i]);
        }
        const double expected = scale * (static_cast<double>(centroids[j]) +
                                         gamma * quantizer.sketch().estimator_constant() * sum);
        EXPECT_NEAR(rotated[r][j], expected, 4e-6 * test::Norm(rotated[r])) << Describe(options);
      }
    }
  }
}

TEST(ProdTest, ZeroRowsAndEmptyBatches) {
  const ProdQuantizer quantizer = MakeQuantizer({.dim = 24});
  Rows rows = test::NormalRows(2, 24, 6);
  std::ranges::fill(rows[1], 0.0f);
  const auto encoded = quantizer.Encode(rows.view());
  ASSERT_TRUE(encoded);
  EXPECT_EQ(encoded->codes().ScaleOf(1), 0.0f);
  EXPECT_EQ(encoded->residuals().NormOf(1), 0.0f);
  for (const uint8_t byte : encoded->residuals().SignsOf(1)) EXPECT_EQ(byte, 0);
  Rows decoded = test::NormalRows(2, 24, 7);
  ASSERT_TRUE(quantizer.Decode(*encoded, decoded.view()));
  for (const float x : decoded[1]) EXPECT_EQ(x, 0.0f);
  const auto none = quantizer.Encode(Rows(0, 24).view());
  ASSERT_TRUE(none);
  EXPECT_EQ(none->size(), 0u);
  EXPECT_TRUE(quantizer.Decode(*none, Rows(0, 24).view()));
  EXPECT_TRUE(quantizer.Score(*quantizer.Prepare(rows.view()), *none, Rows(2, 0).view()));
}

TEST(ProdTest, EveryNormIsServed) {
  const ProdQuantizer quantizer = MakeQuantizer({.dim = 64, .scale_type = ScaleType::kF32});
  const Rows rows = test::UnitRows(1, 64, 8);
  const auto unit = quantizer.Encode(rows.view());
  ASSERT_TRUE(unit);
  for (const float factor : {0x1p-90f, 50.0f, 0x1p126f}) {
    Rows scaled = rows;
    for (float& x : scaled.values) x *= factor;
    const auto encoded = quantizer.Encode(scaled.view());
    ASSERT_TRUE(encoded) << encoded.error().message;
    EXPECT_TRUE(std::ranges::equal(encoded->codes().blocks(), unit->codes().blocks()));
    EXPECT_TRUE(std::ranges::equal(encoded->residuals().signs(), unit->residuals().signs()));
    Rows decoded(1, 64);
    ASSERT_TRUE(quantizer.Decode(*encoded, decoded.view()));
    for (const float x : decoded.values) EXPECT_TRUE(std::isfinite(x));
    EXPECT_NEAR(
        std::sqrt(test::SquaredDistance(decoded[0], scaled[0])) / static_cast<double>(factor), 0.13,
        0.03);
  }
}

TEST(ProdTest, TakesHalfPrecisionRowsAsTheirFloatValues) {
  const ProdQuantizer quantizer = MakeQuantizer({.dim = 32});
  const Rows rows = test::NormalRows(2, 32, 9);
  std::vector<Float16> half;
  Rows exact(2, 32);
  for (size_t i = 0; i < 64; ++i) {
    half.push_back(F32ToF16(rows.values[i]));
    exact.values[i] = F16ToF32(half[i]);
  }
  const auto a = quantizer.Encode(MatrixView<const Float16>{half.data(), 2, 32});
  const auto b = quantizer.Encode(exact.view());
  ASSERT_TRUE(a && b);
  EXPECT_TRUE(std::ranges::equal(a->codes().blocks(), b->codes().blocks()));
  EXPECT_TRUE(std::ranges::equal(a->residuals().signs(), b->residuals().signs()));
}

TEST(ProdTest, ResultsDoNotDependOnThreadsOrBatches) {
  const ProdQuantizer quantizer = MakeQuantizer({.dim = 40, .bits = 3});
  const Rows rows = test::NormalRows(1200, 40, 10);  // more than a chunk
  const auto whole = quantizer.Encode(rows.view());
  const auto threaded = quantizer.Encode(rows.view(), test::Threads(3));
  ProdRows appended = quantizer.MakeRows();
  for (size_t first = 0; first < 1200; first += 70) {
    const size_t count = std::min<size_t>(70, 1200 - first);
    ASSERT_TRUE(quantizer.Append(rows.view().Slice(first, count), appended));
  }
  ASSERT_TRUE(whole && threaded);
  const auto prepared = quantizer.Prepare(rows.view().Slice(0, 2));
  Rows expected(2, 1200);
  ASSERT_TRUE(quantizer.Score(*prepared, *whole, expected.view()));
  Rows expected_rows(1200, 40);
  ASSERT_TRUE(quantizer.Decode(*whole, expected_rows.view()));
  for (const ProdRows* other : std::initializer_list<const ProdRows*>{&*threaded, &appended}) {
    EXPECT_TRUE(std::ranges::equal(other->codes().blocks(), whole->codes().blocks()));
    EXPECT_TRUE(std::ranges::equal(other->residuals().signs(), whole->residuals().signs()));
    Rows scores(2, 1200);
    Rows decoded(1200, 40);
    ASSERT_TRUE(quantizer.Score(*prepared, *other, scores.view(), test::Threads(2)));
    ASSERT_TRUE(quantizer.Decode(*other, decoded.view(), test::Backwards()));
    EXPECT_EQ(scores.values, expected.values);
    EXPECT_EQ(decoded.values, expected_rows.values);
  }
}

TEST(ProdTest, EveryBackendGivesTheSameBytes) {
  const Rows rows = test::NormalRows(30, 72, 11);
  const ProdQuantizer scalar = MakeQuantizer({.dim = 72, .backend = Backend::kScalar});
  const auto expected = scalar.Encode(rows.view());
  ASSERT_TRUE(expected);
  for (const Backend backend : AvailableBackends()) {
    const ProdQuantizer quantizer = MakeQuantizer({.dim = 72, .backend = backend});
    const auto encoded = quantizer.Encode(rows.view());
    ASSERT_TRUE(encoded);
    EXPECT_TRUE(std::ranges::equal(encoded->codes().blocks(), expected->codes().blocks()));
    EXPECT_TRUE(std::ranges::equal(encoded->residuals().signs(), expected->residuals().signs()));
  }
}

// With as many rounds, or both dense, S would be Π itself if they drew from one stream.
TEST(ProdTest, SketchAndRotationShareNoRandomness) {
  for (const ProdOptions& options : std::initializer_list<ProdOptions>{
           {.dim = 16, .rotation = RotationKind::kDense}, {.dim = 64, .rotation_rounds = 3}}) {
    const size_t dim = options.dim;
    const ProdQuantizer quantizer = MakeQuantizer(options);
    Rows rotated(dim, dim);
    Rows projected(dim, dim);
    for (size_t j = 0; j < dim; ++j) rotated[j][j] = 1.0f;
    ASSERT_TRUE(quantizer.sketch().Project(rotated.view(), projected.view()));
    ASSERT_TRUE(quantizer.mse().rotation().Apply(rotated.view(), rotated.view()));
    // trace(Πᵀ S / sqrt(dim)): about N(0, 1) if they are independent, dim if they are the same.
    double trace = 0.0;
    for (size_t j = 0; j < dim; ++j) trace += test::Dot(rotated[j], projected[j]);
    EXPECT_LT(std::fabs(trace) / std::sqrt(static_cast<double>(dim)), 5.0) << dim;
  }
}

}  // namespace
}  // namespace turboquant
