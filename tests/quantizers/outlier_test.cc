#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "src/base/half.h"
#include "tests/support/random_rows.h"
#include "tests/support/threads.h"
#include "turboquant/outlier_quantizer.h"

namespace turboquant {
namespace {

using test::Rows;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

const std::vector<uint32_t> kChannels = {1, 2, 7, 11, 19, 30};

OutlierQuantizer MakeQuantizer(const OutlierOptions& options) {
  auto quantizer = OutlierQuantizer::Create(options);
  EXPECT_TRUE(quantizer) << quantizer.error().message;
  return *std::move(quantizer);
}

// The given columns.
Rows Columns(const Rows& rows, std::span<const uint32_t> channels) {
  Rows part(rows.rows, channels.size());
  for (size_t r = 0; r < rows.rows; ++r) {
    for (size_t i = 0; i < channels.size(); ++i) part[r][i] = rows[r][channels[i]];
  }
  return part;
}

TEST(OutlierTest, ChoosesTheColumnsOfLargestMeanSquare) {
  Rows rows(3, 6);
  rows[0][4] = -9.0f;  // 81
  rows[1][1] = 5.0f;   // 50
  rows[2][1] = -5.0f;
  rows[0][0] = 7.0f;  // 49
  rows[1][3] = 7.0f;  // 49: as large, but later
  EXPECT_EQ(*ChooseOutlierChannels(rows.view(), 1), (std::vector<uint32_t>{4}));
  EXPECT_EQ(*ChooseOutlierChannels(rows.view(), 2), (std::vector<uint32_t>{1, 4}));
  EXPECT_EQ(*ChooseOutlierChannels(rows.view(), 3), (std::vector<uint32_t>{0, 1, 4}));
  EXPECT_EQ(*ChooseOutlierChannels(rows.view(), 4), (std::vector<uint32_t>{0, 1, 3, 4}));
  EXPECT_EQ(*ChooseOutlierChannels(rows.view(), 0), (std::vector<uint32_t>{}));
  EXPECT_EQ(ChooseOutlierChannels(test::NormalRows(2, 128, 1).view())->size(), 32u);
  EXPECT_EQ(ChooseOutlierChannels(rows.view(), 7).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(ChooseOutlierChannels(Rows(0, 6).view(), 2).error().code, ErrorCode::kInvalidArgument);
  rows[1][5] = kNan;
  EXPECT_EQ(ChooseOutlierChannels(rows.view(), 2).error().message, "rows[1] is NaN at column 5");
}

TEST(OutlierTest, PartsAreMseQuantizersOfTheirOwnStreams) {
  for (const int bits : {1, 2, 3, 7}) {
    const OutlierQuantizer quantizer =
        MakeQuantizer({.dim = 32, .bits = bits, .outlier_channels = kChannels});
    EXPECT_EQ(quantizer.outliers().options().bits, bits + 1);
    EXPECT_EQ(quantizer.regular().options().bits, bits);
    EXPECT_EQ(quantizer.outliers().options().dim, 6u);
    EXPECT_EQ(quantizer.regular().options().dim, 26u);
    EXPECT_EQ(quantizer.outliers().options().stream.side, 128u);
    EXPECT_EQ(quantizer.regular().options().stream.side, 0u);
    EXPECT_EQ(quantizer.regular_channels().size(), 26u);
    const Rows rows = test::NormalRows(40, 32, 2);
    const auto encoded = quantizer.Encode(rows.view());
    ASSERT_TRUE(encoded) << encoded.error().message;
    const auto outliers =
        quantizer.outliers().Encode(Columns(rows, quantizer.outlier_channels()).view());
    const auto regular =
        quantizer.regular().Encode(Columns(rows, quantizer.regular_channels()).view());
    ASSERT_TRUE(outliers && regular);
    EXPECT_TRUE(std::ranges::equal(encoded->outliers().blocks(), outliers->blocks()));
    EXPECT_TRUE(std::ranges::equal(encoded->regular().blocks(), regular->blocks()));
    Rows decoded(40, 32);
    Rows decoded_outliers(40, 6);
    Rows decoded_regular(40, 26);
    ASSERT_TRUE(quantizer.Decode(*encoded, decoded.view()));
    ASSERT_TRUE(quantizer.outliers().Decode(*outliers, decoded_outliers.view()));
    ASSERT_TRUE(quantizer.regular().Decode(*regular, decoded_regular.view()));
    EXPECT_EQ(Columns(decoded, quantizer.outlier_channels()).values, decoded_outliers.values);
    EXPECT_EQ(Columns(decoded, quantizer.regular_channels()).values, decoded_regular.values);
  }
}

TEST(OutlierTest, StoresThePapersBits) {
  std::vector<uint32_t> channels(32);
  for (uint32_t i = 0; i < 32; ++i) channels[i] = 3 * i;
  const auto bits_per_coordinate = [&](int bits) {
    const OutlierRows rows =
        MakeQuantizer({.dim = 128, .bits = bits, .outlier_channels = channels}).MakeRows();
    return static_cast<double>(rows.CanonicalBytesPerRow()) * 8.0 / 128.0;
  };
  EXPECT_EQ(bits_per_coordinate(2), 2.5);
  EXPECT_EQ(bits_per_coordinate(3), 3.5);
}

TEST(OutlierTest, ScoreIsDecodeThenDot) {
  const OutlierQuantizer quantizer =
      MakeQuantizer({.dim = 32, .bits = 3, .outlier_channels = kChannels});
  const Rows queries = test::NormalRows(3, 32, 4);
  const auto encoded = quantizer.Encode(test::NormalRows(70, 32, 3).view());
  const auto prepared = quantizer.Prepare(queries.view());
  ASSERT_TRUE(encoded && prepared);
  Rows decoded(70, 32);
  Rows scores(3, 70);
  ASSERT_TRUE(quantizer.Decode(*encoded, decoded.view()));
  ASSERT_TRUE(quantizer.Score(*prepared, *encoded, scores.view()));
  for (size_t q = 0; q < 3; ++q) {
    for (size_t r = 0; r < 70; ++r) {
      // Digits of a query step by at most |q| / 8127 each: half a step times |decoded|_1.
      EXPECT_NEAR(scores[q][r], test::Dot(queries[q], decoded[r]),
                  5e-4 * test::Norm(queries[q]) * test::Norm(decoded[r]));
    }
  }
  const auto values = quantizer.Encode(queries.view(), Tiling::kValues);
  ASSERT_TRUE(values);
  EXPECT_EQ(quantizer.Score(*prepared, *values, Rows(3, 3).view()).error().code,
            ErrorCode::kInvalidArgument);
}

TEST(OutlierTest, ZeroPartsAndEmptyBatches) {
  const OutlierQuantizer quantizer = MakeQuantizer({.dim = 32, .outlier_channels = kChannels});
  Rows rows = test::NormalRows(2, 32, 5);
  for (const uint32_t channel : kChannels) rows[0][channel] = 0.0f;
  std::ranges::fill(rows[1], 0.0f);
  const auto encoded = quantizer.Encode(rows.view());
  ASSERT_TRUE(encoded);
  Rows decoded = test::NormalRows(2, 32, 6);
  ASSERT_TRUE(quantizer.Decode(*encoded, decoded.view()));
  for (const uint32_t channel : kChannels) EXPECT_EQ(decoded[0][channel], 0.0f);
  EXPECT_GT(test::Norm(decoded[0]), 0.5 * test::Norm(rows[0]));
  for (const float x : decoded[1]) EXPECT_EQ(x, 0.0f);
  const auto none = quantizer.Encode(Rows(0, 32).view());
  ASSERT_TRUE(none);
  EXPECT_TRUE(quantizer.Decode(*none, Rows(0, 32).view()));
  EXPECT_TRUE(quantizer.Score(*quantizer.Prepare(rows.view()), *none, Rows(2, 0).view()));
}

TEST(OutlierTest, TakesHalfPrecisionRowsAndThreads) {
  const OutlierQuantizer quantizer = MakeQuantizer({.dim = 32, .outlier_channels = kChannels});
  const Rows rows = test::NormalRows(600, 32, 7);
  std::vector<Float16> half;
  Rows exact(600, 32);
  for (size_t i = 0; i < rows.values.size(); ++i) {
    half.push_back(F32ToF16(rows.values[i]));
    exact.values[i] = F16ToF32(half[i]);
  }
  const auto a = quantizer.Encode(MatrixView<const Float16>{half.data(), 600, 32});
  const auto b = quantizer.Encode(exact.view(), Tiling::kKeys, test::Threads(3));
  ASSERT_TRUE(a && b);
  EXPECT_TRUE(std::ranges::equal(a->outliers().blocks(), b->outliers().blocks()));
  EXPECT_TRUE(std::ranges::equal(a->regular().blocks(), b->regular().blocks()));
  Rows expected(600, 32);
  Rows decoded(600, 32);
  ASSERT_TRUE(quantizer.Decode(*a, expected.view()));
  ASSERT_TRUE(quantizer.Decode(*b, decoded.view(), test::Backwards()));
  EXPECT_EQ(decoded.values, expected.values);
  const auto prepared = quantizer.Prepare(rows.view().Slice(0, 2));
  Rows scores(2, 600);
  Rows threaded(2, 600);
  ASSERT_TRUE(quantizer.Score(*prepared, *a, scores.view()));
  ASSERT_TRUE(quantizer.Score(*prepared, *b, threaded.view(), test::Threads(2)));
  EXPECT_EQ(threaded.values, scores.values);
}

TEST(OutlierTest, RowsAppendRemoveTruncateExportAndImport) {
  for (const ScaleType type : {ScaleType::kF16, ScaleType::kF32}) {
    const OutlierQuantizer quantizer =
        MakeQuantizer({.dim = 32, .bits = 3, .outlier_channels = kChannels, .scale_type = type});
    const Rows rows = test::NormalRows(5, 32, 8);
    OutlierRows encoded = *quantizer.Encode(rows.view());
    Rows all(5, 32);
    ASSERT_TRUE(quantizer.Decode(encoded, all.view()));
    ASSERT_TRUE(encoded.RemoveFront(3));
    ASSERT_TRUE(encoded.Append(encoded));
    ASSERT_TRUE(quantizer.Append(rows.view(), encoded));
    ASSERT_TRUE(encoded.Truncate(6));
    EXPECT_FALSE(encoded.Truncate(7));
    EXPECT_FALSE(encoded.RemoveFront(7));
    ASSERT_EQ(encoded.size(), 6u);
    Rows expected(6, 32);
    ASSERT_TRUE(quantizer.Decode(encoded, expected.view()));
    const size_t origin[] = {3, 4, 3, 4, 0, 1};
    for (size_t i = 0; i < 6; ++i) {
      EXPECT_TRUE(std::ranges::equal(expected[i], all[origin[i]])) << i;
    }
    std::vector<uint8_t> outlier_packed(6 * encoded.outliers().CanonicalRowBytes());
    std::vector<uint8_t> regular_packed(6 * encoded.regular().CanonicalRowBytes());
    std::vector<float> outlier_scales(6);
    std::vector<float> regular_scales(6);
    ASSERT_TRUE(
        quantizer.Export(encoded, outlier_packed, outlier_scales, regular_packed, regular_scales));
    const auto import = [&] {
      return quantizer.Import(outlier_packed, outlier_scales, regular_packed, regular_scales);
    };
    const auto imported = import();
    ASSERT_TRUE(imported) << imported.error().message;
    Rows decoded(6, 32);
    ASSERT_TRUE(quantizer.Decode(*imported, decoded.view()));
    EXPECT_EQ(decoded.values, expected.values);
    EXPECT_EQ(quantizer
                  .Export(encoded, outlier_packed, std::span(outlier_scales).first(5),
                          regular_packed, regular_scales)
                  .error()
                  .code,
              ErrorCode::kDimensionMismatch);
    regular_scales[2] = -1.0f;
    EXPECT_EQ(import().error().code, ErrorCode::kCorruptData);
    EXPECT_TRUE(import().error().message.starts_with("regular channels: "));
    regular_scales[2] = 1.0f;
    outlier_scales[1] = kInfinity;
    EXPECT_TRUE(import().error().message.starts_with("outlier channels: "));
    outlier_scales.pop_back();
    EXPECT_EQ(import().error().code, ErrorCode::kDimensionMismatch);
  }
}

TEST(OutlierTest, RefusesBadRowsAndLeavesTheOthersAlone) {
  const OutlierQuantizer quantizer = MakeQuantizer({.dim = 32, .outlier_channels = kChannels});
  OutlierRows rows = *quantizer.Encode(test::NormalRows(2, 32, 9).view());
  const auto append = [&](const Rows& added) {
    const auto done = quantizer.Append(added.view(), rows);
    EXPECT_FALSE(done);
    EXPECT_EQ(rows.size(), 2u);
    EXPECT_EQ(rows.outliers().size(), 2u);
    return done ? Error{} : done.error();
  };
  Rows bad = test::NormalRows(300, 32, 10);
  bad[290][20] = kNan;
  EXPECT_EQ(append(bad).message, "rows[290] is NaN at column 20");
  bad[290][20] = 0.0f;
  bad[270][7] = -kInfinity;
  EXPECT_EQ(append(bad).message, "rows[270] is infinite at column 7");
  bad[270][7] = 0.0f;
  bad[261][0] = 1e6f;  // a regular channel: the outlier part was appended by then
  EXPECT_EQ(append(bad).code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(append(bad).message, testing::StartsWith("regular channels: rows[261] "));
  EXPECT_EQ(append(Rows(1, 31)).code, ErrorCode::kDimensionMismatch);
  Rows query = test::NormalRows(1, 32, 11);
  query[0][31] = kNan;
  EXPECT_EQ(quantizer.Prepare(query.view()).error().message, "queries[0] is NaN at column 31");
  const OutlierQuantizer strict =
      MakeQuantizer({.dim = 32, .outlier_channels = kChannels, .require_unit_norm = true});
  EXPECT_TRUE(strict.Encode(test::UnitRows(3, 32, 12).view()));
  EXPECT_TRUE(strict.Prepare(test::NormalRows(3, 32, 12).view()));
  EXPECT_EQ(strict.Encode(test::NormalRows(3, 32, 12).view()).error().code,
            ErrorCode::kNotUnitNorm);
}

TEST(OutlierTest, RefusesRowsOfAnotherQuantizer) {
  const OutlierOptions options = {.dim = 32, .outlier_channels = kChannels};
  const OutlierQuantizer quantizer = MakeQuantizer(options);
  std::vector<OutlierOptions> others(4, options);
  others[0].seed = 1;
  others[1].bits = 3;
  others[2].outlier_channels[0] = 0;  // as many, but others
  others[3].stream.side = 1;
  const Rows rows = test::NormalRows(1, 32, 13);
  const OutlierRows mine = *quantizer.Encode(rows.view());
  const OutlierQueries queries = *quantizer.Prepare(rows.view());
  for (const OutlierOptions& other_options : others) {
    const OutlierQuantizer other = MakeQuantizer(other_options);
    const OutlierRows foreign = *other.Encode(rows.view());
    Rows out(1, 32);
    Rows scores(1, 1);
    OutlierRows copy = mine;
    EXPECT_EQ(quantizer.Decode(foreign, out.view()).error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(copy.Append(foreign).error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(other.Append(rows.view(), copy).error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(quantizer.Score(queries, foreign, scores.view()).error().code,
              ErrorCode::kInvalidArgument);
    EXPECT_EQ(other.Score(queries, foreign, scores.view()).error().code,
              ErrorCode::kInvalidArgument);
  }
}

TEST(OutlierTest, RefusesOptionsByName) {
  const auto message = [](const OutlierOptions& options) {
    const auto quantizer = OutlierQuantizer::Create(options);
    EXPECT_FALSE(quantizer);
    if (quantizer) return std::string();
    EXPECT_EQ(quantizer.error().code, ErrorCode::kInvalidArgument);
    return quantizer.error().message;
  };
  EXPECT_EQ(message({.dim = 3, .outlier_channels = {0, 1}}), "dim must be 4 to 65536, got 3");
  EXPECT_EQ(message({.dim = 8, .bits = 8, .outlier_channels = {0, 1}}),
            "bits of the regular channels must be 1 to 7, got 8");
  EXPECT_EQ(message({.dim = 8, .bits = 0, .outlier_channels = {0, 1}}),
            "bits of the regular channels must be 1 to 7, got 0");
  EXPECT_EQ(message({.dim = 8}), "outlier_channels must be 2 to 6 of dim 8, got 0");
  EXPECT_EQ(message({.dim = 4, .outlier_channels = {0, 1, 2}}),
            "outlier_channels must be 2 to 2 of dim 4, got 3");
  EXPECT_EQ(message({.dim = 8, .outlier_channels = {3, 8}}),
            "outlier_channels[1] is 8, not below dim 8");
  EXPECT_EQ(message({.dim = 8, .outlier_channels = {3, 3}}),
            "outlier_channels must ascend strictly, but [1] is 3 after 3");
  EXPECT_EQ(message({.dim = 8, .outlier_channels = {0, 1}, .stream = {.side = 128}}),
            "stream side must be below 128, got 128");
  EXPECT_NE(message({.dim = 8, .outlier_channels = {0, 1}, .unit_norm_tolerance = kNan})
                .find("unit_norm_tolerance"),
            std::string::npos);
  EXPECT_NE(message({.dim = 8, .outlier_channels = {0, 1}, .rotation_rounds = 9}).find("rounds"),
            std::string::npos);
}

}  // namespace
}  // namespace turboquant
