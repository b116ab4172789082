#include "src/eval/attention_errors.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/random_rows.h"

namespace turboquant::eval {
namespace {

// Two keys, two queries: the first sees one key, the second both.
struct SmallCase {
  std::vector<float> keys = {1, 0, 0, 2};
  std::vector<float> values = {1, 1, 3, -1};
  std::vector<float> queries = {1, 1, 0.5f, 1};
  std::vector<size_t> positions = {0, 1};
  AttentionCase Case() const {
    AttentionCase attention_case;
    attention_case.keys = {keys.data(), 2, 2};
    attention_case.values = {values.data(), 2, 2};
    attention_case.queries = {queries.data(), 2, 2};
    attention_case.positions = positions;
    attention_case.logit_scale = 0.5;
    return attention_case;
  }
};

TEST(AttentionErrorsTest, TheCausalWindowIsInclusive) {
  const SmallCase small;
  const ExactAttention exact(small.Case());
  ASSERT_EQ(exact.Scores(0).size(), 1u);
  ASSERT_EQ(exact.Scores(1).size(), 2u);
  EXPECT_DOUBLE_EQ(exact.Scores(0)[0], 1.0);
  EXPECT_DOUBLE_EQ(exact.Scores(1)[0], 0.5);
  EXPECT_DOUBLE_EQ(exact.Scores(1)[1], 2.0);
  EXPECT_DOUBLE_EQ(exact.Output(0)[0], 1.0);                        // its only value
  const double weight = 1.0 / (1.0 + std::exp(0.5 * (0.5 - 2.0)));  // of the second key
  EXPECT_NEAR(exact.Output(1)[0], (1 - weight) + 3 * weight, 1e-12);
  EXPECT_NEAR(exact.Output(1)[1], (1 - weight) - weight, 1e-12);
}

TEST(AttentionErrorsTest, PerfectRowsHaveNoErrors) {
  const SmallCase small;
  const AttentionCase attention_case = small.Case();
  const ExactAttention exact(attention_case);
  const std::vector<float> scores = {1.0f, 99.0f, 0.5f, 2.0f};  // 99 is not visible
  AttentionErrors errors;
  errors.by_position = PositionBins(2);
  AddAttentionErrors(exact, {attention_case.keys, attention_case.values, {scores.data(), 2, 2}},
                     errors);
  EXPECT_EQ(errors.keys.relative.Value(), 0.0);
  EXPECT_EQ(errors.values.relative.Value(), 0.0);
  EXPECT_NEAR(errors.softmax_kl.Value(), 0.0, 1e-15);
  EXPECT_NEAR(errors.output_error, 0.0, 1e-28);
  EXPECT_EQ(errors.logit_squared.Value(), 0.0);
  EXPECT_EQ(errors.logit_squared.count(), 3u);  // 1 + 2 visible pairs
  EXPECT_NEAR(errors.logit_correlation.Value(), 1.0, 1e-12);
  EXPECT_EQ(errors.logit_correlation.count(), 1u);
  EXPECT_EQ(errors.recall[0].Value(), 1.0);
  ASSERT_EQ(errors.by_position.size(), 1u);
  EXPECT_EQ(errors.by_position[0].softmax_kl.count(), 2u);
}

TEST(AttentionErrorsTest, EachErrorEqualsItsDefinition) {
  const SmallCase small;
  const AttentionCase attention_case = small.Case();
  const ExactAttention exact(attention_case);
  const std::vector<float> keys = {1, 0, 0, 1};    // second key halved
  const std::vector<float> values = {1, 1, 3, 1};  // one coordinate off by 2
  const std::vector<float> scores = {1, 0, 0.5f, 1};
  AttentionErrors errors;
  errors.by_position = PositionBins(2);
  AddAttentionErrors(exact, {{keys.data(), 2, 2}, {values.data(), 2, 2}, {scores.data(), 2, 2}},
                     errors);
  EXPECT_DOUBLE_EQ(errors.keys.relative.Value(), (0.0 + 0.25) / 2);
  EXPECT_DOUBLE_EQ(errors.by_position[0].key_relative.Value(), 0.125);
  EXPECT_DOUBLE_EQ(errors.values.relative.Value(), (0.0 + 0.4) / 2);
  EXPECT_DOUBLE_EQ(errors.logit_squared.Value(), 0.25 / 3);  // logit off by 0.5 once
  const double exact_weight = 1.0 / (1.0 + std::exp(-0.75));
  const double weight = 1.0 / (1.0 + std::exp(-0.25));
  const double divergence = exact_weight * std::log(exact_weight / weight) +
                            (1 - exact_weight) * std::log((1 - exact_weight) / (1 - weight));
  EXPECT_NEAR(errors.softmax_kl.Value(), divergence / 2, 1e-12);  // the first query has none
  const double error0 = 2 * (weight - exact_weight);
  const double error1 = 1.0 - (1 - 2 * exact_weight);
  const double squared = error0 * error0 + error1 * error1;
  EXPECT_NEAR(errors.output_error, squared, 1e-12);
  EXPECT_NEAR(errors.output_squared.Value(), squared / 4, 1e-12);
  EXPECT_NEAR(errors.by_position[0].output_error.sum(), squared, 1e-12);
}

TEST(AttentionErrorsTest, PositionBinsCoverEveryTokenOnce) {
  for (const size_t tokens : {1u, 15u, 16u, 17u, 64u, 500u, 512u}) {
    const auto bins = PositionBins(tokens);
    size_t next = 0;
    for (const PositionErrors& bin : bins) {
      EXPECT_EQ(bin.first, next);
      EXPECT_LE(bin.first, bin.last);
      next = bin.last + 1;
    }
    EXPECT_EQ(next, tokens);
  }
  EXPECT_EQ(PositionBins(512).size(), 6u);
}

}  // namespace
}  // namespace turboquant::eval
