#include "src/base/failure.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>

#include "src/base/try.h"

namespace turboquant {
namespace {

TEST(FailTest, JoinsItsPartsWithShortestNumbers) {
  const std::string name = "keys";
  const auto failure = Fail(ErrorCode::kNonFinite, "tensor '", name, "' row ", size_t{17}, " is ",
                            0.1, ", not ", -3);
  EXPECT_EQ(failure.error().code, ErrorCode::kNonFinite);
  EXPECT_EQ(failure.error().message, "tensor 'keys' row 17 is 0.1, not -3");
}

TEST(FailTest, WritesNumbersThatStdToStringWouldSpoil) {
  EXPECT_EQ(Fail(ErrorCode::kInternal, 1e300).error().message, "1e+300");
  EXPECT_EQ(Fail(ErrorCode::kInternal, 1e-9).error().message, "1e-09");
  EXPECT_EQ(Fail(ErrorCode::kInternal, 65504.0f).error().message, "65504");
  EXPECT_EQ(Fail(ErrorCode::kInternal, UINT64_MAX).error().message, "18446744073709551615");
}

TEST(ErrorCodeNameTest, IsTheEnumeratorAndDistinct) {
  constexpr ErrorCode kCodes[] = {ErrorCode::kInvalidArgument,
                                  ErrorCode::kDimensionMismatch,
                                  ErrorCode::kNotUnitNorm,
                                  ErrorCode::kNonFinite,
                                  ErrorCode::kCorruptData,
                                  ErrorCode::kUnsupported,
                                  ErrorCode::kIo,
                                  ErrorCode::kUnavailable,
                                  ErrorCode::kModel,
                                  ErrorCode::kInternal};
  std::set<std::string_view> names;
  for (const ErrorCode code : kCodes) names.insert(ErrorCodeName(code));
  EXPECT_EQ(names.size(), std::size(kCodes));
  EXPECT_EQ(ErrorCodeName(ErrorCode::kCorruptData), "kCorruptData");
  EXPECT_EQ(ErrorCodeName(static_cast<ErrorCode>(99)), "unknown");
}

Result<int> Half(int number) {
  if (number % 2 != 0) return Fail(ErrorCode::kInvalidArgument, number, " is odd");
  return number / 2;
}

Result<int> Quarter(int number) {
  TQ_TRY(const int half, Half(number));
  TQ_TRY(const int quarter, Half(half));
  return quarter;
}

Result<void> CheckEven(int number) {
  TQ_CHECK(Half(number));
  return {};
}

TEST(TryTest, GivesTheValueOrPassesTheErrorUp) {
  EXPECT_EQ(Quarter(12).value(), 3);
  EXPECT_EQ(Quarter(6).error().message, "3 is odd");
  EXPECT_EQ(Quarter(5).error().message, "5 is odd");
  EXPECT_TRUE(CheckEven(2).has_value());
  EXPECT_EQ(CheckEven(7).error().code, ErrorCode::kInvalidArgument);
}

Result<std::unique_ptr<int>> MakeOwned() { return std::make_unique<int>(7); }

Result<int> ReadOwned() {
  TQ_TRY(const std::unique_ptr<int> owned, MakeOwned());
  return *owned;
}

TEST(TryTest, MovesValuesThatCannotBeCopied) { EXPECT_EQ(ReadOwned().value(), 7); }

}  // namespace
}  // namespace turboquant
