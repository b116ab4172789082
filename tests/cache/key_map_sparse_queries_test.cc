// Key maps from recordings in which only some tokens' queries are at hand.
#include <gtest/gtest.h>

#include <algorithm>
#include <span>
#include <vector>

#include "src/math/balanced_map.h"
#include "tests/cache/key_statistics.h"
#include "tests/support/expect_error.h"
#include "turboquant/key_map.h"

namespace turboquant {
namespace {

using testing::Interleave;
using testing::KeyStatistics;
using testing::RandomRows;
using testing::Rows;
using testing::Sequence;
using testing::StatisticsOf;

constexpr size_t kDim = 8;
constexpr size_t kSinks = 4;

KeyMapOptions Options() {
  KeyMapOptions options;
  options.kind = KeyMapKind::kDiagonal;
  options.kv_heads = 1;
  options.query_heads = 2;
  options.head_dim = kDim;
  options.rope = RopeParameters::FromTheta(100.0, kDim);
  options.shrinkage = 0.2;
  return options;
}

Sequence MakeSequence(size_t tokens) {
  return {RandomRows(tokens, kDim, 1),
          RandomRows(tokens, kDim, 2),
          {RandomRows(tokens, kDim, 3), RandomRows(tokens, kDim, 4)}};
}

HeadsView View(const std::vector<float>& rows, size_t heads) {
  return HeadsView::TokenMajor(rows.data(), rows.size() / (heads * kDim), heads, kDim);
}

Result<KeyMap> Estimate(const Sequence& sequence, const std::vector<size_t>& asked) {
  std::vector<Rows> queries(2);
  for (size_t g = 0; g < 2; ++g) {
    for (const size_t t : asked) queries[g].push_back(sequence.queries[g][t]);
  }
  const std::vector<float> k = Interleave({sequence.keys});
  const std::vector<float> v = Interleave({sequence.values});
  const std::vector<float> q = Interleave(queries);
  return KeyMapEstimator::Create(Options())->Estimate(View(k, 1), View(v, 1), View(q, 2), asked);
}

std::vector<double> ExpectedScales(const Sequence& sequence, const std::vector<size_t>& asked) {
  const KeyStatistics statistics = StatisticsOf(sequence, Options().rope, kSinks, 0, asked);
  std::vector<double> keys;
  std::vector<double> queries;
  for (size_t j = 0; j < kDim; ++j) {
    keys.push_back(statistics.key_covariance[j][j] + 0.2);
    queries.push_back(statistics.query_moment[j][j] + 0.2);
  }
  return BalancedScales(keys, queries);
}

TEST(KeyMapSparseQueriesTest, TheDefinitionOverTheQueriesThereAre) {
  const Sequence sequence = MakeSequence(300);  // two pages
  for (const std::vector<size_t>& asked :
       {std::vector<size_t>{0, 9, 50, 131, 270, 299}, std::vector<size_t>{290}}) {
    const Result<KeyMap> map = Estimate(sequence, asked);
    ASSERT_TRUE(map) << map.error().message;
    ASSERT_EQ(map->kind(), KeyMapKind::kDiagonal);
    const std::vector<double> expected = ExpectedScales(sequence, asked);
    for (size_t j = 0; j < kDim; ++j) EXPECT_NEAR(map->scale(0)[j], expected[j], 2e-5);
  }
}

TEST(KeyMapSparseQueriesTest, OneQueryATokenIsTheUsualCase) {
  const Sequence sequence = MakeSequence(400);  // more than the 256 that count
  std::vector<size_t> all(400);
  for (size_t t = 0; t < all.size(); ++t) all[t] = t;
  const std::vector<float> k = Interleave({sequence.keys});
  const std::vector<float> v = Interleave({sequence.values});
  const std::vector<float> q = Interleave(sequence.queries);
  const auto usual =
      KeyMapEstimator::Create(Options())->Estimate(View(k, 1), View(v, 1), View(q, 2));
  EXPECT_EQ(Estimate(sequence, all)->fingerprint(), usual->fingerprint());
  all.erase(all.begin() + 100, all.begin() + 300);
  EXPECT_NE(Estimate(sequence, all)->fingerprint(), usual->fingerprint());
}

TEST(KeyMapSparseQueriesTest, RefusesTokensOutOfOrderOrRange) {
  const Sequence sequence = MakeSequence(20);
  EXPECT_TRUE(Estimate(sequence, {3, 3, 19}));
  const std::vector<float> rows(20 * 2 * kDim, 1.0f);
  const HeadsView keys = HeadsView::TokenMajor(rows.data(), 20, 1, kDim);
  const HeadsView queries = HeadsView::TokenMajor(rows.data(), 2, 2, kDim);
  const KeyMapEstimator estimator = *KeyMapEstimator::Create(Options());
  const auto with = [&](const std::vector<size_t>& tokens) {
    return estimator.Estimate(keys, keys, queries, tokens);
  };
  EXPECT_TRUE(with({0, 19}));
  EXPECT_TRUE(test::FailsWith(with({0, 20}), ErrorCode::kInvalidArgument,
                              "query_tokens[1] is 20, there are 20 tokens"));
  EXPECT_TRUE(test::FailsWith(with({5, 4}), ErrorCode::kInvalidArgument, "must ascend"));
  EXPECT_TRUE(test::FailsWith(with({5}), ErrorCode::kDimensionMismatch,
                              "queries have 2 tokens, query_tokens have 1"));
}

}  // namespace
}  // namespace turboquant
