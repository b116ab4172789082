#include "src/eval/logit_errors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

#include "src/base/random.h"

namespace turboquant::eval {
namespace {

TEST(LogitErrorsTest, EqualLogitsHaveNoErrors) {
  const std::vector<float> logits = {0.5f, -1.0f, 3.0f, 30000.0f};
  LogitErrors errors(2);
  errors.Add(logits, logits, 1);
  EXPECT_EQ(errors.count(), 1u);
  EXPECT_EQ(errors.kl_mean(), 0.0);
  EXPECT_EQ(errors.rmse(), 0.0);
  EXPECT_EQ(errors.max_error(), 0.0);
  EXPECT_EQ(errors.top1_agreement(), 1.0);
  EXPECT_EQ(errors.top_k_agreement(), 1.0);
  EXPECT_EQ(errors.cross_entropy(), errors.cross_entropy_exact());
}

// p = (1/2, 1/4, 1/4), q = (1/4, 1/2, 1/4), logits of q shifted by 5: KL(p || q) = 1/4 log 2.
TEST(LogitErrorsTest, ByHand) {
  const auto l = [](double p) { return static_cast<float>(std::log(p)); };
  const std::vector<float> exact = {l(0.5), l(0.25), l(0.25)};
  const std::vector<float> estimate = {l(0.25) + 5, l(0.5) + 5, l(0.25) + 5};
  LogitErrors errors(2);
  errors.Add(exact, estimate, 2);
  EXPECT_NEAR(errors.kl_mean(), 0.25 * std::log(2.0), 1e-6);
  EXPECT_NEAR(errors.cross_entropy_exact(), std::log(4.0), 1e-6);
  EXPECT_NEAR(errors.cross_entropy(), std::log(4.0), 1e-6);
  EXPECT_EQ(errors.top1_agreement(), 0.0);
  EXPECT_EQ(errors.top_k_agreement(), 1.0);  // {0, 1} and {0, 1}: ties go to the smaller id
  EXPECT_NEAR(errors.max_error(), 5.0 + std::log(2.0), 1e-5);
  const double squares = std::pow(5.0 - std::log(2.0), 2) + std::pow(5.0 + std::log(2.0), 2) + 25.0;
  EXPECT_NEAR(errors.rmse(), std::sqrt(squares / 3.0), 1e-5);
}

TEST(LogitErrorsTest, TopKIsTheShareOfTheExactTopK) {
  const std::vector<float> exact = {4.0f, 3.0f, 2.0f, 1.0f, 0.0f};
  const std::vector<float> estimate = {4.0f, 0.0f, 2.0f, 1.0f, 3.0f};
  LogitErrors three(3);
  three.Add(exact, estimate, 0);
  EXPECT_NEAR(three.top_k_agreement(), 2.0 / 3.0, 1e-12);
  LogitErrors more(9);
  more.Add(exact, estimate, 0);
  EXPECT_EQ(more.top_k_agreement(), 1.0);
}

// Many logits, so that a selection that is almost right shows.
TEST(LogitErrorsTest, TopKOfManyIsThatOfASort) {
  RandomBits random(3, {});
  std::vector<float> exact(600);
  std::vector<float> estimate(600);
  for (size_t i = 0; i < exact.size(); ++i) {
    exact[i] = static_cast<float>(random.NextNormal());
    estimate[i] = exact[i] + 0.3f * static_cast<float>(random.NextNormal());
  }
  const auto top = [](const std::vector<float>& logits) {
    const std::vector<double> scores(logits.begin(), logits.end());
    const std::vector<size_t> ids = TopK(scores, 40);
    return std::set<size_t>(ids.begin(), ids.end());
  };
  size_t shared = 0;
  for (const size_t id : top(exact)) shared += top(estimate).count(id);
  LogitErrors errors(40);
  errors.Add(exact, estimate, 0);
  EXPECT_DOUBLE_EQ(errors.top_k_agreement(), static_cast<double>(shared) / 40.0);
}

TEST(LogitErrorsTest, QuantilesAreByNearestRankAndMergesKeepThem) {
  LogitErrors all(1);
  LogitErrors part(1);
  const std::vector<float> exact = {0.0f, 0.0f};
  for (int i = 1; i <= 100; ++i) {
    const std::vector<float> estimate = {0.0f, 0.05f * static_cast<float>(i)};
    all.Add(exact, estimate, 0);
    LogitErrors one(1);
    one.Add(exact, estimate, 0);
    part.Merge(one);
  }
  const auto kl = [](int i) {
    const double x = static_cast<double>(0.05f * static_cast<float>(i));
    return std::log((1.0 + std::exp(x)) / 2.0) - x / 2.0;
  };
  EXPECT_NEAR(all.KlQuantile(0.99), kl(99), 1e-9);
  EXPECT_NEAR(all.KlQuantile(0.5), kl(50), 1e-9);
  EXPECT_NEAR(all.KlQuantile(0.985), kl(99), 1e-9);
  EXPECT_NEAR(all.KlQuantile(1.0), kl(100), 1e-9);
  EXPECT_NEAR(all.KlQuantile(0.0), kl(1), 1e-9);
  EXPECT_EQ(part.count(), 100u);
  EXPECT_EQ(part.KlQuantile(0.99), all.KlQuantile(0.99));
  EXPECT_DOUBLE_EQ(part.kl_mean(), all.kl_mean());
  EXPECT_DOUBLE_EQ(part.rmse(), all.rmse());
  EXPECT_EQ(part.max_error(), all.max_error());
  EXPECT_EQ(LogitErrors(1).KlQuantile(0.5), 0.0);
}

TEST(LogitErrorsTest, PredictIsTheCrossEntropyAndTheFirstBest) {
  const std::vector<float> logits = {1.0f, 2.0f, 2.0f};
  const Prediction prediction = Predict(logits, 0);
  EXPECT_EQ(prediction.best, 1u);
  EXPECT_NEAR(prediction.cross_entropy, std::log(std::exp(1.0) + 2.0 * std::exp(2.0)) - 1.0, 1e-9);
}

}  // namespace
}  // namespace turboquant::eval
