// What MseCore promises beyond MseQuantizer, which is tested in full: streams that share tables,
// lanes in memory of the caller's own, rotation and digits one by one.
#include "src/quantizers/mse_core.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "src/kernels/line_layout.h"
#include "tests/support/encoded_rows.h"
#include "tests/support/expect_error.h"
#include "tests/support/random_rows.h"

namespace turboquant {
namespace {

using test::FailsWith;
using test::MakeMse;
using test::Rows;

MseCore MakeCore(const MseOptions& options) {
  auto core = MseCore::Create(options);
  EXPECT_TRUE(core) << core.error().message;
  return *std::move(core);
}

// 40 rows' lanes of a core.
struct OwnLanes {
  std::vector<uint8_t> blocks;
  std::vector<float> scales = std::vector<float>(64);
  MseLanes lanes;

  OwnLanes(const MseCore& core, bool values)
      : blocks(4 * kernels::KeyBlockBytes(core.options().dim, 4) +
               kernels::ValueBlockBytes(core.options().dim, 4)),
        lanes{{blocks.data(), core.options().dim, core.options().bits, values},
              nullptr,
              scales.data()} {}
};

TEST(MseCoreTest, WithStreamIsTheQuantizerOfThatStream) {
  for (const RotationKind rotation : {RotationKind::kHadamard, RotationKind::kDense}) {
    const RandomStream stream = {.layer = 3, .head = 5, .side = 1};
    const MseCore core = MakeCore({.dim = 48, .bits = 3, .rotation = rotation});
    auto other = core.WithStream(stream);
    ASSERT_TRUE(other);
    const MseCore same = MakeCore({.dim = 48, .bits = 3, .rotation = rotation, .stream = stream});
    EXPECT_EQ(other->fingerprint(), same.fingerprint());
    EXPECT_NE(other->fingerprint(), core.fingerprint());
    const Rows rows = test::NormalRows(1, 48, 3);
    std::vector<float> actual = rows.values, expected = rows.values, unlike = rows.values;
    other->RotateQuery(actual.data());
    same.RotateQuery(expected.data());
    core.RotateQuery(unlike.data());
    EXPECT_EQ(actual, expected);
    EXPECT_NE(actual, unlike);
    // The tables are shared: levels and thresholds lie at the same address.
    EXPECT_EQ(other->encode_plan().thresholds, core.encode_plan().thresholds);
    EXPECT_EQ(other->TableBytes(), core.TableBytes());
    EXPECT_GT(other->RotationBytes(), size_t{48 * 4});
  }
  EXPECT_TRUE(FailsWith(MakeCore({.dim = 16}).WithStream({.side = 256}),
                        ErrorCode::kInvalidArgument, "got 256 and 0"));
}

TEST(MseCoreTest, AWorkingPlanOutlivesTheCoreItWasCopiedFrom) {
  std::optional<MseCore> core = MakeCore({.dim = 64});
  const MseCore copy = *core;
  std::vector<float> expected = test::NormalRows(1, 64, 9).values, actual = expected;
  core->RotateQuery(expected.data());
  core.reset();
  copy.RotateQuery(actual.data());
  EXPECT_EQ(actual, expected);
}

TEST(MseCoreTest, LanesOfTheCallersOwnHoldWhatMseRowsHold) {
  for (const bool values : {false, true}) {
    const MseOptions options = {.dim = 80, .scale_type = ScaleType::kF32};
    const MseCore core = MakeCore(options);
    const MseQuantizer quantizer = MakeMse(options);
    const Rows rows = test::NormalRows(40, 80, 4);
    const auto encoded = quantizer.Encode(rows.view(), values ? Tiling::kValues : Tiling::kKeys);
    ASSERT_TRUE(encoded);
    OwnLanes own(core, values);
    ASSERT_TRUE(core.EncodeLanes("keys", rows.view(), 3, 37, own.lanes, 11));
    std::vector<uint8_t> expected(80), actual(80);
    Rows decoded(37, 80), rotated(37, 80), all(40, 80), all_rotated(40, 80);
    core.DecodeLanes(own.lanes, 11, 37, /*rotate_back=*/true, decoded.view());
    core.DecodeLanes(own.lanes, 11, 37, /*rotate_back=*/false, rotated.view());
    ASSERT_TRUE(quantizer.Decode(*encoded, all.view()));
    ASSERT_TRUE(quantizer.DecodeRotated(*encoded, all_rotated.view()));
    for (size_t r = 0; r < 37; ++r) {
      ASSERT_TRUE(encoded->Codes(3 + r, expected));
      core.kernels().unpack_codes(own.lanes.blocks, 11 + r, 1, actual.data());
      EXPECT_EQ(actual, expected) << r;
      EXPECT_EQ(own.scales[11 + r], encoded->ScaleOf(3 + r)) << r;
      EXPECT_TRUE(std::ranges::equal(decoded[r], all[3 + r])) << r;
      EXPECT_TRUE(std::ranges::equal(rotated[r], all_rotated[3 + r])) << r;
    }
    EXPECT_EQ(own.scales[10], 0.0f);
    EXPECT_EQ(own.scales[48], 0.0f);
  }
}

TEST(MseCoreTest, ErrorsNameTheCallersRows) {
  const MseCore core = MakeCore({.dim = 16, .bits = 4, .require_unit_norm = true});
  Rows rows = test::UnitRows(20, 16, 5);
  OwnLanes own(core, false);
  rows[18][7] = std::nanf("");
  EXPECT_TRUE(FailsWith(core.EncodeLanes("keys", rows.view(), 0, 20, own.lanes, 0),
                        ErrorCode::kNonFinite, "keys[18] is NaN at column 7"));
  rows[17][0] += 1.0f;
  EXPECT_TRUE(FailsWith(core.EncodeLanes("values", rows.view(), 0, 20, own.lanes, 0),
                        ErrorCode::kNotUnitNorm, "values[17] has norm "));
  const MseCore narrow = MakeCore({.dim = 16});
  std::vector<uint16_t> halves(64);
  for (float& x : rows[17]) x = 1e30f;
  EXPECT_TRUE(FailsWith(narrow.EncodeLanes("values", rows.view(), 17, 1,
                                           {own.lanes.blocks, halves.data(), nullptr}, 0),
                        ErrorCode::kInvalidArgument, "values[17] has scale "));
}

// The scale type is the encoder's; it is no part of the fingerprint.
TEST(MseCoreTest, AQuantizerDecodesRowsOfTheOtherScaleType) {
  const Rows rows = test::NormalRows(20, 32, 6);
  const MseQuantizer f16 = MakeMse({.dim = 32});
  const MseQuantizer f32 = MakeMse({.dim = 32, .scale_type = ScaleType::kF32});
  for (const auto& [encoder, decoder] : {std::pair{&f16, &f32}, std::pair{&f32, &f16}}) {
    const auto encoded = encoder->Encode(rows.view());
    ASSERT_TRUE(encoded);
    Rows expected(20, 32), actual(20, 32);
    ASSERT_TRUE(encoder->Decode(*encoded, expected.view()));
    ASSERT_TRUE(decoder->Decode(*encoded, actual.view()));
    EXPECT_EQ(actual.values, expected.values);
  }
}

TEST(MseCoreTest, RotatingBackUndoesTheRotationButForItsGrowth) {
  for (const size_t dim : {16u, 48u, 128u}) {
    for (const RotationKind rotation : {RotationKind::kHadamard, RotationKind::kDense}) {
      const MseCore core = MakeCore({.dim = dim, .rotation = rotation});
      const Rows rows = test::NormalRows(1, dim, 7);
      std::vector<float> turned = rows.values;
      core.RotateQuery(turned.data());
      EXPECT_NEAR(test::Norm(turned), core.growth() * test::Norm(rows[0]),
                  1e-5 * core.growth() * test::Norm(rows[0]));
      core.RotateBack(turned.data());
      for (size_t j = 0; j < dim; ++j) {
        EXPECT_NEAR(turned[j], core.growth() * core.growth() * rows.values[j],
                    1e-5 * core.growth() * core.growth());
      }
    }
  }
}

// sum of levels times digits, times factor and scale, is the score that MseQuantizer gives.
TEST(MseCoreTest, QueryDigitsTimesTheirFactorGiveTheScore) {
  const MseOptions options = {.dim = 96, .bits = 4, .scale_type = ScaleType::kF32};
  const MseCore core = MakeCore(options);
  const MseQuantizer quantizer = MakeMse(options);
  const Rows rows = test::NormalRows(2, 96, 8);
  const auto encoded = quantizer.Encode(rows.view().Slice(1, 1));
  ASSERT_TRUE(encoded);
  std::vector<uint8_t> codes(96);
  ASSERT_TRUE(encoded->Codes(0, codes));
  for (const int digits : {1, 2}) {
    std::vector<float> turned(rows[0].begin(), rows[0].end());
    core.RotateQuery(turned.data());
    std::vector<int8_t> high(96), low(96);
    const double factor =
        core.QueryDigits(turned.data(), {high.data(), digits == 2 ? low.data() : nullptr});
    int64_t sum = 0;
    for (size_t j = 0; j < 96; ++j) {
      const int digit = digits == 2 ? 128 * high[j] + low[j] : high[j];
      sum += int64_t{core.score_plan().levels[codes[j]]} * digit;
    }
    const auto queries = quantizer.Prepare(rows.view().Slice(0, 1), {.digits = digits});
    ASSERT_TRUE(queries);
    float score = 0.0f;
    ASSERT_TRUE(quantizer.Score(*queries, *encoded, {&score, 1, 1}));
    EXPECT_EQ(score, static_cast<float>(sum) * static_cast<float>(factor) * encoded->ScaleOf(0));
  }
  std::vector<float> zero(96);
  std::vector<int8_t> high(96, 1);
  EXPECT_EQ(core.QueryDigits(zero.data(), {high.data(), nullptr}), 0.0);
  EXPECT_EQ(high, std::vector<int8_t>(96, 0));
}

}  // namespace
}  // namespace turboquant
