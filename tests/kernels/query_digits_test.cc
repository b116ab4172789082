// query_digits on every backend of this CPU against its definition in reference.cc: bit for bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "src/kernels/kernels.h"
#include "src/kernels/line_layout.h"
#include "tests/kernels/kernel_tables.h"

namespace turboquant::kernels {
namespace {

struct Rounded {
  float largest;
  std::vector<int8_t> high, low;  // with a guard behind the last

  bool operator==(const Rounded&) const = default;
};

using Kernel = float (*)(const float*, size_t, int8_t*, int8_t*);

Rounded Round(Kernel kernel, const std::vector<float>& row, size_t dim, bool two) {
  Rounded rounded = {0.0f, std::vector<int8_t>(PaddedDim(dim) + 1, 77),
                     std::vector<int8_t>(PaddedDim(dim) + 1, 77)};
  rounded.largest =
      kernel(row.data(), dim, rounded.high.data(), two ? rounded.low.data() : nullptr);
  return rounded;
}

class QueryDigitsTest : public testing::TestWithParam<const KernelTable*> {
 protected:
  void ExpectEqual(const std::vector<float>& row, size_t dim, float factor) const {
    for (const bool two : {false, true}) {
      const Rounded actual = Round(GetParam()->query_digits, row, dim, two);
      const Rounded expected = Round(reference::RoundQuery, row, dim, two);
      ASSERT_EQ(actual, expected) << dim << " factor " << factor << " two " << two;
    }
  }
};

// Rows of dim floats followed by a NaN that must not be read into the digits.
TEST_P(QueryDigitsTest, EqualReference) {
  std::mt19937 generator(21);
  std::normal_distribution<float> normal;
  for (const size_t dim : kDims) {
    // Around 1, at both ends of what the caller's prescale leaves, and where the gain saturates.
    for (const float factor : {1.0f, 0x1p-46f, 0x1p60f, 0x1p125f, 0x1p-118f, 0x1p-140f}) {
      std::vector<float> row(dim + 1, std::nanf(""));
      for (size_t j = 0; j < dim; ++j) row[j] = std::clamp(normal(generator), -3.0f, 3.0f) * factor;
      ExpectEqual(row, dim, factor);
    }
  }
}

// Every half step, where rounding to even decides, and both signs of it.
TEST_P(QueryDigitsTest, TiesGoToEven) {
  for (const size_t dim : kDims) {
    for (const float largest : {8127.0f, 63.0f}) {
      std::vector<float> row(dim + 1, std::nanf(""));
      for (size_t j = 0; j < dim; ++j) {
        row[j] = (static_cast<float>(j % 61) + 0.5f) * (j % 2 ? -1.0f : 1.0f);
      }
      row[dim / 2] = largest;
      ExpectEqual(row, dim, largest);
    }
  }
}

TEST_P(QueryDigitsTest, OneHotRowsReachTheLargestDigits) {
  for (const size_t dim : kDims) {
    for (const float x : {1.0f, -1.0f, 0x1.fffffep127f, -0x1p-100f, 0x1.234567p3f}) {
      for (const size_t at : {size_t{0}, dim / 2, dim - 1}) {
        std::vector<float> row(dim + 1, 0.0f);
        row[at] = x;
        ExpectEqual(row, dim, x);
        const Rounded two = Round(GetParam()->query_digits, row, dim, true);
        EXPECT_EQ(two.largest, std::fabs(x));
        EXPECT_EQ(128 * two.high[at] + two.low[at], x > 0 ? kTwoDigitMax : -kTwoDigitMax);
        const Rounded one = Round(GetParam()->query_digits, row, dim, false);
        EXPECT_EQ(one.high[at], x > 0 ? kOneDigitMax : -kOneDigitMax);
      }
    }
  }
}

TEST_P(QueryDigitsTest, ZeroRowsHaveZeroDigits) {
  for (const size_t dim : kDims) {
    for (const float zero : {0.0f, -0.0f}) {
      const std::vector<float> row(dim, zero);
      ExpectEqual(row, dim, zero);
      const Rounded two = Round(GetParam()->query_digits, row, dim, true);
      EXPECT_EQ(two.largest, 0.0f);
      EXPECT_EQ(two.high, two.low);
      EXPECT_EQ(std::vector<int8_t>(two.high.begin(), two.high.end() - 1),
                std::vector<int8_t>(PaddedDim(dim), 0));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, QueryDigitsTest, testing::ValuesIn(TestedTables()),
                         [](const auto& tested) { return TableName(*tested.param); });

}  // namespace
}  // namespace turboquant::kernels
