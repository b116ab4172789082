#include "turboquant/qjl.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

#include "src/base/half.h"
#include "src/base/random.h"
#include "tests/support/random_rows.h"
#include "tests/support/threads.h"

namespace turboquant {
namespace {

using test::Rows;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

QjlSketch MakeSketch(const QjlOptions& options) {
  auto sketch = QjlSketch::Create(options);
  EXPECT_TRUE(sketch) << sketch.error().message;
  return *std::move(sketch);
}

std::vector<QjlOptions> Shapes() {
  std::vector<QjlOptions> shapes;
  for (const SketchKind kind : {SketchKind::kGaussian, SketchKind::kOrthogonal}) {
    for (const size_t dim : {2, 5, 16, 31, 32, 33, 64, 80, 128}) {
      for (const size_t rows : {size_t{1}, size_t{7}, dim, dim + 1, 2 * dim + 3}) {
        shapes.push_back({.dim = dim, .sketch_rows = rows, .kind = kind});
      }
    }
  }
  return shapes;
}

std::string Describe(const QjlOptions& options) {
  return (options.kind == SketchKind::kGaussian ? "Gaussian " : "orthogonal ") +
         std::to_string(options.sketch_rows) + " × " + std::to_string(options.dim);
}

TEST(QjlTest, GaussianMatrixIsItsStreamOfNormals) {
  const QjlSketch sketch = MakeSketch({.dim = 5,
                                       .sketch_rows = 9,
                                       .kind = SketchKind::kGaussian,
                                       .seed = 3,
                                       .stream = {.layer = 1, .head = 2, .side = 1}});
  RandomBits normals(3, {.layer = 1, .head = 2, .side = 1, .stage = 1, .round = 255});
  Rows basis(5, 5);
  for (size_t j = 0; j < 5; ++j) basis[j][j] = 1.0f;
  Rows columns(5, 9);
  ASSERT_TRUE(sketch.Project(basis.view(), columns.view()));
  for (size_t i = 0; i < 9; ++i) {
    for (size_t j = 0; j < 5; ++j) {
      EXPECT_EQ(columns[j][i], static_cast<float>(normals.NextNormal())) << i << ", " << j;
    }
  }
}

// Part of the format: block 0 is the rotation of stage 1, block k that of stage 127 + k.
TEST(QjlTest, OrthogonalBlocksAreRotationsOfTheirOwnStages) {
  for (const size_t dim : {16, 31, 32, 48, 64}) {
    const RandomStream stream = {.layer = 2, .head = 3, .side = 1};
    const QjlSketch sketch =
        MakeSketch({.dim = dim, .sketch_rows = 3 * dim, .seed = 9, .stream = stream});
    const Rows row = test::NormalRows(1, dim, 1);
    Rows projected(1, 3 * dim);
    ASSERT_TRUE(sketch.Project(row.view(), projected.view()));
    const uint32_t stages[] = {1, 128, 129};
    for (size_t block = 0; block < 3; ++block) {
      const auto rotation =
          Rotation::Create({.dim = dim,
                            .kind = dim < 32 ? RotationKind::kDense : RotationKind::kHadamard,
                            .rounds = 3,
                            .seed = 9,
                            .stream = stream,
                            .stage = stages[block]});
      ASSERT_TRUE(rotation);
      Rows rotated(1, dim);
      ASSERT_TRUE(rotation->Apply(row.view(), rotated.view()));
      const float length = static_cast<float>(std::sqrt(static_cast<double>(dim)));
      for (size_t i = 0; i < dim; ++i) {
        EXPECT_EQ(projected[0][block * dim + i], rotated[0][i] * length) << "block " << block;
      }
    }
  }
}

TEST(QjlTest, OrthogonalRowsHaveLengthRootDimAndStandAtRightAnglesWithinABlock) {
  for (const size_t dim : {2, 5, 31, 32, 33, 64, 80}) {
    const size_t sketch_rows = 2 * dim + 1;
    const QjlSketch sketch = MakeSketch({.dim = dim, .sketch_rows = sketch_rows});
    Rows basis(dim, dim);
    for (size_t j = 0; j < dim; ++j) basis[j][j] = 1.0f;
    Rows columns(dim, sketch_rows);
    ASSERT_TRUE(sketch.Project(basis.view(), columns.view()));
    double largest_across = 0.0;
    for (size_t a = 0; a < sketch_rows; ++a) {
      for (size_t b = 0; b <= a; ++b) {
        double dot = 0.0;
        for (size_t j = 0; j < dim; ++j) {
          dot += static_cast<double>(columns[j][a]) * static_cast<double>(columns[j][b]);
        }
        const double cosine = dot / static_cast<double>(dim);
        if (a / dim == b / dim) {
          EXPECT_NEAR(cosine, a == b ? 1.0 : 0.0, 1e-5) << "dim " << dim << " " << a << ", " << b;
        } else {
          largest_across = std::max(largest_across, std::fabs(cosine));
        }
      }
    }
    EXPECT_GT(largest_across, 0.05) << "stacked matrices are independent, dim " << dim;
    EXPECT_LT(largest_across, 1.0 - 1e-3) << "and not the same, dim " << dim;
  }
}

TEST(QjlTest, ConstantIsTheExactOne) {
  const double gaussian = MakeSketch({.dim = 64, .sketch_rows = 96, .kind = SketchKind::kGaussian})
                              .estimator_constant();
  EXPECT_DOUBLE_EQ(gaussian, std::sqrt(std::numbers::pi / 2.0) / 96.0);
  for (const double dim : {2.0, 3.0, 64.0, 128.0, 1536.0}) {
    const double exact = MakeSketch({.dim = static_cast<size_t>(dim)}).estimator_constant();
    const double expected = std::sqrt(std::numbers::pi / dim) / dim *
                            std::exp(std::lgamma((dim + 1.0) / 2.0) - std::lgamma(dim / 2.0));
    EXPECT_NEAR(exact, expected, 1e-11 * expected) << dim;
    if (dim < 64.0) continue;
    const double series = std::sqrt(std::numbers::pi / 2.0) / dim * (1.0 - 0.25 / dim);
    EXPECT_NEAR(exact, series, 0.1 / dim / dim * series) << dim;
  }
}

TEST(QjlTest, SignsAreThoseOfTheProjectionAndPaddingIsZero) {
  for (const QjlOptions& options : Shapes()) {
    const QjlSketch sketch = MakeSketch(options);
    const Rows rows = test::NormalRows(3, options.dim, 5);
    const auto encoded = sketch.Encode(rows.view());
    ASSERT_TRUE(encoded);
    ASSERT_EQ(encoded->size(), 3u);
    ASSERT_EQ(encoded->RowBytes(), (options.sketch_rows + 7) / 8);
    Rows projected(3, options.sketch_rows);
    ASSERT_TRUE(sketch.Project(rows.view(), projected.view()));
    for (size_t r = 0; r < 3; ++r) {
      EXPECT_NEAR(encoded->NormOf(r), test::Norm(rows[r]), 0x1p-11 * test::Norm(rows[r]));
      const std::span<const uint8_t> signs = encoded->SignsOf(r);
      for (size_t j = 0; j < 8 * signs.size(); ++j) {
        const bool negative = signs[j / 8] >> (j % 8) & 1;
        if (j >= options.sketch_rows) {
          EXPECT_FALSE(negative) << Describe(options) << " padding";
        } else if (std::fabs(projected[r][j]) > 1e-5f) {
          EXPECT_EQ(negative, projected[r][j] < 0.0f) << Describe(options) << " sign " << j;
        }
      }
    }
  }
}

TEST(QjlTest, ScoreIsDecodeThenDot) {
  for (const QjlOptions& options : Shapes()) {
    const QjlSketch sketch = MakeSketch(options);
    const Rows rows = test::NormalRows(5, options.dim, 6);
    const Rows queries = test::NormalRows(3, options.dim, 7);
    const auto encoded = sketch.Encode(rows.view());
    const auto prepared = sketch.Prepare(queries.view());
    ASSERT_TRUE(encoded && prepared);
    Rows decoded(5, options.dim);
    Rows scores(3, 5);
    ASSERT_TRUE(sketch.Decode(*encoded, decoded.view()));
    ASSERT_TRUE(sketch.Score(*prepared, *encoded, scores.view()));
    for (size_t q = 0; q < 3; ++q) {
      for (size_t r = 0; r < 5; ++r) {
        const double size = test::Norm(queries[q]) * test::Norm(decoded[r]);
        EXPECT_NEAR(scores[q][r], test::Dot(queries[q], decoded[r]), 1e-5 * size)
            << Describe(options);
      }
    }
  }
}

TEST(QjlTest, ScoresARowAgainstItselfAsItsSquaredNorm) {
  // Var = (1/m)(pi/2 - 1)|k|⁴ for Gaussian S: 5 sigma.
  for (const SketchKind kind : {SketchKind::kGaussian, SketchKind::kOrthogonal}) {
    const QjlSketch sketch = MakeSketch({.dim = 64, .sketch_rows = 2048, .kind = kind});
    Rows rows = test::UnitRows(4, 64, 8);
    for (float& x : rows.values) x *= 3.0f;
    const auto encoded = sketch.Encode(rows.view());
    const auto prepared = sketch.Prepare(rows.view());
    ASSERT_TRUE(encoded && prepared);
    Rows scores(4, 4);
    ASSERT_TRUE(sketch.Score(*prepared, *encoded, scores.view()));
    for (size_t r = 0; r < 4; ++r) EXPECT_NEAR(scores[r][r], 9.0, 9.0 * 5.0 * 0.0167);
  }
}

TEST(QjlTest, ZeroRowsAndZeroQueriesScoreZero) {
  const QjlSketch sketch = MakeSketch({.dim = 24});
  const Rows zero(2, 24);
  const Rows one = test::NormalRows(1, 24, 1);
  const auto encoded = sketch.Encode(zero.view());
  ASSERT_TRUE(encoded);
  EXPECT_EQ(encoded->NormOf(0), 0.0f);
  EXPECT_TRUE(std::ranges::all_of(encoded->signs(), [](uint8_t byte) { return byte == 0; }));
  Rows decoded = test::NormalRows(2, 24, 2);
  ASSERT_TRUE(sketch.Decode(*encoded, decoded.view()));
  EXPECT_TRUE(std::ranges::all_of(decoded.values, [](float x) { return x == 0.0f; }));
  Rows scores(1, 2);
  scores[0][0] = kNan;
  ASSERT_TRUE(sketch.Score(*sketch.Prepare(one.view()), *encoded, scores.view()));
  EXPECT_EQ(scores.values, std::vector<float>(2, 0.0f));
  ASSERT_TRUE(sketch.Score(*sketch.Prepare(Rows(1, 24).view()), *sketch.Encode(one.view()),
                           MatrixView<float>{scores.values.data(), 1, 1}));
  EXPECT_EQ(scores[0][0], 0.0f);
  // No rows at all.
  const auto none = sketch.Encode(Rows(0, 24).view());
  ASSERT_TRUE(none);
  EXPECT_EQ(none->size(), 0u);
  EXPECT_TRUE(sketch.Decode(*none, Rows(0, 24).view()));
  EXPECT_TRUE(sketch.Score(*sketch.Prepare(one.view()), *none, Rows(1, 0).view()));
}

TEST(QjlTest, SignsDoNotDependOnTheNorm) {
  for (const SketchKind kind : {SketchKind::kGaussian, SketchKind::kOrthogonal}) {
    const QjlSketch sketch = MakeSketch({.dim = 32, .kind = kind, .norm_type = ScaleType::kF32});
    Rows rows = test::UnitRows(1, 32, 9);
    const auto unit = sketch.Encode(rows.view());
    ASSERT_TRUE(unit);
    for (const float factor : {0x1p-100f, 0x1p-20f, 0x1p60f, 0x1p126f}) {
      Rows scaled = rows;
      for (float& x : scaled.values) x *= factor;
      const auto encoded = sketch.Encode(scaled.view());
      ASSERT_TRUE(encoded) << encoded.error().message;
      EXPECT_TRUE(std::ranges::equal(encoded->signs(), unit->signs())) << factor;
      EXPECT_FLOAT_EQ(encoded->NormOf(0), unit->NormOf(0) * factor);
    }
    Rows denormal(1, 32);
    denormal[0][3] = std::numeric_limits<float>::denorm_min();
    const auto encoded = sketch.Encode(denormal.view());
    ASSERT_TRUE(encoded);
    EXPECT_EQ(encoded->NormOf(0), std::numeric_limits<float>::denorm_min());
  }
}

TEST(QjlTest, TakesHalfPrecisionRowsAsTheirFloatValues) {
  const QjlSketch sketch = MakeSketch({.dim = 20});
  Rows rows = test::NormalRows(3, 20, 10);
  std::vector<Float16> f16;
  std::vector<BFloat16> bf16;
  Rows from_f16 = rows;
  Rows from_bf16 = rows;
  for (size_t i = 0; i < rows.values.size(); ++i) {
    f16.push_back(F32ToF16(rows.values[i]));
    bf16.push_back(F32ToBF16(rows.values[i]));
    from_f16.values[i] = F16ToF32(f16[i]);
    from_bf16.values[i] = BF16ToF32(bf16[i]);
  }
  const auto expect_equal = [&](RowsView half, const Rows& exact) {
    const auto a = sketch.Encode(half);
    const auto b = sketch.Encode(exact.view());
    ASSERT_TRUE(a && b);
    EXPECT_TRUE(std::ranges::equal(a->signs(), b->signs()));
    for (size_t r = 0; r < 3; ++r) EXPECT_EQ(a->NormOf(r), b->NormOf(r));
  };
  expect_equal(MatrixView<const Float16>{f16.data(), 3, 20}, from_f16);
  expect_equal(MatrixView<const BFloat16>{bf16.data(), 3, 20}, from_bf16);
}

TEST(QjlTest, ResultsDoNotDependOnThreadsOrBatches) {
  const QjlSketch sketch = MakeSketch({.dim = 48});
  const Rows rows = test::NormalRows(300, 48, 11);
  const Rows queries = test::NormalRows(2, 48, 12);
  const auto whole = sketch.Encode(rows.view());
  const auto threaded = sketch.Encode(rows.view(), test::Threads(3));
  ASSERT_TRUE(whole && threaded);
  SignRows appended = sketch.MakeRows();
  for (size_t first = 0; first < 300; first += 7) {
    const size_t count = std::min<size_t>(7, 300 - first);
    ASSERT_TRUE(sketch.Append(rows.view().Slice(first, count), appended));
  }
  const auto prepared = sketch.Prepare(queries.view());
  ASSERT_TRUE(prepared);
  Rows expected(2, 300);
  Rows expected_rows(300, 48);
  ASSERT_TRUE(sketch.Score(*prepared, *whole, expected.view()));
  ASSERT_TRUE(sketch.Decode(*whole, expected_rows.view()));
  for (const SignRows* other : std::initializer_list<const SignRows*>{&*threaded, &appended}) {
    EXPECT_TRUE(std::ranges::equal(other->signs(), whole->signs()));
    for (const ParallelFor& parallel_for : {test::Threads(2), test::Backwards()}) {
      Rows scores(2, 300);
      Rows decoded(300, 48);
      ASSERT_TRUE(sketch.Score(*prepared, *other, scores.view(), parallel_for));
      ASSERT_TRUE(sketch.Decode(*other, decoded.view(), parallel_for));
      EXPECT_EQ(scores.values, expected.values);
      EXPECT_EQ(decoded.values, expected_rows.values);
    }
  }
}

TEST(QjlTest, OrthogonalSketchHoldsNoMatrix) {
  EXPECT_LT(MakeSketch({.dim = 1024}).HeldBytes(), 13000u);
  EXPECT_GE(MakeSketch({.dim = 128, .kind = SketchKind::kGaussian}).HeldBytes(), 65536u);
}

}  // namespace
}  // namespace turboquant
