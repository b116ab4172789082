// What may happen at the same time: const calls on one cache, calls on forks, on layers. Run under
// ThreadSanitizer these tests say that it may; without, that the results are those of one thread.
#include <gtest/gtest.h>

#include <functional>
#include <thread>
#include <vector>

#include "tests/cache/attend_cases.h"
#include "tests/cache/attend_reference.h"
#include "tests/support/threads.h"
#include "turboquant/decoder_cache.h"
#include "turboquant/kv_cache.h"

namespace turboquant {
namespace {

using test::Append;
using test::Attended;
using test::CacheContents;
using test::Decoded;
using test::MakeCache;
using test::Queries;
using test::Tokens;

constexpr size_t kHeads = 2;
constexpr size_t kQueryHeads = 4;
constexpr size_t kDim = 32;

KvCacheOptions Options(KvMethod keys = KvMethod::kMse) {
  KvCacheOptions options;
  options.format = {.head_dim = kDim, .kv_heads = kHeads};
  options.format.keys.method = keys;
  options.rope = RopeParameters::FromTheta(1e4, kDim);
  options.query_heads = kQueryHeads;
  options.max_tokens = 900;
  return options;
}

// Every body on a thread of its own, all at once.
void AtOnce(const std::vector<std::function<void()>>& bodies) {
  std::vector<std::jthread> team;
  for (const auto& body : bodies) team.emplace_back(body);
}

TEST(KvConcurrencyTest, ConstCallsOnOneCache) {
  for (const KvMethod keys : {KvMethod::kMse, KvMethod::kProd, KvMethod::kF16}) {
    const KvCacheOptions options = Options(keys);
    KvCache written = MakeCache(options);
    const Tokens tokens = test::AttendTokens(1000, options.format);
    Append(written, tokens, 0, 1000);
    const KvCache& cache = written;
    const Queries queries(3, kQueryHeads, kDim);
    const Queries prefill(40, kQueryHeads, kDim);
    const Attended expected(cache, queries);
    const Attended expected_prefill(cache, prefill);
    const CacheContents contents(cache);
    const std::vector<float> logits = test::LogitsOf(cache, queries, {.scale = 1.0f});
    const auto attend = [&] { EXPECT_EQ(Attended(cache, queries), expected); };
    const auto attend_in_threads = [&] {
      EXPECT_EQ(Attended(cache, queries, {.parallel_for = test::Threads(2)}), expected);
    };
    const auto attend_prefill = [&] {
      EXPECT_EQ(Attended(cache, prefill, {.parallel_for = test::Threads(2)}), expected_prefill);
    };
    const auto reconstruct = [&] { EXPECT_EQ(CacheContents(cache), contents); };
    const auto score = [&] {
      std::vector<float> scores(queries.rows.rows * cache.size());
      EXPECT_TRUE(cache.Scores(queries.view(), {scores.data(), queries.rows.rows, cache.size()}));
      // The last query sees all tokens.
      EXPECT_EQ(scores.back(), logits.back());
    };
    const auto look = [&] {
      EXPECT_EQ(cache.Stats().tokens, 900u);
      EXPECT_NE(cache.key_map(), nullptr);
    };
    AtOnce({attend, attend_in_threads, attend_prefill, reconstruct, score, look, attend, score});
  }
}

// Two forks grow while a third is read and their origin goes.
TEST(KvConcurrencyTest, ForksAreWrittenAtTheSameTime) {
  const KvCacheOptions options = Options();
  const Tokens tokens = test::AttendTokens(1200, options.format);
  const auto grown = [&](KvCache& cache, size_t first, size_t step) {
    for (size_t t = first; t < first + 300; t += step) Append(cache, tokens, t, step);
    EXPECT_TRUE(cache.Truncate(700));
    Append(cache, tokens, 100, 70);
  };
  const Queries queries(2, kQueryHeads, kDim);
  KvCache alone = MakeCache(options);
  Append(alone, tokens, 0, 600);
  const Attended still(alone, queries);
  grown(alone, 600, 1);
  KvCache other = MakeCache(options);
  Append(other, tokens, 0, 600);
  grown(other, 900, 50);

  for (int round = 0; round < 3; ++round) {
    std::vector<KvCache> caches;
    caches.push_back(MakeCache(options));
    Append(caches[0], tokens, 0, 600);
    caches.push_back(caches[0].Fork());
    caches.push_back(caches[0].Fork());
    caches.push_back(caches[1].Fork());
    AtOnce({[&] { grown(caches[1], 600, 1); }, [&] { grown(caches[2], 900, 50); },
            [&] {
              for (int i = 0; i < 5; ++i) EXPECT_EQ(Attended(caches[3], queries), still);
            },
            [&] {
              KvCache gone = std::move(caches[0]);
              Append(gone, tokens, 0, 5);
              const KvCache fork = gone.Fork();
              gone.Clear();
              EXPECT_EQ(fork.size(), 605u);
            }});
    EXPECT_EQ(CacheContents(caches[1]), CacheContents(alone));
    EXPECT_EQ(CacheContents(caches[2]), CacheContents(other));
    EXPECT_EQ(Attended(caches[3], queries), still);
  }
}

// Layers share nothing that is written: not even those made with one format.
TEST(KvConcurrencyTest, LayersAreAppendedAtTheSameTime) {
  constexpr size_t kLayers = 4;
  DecoderCacheOptions options = {.layers = kLayers, .layer = Options()};
  options.overrides.push_back({.layer = 2, .keys = KvSideOptions{.bits = 8}});
  auto decoder = DecoderCache::Create(options);
  ASSERT_TRUE(decoder) << decoder.error().message;
  std::vector<Tokens> tokens;
  for (size_t l = 0; l < kLayers; ++l)
    tokens.push_back(test::AttendTokens(500, options.layer.format, l + 1));
  const Queries queries(1, kQueryHeads, kDim);
  const auto decode = [&](KvCache& cache, size_t l, std::vector<float>& outputs) {
    for (size_t t = 0; t < 500; t += 25) {
      const auto observed = cache.ObserveQueries(Queries(25, kQueryHeads, kDim).view());
      EXPECT_TRUE(observed);
      Append(cache, tokens[l], t, 25, test::Threads(2));
      const Attended attended(cache, queries);
      outputs.insert(outputs.end(), attended.outputs.begin(), attended.outputs.end());
    }
  };
  std::vector<std::vector<float>> together(kLayers);
  std::vector<std::function<void()>> bodies;
  for (size_t l = 0; l < kLayers; ++l)
    bodies.push_back([&, l] { decode(decoder->layer(l), l, together[l]); });
  AtOnce(bodies);
  EXPECT_EQ(decoder->size(), 500u);

  auto one_by_one = DecoderCache::Create(options);
  ASSERT_TRUE(one_by_one);
  for (size_t l = 0; l < kLayers; ++l) {
    std::vector<float> outputs;
    decode(one_by_one->layer(l), l, outputs);
    EXPECT_EQ(together[l], outputs);
    EXPECT_EQ(CacheContents(decoder->layer(l)), CacheContents(one_by_one->layer(l)));
    EXPECT_TRUE(decoder->layer(l).Stats().key_map_ready);
  }
  EXPECT_NE(together[0], together[1]);
}

}  // namespace
}  // namespace turboquant
