// MseQuantizer on every kind of row: element types, non-finite, zero, extreme and non-unit rows;
// and what codes, scales and decoded rows are.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "src/base/half.h"
#include "tests/support/encoded_rows.h"
#include "tests/support/expect_error.h"
#include "tests/support/random_rows.h"
#include "turboquant/mse_quantizer.h"

namespace turboquant {
namespace {

using test::FailsWith;
using test::MakeMse;
using test::Rows;
using test::Snapshot;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kLargest = std::numeric_limits<float>::max();

// The same numbers as Float16 or BFloat16.
std::vector<Float16> Halves(const Rows& rows) {
  std::vector<Float16> halves;
  for (const float x : rows.values) halves.push_back(F32ToF16(x));
  return halves;
}
std::vector<BFloat16> BrainFloats(const Rows& rows) {
  std::vector<BFloat16> floats;
  for (const float x : rows.values) floats.push_back(F32ToBF16(x));
  return floats;
}

MatrixView<const Float16> View(const std::vector<Float16>& elements, const Rows& shape) {
  return {elements.data(), shape.rows, shape.dim};
}
MatrixView<const BFloat16> View(const std::vector<BFloat16>& elements, const Rows& shape) {
  return {elements.data(), shape.rows, shape.dim};
}

TEST(MseInputTest, HalfRowsEncodeAsTheFloatsTheyAre) {
  for (const RotationKind rotation : {RotationKind::kHadamard, RotationKind::kDense}) {
    const MseQuantizer quantizer = MakeMse({.dim = 37, .rotation = rotation});
    const Rows rows = test::NormalRows(40, 37, 1);
    const std::vector<Float16> f16 = Halves(rows);
    const std::vector<BFloat16> bf16 = BrainFloats(rows);
    Rows from_f16 = rows;
    Rows from_bf16 = rows;
    std::ranges::transform(f16, from_f16.values.begin(), F16ToF32);
    std::ranges::transform(bf16, from_bf16.values.begin(), BF16ToF32);
    EXPECT_EQ(Snapshot(*quantizer.Encode(View(f16, rows))),
              Snapshot(*quantizer.Encode(from_f16.view())));
    EXPECT_EQ(Snapshot(*quantizer.Encode(View(bf16, rows))),
              Snapshot(*quantizer.Encode(from_bf16.view())));
    EXPECT_NE(Snapshot(*quantizer.Encode(View(bf16, rows))),
              Snapshot(*quantizer.Encode(rows.view())));
  }
}

TEST(MseInputTest, NonFiniteElementsAreNamedByRowAndColumn) {
  const MseQuantizer quantizer = MakeMse({.dim = 19, .scale_type = ScaleType::kF32});
  for (const size_t row : {0, 17, 299}) {
    for (const size_t column : {0, 7, 18}) {
      for (const float bad : {kNan, kInfinity, -kInfinity}) {
        Rows rows = test::NormalRows(300, 19, 1);
        rows[row][column] = bad;
        const std::string at = "[" + std::to_string(row) + "] is " +
                               (std::isnan(bad) ? "NaN" : "infinite") + " at column " +
                               std::to_string(column);
        const std::vector<Float16> f16 = Halves(rows);
        const std::vector<BFloat16> bf16 = BrainFloats(rows);
        constexpr auto kCode = ErrorCode::kNonFinite;
        EXPECT_TRUE(FailsWith(quantizer.Encode(rows.view()), kCode, "rows" + at));
        EXPECT_TRUE(FailsWith(quantizer.Encode(View(f16, rows)), kCode, "rows" + at));
        EXPECT_TRUE(FailsWith(quantizer.Encode(View(bf16, rows)), kCode, "rows" + at));
        EXPECT_TRUE(FailsWith(quantizer.Prepare(rows.view()), kCode, "queries" + at));
      }
    }
  }
}

TEST(MseInputTest, ZeroRowsDecodeToExactZeros) {
  for (int bits = 1; bits <= 8; ++bits) {
    for (const ScaleType scale_type : {ScaleType::kF16, ScaleType::kF32}) {
      for (const Tiling tiling : {Tiling::kKeys, Tiling::kValues}) {
        const MseQuantizer quantizer = MakeMse({.dim = 21, .bits = bits, .scale_type = scale_type});
        Rows rows = test::NormalRows(20, 21, 1);
        for (const size_t zero : {0, 3, 16, 19}) std::ranges::fill(rows[zero], 0.0f);
        rows[3][5] = -0.0f;
        const auto encoded = quantizer.Encode(rows.view(), tiling);
        ASSERT_TRUE(encoded);
        Rows decoded(20, 21);
        ASSERT_TRUE(quantizer.Decode(*encoded, decoded.view()));
        for (const size_t zero : {0, 3, 16, 19}) {
          std::vector<uint8_t> codes(21, 99);
          ASSERT_TRUE(encoded->Codes(zero, codes));
          EXPECT_EQ(codes, std::vector<uint8_t>(21)) << bits;
          EXPECT_EQ(encoded->ScaleOf(zero), 0.0f);
          for (const float x : decoded[zero]) EXPECT_EQ(x, 0.0f);
        }
        EXPECT_GT(encoded->ScaleOf(1), 0.0f);
      }
    }
  }
}

TEST(MseInputTest, ZeroQueriesScoreExactZeros) {
  const MseQuantizer quantizer = MakeMse({.dim = 21});
  const auto encoded = quantizer.Encode(test::NormalRows(20, 21, 1).view());
  const auto queries = quantizer.Prepare(Rows(2, 21).view());
  ASSERT_TRUE(encoded && queries);
  Rows scores(2, 20);
  std::ranges::fill(scores.values, 5.0f);
  ASSERT_TRUE(quantizer.Score(*queries, *encoded, scores.view()));
  for (const float score : scores.values) EXPECT_EQ(score, 0.0f);
}

// Multiplying a row by a power of two multiplies its scale by that and changes nothing else, from
// the smallest denormals to the edge of float. 1/16 > |x| = k/1024, so no step rounds.
TEST(MseInputTest, PowersOfTwoMoveOnlyTheScale) {
  for (const RotationKind rotation : {RotationKind::kHadamard, RotationKind::kDense}) {
    for (const size_t dim : {16, 50}) {
      const MseQuantizer quantizer =
          MakeMse({.dim = dim, .scale_type = ScaleType::kF32, .rotation = rotation});
      Rows rows = test::NormalRows(20, dim, 1);
      for (float& x : rows.values) x = std::round(std::clamp(20.0f * x, -63.0f, 63.0f)) / 1024.0f;
      const auto encoded = quantizer.Encode(rows.view());
      ASSERT_TRUE(encoded);
      for (int exponent = -139; exponent <= 127; exponent += 7) {
        Rows scaled = rows;
        for (float& x : scaled.values) x = std::ldexp(x, exponent);
        const auto moved = quantizer.Encode(scaled.view());
        ASSERT_TRUE(moved) << moved.error().message;
        EXPECT_EQ(test::Canonical(*moved), test::Canonical(*encoded)) << exponent;
        for (size_t r = 0; r < 20; ++r) {
          const float expected = std::ldexp(encoded->ScaleOf(r), exponent);
          // A denormal expectation was rounded twice.
          const double slack = expected < std::numeric_limits<float>::min() ? 0x1p-149 : 0.0;
          EXPECT_NEAR(moved->ScaleOf(r), expected, slack) << exponent;
        }
      }
    }
  }
}

TEST(MseInputTest, QueriesOfAnyNormScoreInProportion) {
  const MseQuantizer quantizer = MakeMse({.dim = 50});
  const auto encoded = quantizer.Encode(test::UnitRows(20, 50, 1).view());
  Rows queries = test::NormalRows(4, 50, 2);
  for (float& x : queries.values) x = std::round(std::clamp(20.0f * x, -63.0f, 63.0f)) / 1024.0f;
  Rows scores(4, 20);
  ASSERT_TRUE(quantizer.Score(*quantizer.Prepare(queries.view()), *encoded, scores.view()));
  for (int exponent = -90; exponent <= 126; exponent += 9) {
    Rows scaled = queries;
    Rows moved(4, 20);
    for (float& x : scaled.values) x = std::ldexp(x, exponent);
    ASSERT_TRUE(quantizer.Score(*quantizer.Prepare(scaled.view()), *encoded, moved.view()));
    for (size_t i = 0; i < moved.values.size(); ++i) {
      EXPECT_EQ(moved.values[i], std::ldexp(scores.values[i], exponent)) << exponent;
    }
  }
}

TEST(MseInputTest, TheSmallestAndTheLargestFloatsDecode) {
  for (const float x : {std::numeric_limits<float>::denorm_min(), 3e-42f, 1e-38f, 3e38f}) {
    const MseQuantizer quantizer =
        MakeMse({.dim = 64, .bits = 8, .scale = Scale::kNorm, .scale_type = ScaleType::kF32});
    Rows rows(2, 64);
    rows[0][5] = x;
    rows[1][63] = -x;
    const auto encoded = quantizer.Encode(rows.view());
    ASSERT_TRUE(encoded);
    EXPECT_EQ(encoded->ScaleOf(0), x);
    EXPECT_EQ(encoded->ScaleOf(1), x);
    Rows decoded(2, 64);
    ASSERT_TRUE(quantizer.Decode(*encoded, decoded.view()));
    if (x < 1e-40f) continue;  // what is below the smallest float, no decoder can show
    EXPECT_NEAR(decoded[0][5] / x, 1.0f, 0.05f);
    EXPECT_NEAR(decoded[1][63] / x, -1.0f, 0.05f);
  }
}

TEST(MseInputTest, ScalesBeyondTheirTypeAreRefusedByRow) {
  const MseOptions norm = {.dim = 16, .scale = Scale::kNorm};
  const MseQuantizer f16 = MakeMse(norm);
  Rows rows = test::UnitRows(9, 16, 1);
  std::ranges::fill(rows[4], 0.0f);
  for (const float fits : {65504.0f, 65519.0f}) {
    rows[4][2] = fits;
    const auto encoded = f16.Encode(rows.view());
    ASSERT_TRUE(encoded);
    EXPECT_EQ(encoded->ScaleOf(4), 65504.0f);
  }
  for (const float too_large : {65520.0f, 1e30f}) {
    rows[4][2] = too_large;
    EXPECT_TRUE(
        FailsWith(f16.Encode(rows.view()), ErrorCode::kInvalidArgument, "rows[4] has scale"));
    EXPECT_TRUE(FailsWith(f16.Encode(rows.view()), ErrorCode::kInvalidArgument, "ScaleType::kF32"));
    MseOptions wide = norm;
    wide.scale_type = ScaleType::kF32;
    const auto encoded = MakeMse(wide).Encode(rows.view());
    ASSERT_TRUE(encoded);
    EXPECT_EQ(encoded->ScaleOf(4), too_large);
  }
  std::ranges::fill(rows[4], kLargest);  // of norm 4 · kLargest
  EXPECT_TRUE(FailsWith(MakeMse({.dim = 16, .scale_type = ScaleType::kF32}).Encode(rows.view()),
                        ErrorCode::kInvalidArgument, "rows[4] has scale"));
}

TEST(MseInputTest, SmallF16ScalesRoundAsIeeeDoes) {
  const MseOptions options = {.dim = 24, .scale = Scale::kUnbiased};
  MseOptions wide = options;
  wide.scale_type = ScaleType::kF32;
  Rows rows = test::UnitRows(40, 24, 1);
  for (size_t r = 0; r < 40; ++r) {
    for (float& x : rows[r]) x *= std::ldexp(1.0f, -static_cast<int>(r));
  }
  const auto exact = MakeMse(wide).Encode(rows.view());
  const auto rounded = MakeMse(options).Encode(rows.view());
  ASSERT_TRUE(exact && rounded);
  for (size_t r = 0; r < 40; ++r) {
    EXPECT_EQ(rounded->ScaleOf(r), F16ToF32(F32ToF16(exact->ScaleOf(r)))) << r;
  }
  EXPECT_GT(rounded->ScaleOf(23), 0.0f);  // subnormal
  EXPECT_EQ(rounded->ScaleOf(30), 0.0f);
}

TEST(MseInputTest, UnitNormIsRequiredWhenAskedFor) {
  Rows rows = test::UnitRows(5, 32, 1);
  const auto encode_with_norm = [&](float norm, float tolerance) {
    Rows changed = rows;
    for (float& x : changed[3]) x *= norm;
    return MakeMse({.dim = 32, .require_unit_norm = true, .unit_norm_tolerance = tolerance})
        .Encode(changed.view());
  };
  for (const float norm : {1.0f, 1.00009f, 0.99991f}) EXPECT_TRUE(encode_with_norm(norm, 1e-4f));
  for (const float norm : {1.00011f, 0.99989f, 0.0f, 2.0f}) {
    EXPECT_TRUE(
        FailsWith(encode_with_norm(norm, 1e-4f), ErrorCode::kNotUnitNorm, "rows[3] has norm"));
  }
  EXPECT_TRUE(encode_with_norm(1.09f, 0.1f));
  EXPECT_FALSE(encode_with_norm(1.11f, 0.1f));
  EXPECT_TRUE(MakeMse({.dim = 32}).Encode(test::NormalRows(3, 32, 1).view()));
}

// Where every option that changes codes is tried.
std::vector<MseOptions> CodeOptions() {
  std::vector<MseOptions> all;
  for (const size_t dim : {2, 7, 33, 64, 80, 128}) {
    for (int bits = 1; bits <= 8; ++bits) {
      all.push_back({.dim = dim, .bits = bits, .scale_search = false});
    }
    all.push_back({.dim = dim, .bits = 8, .codebook = CodebookKind::kUniform});
    all.push_back({.dim = dim, .bits = 4, .scale_search = false, .rotation = RotationKind::kDense});
    all.push_back({.dim = dim,
                   .bits = 2,
                   .scale_search = false,
                   .codebook = CodebookKind::kCustom,
                   .custom_codebook =
                       *Codebook::FromCentroids(dim, std::vector<double>{-7.9, -0.5, 0.25, 1.5})});
    all.push_back(
        {.dim = dim,
         .bits = 1,
         .scale_search = false,
         .codebook = CodebookKind::kCustom,
         .custom_codebook = *Codebook::FromCentroids(dim, std::vector<double>{-0.75, 0.75})});
  }
  return all;
}

TEST(MseInputTest, CodesAreTheNearestCentroids) {
  for (const MseOptions& options : CodeOptions()) {
    const MseQuantizer quantizer = MakeMse({options});
    const Codebook& codebook = quantizer.codebook();
    const Rows rows = test::NormalRows(40, options.dim, 3);
    Rows rotated(40, options.dim);
    ASSERT_TRUE(quantizer.rotation().Apply(rows.view(), rotated.view()));
    MseOptions norm = options;
    norm.scale = Scale::kNorm;
    const auto encoded = MakeMse(norm).Encode(rows.view());
    ASSERT_TRUE(encoded);
    for (size_t r = 0; r < 40; ++r) {
      std::vector<uint8_t> codes(options.dim);
      ASSERT_TRUE(encoded->Codes(r, codes));
      const double sigmas = std::sqrt(static_cast<double>(options.dim)) / test::Norm(rows[r]);
      for (size_t j = 0; j < options.dim; ++j) {
        const double z = sigmas * static_cast<double>(rotated[r][j]);
        double nearest = 100.0;
        for (size_t i = 0; i < codebook.size(); ++i) {
          nearest = std::min(nearest, std::fabs(z - codebook.Centroid(i)));
        }
        // One step of the grid, 1/4096 sigma, is what the choice may miss the boundary by.
        ASSERT_NEAR(std::fabs(z - codebook.Centroid(codes[j])), nearest, 5e-4)
            << "dim " << options.dim << " bits " << options.bits;
      }
    }
  }
}

TEST(MseInputTest, ScalesAndDecodedRowsAreTheirFormulas) {
  for (MseOptions options : CodeOptions()) {
    for (const Scale scale :
         {Scale::kNorm, Scale::kMatched, Scale::kLeastSquares, Scale::kUnbiased}) {
      options.scale = scale;
      options.scale_type = ScaleType::kF32;
      const MseQuantizer quantizer = MakeMse(options);
      // A custom codebook may turn a row away from itself; unit rows of one sign of use do not.
      const Rows rows = test::NormalRows(8, options.dim, 3);
      const auto encoded = quantizer.Encode(rows.view(), Tiling::kValues);
      if (!encoded && options.custom_codebook) continue;
      ASSERT_TRUE(encoded) << encoded.error().message;
      Rows rotated(8, options.dim), centroids(8, options.dim), decoded(8, options.dim);
      ASSERT_TRUE(quantizer.rotation().Apply(rows.view(), rotated.view()));
      ASSERT_TRUE(quantizer.DecodeRotated(*encoded, centroids.view()));
      ASSERT_TRUE(quantizer.Decode(*encoded, decoded.view()));
      const double root_dim = std::sqrt(static_cast<double>(options.dim));
      for (size_t r = 0; r < 8; ++r) {
        std::vector<uint8_t> codes(options.dim);
        ASSERT_TRUE(encoded->Codes(r, codes));
        const double norm = test::Norm(rows[r]);
        double inner = 0.0;    // <u, c>
        double squares = 0.0;  // |c|²
        for (size_t j = 0; j < options.dim; ++j) {
          const double c = quantizer.codebook().Centroid(codes[j]) / root_dim;
          inner += static_cast<double>(rotated[r][j]) / norm * c;
          squares += c * c;
          const double expected = static_cast<double>(encoded->ScaleOf(r)) * c;
          ASSERT_NEAR(centroids[r][j], expected, 1e-6 * std::fabs(expected));
        }
        const double expected = scale == Scale::kNorm           ? norm
                                : scale == Scale::kMatched      ? norm / std::sqrt(squares)
                                : scale == Scale::kLeastSquares ? norm * inner / squares
                                                                : norm / inner;
        // The grid moves <u, c> by up to 1/8192 sigma a coordinate.
        ASSERT_NEAR(encoded->ScaleOf(r), expected, 3e-4 * expected) << options.bits;
      }
      ASSERT_TRUE(quantizer.rotation().ApplyInverse(centroids.view(), centroids.view()));
      for (size_t r = 0; r < 8; ++r) {
        ASSERT_LE(std::sqrt(test::SquaredDistance(centroids[r], decoded[r])),
                  2e-6 * test::Norm(decoded[r]));
      }
    }
  }
}

// Centroids that are all positive have no inner product with a row that points the other way.
TEST(MseInputTest, ACodebookOfOneSignServesOnlyTheNormScale) {
  MseOptions options = {.dim = 2,
                        .bits = 1,
                        .codebook = CodebookKind::kCustom,
                        .custom_codebook = *Codebook::FromCentroids(2, std::vector<double>{.5, 1})};
  Rows rotated(3, 2);
  for (size_t j = 0; j < 2; ++j) {
    rotated[0][j] = 0.7f;
    rotated[1][j] = -0.7f;
    rotated[2][j] = 0.7f;
  }
  for (const Scale scale : {Scale::kMatched, Scale::kLeastSquares, Scale::kUnbiased}) {
    for (const bool search : {false, true}) {
      options.scale = scale;
      options.scale_search = search;
      const MseQuantizer quantizer = MakeMse(options);
      Rows rows(3, 2);
      ASSERT_TRUE(quantizer.rotation().ApplyInverse(rotated.view(), rows.view()));
      MseRows into = quantizer.MakeRows();
      EXPECT_TRUE(FailsWith(quantizer.Append(rows.view(), into), ErrorCode::kInvalidArgument,
                            "rows[1] has no positive inner product"));
      EXPECT_EQ(into.size(), 0u);
      rows[1][0] = rows[0][0];
      rows[1][1] = rows[0][1];
      EXPECT_TRUE(quantizer.Append(rows.view(), into));
    }
  }
  options.scale = Scale::kNorm;
  const MseQuantizer quantizer = MakeMse(options);
  Rows rows(3, 2);
  ASSERT_TRUE(quantizer.rotation().ApplyInverse(rotated.view(), rows.view()));
  const auto encoded = quantizer.Encode(rows.view());
  ASSERT_TRUE(encoded);
  Rows centroids(3, 2);
  ASSERT_TRUE(quantizer.DecodeRotated(*encoded, centroids.view()));
  for (size_t j = 0; j < 2; ++j) {
    EXPECT_NEAR(centroids[0][j], 0.7, 1e-2);
    EXPECT_NEAR(centroids[1][j], 0.35, 1e-2);
  }
}

}  // namespace
}  // namespace turboquant
