#include "src/eval/head_cache.h"

#include <cmath>
#include <numeric>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/random_rows.h"

namespace turboquant::eval {
namespace {

constexpr size_t kDim = 32;

// A query a token, so that a cache can observe all of them.
struct Recording {
  test::Rows keys;
  test::Rows values;
  test::Rows queries;
  std::vector<size_t> positions;

  explicit Recording(size_t tokens)
      : keys(test::NormalRows(tokens, kDim, 1)),
        values(test::NormalRows(tokens, kDim, 2)),
        queries(test::NormalRows(tokens, kDim, 3)),
        positions(tokens) {
    std::iota(positions.begin(), positions.end(), size_t{0});
    for (size_t t = 0; t < tokens; ++t) keys[t][5] += 3.0f;  // something to be learnt
  }

  AttentionCase Case() const {
    AttentionCase attention_case;
    attention_case.keys = keys.view();
    attention_case.values = values.view();
    attention_case.queries = queries.view();
    attention_case.positions = positions;
    attention_case.logit_scale = 1.0 / std::sqrt(static_cast<double>(kDim));
    return attention_case;
  }
};

CacheSpec Balanced(size_t window, size_t key_map_tokens) {
  CacheSpec spec;
  spec.policy = "balanced";
  spec.options = *PolicyOptions("balanced", kDim, 1);
  spec.options.window = window;
  spec.key_map_tokens = key_map_tokens;
  return spec;
}

HeadOrigin Roped() {
  HeadOrigin origin;
  origin.rope = RopeParameters::FromTheta(1e4, kDim);
  origin.layer = 7;
  origin.first_position = 100;
  return origin;
}

std::vector<float> Logits(const KvCache& cache, std::span<const float> query) {
  std::vector<float> logits(cache.size());
  const auto done = AttentionLogits(HeadsView::TokenMajor(query.data(), 1, 1, kDim), cache.view(),
                                    {}, {logits.data(), 1, logits.size()});
  EXPECT_TRUE(done.has_value()) << done.error().message;
  return logits;
}

// What a KvCache does by itself when it is given every token's query.
TEST(HeadCacheTest, WaitingForItsMapIsWhatACacheDoes) {
  constexpr size_t kTokens = 300;
  const Recording recording(kTokens);
  for (const size_t window : {0, 64}) {
    const CacheSpec spec = Balanced(window, 0);
    HeadCache head = *HeadCache::Create(spec, Roped(), recording.Case());
    KvCacheOptions options = spec.options;
    options.rope = Roped().rope;
    options.first_position = 100;
    options.format.layer = 7;
    options.query_heads = 1;
    KvCache cache = *KvCache::Create(options);
    for (size_t t = 0; t < kTokens; ++t) {
      const auto row = [&](const test::Rows& rows) {
        return HeadsView::TokenMajor(rows[t].data(), 1, 1, kDim);
      };
      ASSERT_TRUE(cache.ObserveQueries(row(recording.queries)));
      ASSERT_TRUE(cache.Append(row(recording.keys), row(recording.values)));
      if (t % 7 != 0) continue;  // the other is filled in larger steps
      ASSERT_TRUE(head.FillTo(t + 1, {}));
      ASSERT_EQ(head.cache().size(), t + 1);
      ASSERT_EQ(head.cache().Stats().packed_tokens, cache.Stats().packed_tokens) << t;
      ASSERT_EQ(Logits(head.cache(), recording.queries[t]), Logits(cache, recording.queries[t]));
    }
    ASSERT_NE(cache.key_map(), nullptr);
    EXPECT_EQ(head.cache().key_map()->fingerprint(), cache.key_map()->fingerprint());
    EXPECT_EQ(cache.key_map()->kind(), KeyMapKind::kDiagonal);
  }
}

TEST(HeadCacheTest, AMapFromTheBeginningIsKnownBeforeTheFirstTokenIsPacked) {
  const Recording recording(200);
  HeadCache head = *HeadCache::Create(Balanced(0, 150), Roped(), recording.Case());
  ASSERT_NE(head.cache().key_map(), nullptr);
  ASSERT_TRUE(head.FillTo(10, {}));
  EXPECT_EQ(head.cache().Stats().packed_tokens, 6u);  // behind the sinks
  KeyMapOptions options;
  options.kv_heads = options.query_heads = 1;
  options.head_dim = kDim;
  options.rope = *Roped().rope;
  options.first_position = 100;
  options.query_weights = true;
  const auto first = [&](const test::Rows& rows) {
    return HeadsView::TokenMajor(rows.values.data(), 150, 1, kDim);
  };
  const auto expected = KeyMapEstimator::Create(options)->Estimate(
      first(recording.keys), first(recording.values), first(recording.queries));
  EXPECT_EQ(head.cache().key_map()->fingerprint(), expected->fingerprint());
}

TEST(HeadCacheTest, QueriesNeedNotBeInOrder) {
  const Recording recording(200);
  Recording shuffled = recording;
  for (size_t i = 0; i < 200; ++i) {
    shuffled.positions[i] = 199 - i;
    std::copy_n(recording.queries[199 - i].data(), kDim, shuffled.queries[i].data());
  }
  const HeadCache one = *HeadCache::Create(Balanced(0, 256), Roped(), recording.Case());
  const HeadCache other = *HeadCache::Create(Balanced(0, 256), Roped(), shuffled.Case());
  EXPECT_EQ(one.cache().key_map()->fingerprint(), other.cache().key_map()->fingerprint());
}

TEST(HeadCacheTest, WithoutRopeThereIsNoMap) {
  const Recording recording(200);
  for (const size_t key_map_tokens : {0, 256}) {
    HeadCache head = *HeadCache::Create(Balanced(0, key_map_tokens), {}, recording.Case());
    ASSERT_TRUE(head.FillTo(200, {}));
    EXPECT_EQ(head.cache().view().key_map, nullptr);
    EXPECT_EQ(head.cache().Stats().packed_tokens, 196u);
    // Declared to be without: one frame, and a map.
    HeadOrigin before_rope;
    before_rope.rope.emplace();
    HeadCache mapped =
        *HeadCache::Create(Balanced(0, key_map_tokens), before_rope, recording.Case());
    ASSERT_TRUE(mapped.FillTo(200, {}));
    ASSERT_NE(mapped.cache().view().key_map, nullptr);
    EXPECT_EQ(mapped.cache().view().rotary_dim, 0u);
  }
}

TEST(HeadCacheTest, HardlyAnyTokens) {
  for (const size_t tokens : {1, 5, 6}) {
    const Recording recording(tokens);
    HeadCache head = *HeadCache::Create(Balanced(0, 256), Roped(), recording.Case());
    ASSERT_TRUE(head.FillTo(tokens, {})) << tokens;
    EXPECT_EQ(head.cache().size(), tokens);
  }
}

}  // namespace
}  // namespace turboquant::eval
