#include "src/base/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace turboquant {
namespace {

// What 16 bits mean by IEEE 754, in double arithmetic.
double MeaningOfF16(uint16_t bits) {
  const double sign = (bits & 0x8000u) ? -1.0 : 1.0;
  const int exponent = (bits >> 10) & 0x1F;
  const int mantissa = bits & 0x3FF;
  if (exponent == 0x1F) return mantissa == 0 ? sign * INFINITY : NAN;
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

TEST(F16Test, EveryBitPatternHasItsIeeeMeaningAndComesBack) {
  for (uint32_t pattern = 0; pattern < 0x10000u; ++pattern) {
    const Float16 half{static_cast<uint16_t>(pattern)};
    const double expected = MeaningOfF16(half.bits);
    const float actual = F16ToF32(half);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(actual)) << pattern;
      ASSERT_TRUE(std::isnan(F16ToF32(F32ToF16(actual)))) << pattern;
      continue;
    }
    ASSERT_EQ(static_cast<double>(actual), expected) << pattern;
    ASSERT_EQ(std::signbit(actual), std::signbit(expected)) << pattern;
    ASSERT_EQ(F32ToF16(actual).bits, half.bits) << pattern;
  }
}

// Between every two neighbours: the midpoint goes to the even one, the floats beside it to the
// nearer one. Together with the pattern above this fixes the rounding of every float.
TEST(F16Test, RoundsToNearestEvenBetweenAllNeighbours) {
  for (uint32_t pattern = 0; pattern < 0x7C00u; ++pattern) {
    const float low = F16ToF32({static_cast<uint16_t>(pattern)});
    const float high = pattern == 0x7BFFu ? 65536.0f  // where the next would be
                                          : F16ToF32({static_cast<uint16_t>(pattern + 1)});
    const float middle = static_cast<float>((static_cast<double>(low) + high) / 2);
    const uint32_t even = pattern % 2 == 0 ? pattern : pattern + 1;
    for (const uint32_t sign : {0u, 0x8000u}) {
      const float factor = sign ? -1.0f : 1.0f;
      ASSERT_EQ(F32ToF16(factor * middle).bits, sign | even) << pattern;
      ASSERT_EQ(F32ToF16(factor * std::nextafter(middle, 0.0f)).bits, sign | pattern) << pattern;
      ASSERT_EQ(F32ToF16(factor * std::nextafter(middle, 1e9f)).bits, sign | (pattern + 1))
          << pattern;
    }
  }
}

TEST(F16Test, KeepsInfinityNanAndTheSignOfZero) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(F32ToF16(kInfinity).bits, 0x7C00);
  EXPECT_EQ(F32ToF16(-kInfinity).bits, 0xFC00);
  EXPECT_EQ(F32ToF16(std::numeric_limits<float>::max()).bits, 0x7C00);
  EXPECT_EQ(F32ToF16(-0.0f).bits, 0x8000);
  EXPECT_EQ(F32ToF16(std::numeric_limits<float>::denorm_min()).bits, 0x0000);
  EXPECT_TRUE(std::isnan(F16ToF32(F32ToF16(std::numeric_limits<float>::quiet_NaN()))));
  // The smallest NaN payload must not become infinity.
  EXPECT_TRUE(std::isnan(F16ToF32(F32ToF16(std::bit_cast<float>(0x7F800001u)))));
}

TEST(BF16Test, EveryBitPatternIsTheUpperHalfOfAFloatAndComesBack) {
  for (uint32_t pattern = 0; pattern < 0x10000u; ++pattern) {
    const float value = BF16ToF32({static_cast<uint16_t>(pattern)});
    ASSERT_EQ(std::bit_cast<uint32_t>(value), pattern << 16);
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(BF16ToF32(F32ToBF16(value)))) << pattern;
    } else {
      ASSERT_EQ(F32ToBF16(value).bits, pattern);
    }
  }
}

TEST(BF16Test, RoundsToNearestEvenBetweenAllNeighbours) {
  for (uint32_t pattern = 0; pattern < 0x7F80u; ++pattern) {
    const uint32_t middle = pattern << 16 | 0x8000u;
    const uint32_t even = pattern % 2 == 0 ? pattern : pattern + 1;
    for (const uint32_t sign : {0u, 0x80000000u}) {
      const auto round = [&](uint32_t bits) {
        return F32ToBF16(std::bit_cast<float>(sign | bits)).bits;
      };
      ASSERT_EQ(round(middle), (sign >> 16) | even) << pattern;
      ASSERT_EQ(round(middle - 1), (sign >> 16) | pattern) << pattern;
      ASSERT_EQ(round(middle + 1), (sign >> 16) | (pattern + 1)) << pattern;
    }
  }
  EXPECT_TRUE(std::isnan(BF16ToF32(F32ToBF16(std::bit_cast<float>(0x7F800001u)))));
}

}  // namespace
}  // namespace turboquant
