#include "src/eval/metrics.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "src/base/random.h"

namespace turboquant::eval {
namespace {

TEST(MetricsTest, RowErrorsSkipTheDirectionlessZeroRowInTheRelativeMeanOnly) {
  const std::vector<float> exact = {3, 4, 0, 0, 1, 0};
  const std::vector<float> decoded = {3, 3, 0, 0, 0, 0};
  RowErrors errors;
  AddRowErrors(MatrixView(exact.data(), 3, 2), MatrixView(decoded.data(), 3, 2), errors);
  EXPECT_DOUBLE_EQ(errors.relative.Value(), (1.0 / 25 + 1.0) / 2);
  EXPECT_EQ(errors.relative.count(), 2u);
  EXPECT_DOUBLE_EQ(errors.per_coordinate.Value(), 2.0 / 6);
  EXPECT_DOUBLE_EQ(errors.per_coordinate.Root(), std::sqrt(2.0 / 6));
}

TEST(MetricsTest, MeanOfNothingIsZero) {
  EXPECT_EQ(Mean().Value(), 0.0);
  EXPECT_EQ(InnerProductErrors().Rmse(), 0.0);
  EXPECT_EQ(InnerProductErrors().Variance(), 0.0);
  EXPECT_EQ(InnerProductErrors().Bias(), 0.0);
}

TEST(MetricsTest, InnerProductErrorsSeparateShrinkFromNoise) {
  // estimate = 0.9 exact + noise of standard deviation 0.01; norms of 2 divide out.
  RandomBits random(1, {.stage = 15});
  InnerProductErrors errors;
  for (int i = 0; i < 40000; ++i) {
    const double exact = 0.1 * random.NextNormal();
    errors.Add(2 * exact, 2 * (0.9 * exact + 0.01 * random.NextNormal()), 2.0);
  }
  EXPECT_NEAR(errors.Bias(), -0.1, 4 * 0.1 / 200);
  EXPECT_NEAR(errors.Variance(), 1e-4, 4e-6);
  EXPECT_NEAR(errors.Rmse(), std::sqrt(1e-4 + 0.01 * 0.01), 4e-4);
}

TEST(MetricsTest, SoftmaxSurvivesLogitsThatOverflowExp) {
  std::vector<double> logits = {1000.0, 1000.0 + std::log(3.0), -5000.0};
  Softmax(logits);
  EXPECT_NEAR(logits[0], 0.25, 1e-12);
  EXPECT_NEAR(logits[1], 0.75, 1e-12);
  EXPECT_EQ(logits[2], 0.0);
}

TEST(MetricsTest, SoftmaxKlEqualsItsDefinitionAndIgnoresAConstant) {
  const std::vector<double> exact = {0.0, std::log(3.0)};  // 1/4, 3/4
  const std::vector<double> estimate = {7.0, 7.0};         // 1/2, 1/2
  const double expected = 0.25 * std::log(0.5) + 0.75 * std::log(1.5);
  EXPECT_NEAR(SoftmaxKl(exact, estimate), expected, 1e-14);
  const std::vector<double> shifted = {-900.0, -900.0 + std::log(3.0)};
  EXPECT_NEAR(SoftmaxKl(exact, shifted), 0.0, 1e-12);
  EXPECT_NE(SoftmaxKl(estimate, exact), SoftmaxKl(exact, estimate));
}

TEST(MetricsTest, TopKPutsTheEarlierOfEqualsFirstAndCutsK) {
  const std::vector<double> scores = {1, 5, 5, -2, 7};
  EXPECT_EQ(TopK(scores, 3), (std::vector<size_t>{4, 1, 2}));
  EXPECT_EQ(TopK(scores, 99), (std::vector<size_t>{4, 1, 2, 0, 3}));
  EXPECT_TRUE(TopK(scores, 0).empty());
}

TEST(MetricsTest, RecallCountsTheExactTopThatIsFoundInAnyOrder) {
  std::vector<double> exact(20), estimate(20);
  for (size_t t = 0; t < 20; ++t) exact[t] = estimate[t] = -static_cast<double>(t);
  estimate[0] = -0.5;  // still first
  estimate[4] = -5.5;  // leaves the top 5, stays in the top 10
  EXPECT_EQ(RecallAtDepths(exact, estimate), (std::array<double, 3>{1.0, 0.8, 1.0}));
  estimate[0] = -1.5;  // second now
  EXPECT_EQ(RecallAtDepths(exact, estimate), (std::array<double, 3>{0.0, 0.8, 1.0}));
  const std::vector<double> two = {1, 2};
  EXPECT_EQ(RecallAtDepths(two, two), (std::array<double, 3>{1.0, 1.0, 1.0}));
}

TEST(MetricsTest, CorrelationIsBlindToScaleAndOffset) {
  Correlation same, opposite, constant;
  for (int i = 0; i < 10; ++i) {
    same.Add(i, 1e6 + 3 * i);
    opposite.Add(i, -i);
    constant.Add(i, 4);
  }
  EXPECT_NEAR(same.Value(), 1.0, 1e-12);
  EXPECT_NEAR(opposite.Value(), -1.0, 1e-12);
  EXPECT_EQ(constant.Value(), 0.0);
  Correlation partial;  // x = 1 2 3, y = 1 3 2: r = 1/2
  partial.Add(1, 1);
  partial.Add(2, 3);
  partial.Add(3, 2);
  EXPECT_NEAR(partial.Value(), 0.5, 1e-12);
}

TEST(MetricsTest, WeightedSumSeesOnlyAsManyRowsAsWeights) {
  const std::vector<float> values = {1, 2, 3, 4, 100, 100};
  const std::vector<double> weights = {0.25, 0.75};
  std::vector<double> output(2);
  WeightedSum(weights, MatrixView(values.data(), 3, 2), output);
  EXPECT_EQ(output, (std::vector<double>{2.5, 3.5}));
}

}  // namespace
}  // namespace turboquant::eval
