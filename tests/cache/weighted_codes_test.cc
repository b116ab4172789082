// Query-weighted codes of a cache: what they need, that they are the same everywhere, and that
// attention gains by them.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <vector>

#include "tests/cache/cache_support.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/threads.h"
#include "turboquant/snapshot.h"

namespace turboquant {
namespace {

using test::CacheContents;
using test::FailsWith;
using test::MakeCache;
using test::Tokens;

constexpr size_t kHeads = 2;
constexpr size_t kQueryHeads = 4;
constexpr size_t kDim = 64;
constexpr size_t kTokens = 400;

KvCacheOptions Options(bool weighted) {
  KvCacheOptions options;
  options.format = {.head_dim = kDim, .kv_heads = kHeads};
  options.format.keys.bits = options.format.values.bits = 3;
  options.window = 0;
  options.rope = RopeParameters::FromTheta(1e4, kDim);
  options.query_heads = kQueryHeads;
  options.query_weighted_codes = weighted;
  return options;
}

// Queries that look at few coordinates, as those of models do.
Tokens SteepQueries() {
  Tokens queries(kTokens, kQueryHeads, kDim, 5);
  for (size_t i = 0; i < queries.keys.values.size(); ++i)
    queries.keys.values[i] *= i % kDim % 8 == 0 ? 3.0f : 0.3f;
  return queries;
}

KvCache Filled(const KvCacheOptions& options, const ParallelFor& parallel_for = {}) {
  static const Tokens tokens(kTokens, kHeads, kDim);
  static const Tokens queries = SteepQueries();
  KvCache cache = MakeCache(options);
  for (const size_t first : {size_t{0}, size_t{300}}) {
    const size_t count = first == 0 ? 300 : kTokens - 300;
    EXPECT_TRUE(cache.ObserveQueries(queries.Keys().Slice(first, count)));
    test::Append(cache, tokens, first, count, parallel_for);
  }
  return cache;
}

TEST(WeightedCodesTest, TokensAloneArePackedAsTokensTogether) {
  const Tokens more(40, kHeads, kDim, 9);
  KvCache together = Filled(Options(true));
  KvCache alone = Filled(Options(true));
  test::Append(together, more, 0, 40);
  for (size_t i = 0; i < 40; ++i) test::Append(alone, more, i, 1);
  EXPECT_EQ(CacheContents(together), CacheContents(alone));
}

TEST(WeightedCodesTest, OptionsThatTheyNeed) {
  const auto refuses = [](auto change, std::string_view wanted) {
    KvCacheOptions options = Options(true);
    change(options);
    EXPECT_TRUE(FailsWith(KvCache::Create(options), ErrorCode::kInvalidArgument,
                          "query_weighted_codes need " + std::string(wanted)));
    options.query_weighted_codes = {};  // then they are just not there
    const auto cache = KvCache::Create(options);
    ASSERT_TRUE(cache) << cache.error().message;
    EXPECT_EQ(cache->options().query_weighted_codes, false) << wanted;
  };
  refuses([](auto& o) { o.format.keys.method = KvMethod::kProd; }, "keys of method kMse");
  refuses([](auto& o) { o.format.keys.outlier_channels = 8; },
          "keys of method kMse without outlier");
  refuses([](auto& o) { o.format.keys.scale = Scale::kNorm; }, "keys of scale kUnbiased");
  refuses([](auto& o) { o.format.rotation = RotationKind::kDense; }, "one round");
  refuses([](auto& o) { o.format.rotation_rounds = 2; }, "one round");
  refuses([](auto& o) { o.key_map = KeyMapKind::kFull; }, "key_map kDiagonal");
  refuses([](auto& o) { o.rope = {}; }, "rope");
  refuses([](auto& o) { o.query_heads = 0; }, "observed queries (query_heads)");
  refuses(
      [](auto& o) {
        o.format.head_dim = 80;
        o.rope = RopeParameters::FromTheta(1e4, 80);
      },
      "a head_dim that is a power of two");
  refuses(
      [](auto& o) {
        const std::vector<float> numbers(kHeads * kDim, 1.0f);
        auto map = KeyMap::FromNumbers(KeyMapKind::kDiagonal, kHeads, kDim, numbers, numbers);
        o.known_key_map = std::make_shared<const KeyMap>(*std::move(map));
      },
      "query_weights in known_key_map");
}

TEST(WeightedCodesTest, AreOnToSixBitsUnlessToldOtherwise) {
  for (int bits = 1; bits <= 8; ++bits) {
    KvCacheOptions options = Options(true);
    options.format.keys.bits = bits;
    EXPECT_EQ(MakeCache(options).options().query_weighted_codes, true);
    options.query_weighted_codes = {};
    EXPECT_EQ(MakeCache(options).options().query_weighted_codes, bits <= 6);
    options.query_weighted_codes = false;
    EXPECT_EQ(MakeCache(options).options().query_weighted_codes, false);
  }
}

// Without them the same keys are packed otherwise; values are not concerned.
TEST(WeightedCodesTest, AreOfKeysOnly) {
  const KvCache weighted = Filled(Options(true));
  const KvCache nearest = Filled(Options(false));
  EXPECT_FALSE(weighted.key_map()->query_weights(0).empty());
  EXPECT_TRUE(nearest.key_map()->query_weights(0).empty());
  const CacheContents a(weighted), b(nearest);
  EXPECT_NE(a.keys, b.keys);
  EXPECT_EQ(a.values, b.values);
}

TEST(WeightedCodesTest, AreTheSameOnEveryBackendAndInThreads) {
  KvCacheOptions options = Options(true);
  options.format.backend = Backend::kScalar;
  const CacheContents expected(Filled(options));
  EXPECT_EQ(CacheContents(Filled(options, test::Threads(3))), expected);
  for (const Backend backend : {Backend::kAvx2, Backend::kNeon, Backend::kAvx512}) {
    options.format.backend = backend;
    if (!KvCache::Create(options)) continue;  // not on this CPU
    EXPECT_EQ(CacheContents(Filled(options)), expected);
  }
}

// Squares of what the logits of a KV head's queries are off by.
double LogitError(const KvCache& cache, size_t head) {
  const Tokens tokens(kTokens, kHeads, kDim);
  const Tokens queries = SteepQueries();
  const test::Decoded decoded(cache);
  double sum = 0.0;
  for (size_t t = cache.options().sinks; t < kTokens; ++t) {
    const std::span<const float> kept = decoded.Row(false, t, head);
    const std::span<const float> key = tokens.Row(false, t, head);
    for (const size_t q : {2 * head, 2 * head + 1}) {
      const std::span<const float> query = queries.Row(false, kTokens - 1, q);
      double error = 0.0;
      for (size_t j = 0; j < kDim; ++j)
        error += static_cast<double>(query[j]) * static_cast<double>(kept[j] - key[j]);
      sum += error * error;
    }
  }
  return sum;
}

TEST(WeightedCodesTest, LogitsOfEveryHeadGainByThem) {
  const KvCache weighted = Filled(Options(true));
  const KvCache nearest = Filled(Options(false));
  for (size_t head = 0; head < kHeads; ++head) {
    const double ratio = LogitError(weighted, head) / LogitError(nearest, head);
    EXPECT_LT(ratio, 0.8) << head;
    RecordProperty("ratio_" + std::to_string(head), std::to_string(ratio));
  }
}

// Queries 100 times as strong in some coordinates, under scales that balance keys against them
// (shrunk: a² of 3.1 and .67): strengths of 9 / 3.1 and .09 / .67, then shrunk by a tenth.
TEST(WeightedCodesTest, WeightsAreWhatTheMapLeavesOfQueries) {
  const KvCache cache = Filled(Options(true));
  for (size_t head = 0; head < kHeads; ++head) {
    const std::span<const float> weights = cache.key_map()->query_weights(head);
    double loud = 0.0, quiet = 0.0;
    for (size_t j = 0; j < kDim; ++j)
      (j % 8 == 0 ? loud : quiet) += static_cast<double>(weights[j]);
    EXPECT_NEAR(loud + quiet, kDim, 0.001 * kDim);
    const double ratio = loud / (quiet / 7);
    EXPECT_GT(ratio, 8.0);
    EXPECT_LT(ratio, 30.0);
  }
}

TEST(WeightedCodesTest, SnapshotsGoOnAsTheyWere) {
  const test::TemporaryFolder folder;
  const std::string path = folder / "cache.safetensors";
  KvCache cache = Filled(Options(true));
  ASSERT_TRUE(SaveKvCache(path, cache));
  auto loaded = LoadKvCache(path, Options(true));
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(loaded->key_map()->fingerprint(), cache.key_map()->fingerprint());
  const Tokens more(70, kHeads, kDim, 9);
  test::Append(cache, more, 0, 70);
  test::Append(*loaded, more, 0, 70);
  EXPECT_EQ(CacheContents(*loaded), CacheContents(cache));
  EXPECT_TRUE(FailsWith(LoadKvCache(path, Options(false)), ErrorCode::kInvalidArgument,
                        "'query_weighted_codes' is 'true' in the snapshot, 'false' was expected"));
  ASSERT_TRUE(SaveKvCache(path, Filled(Options(false))));
  EXPECT_TRUE(FailsWith(LoadKvCache(path, Options(true)), ErrorCode::kInvalidArgument,
                        "'query_weighted_codes' is 'false' in the snapshot, 'true' was expected"));
}

TEST(WeightedCodesTest, WeightsThatAreNone) {
  const std::vector<float> numbers(kHeads * kDim, 1.0f);
  const auto make = [&](KeyMapKind kind, std::span<const float> map,
                        std::span<const float> weights) {
    return KeyMap::FromNumbers(kind, kHeads, kDim, numbers, map, weights);
  };
  EXPECT_TRUE(make(KeyMapKind::kDiagonal, numbers, numbers));
  EXPECT_TRUE(FailsWith(make(KeyMapKind::kCenter, {}, numbers), ErrorCode::kInvalidArgument,
                        "diagonal key map only"));
  EXPECT_TRUE(FailsWith(make(KeyMapKind::kDiagonal, numbers, std::span(numbers).first(3)),
                        ErrorCode::kDimensionMismatch, "query_weights has 3 numbers"));
  for (const float bad : {0.0f, -1.0f, std::nanf(""), HUGE_VALF}) {
    std::vector<float> weights = numbers;
    weights[kDim + 5] = bad;
    EXPECT_TRUE(FailsWith(make(KeyMapKind::kDiagonal, numbers, weights), ErrorCode::kCorruptData,
                          "query_weights of KV head 1 at 5 must be positive and finite"));
  }
}

}  // namespace
}  // namespace turboquant
