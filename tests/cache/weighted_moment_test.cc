#include "src/cache/weighted_moment.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/cache/key_statistics.h"

namespace turboquant {
namespace {

using testing::RandomRows;
using testing::Rows;

TEST(WeightedMomentTest, SumsWeightedOuterProducts) {
  constexpr size_t kDim = 9;
  constexpr size_t kRows = 70;
  const Rows rows = RandomRows(kRows, kDim, 4);
  const std::vector<float> flat = testing::Flat(rows);
  std::vector<double> weights(kRows);
  // Weights that a float could not hold, and zeros.
  for (size_t i = 0; i < kRows; ++i) {
    weights[i] = i % 4 == 0 ? 0.0 : 1e-60 * std::exp(static_cast<double>(i) / 10.0);
  }
  Rows expected(kDim, std::vector<double>(kDim));
  for (size_t i = 0; i < kRows; ++i) testing::AddOuter(weights[i], rows[i], expected);

  WeightedMoment full(kDim, true);
  WeightedMoment diagonal(kDim, false);
  for (WeightedMoment* moment : {&full, &diagonal}) {
    moment->Add({flat.data(), 30, kDim}, std::span(weights).first(30));
    moment->Add({flat.data(), 5, kDim}, std::vector<double>(5));  // nothing
    moment->Add({flat.data() + 30 * kDim, kRows - 30, kDim}, std::span(weights).subspan(30));
  }
  double trace = 0.0;
  for (size_t a = 0; a < kDim; ++a) trace += expected[a][a];
  EXPECT_NEAR(full.Trace() / trace, 1.0, 1e-6);
  EXPECT_NEAR(diagonal.Trace() / trace, 1.0, 1e-6);
  full.Shrink(0.5);
  diagonal.Shrink(0.5);
  ASSERT_EQ(full.sums().size(), kDim * kDim);
  ASSERT_EQ(diagonal.sums().size(), kDim);
  for (size_t a = 0; a < kDim; ++a) {
    expected[a][a] += 0.5 * trace / kDim;
    for (size_t b = 0; b < kDim; ++b) {
      EXPECT_NEAR(full.sums()[a * kDim + b] / trace, expected[a][b] / trace, 1e-6);
    }
    EXPECT_NEAR(diagonal.sums()[a] / trace, expected[a][a] / trace, 1e-6);
  }
}

}  // namespace
}  // namespace turboquant
