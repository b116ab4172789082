#include "src/cache/attention_weights.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <span>
#include <vector>

#include "tests/cache/key_statistics.h"

namespace turboquant {
namespace {

using testing::Flat;
using testing::RandomRows;
using testing::Rows;
using testing::Sequence;

// p² |v - o|² against double, for queries at all tokens and at some.
TEST(AttentionWeightsTest, AreSquaredErrorsOfTheOutput) {
  constexpr size_t kDim = 12;
  for (const size_t tokens : {2, 7, 33, 100}) {
    for (const size_t step : {1, 3}) {
      const Sequence sequence{RandomRows(tokens, kDim, 1), RandomRows(tokens, kDim, 2), {}};
      const std::vector<float> keys = Flat(sequence.keys);
      const std::vector<float> values = Flat(sequence.values);
      Rows queries;
      std::vector<size_t> positions;
      for (size_t t = 0; t < tokens; t += step) {
        queries.push_back(RandomRows(1, kDim, t + 3)[0]);
        positions.push_back(t);
      }
      const std::vector<float> flat = Flat(queries);
      const AttentionWeights attention({keys.data(), tokens, kDim}, {values.data(), tokens, kDim},
                                       2, 0.02f);
      size_t next = 0;
      const auto visit = [&](size_t i, std::span<const float> w) {
        ASSERT_EQ(i, next++);
        ASSERT_EQ(w.size(), positions[i] + 1);
        const std::vector<double> expected =
            testing::WeightsOf(sequence, queries[i], positions[i], 0.02f);
        const double sum = std::accumulate(expected.begin(), expected.end(), 1e-6);
        for (size_t j = 0; j < w.size(); ++j) {
          ASSERT_NEAR(w[j], j < 2 ? 0.0 : expected[j], 1e-5 * sum)
              << "query " << i << " token " << j;
        }
      };
      EXPECT_TRUE(attention.ForQueries({flat.data(), queries.size(), kDim}, positions, visit));
      EXPECT_EQ(next, queries.size());
    }
  }
}

// Logits from the largest down to where exp vanishes: the softmax is that of double.
TEST(AttentionWeightsTest, HoldOverTheRangeOfExp) {
  constexpr size_t kTokens = 200;
  Sequence sequence;
  for (size_t t = 0; t < kTokens; ++t) {
    sequence.keys.push_back({static_cast<double>(t) * 0.5, 0.0});
    sequence.values.push_back({std::sin(static_cast<double>(t)), 1.0 + static_cast<double>(t % 7)});
  }
  const std::vector<float> keys = Flat(sequence.keys);
  const std::vector<float> values = Flat(sequence.values);
  const std::vector<float> query = {-1.0f, 0.0f};
  const std::vector<size_t> position = {kTokens - 1};
  const AttentionWeights attention({keys.data(), kTokens, 2}, {values.data(), kTokens, 2}, 0, 1.0f);
  const auto visit = [&](size_t, std::span<const float> w) {
    const std::vector<double> expected =
        testing::WeightsOf(sequence, {-1.0, 0.0}, kTokens - 1, 1.0);
    for (size_t j = 0; j < kTokens; ++j) {
      ASSERT_NEAR(w[j], expected[j], 5e-6 * expected[j] + 1e-37) << j;
    }
  };
  EXPECT_TRUE(attention.ForQueries({query.data(), 1, 2}, position, visit));
}

TEST(AttentionWeightsTest, TellOfLogitsThatOverflow) {
  const std::vector<float> keys = {1e30f, 1e30f, -1e30f};
  const std::vector<float> values = {1.0f, 2.0f, 3.0f};
  const std::vector<size_t> position = {2};
  const AttentionWeights attention({keys.data(), 3, 1}, {values.data(), 3, 1}, 0, 1.0f);
  EXPECT_FALSE(attention.ForQueries({keys.data(), 1, 1}, position,
                                    [](size_t, std::span<const float>) { ADD_FAILURE(); }));
}

}  // namespace
}  // namespace turboquant
