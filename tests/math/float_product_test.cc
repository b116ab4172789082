#include "src/math/float_product.h"

#include <gtest/gtest.h>

#include <vector>

#include "src/base/random.h"

namespace turboquant {
namespace {

std::vector<float> Normal(size_t count, uint64_t seed) {
  RandomBits bits(seed, {.stage = 15});
  std::vector<float> numbers(count);
  for (float& x : numbers) x = static_cast<float>(bits.NextNormal());
  return numbers;
}

// Bit for bit the plain sum, at all remainders of rows, depth and columns, from either layout of
// the left factor.
TEST(FloatProductTest, IsThePlainSumInOrder) {
  for (const size_t rows : {1, 3, 4, 5, 8, 11}) {
    for (const size_t inner : {1, 2, 4, 7, 64}) {
      for (const size_t cols : {1, 3, 4, 8, 17, 511, 512, 600}) {
        const std::vector<float> left = Normal(rows * inner, rows + inner);
        const std::vector<float> right = Normal(inner * (cols + 3), cols);
        const MatrixView<const float> right_view(right.data(), inner, cols, cols + 3);
        std::vector<float> out(rows * (cols + 1), 7.0f);
        std::vector<float> from_columns(rows * cols);
        MultiplyFloats({left.data(), inner, 1}, right_view, {out.data(), rows, cols, cols + 1});
        MultiplyFloats({left.data(), 1, rows}, right_view, {from_columns.data(), rows, cols});
        for (size_t i = 0; i < rows; ++i) {
          for (size_t j = 0; j < cols; ++j) {
            float sum = 0.0f;
            float column_sum = 0.0f;
            for (size_t k = 0; k < inner; ++k) {
              sum += left[i * inner + k] * right_view.Row(k)[j];
              column_sum += left[k * rows + i] * right_view.Row(k)[j];
            }
            ASSERT_EQ(out[i * (cols + 1) + j], sum) << rows << " " << inner << " " << cols;
            ASSERT_EQ(from_columns[i * cols + j], column_sum);
          }
          EXPECT_EQ(out[i * (cols + 1) + cols], 7.0f) << "wrote behind a row";
        }
      }
    }
  }
}

TEST(FloatProductTest, AnEmptySumIsZero) {
  const float right = 0.0f;
  std::vector<float> out(6, 5.0f);
  MultiplyFloats({&right, 1, 1}, {&right, 0, 2}, {out.data(), 3, 2});
  EXPECT_EQ(out, std::vector<float>(6, 0.0f));
}

}  // namespace
}  // namespace turboquant
