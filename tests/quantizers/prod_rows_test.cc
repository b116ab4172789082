#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/random_rows.h"
#include "turboquant/prod_quantizer.h"

namespace turboquant {
namespace {

using test::Rows;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

ProdQuantizer MakeQuantizer(const ProdOptions& options) {
  auto quantizer = ProdQuantizer::Create(options);
  EXPECT_TRUE(quantizer) << quantizer.error().message;
  return *std::move(quantizer);
}

TEST(ProdRowsTest, RowsAppendRemoveTruncateExportAndImport) {
  for (const ScaleType type : {ScaleType::kF16, ScaleType::kF32}) {
    const ProdQuantizer quantizer = MakeQuantizer({.dim = 21, .bits = 3, .scale_type = type});
    const Rows rows = test::NormalRows(5, 21, 12);
    ProdRows encoded = *quantizer.Encode(rows.view());
    Rows all(5, 21);
    ASSERT_TRUE(quantizer.Decode(encoded, all.view()));
    ASSERT_TRUE(encoded.RemoveFront(3));
    ASSERT_TRUE(encoded.Append(encoded));
    ASSERT_TRUE(encoded.Append(*quantizer.Encode(rows.view())));
    ASSERT_TRUE(encoded.Truncate(6));
    EXPECT_FALSE(encoded.Truncate(7));
    EXPECT_FALSE(encoded.RemoveFront(7));
    ASSERT_EQ(encoded.size(), 6u);
    Rows expected(6, 21);
    ASSERT_TRUE(quantizer.Decode(encoded, expected.view()));
    const size_t origin[] = {3, 4, 3, 4, 0, 1};
    for (size_t i = 0; i < 6; ++i) {
      EXPECT_TRUE(std::ranges::equal(expected[i], all[origin[i]])) << i;
    }
    std::vector<uint8_t> packed(6 * 6);
    std::vector<float> scales(6);
    std::vector<uint8_t> signs(6 * 3);
    std::vector<float> norms(6);
    ASSERT_TRUE(quantizer.Export(encoded, packed, scales, signs, norms));
    EXPECT_EQ(encoded.CanonicalBytesPerRow(), 6u + 3u + (type == ScaleType::kF16 ? 4u : 8u));
    const auto imported = quantizer.Import(packed, scales, signs, norms);
    ASSERT_TRUE(imported) << imported.error().message;
    Rows decoded(6, 21);
    ASSERT_TRUE(quantizer.Decode(*imported, decoded.view()));
    EXPECT_EQ(decoded.values, expected.values);
    EXPECT_EQ(
        quantizer.Export(encoded, packed, scales, std::span(signs).first(5), norms).error().code,
        ErrorCode::kDimensionMismatch);
    EXPECT_EQ(
        quantizer.Export(encoded, packed, std::span(scales).first(5), signs, norms).error().code,
        ErrorCode::kDimensionMismatch);
    // Damage.
    EXPECT_EQ(quantizer.Import(packed, scales, signs, std::span(norms).first(5)).error().code,
              ErrorCode::kDimensionMismatch);
    signs[5] |= 0x80;
    EXPECT_EQ(quantizer.Import(packed, scales, signs, norms).error().message,
              "signs[1] has padding bits that are not zero");
    signs[5] &= 0x7F;
    for (const float norm : {-0.5f, -0.0f}) {
      norms[4] = norm;
      EXPECT_EQ(quantizer.Import(packed, scales, signs, norms).error().code,
                ErrorCode::kCorruptData);
    }
    norms[4] = 0.5f;
    scales[2] = kNan;
    EXPECT_EQ(quantizer.Import(packed, scales, signs, norms).error().code, ErrorCode::kCorruptData);
  }
}

TEST(ProdRowsTest, RefusesBadRowsAndLeavesTheOthersAlone) {
  const ProdQuantizer quantizer = MakeQuantizer({.dim = 16});
  ProdRows rows = *quantizer.Encode(test::NormalRows(2, 16, 13).view());
  const auto append = [&](const Rows& added) {
    const auto done = quantizer.Append(added.view(), rows);
    EXPECT_FALSE(done);
    EXPECT_EQ(rows.size(), 2u);
    EXPECT_EQ(rows.residuals().size(), 2u);
    return done ? Error{} : done.error();
  };
  Rows bad = test::NormalRows(300, 16, 14);
  bad[280][2] = kNan;
  EXPECT_EQ(append(bad).message, "rows[280] is NaN at column 2");
  bad[280][2] = kInfinity;
  EXPECT_EQ(append(bad).code, ErrorCode::kNonFinite);
  std::ranges::fill(bad[280], 60000.0f);
  EXPECT_EQ(append(bad).code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(append(Rows(1, 17)).code, ErrorCode::kDimensionMismatch);
  Rows query = test::NormalRows(1, 16, 15);
  query[0][4] = kNan;
  EXPECT_EQ(quantizer.Prepare(query.view()).error().message, "queries[0] is NaN at column 4");
  const ProdQuantizer strict = MakeQuantizer({.dim = 16, .require_unit_norm = true});
  EXPECT_TRUE(strict.Encode(test::UnitRows(3, 16, 16).view()));
  EXPECT_EQ(strict.Encode(test::NormalRows(3, 16, 16).view()).error().code,
            ErrorCode::kNotUnitNorm);
}

TEST(ProdRowsTest, RefusesRowsAndQueriesOfAnotherQuantizer) {
  const ProdOptions options = {.dim = 16};
  const ProdQuantizer quantizer = MakeQuantizer(options);
  std::vector<ProdOptions> others(6, options);
  others[0].seed = 1;
  others[1].bits = 5;
  others[2].sketch = SketchKind::kGaussian;
  others[3].sketch_rows = 17;
  others[4].stream.layer = 1;
  others[5].rotation_rounds = 1;
  const Rows rows = test::NormalRows(1, 16, 17);
  const ProdRows mine = *quantizer.Encode(rows.view());
  const ProdQueries queries = *quantizer.Prepare(rows.view());
  for (const ProdOptions& other_options : others) {
    const ProdQuantizer other = MakeQuantizer(other_options);
    const ProdRows foreign = *other.Encode(rows.view());
    Rows out(1, 16);
    Rows scores(1, 1);
    ProdRows copy = mine;
    EXPECT_EQ(quantizer.Decode(foreign, out.view()).error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(copy.Append(foreign).error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(other.Append(rows.view(), copy).error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(quantizer.Score(queries, foreign, scores.view()).error().code,
              ErrorCode::kInvalidArgument);
    EXPECT_EQ(other.Score(queries, foreign, scores.view()).error().code,
              ErrorCode::kInvalidArgument);
  }
}

TEST(ProdRowsTest, RefusesOptionsByName) {
  const auto message = [](const ProdOptions& options) {
    const auto quantizer = ProdQuantizer::Create(options);
    EXPECT_FALSE(quantizer);
    if (quantizer) return std::string();
    EXPECT_EQ(quantizer.error().code, ErrorCode::kInvalidArgument);
    return quantizer.error().message;
  };
  EXPECT_NE(message({.dim = 8, .bits = 1}).find("QjlSketch"), std::string::npos);
  EXPECT_EQ(message({.dim = 8, .bits = 0}), "bits in total must be 2 to 8, got 0");
  EXPECT_EQ(message({.dim = 8, .bits = 9}), "bits in total must be 2 to 8, got 9");
  EXPECT_EQ(message({.dim = 1}), "dim must be 2 to 65536, got 1");
  EXPECT_NE(message({.dim = 8, .sketch_rows = 1000}).find("sketch_rows"), std::string::npos);
  EXPECT_NE(message({.dim = 8, .rotation_rounds = 0}).find("rounds"), std::string::npos);
}

}  // namespace
}  // namespace turboquant
