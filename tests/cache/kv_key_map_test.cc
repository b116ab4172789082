// When a cache takes its key map, and from what.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "tests/cache/cache_support.h"
#include "tests/support/expect_error.h"
#include "turboquant/kv_cache.h"

namespace turboquant {
namespace {

using test::Append;
using test::CacheContents;
using test::Decoded;
using test::FailsWith;
using test::MakeCache;
using test::Tokens;

constexpr size_t kHeads = 2;
constexpr size_t kQueryHeads = 4;
constexpr size_t kDim = 16;
constexpr size_t kRotaryDim = 12;
constexpr uint64_t kFirstPosition = 5000;

KvCacheOptions Options(size_t window = 64) {
  KvCacheOptions options;
  options.format = {.head_dim = kDim, .kv_heads = kHeads};
  options.window = window;
  options.first_position = kFirstPosition;
  options.rope = RopeParameters::FromTheta(1e4, kRotaryDim);
  options.query_heads = kQueryHeads;
  return options;
}

TEST(KvKeyMapTest, AllStayExactUntil128BehindTheSinks) {
  const Tokens tokens(700, kHeads, kDim);
  const Tokens queries(700, kQueryHeads, kDim, 7);
  for (const size_t window : {0, 64, 200}) {
    KvCache cache = MakeCache(Options(window));
    Append(cache, tokens, 0, 100);
    Append(cache, tokens, 100, 31);  // 127 behind the sinks
    EXPECT_EQ(cache.view().packed_tokens, 0u);
    EXPECT_EQ(cache.view().window.count, 127u);
    EXPECT_EQ(cache.key_map(), nullptr);
    EXPECT_FALSE(cache.Stats().key_map_ready);
    Append(cache, tokens, 131, 1);
    EXPECT_NE(cache.key_map(), nullptr);
    EXPECT_TRUE(cache.Stats().key_map_ready);
    EXPECT_EQ(cache.view().key_map, cache.key_map());
    EXPECT_EQ(cache.view().packed_tokens, window == 0 ? 128 : window == 64 ? 64 : 0);
    const KeyMap* map = cache.key_map();
    Append(cache, tokens, 132, 500);
    ASSERT_TRUE(cache.Truncate(0));
    EXPECT_EQ(cache.key_map(), map);
    Append(cache, tokens, 0, 5);
    EXPECT_EQ(cache.view().window.count, window == 0 ? 0 : 1);
    cache.Clear();
    EXPECT_EQ(cache.key_map(), nullptr);
  }
}

// What the cache should have estimated from tokens [0, count).
KeyMap Expected(const KvCacheOptions& options, const Tokens& tokens, const Tokens* queries,
                size_t count) {
  KeyMapOptions map_options;
  map_options.kind = options.key_map;
  map_options.kv_heads = kHeads;
  map_options.query_heads = queries == nullptr ? 0 : kQueryHeads;
  map_options.head_dim = kDim;
  if (options.rope) map_options.rope = *options.rope;
  map_options.sinks = options.sinks;
  map_options.first_position = options.first_position;
  map_options.shrinkage = options.key_map_shrinkage;
  map_options.query_weights = options.key_map == KeyMapKind::kDiagonal;
  const auto estimator = KeyMapEstimator::Create(map_options);
  EXPECT_TRUE(estimator) << estimator.error().message;
  auto map =
      estimator->Estimate(tokens.Keys().Slice(0, count), tokens.Values().Slice(0, count),
                          queries == nullptr ? HeadsView() : queries->Keys().Slice(0, count));
  EXPECT_TRUE(map) << map.error().message;
  return *std::move(map);
}

TEST(KvKeyMapTest, IsEstimatedFromTheFirstTokensAndTheirQueries) {
  const Tokens tokens(700, kHeads, kDim);
  const Tokens queries(700, kQueryHeads, kDim, 7);
  struct Case {
    std::vector<size_t> appends;
    size_t from;  // tokens of the estimate
  };
  for (const Case& c :
       {Case{{132}, 132}, Case{{60, 60, 60}, 180}, Case{{2, 600}, 516}, Case{{700}, 516}}) {
    for (const KeyMapKind kind : {KeyMapKind::kCenter, KeyMapKind::kDiagonal, KeyMapKind::kFull}) {
      KvCacheOptions options = Options();
      options.key_map = kind;
      options.key_map_shrinkage = 0.2;
      KvCache cache = MakeCache(options);
      size_t next = 0;
      for (const size_t count : c.appends) {
        ASSERT_TRUE(cache.ObserveQueries(queries.Keys().Slice(next, count)));
        EXPECT_GT(cache.Stats().scratch_bytes, 0u);
        Append(cache, tokens, next, count);
        next += count;
      }
      ASSERT_NE(cache.key_map(), nullptr);
      EXPECT_EQ(cache.key_map()->kind(), kind);
      EXPECT_EQ(cache.key_map()->fingerprint(),
                Expected(options, tokens, &queries, c.from).fingerprint());
      EXPECT_EQ(cache.Stats().scratch_bytes, 0u);
      ASSERT_TRUE(cache.ObserveQueries(queries.Keys()));  // no longer wanted
      EXPECT_EQ(cache.Stats().scratch_bytes, 0u);
    }
  }
}

TEST(KvKeyMapTest, IsOnlyACentreWhereQueriesAreMissing) {
  const Tokens tokens(200, kHeads, kDim);
  const Tokens queries(200, kQueryHeads, kDim, 7);
  const KvCacheOptions options = Options();
  const uint64_t centre = Expected(options, tokens, nullptr, 200).fingerprint();
  const uint64_t whole = Expected(options, tokens, &queries, 200).fingerprint();
  for (const int missing : {0, 1, 2, 3, 4}) {
    KvCache cache = MakeCache(options);
    for (size_t i = 0; i < 4; ++i) {
      if (static_cast<int>(i) != missing) {
        ASSERT_TRUE(cache.ObserveQueries(queries.Keys().Slice(i * 30, 30)));
      }
      Append(cache, tokens, i * 30, 30);
    }
    ASSERT_TRUE(cache.ObserveQueries(queries.Keys().Slice(120, 80)));
    Append(cache, tokens, 120, 80);
    EXPECT_EQ(cache.key_map()->fingerprint(), missing == 4 ? whole : centre) << missing;
  }
  KvCache last_missing = MakeCache(options);
  ASSERT_TRUE(last_missing.ObserveQueries(queries.Keys().Slice(0, 120)));
  Append(last_missing, tokens, 0, 120);
  Append(last_missing, tokens, 120, 80);
  EXPECT_EQ(last_missing.key_map()->fingerprint(), centre);
  KvCacheOptions none = options;
  none.query_heads = 0;
  KvCache cache = MakeCache(none);
  Append(cache, tokens, 0, 200);
  EXPECT_EQ(cache.key_map()->fingerprint(), centre);
}

TEST(KvKeyMapTest, ObservedQueriesFollowTheTokens) {
  const Tokens tokens(300, kHeads, kDim);
  const Tokens queries(300, kQueryHeads, kDim, 7);
  const KvCacheOptions options = Options();
  KvCache stale = MakeCache(options);
  ASSERT_TRUE(stale.ObserveQueries(queries.Keys().Slice(0, 200)));
  Append(stale, tokens, 0, 100);
  ASSERT_TRUE(stale.Truncate(40));  // what followed is gone, its queries too
  Append(stale, tokens, 40, 160);
  EXPECT_EQ(stale.key_map()->fingerprint(), Expected(options, tokens, nullptr, 200).fingerprint());
  KvCache cache = MakeCache(options);
  const auto observe = [&](size_t first, size_t count) {
    ASSERT_TRUE(cache.ObserveQueries(queries.Keys().Slice(first, count)));
  };
  observe(0, 100);
  Append(cache, tokens, 0, 100);
  ASSERT_TRUE(cache.Truncate(40));  // and on with others
  observe(200, 100);                // of an Append that did not come
  observe(40, 160);
  Append(cache, tokens, 40, 160);
  EXPECT_EQ(cache.key_map()->fingerprint(), Expected(options, tokens, &queries, 200).fingerprint());
}

TEST(KvKeyMapTest, ObserveQueriesRefuses) {
  const Tokens queries(10, kQueryHeads, kDim, 7);
  KvCache cache = MakeCache(Options());
  HeadsView wrong = queries.Keys();
  wrong.heads = 2;
  EXPECT_TRUE(FailsWith(cache.ObserveQueries(wrong), ErrorCode::kDimensionMismatch,
                        "queries have 2 heads of dim 16, expected 4 of 16"));
  Tokens bad = queries;
  bad.keys[5 * kQueryHeads + 3][15] = NAN;
  EXPECT_TRUE(FailsWith(cache.ObserveQueries(bad.Keys()), ErrorCode::kNonFinite,
                        "queries[5][3] is NaN at column 15"));
  EXPECT_EQ(cache.Stats().scratch_bytes, 0u);
  KvCacheOptions none = Options();
  none.query_heads = 0;
  EXPECT_TRUE(FailsWith(MakeCache(none).ObserveQueries(queries.Keys()), ErrorCode::kInvalidArgument,
                        "query_heads is 0"));
}

TEST(KvKeyMapTest, WhenNoMapIsUsed) {
  const Tokens tokens(300, kHeads, kDim);
  KvCacheOptions plain = Options();
  plain.rope = {};
  KvCache expected = MakeCache(plain);
  Append(expected, tokens, 0, 300);
  EXPECT_EQ(expected.key_map(), nullptr);
  EXPECT_TRUE(expected.Stats().key_map_ready);
  EXPECT_GT(expected.view().packed_tokens, 0u);
  KvCacheOptions none = Options();
  none.key_map = KeyMapKind::kNone;
  KvCache cache = MakeCache(none);
  Append(cache, tokens, 0, 300);
  EXPECT_EQ(CacheContents(cache), CacheContents(expected));
  EXPECT_EQ(cache.view().pages[0].turns, nullptr);
  EXPECT_EQ(cache.view().rotary_dim, 0u);
}

TEST(KvKeyMapTest, OneFrameForKeysThatWereNotTurned) {
  const Tokens tokens(700, kHeads, kDim);
  const Tokens queries(700, kQueryHeads, kDim, 7);
  for (const bool declared : {false, true}) {
    KvCacheOptions options = Options();
    options.rope = declared ? std::optional<RopeParameters>(RopeParameters()) : std::nullopt;
    if (!declared) options.key_map = KeyMapKind::kCenter;
    KvCache cache = MakeCache(options);
    ASSERT_TRUE(cache.ObserveQueries(queries.Keys()));
    Append(cache, tokens, 0, 700);
    ASSERT_NE(cache.key_map(), nullptr);
    EXPECT_EQ(cache.key_map()->kind(), declared ? KeyMapKind::kDiagonal : KeyMapKind::kCenter);
    EXPECT_EQ(cache.view().rotary_dim, 0u);
    for (const KvPage& page : cache.view().pages) EXPECT_EQ(page.turns, nullptr);
    EXPECT_EQ(cache.key_map()->fingerprint(),
              Expected(options, tokens, &queries, 516).fingerprint());
    const Decoded shown(cache);
    EXPECT_LT(test::SquaredDistance(shown.keys, tokens.keys.values),
              0.03 * test::Dot(shown.keys, shown.keys));
  }
}

TEST(KvKeyMapTest, CachesTooSmallToPackWantNone) {
  const Tokens tokens(700, kHeads, kDim);
  for (const auto& [window, max_tokens] :
       {std::pair<size_t, size_t>{64, 100}, {64, 131}, {0, 100}, {0, 131}}) {
    KvCacheOptions options = Options(window);
    options.max_tokens = max_tokens;
    KvCache cache = MakeCache(options);
    EXPECT_TRUE(cache.Stats().key_map_ready);
    Append(cache, tokens, 0, 700);
    EXPECT_EQ(cache.view().packed_tokens, 0u);
    EXPECT_EQ(cache.size(), max_tokens);
    EXPECT_EQ(cache.next_position(), kFirstPosition + 700);
    const Decoded shown(cache);
    EXPECT_TRUE(
        std::ranges::equal(shown.Row(false, 4, 0), tokens.Row(false, 700 - max_tokens + 4, 0)));
  }
  KvCacheOptions enough = Options();
  enough.max_tokens = 132;
  KvCache cache = MakeCache(enough);
  EXPECT_FALSE(cache.Stats().key_map_ready);
  for (size_t t = 0; t < 700; ++t) Append(cache, tokens, t, 1);
  EXPECT_TRUE(cache.Stats().key_map_ready);
  EXPECT_GT(cache.view().packed_tokens, 0u);
}

TEST(KvKeyMapTest, OutlierChannelsAreThoseOfFramedKeys) {
  Tokens tokens(300, kHeads, kDim);
  for (size_t r = 0; r < tokens.keys.rows; ++r) {
    tokens.keys[r][13] += 50.0f;  // a constant, which the centre takes away
    tokens.keys[r][14] *= 6.0f;
    tokens.keys[r][15] *= 6.0f;
  }
  KvCacheOptions options = Options();
  options.key_map = KeyMapKind::kCenter;
  options.format.keys = {.bits = 3, .outlier_channels = 2};
  KvCache cache = MakeCache(options);
  Append(cache, tokens, 0, 300);
  const uint16_t* channels = cache.view().key_channels;
  ASSERT_NE(channels, nullptr);
  EXPECT_EQ(channels[0], 14);
  EXPECT_EQ(channels[1], 15);
  const Decoded shown(cache);
  for (size_t i = 13; i < shown.keys.size(); i += kDim) {
    ASSERT_NEAR(shown.keys[i], tokens.keys.values[i], 4.0);
  }
}

TEST(KvKeyMapTest, ForksShareTheMap) {
  const Tokens tokens(300, kHeads, kDim);
  KvCache cache = MakeCache(Options());
  Append(cache, tokens, 0, 100);
  KvCache early = cache.Fork();
  Append(cache, tokens, 100, 200);
  KvCache late = cache.Fork();
  EXPECT_EQ(late.key_map(), cache.key_map());
  EXPECT_EQ(early.key_map(), nullptr);
  Append(early, tokens, 100, 200);
  EXPECT_EQ(CacheContents(early), CacheContents(late));
  Append(late, tokens, 200, 100);  // to a copy of the open page, in the same frame
  Append(early, tokens, 200, 100);
  EXPECT_EQ(CacheContents(early), CacheContents(late));
  EXPECT_TRUE(std::ranges::equal(std::span(late.view().pages[0].turns, kRotaryDim),
                                 std::span(early.view().pages[0].turns, kRotaryDim)));
}

}  // namespace
}  // namespace turboquant
