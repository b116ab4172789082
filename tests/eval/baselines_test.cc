#include "src/eval/baselines.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "src/base/half.h"
#include "src/base/random.h"
#include "src/eval/metrics.h"

namespace turboquant::eval {
namespace {

std::vector<float> Normal(size_t count, uint64_t seed) {
  RandomBits random(seed, {.stage = 15});
  std::vector<float> numbers(count);
  for (float& number : numbers) number = static_cast<float>(random.NextNormal());
  return numbers;
}

std::vector<float> RoundTrip(BaselineFormat format, MatrixView<const float> rows) {
  const auto encoded = EncodeBaseline(format, rows);
  EXPECT_TRUE(encoded.has_value()) << encoded.error().message;
  std::vector<float> decoded(rows.rows * rows.cols);
  EXPECT_TRUE(DecodeBaseline(*encoded, MatrixView(decoded.data(), rows.rows, rows.cols)));
  return decoded;
}

double NormalNmse(BaselineFormat format, size_t dim) {
  const size_t rows = 262144 / dim;
  const std::vector<float> exact = Normal(rows * dim, 7);
  const MatrixView<const float> view(exact.data(), rows, dim);
  const std::vector<float> decoded = RoundTrip(format, view);
  RowErrors errors;
  AddRowErrors(view, MatrixView<const float>(decoded.data(), rows, dim), errors);
  return errors.relative.Value();
}

TEST(BaselinesTest, DistortionOnNormalRowsIsWhatTheFormatsAreKnownFor) {
  EXPECT_NEAR(NormalNmse(BaselineFormat::kQ40, 128), 0.00736, 0.02 * 0.00736);
  EXPECT_NEAR(NormalNmse(BaselineFormat::kQ80, 128), 2.9e-5, 0.02 * 2.9e-5);
  EXPECT_NEAR(NormalNmse(BaselineFormat::kFp8, 128), 0.00070, 0.02 * 0.00070);
  // Step = largest of 128 normals (mean square 8.148) / 127; error step²/12.
  EXPECT_NEAR(NormalNmse(BaselineFormat::kInt8, 128), 4.21e-5, 0.02 * 4.21e-5);
}

TEST(BaselinesTest, TrueBitsCountScales) {
  const std::vector<float> row = Normal(128, 1);
  const auto bits = [&](BaselineFormat format, size_t dim) {
    return EncodeBaseline(format, MatrixView<const float>(row.data(), 1, dim))->BitsPerCoordinate();
  };
  EXPECT_EQ(bits(BaselineFormat::kInt8, 128), 8.125);
  EXPECT_EQ(bits(BaselineFormat::kQ80, 128), 8.5);
  EXPECT_EQ(bits(BaselineFormat::kQ40, 128), 4.5);
  EXPECT_EQ(bits(BaselineFormat::kFp8, 128), 8.0);
  EXPECT_EQ(bits(BaselineFormat::kQ40, 33), (17 * 8 + 2 * 16) / 33.0);  // a block of one
  EXPECT_EQ(BaselineRows().BitsPerCoordinate(), 0.0);
}

TEST(BaselinesTest, Q40KeepsTheExtremeAndHitsItsSixteenLevels) {
  std::vector<float> row(32);
  for (size_t j = 0; j < 16; ++j) row[j] = static_cast<float>(j) - 8.0f;  // -8 .. 7, scale 1
  EXPECT_EQ(RoundTrip(BaselineFormat::kQ40, MatrixView<const float>(row.data(), 1, 32)), row);
  row[0] = 8.0f;  // the extreme is positive now: scale -1, levels 8 .. -7
  const auto decoded = RoundTrip(BaselineFormat::kQ40, MatrixView<const float>(row.data(), 1, 32));
  EXPECT_EQ(decoded[0], 8.0f);
  EXPECT_EQ(decoded[1], -7.0f);
}

TEST(BaselinesTest, ZeroRowsAndShortBlocksDecode) {
  for (const auto format :
       {BaselineFormat::kInt8, BaselineFormat::kQ80, BaselineFormat::kQ40, BaselineFormat::kFp8}) {
    const std::vector<float> zero(35, 0.0f);
    EXPECT_EQ(RoundTrip(format, MatrixView<const float>(zero.data(), 1, 35)), zero);
    std::vector<float> row(35, 0.0f);
    row[34] = -2.0f;  // alone in its block with two zeros
    EXPECT_NEAR(RoundTrip(format, MatrixView<const float>(row.data(), 1, 35))[34], -2.0f, 2e-3f);
  }
}

TEST(BaselinesTest, RefusesWhatItCannotHold) {
  std::vector<float> rows(64, 1.0f);
  rows[40] = std::numeric_limits<float>::quiet_NaN();
  const auto non_finite =
      EncodeBaseline(BaselineFormat::kFp8, MatrixView<const float>(rows.data(), 2, 32));
  ASSERT_FALSE(non_finite.has_value());
  EXPECT_EQ(non_finite.error().code, ErrorCode::kNonFinite);
  EXPECT_EQ(non_finite.error().message, "row 1 column 8 is not finite");
  rows[40] = 1e30f;
  const auto too_large =
      EncodeBaseline(BaselineFormat::kQ40, MatrixView<const float>(rows.data(), 2, 32));
  ASSERT_FALSE(too_large.has_value());
  EXPECT_EQ(too_large.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(too_large.error().message.find("row 1"), std::string::npos);
  const auto encoded =
      EncodeBaseline(BaselineFormat::kInt8, MatrixView<const float>(rows.data(), 1, 32));
  EXPECT_EQ(DecodeBaseline(*encoded, MatrixView(rows.data(), 1, 31)).error().code,
            ErrorCode::kDimensionMismatch);
  EXPECT_EQ(EncodeBaseline(BaselineFormat::kInt8, {}).error().code, ErrorCode::kDimensionMismatch);
}

TEST(BaselinesTest, Fp8RoundTripsEveryCodeAndRoundsToTheNearestEven) {
  for (int code = 0; code < 256; ++code) {
    const float number = Fp8ToF32(static_cast<uint8_t>(code));
    if ((code & 0x7F) == 0x7F) {
      EXPECT_TRUE(std::isnan(number));
      continue;
    }
    EXPECT_EQ(F32ToFp8(number), code);
    if ((code & 0x7F) >= 0x7E) continue;
    // Halfway to the next magnitude goes to the even code; a hair more goes up.
    const float next = Fp8ToF32(static_cast<uint8_t>(code + 1));
    const float middle = 0.5f * (number + next);
    EXPECT_EQ(F32ToFp8(middle), code % 2 == 0 ? code : code + 1) << number;
    EXPECT_EQ(F32ToFp8(std::nextafter(middle, next)), code + 1) << number;
  }
  EXPECT_EQ(Fp8ToF32(0x7E), 448.0f);
  EXPECT_EQ(Fp8ToF32(0x01), 0x1p-9f);
  EXPECT_EQ(F32ToFp8(1e30f), 0x7E);
  EXPECT_EQ(F32ToFp8(-500.0f), 0xFE);
}

}  // namespace
}  // namespace turboquant::eval
