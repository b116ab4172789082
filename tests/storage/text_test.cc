#include "src/storage/text.h"

#include <gtest/gtest.h>

namespace turboquant {
namespace {

TEST(QuotedTest, StaysOnOneLineAndShort) {
  EXPECT_EQ(Quoted("keys"), "'keys'");
  EXPECT_EQ(Quoted(std::string("a\nb\0c\x7F", 6)), "'a?b?c?'");
  EXPECT_EQ(Quoted(std::string(80, 'x')), "'" + std::string(80, 'x') + "'");
  EXPECT_EQ(Quoted(std::string(81, 'x')), "'" + std::string(80, 'x') + "…'");
  // A character of two bytes across the cut goes as a whole.
  EXPECT_EQ(Quoted(std::string(79, 'x') + "éé"), "'" + std::string(79, 'x') + "…'");
}

TEST(ShapeTextTest, NamesAxes) {
  EXPECT_EQ(ShapeText({}), "scalar");
  const size_t shape[] = {2, 0, 128};
  EXPECT_EQ(ShapeText(shape), "2 × 0 × 128");
}

TEST(ParseDecimalTest, TakesOneSpellingOfEachNumber) {
  EXPECT_EQ(ParseDecimal("0"), 0u);
  EXPECT_EQ(ParseDecimal("42"), 42u);
  EXPECT_EQ(ParseDecimal("18446744073709551615"), UINT64_MAX);
  for (const char* text : {"", "00", "042", "+1", "-1", " 1", "1 ", "1.0", "0x1", "1e3",
                           "18446744073709551616", "１"}) {
    EXPECT_EQ(ParseDecimal(text), std::nullopt) << text;
  }
}

TEST(ParseRealTest, TakesOneSpellingOfEachNumber) {
  for (const double number : {0.0, 0.3, 1.0, 1e-300, 1e300, 0.1 + 0.2}) {
    EXPECT_EQ(ParseReal(RealText(number)), number);
  }
  EXPECT_EQ(RealText(0.3), "0.3");
  for (const char* text : {"", "-0", "-1", "+1", "0.30", "00.3", ".3", "1.0", "inf", "nan", "1e999",
                           "0x1", " 1", "1 "}) {
    EXPECT_EQ(ParseReal(text), std::nullopt) << text;
  }
}

TEST(ParseHex32Test, TakesOneSpellingOfEachNumber) {
  EXPECT_EQ(ParseHex32("00000000"), 0u);
  EXPECT_EQ(ParseHex32("deadbeef"), 0xDEADBEEFu);
  EXPECT_EQ(Hex32(0xDEADBEEFu), "deadbeef");
  EXPECT_EQ(Hex32(0x1u), "00000001");
  for (const char* text : {"", "0", "DEADBEEF", "deadbee", "deadbeef0", "0xdeadbe", "-0000001",
                           "deadbeeg", " eadbeef"}) {
    EXPECT_EQ(ParseHex32(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace turboquant
