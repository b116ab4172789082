#include "src/base/checked.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace turboquant {
namespace {

constexpr size_t kMax = SIZE_MAX;

TEST(CheckedMultiplyTest, GivesTheProductUpToTheLargestAndNothingBeyond) {
  EXPECT_EQ(CheckedMultiply(0, kMax), 0u);
  EXPECT_EQ(CheckedMultiply(kMax, 1), kMax);
  EXPECT_EQ(CheckedMultiply(size_t{1} << 32, (size_t{1} << 32) - 1),
            kMax - ((size_t{1} << 32) - 1));
  EXPECT_EQ(CheckedMultiply(size_t{1} << 32, size_t{1} << 32), std::nullopt);
  EXPECT_EQ(CheckedMultiply(kMax, 2), std::nullopt);
  EXPECT_EQ(CheckedMultiply(kMax / 2 + 1, 2), std::nullopt);
  EXPECT_EQ(CheckedMultiply(kMax / 2, 2), kMax - 1);
}

TEST(CheckedAddTest, GivesTheSumUpToTheLargestAndNothingBeyond) {
  EXPECT_EQ(CheckedAdd(kMax, 0), kMax);
  EXPECT_EQ(CheckedAdd(kMax - 1, 1), kMax);
  EXPECT_EQ(CheckedAdd(kMax, 1), std::nullopt);
  EXPECT_EQ(CheckedAdd(kMax, kMax), std::nullopt);
}

TEST(CeilDivideTest, RoundsUpWithoutWrapping) {
  EXPECT_EQ(CeilDivide(0, 8), 0u);
  EXPECT_EQ(CeilDivide(1, 8), 1u);
  EXPECT_EQ(CeilDivide(8, 8), 1u);
  EXPECT_EQ(CeilDivide(9, 8), 2u);
  EXPECT_EQ(CeilDivide(kMax, 8), kMax / 8 + 1);  // (a + b - 1) / b would wrap
}

TEST(RoundUpTest, GivesTheNextMultiple) {
  EXPECT_EQ(RoundUp(0, 64), 0u);
  EXPECT_EQ(RoundUp(1, 64), 64u);
  EXPECT_EQ(RoundUp(64, 64), 64u);
  EXPECT_EQ(RoundUp(65, 64), 128u);
}

}  // namespace
}  // namespace turboquant
