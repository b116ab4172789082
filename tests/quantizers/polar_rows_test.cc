#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/random_rows.h"
#include "turboquant/polar_quantizer.h"

namespace turboquant {
namespace {

using test::Rows;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

PolarQuantizer MakeQuantizer(const PolarOptions& options) {
  auto quantizer = PolarQuantizer::Create(options);
  EXPECT_TRUE(quantizer) << quantizer.error().message;
  return *std::move(quantizer);
}

TEST(PolarRowsTest, RowsAppendRemoveTruncateExportAndImport) {
  for (const ScaleType type : {ScaleType::kF16, ScaleType::kF32}) {
    const PolarQuantizer quantizer = MakeQuantizer({.dim = 32, .radius_type = type});
    const auto all = quantizer.Encode(test::NormalRows(5, 32, 9).view());
    ASSERT_TRUE(all);
    PolarRows rows = *all;
    ASSERT_TRUE(rows.RemoveFront(3));
    ASSERT_TRUE(rows.Append(rows));
    ASSERT_TRUE(rows.Append(*all));
    ASSERT_TRUE(rows.Truncate(6));
    EXPECT_FALSE(rows.Truncate(7));
    EXPECT_FALSE(rows.RemoveFront(7));
    std::vector<uint8_t> packed(6 * rows.RowBytes());
    std::vector<float> radii(6 * rows.RadiiPerRow());
    ASSERT_TRUE(quantizer.Export(rows, packed, radii));
    const size_t origin[] = {3, 4, 3, 4, 0, 1};
    for (size_t i = 0; i < 6; ++i) {
      EXPECT_TRUE(
          std::ranges::equal(std::span(packed).subspan(i * rows.RowBytes(), rows.RowBytes()),
                             all->packed().subspan(origin[i] * rows.RowBytes(), rows.RowBytes())));
      for (size_t block = 0; block < 2; ++block) {
        EXPECT_EQ(radii[2 * i + block], all->RadiusOf(origin[i], block));
      }
    }
    const auto imported = quantizer.Import(packed, radii);
    ASSERT_TRUE(imported) << imported.error().message;
    Rows expected(6, 32);
    Rows decoded(6, 32);
    ASSERT_TRUE(quantizer.Decode(rows, expected.view()));
    ASSERT_TRUE(quantizer.Decode(*imported, decoded.view()));
    EXPECT_EQ(decoded.values, expected.values);
    EXPECT_GE(rows.HeldBytes(), 6 * rows.CanonicalBytesPerRow());
    EXPECT_EQ(quantizer.Export(rows, packed, std::span(radii).first(3)).error().code,
              ErrorCode::kDimensionMismatch);
  }
}

TEST(PolarRowsTest, ImportRefusesDamageNamingTheRow) {
  const PolarQuantizer quantizer =
      MakeQuantizer({.dim = 8, .form = PolarForm::kFull, .level_bits = {2, 2, 2}});  // 14 bits
  const std::vector<uint8_t> packed(4, 0);
  ASSERT_TRUE(quantizer.Import(packed, std::vector<float>{1.0f, 2.0f}));
  const auto fails = [&](std::vector<uint8_t> bad_packed, std::vector<float> radii, ErrorCode code,
                         std::string_view words) {
    const auto imported = quantizer.Import(bad_packed, radii);
    ASSERT_FALSE(imported) << words;
    EXPECT_EQ(imported.error().code, code);
    EXPECT_NE(imported.error().message.find(words), std::string::npos) << imported.error().message;
  };
  fails({0, 0, 0}, {1.0f, 2.0f}, ErrorCode::kDimensionMismatch, "3 bytes");
  fails(packed, {1.0f}, ErrorCode::kDimensionMismatch, "1 elements");
  fails({0, 0, 0, 0x40}, {1.0f, 2.0f}, ErrorCode::kCorruptData, "codes[1] has padding bits");
  fails(packed, {-1.0f, 2.0f}, ErrorCode::kCorruptData, "radii[0] is -1");
  fails(packed, {-0.0f, 2.0f}, ErrorCode::kCorruptData, "radii[0] is -0");
  fails(packed, {1.0f, kNan}, ErrorCode::kCorruptData, "(row 1)");
  fails(packed, {1.0f, kInfinity}, ErrorCode::kCorruptData, "radii[1]");
  fails(packed, {1.0f, 0.1f}, ErrorCode::kCorruptData, "which no f16 equals");
}

TEST(PolarRowsTest, RefusesBadRowsAndLeavesTheOthersAlone) {
  const PolarQuantizer quantizer = MakeQuantizer({.dim = 16});
  PolarRows rows = *quantizer.Encode(test::NormalRows(2, 16, 10).view());
  const auto append = [&](const Rows& added) {
    const auto done = quantizer.Append(added.view(), rows);
    EXPECT_FALSE(done);
    EXPECT_EQ(rows.size(), 2u);
    EXPECT_EQ(rows.packed().size(), 2 * rows.RowBytes());
    return done ? Error{} : done.error();
  };
  Rows bad = test::NormalRows(100, 16, 11);
  bad[80][2] = kNan;
  EXPECT_EQ(append(bad).message, "rows[80] is NaN at column 2");
  bad[80][2] = kInfinity;
  EXPECT_EQ(append(bad).code, ErrorCode::kNonFinite);
  bad = test::NormalRows(100, 16, 11);
  for (float& x : bad[70]) x = 65000.0f;
  EXPECT_EQ(append(bad).code, ErrorCode::kInvalidArgument);
  EXPECT_NE(append(bad).message.find("rows[70] has radius"), std::string::npos);
  EXPECT_EQ(append(Rows(1, 32)).code, ErrorCode::kDimensionMismatch);
  Rows query = test::NormalRows(2, 16, 12);
  query[0][15] = -kInfinity;
  EXPECT_EQ(quantizer.Prepare(query.view()).error().message, "queries[0] is infinite at column 15");
}

TEST(PolarRowsTest, RefusesRowsOfAnotherQuantizer) {
  const PolarOptions options = {.dim = 16};
  const PolarQuantizer quantizer = MakeQuantizer(options);
  std::vector<PolarOptions> others(6, options);
  others[0].seed = 1;
  others[1].form = PolarForm::kFull;
  others[2].level_bits = {4, 2, 2, 3};
  others[3].rotation_rounds = 1;
  others[4].rotation = RotationKind::kDense;
  others[5].stream.head = 1;
  const Rows rows = test::NormalRows(1, 16, 13);
  const PolarRows mine = *quantizer.Encode(rows.view());
  const PolarQueries queries = *quantizer.Prepare(rows.view());
  for (const PolarOptions& other_options : others) {
    const PolarQuantizer other = MakeQuantizer(other_options);
    const PolarRows foreign = *other.Encode(rows.view());
    Rows out(1, 16);
    Rows scores(1, 1);
    PolarRows copy = mine;
    EXPECT_EQ(quantizer.Decode(foreign, out.view()).error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(copy.Append(foreign).error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(other.Append(rows.view(), copy).error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(quantizer.Score(queries, foreign, scores.view()).error().code,
              ErrorCode::kInvalidArgument);
    EXPECT_EQ(other.Score(queries, foreign, scores.view()).error().code,
              ErrorCode::kInvalidArgument);
  }
}

TEST(PolarRowsTest, RefusesOptionsByName) {
  const auto message = [](const PolarOptions& options) {
    const auto quantizer = PolarQuantizer::Create(options);
    EXPECT_FALSE(quantizer);
    if (quantizer) return std::string();
    EXPECT_EQ(quantizer.error().code, ErrorCode::kInvalidArgument);
    return quantizer.error().message;
  };
  EXPECT_EQ(message({.dim = 0}), "dim must be 2 to 65536, got 0");
  EXPECT_EQ(message({.dim = 24}),
            "PolarForm::kBlocks needs a dim that is a multiple of 16, got 24");
  EXPECT_EQ(message({.dim = 48, .form = PolarForm::kFull}),
            "PolarForm::kFull needs a dim that is a power of two, got 48");
  EXPECT_EQ(message({.dim = 32, .level_bits = {4, 2}}), "level_bits must name 4 levels, got 2");
  EXPECT_EQ(message({.dim = 32, .level_bits = {4, 2, 0, 2}}),
            "bits of level 3 must be 1 to 8, got 0");
  EXPECT_EQ(message({.dim = 32, .level_bits = {9, 2, 2, 2}}),
            "bits of level 1 must be 1 to 8, got 9");
  EXPECT_EQ(message({.dim = 32, .rotation_rounds = 4}), "rotation rounds must be 1 to 3, got 4");
  EXPECT_FALSE(OptimalPolarLevel(0, 2));
  EXPECT_FALSE(OptimalPolarLevel(17, 2));
}

}  // namespace
}  // namespace turboquant
