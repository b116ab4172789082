// Forks share pages until one of them writes, and never see each other's tokens.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "src/base/random.h"
#include "tests/cache/cache_support.h"
#include "turboquant/kv_cache.h"

namespace turboquant {
namespace {

using test::Append;
using test::CacheContents;
using test::MakeCache;
using test::Tokens;

constexpr size_t kHeads = 2;
constexpr size_t kDim = 16;

KvCacheOptions Options(size_t window, size_t max_tokens = 0) {
  KvCacheOptions options;
  options.format = {.head_dim = kDim, .kv_heads = kHeads};
  options.window = window;
  options.max_tokens = max_tokens;
  return options;
}

TEST(KvForkTest, SharesPagesUntilOneWrites) {
  const Tokens tokens(800, kHeads, kDim);
  KvCache cache = MakeCache(Options(0));
  Append(cache, tokens, 0, 600);  // sinks, two full pages, an open one
  const std::vector<KvPage> before(cache.view().pages.begin(), cache.view().pages.end());
  KvCache fork = cache.Fork();
  EXPECT_EQ(CacheContents(fork), CacheContents(cache));
  ASSERT_EQ(fork.view().pages.size(), 3u);
  for (size_t p = 0; p < 3; ++p) EXPECT_EQ(fork.view().pages[p].bytes, before[p].bytes);

  const CacheContents unchanged(cache);
  Append(fork, tokens, 600, 1);
  EXPECT_EQ(CacheContents(cache), unchanged);
  EXPECT_EQ(fork.view().pages[0].bytes, before[0].bytes);
  EXPECT_EQ(fork.view().pages[1].bytes, before[1].bytes);
  const std::byte* copy = fork.view().pages[2].bytes;
  EXPECT_NE(copy, before[2].bytes);
  EXPECT_EQ(cache.view().pages[2].bytes, before[2].bytes);

  Append(fork, tokens, 601, 1);
  EXPECT_EQ(fork.view().pages[2].bytes, copy);  // its own by now
  const CacheContents of_fork(fork);
  Append(cache, tokens, 700, 1);  // the other side copies, too, whoever is left
  EXPECT_NE(cache.view().pages[2].bytes, before[2].bytes);
  ASSERT_TRUE(cache.Truncate(100));
  EXPECT_NE(cache.view().pages[0].bytes, before[0].bytes);
  EXPECT_EQ(CacheContents(fork), of_fork);
}

TEST(KvForkTest, TruncateToWholePagesCopiesNothing) {
  const Tokens tokens(600, kHeads, kDim);
  KvCache cache = MakeCache(Options(0));
  Append(cache, tokens, 0, 600);
  KvCache fork = cache.Fork();
  ASSERT_TRUE(fork.Truncate(4 + 256));
  EXPECT_EQ(fork.view().pages[0].bytes, cache.view().pages[0].bytes);
}

TEST(KvForkTest, ForksOutliveTheirOrigin) {
  const Tokens tokens(600, kHeads, kDim);
  std::vector<KvCache> forks;
  std::vector<CacheContents> contents;
  {
    KvCache cache = MakeCache(Options(64));
    Append(cache, tokens, 0, 500);
    contents.emplace_back(cache);
    forks.push_back(cache.Fork());
    forks.push_back(forks[0].Fork());
    Append(cache, tokens, 500, 100);
  }
  EXPECT_EQ(CacheContents(forks[0]), contents[0]);
  forks.erase(forks.begin());
  EXPECT_EQ(CacheContents(forks[0]), contents[0]);
}

// A family of forks beside caches that share nothing and do the same.
void RunFamily(const KvCacheOptions& options, uint64_t seed) {
  SCOPED_TRACE(Describe(options) + " run " + std::to_string(seed));
  const Tokens tokens(1200, kHeads, kDim);
  struct Step {
    bool append;
    size_t first;
    size_t count;
  };
  std::vector<KvCache> forks;
  std::vector<std::vector<Step>> pasts;
  forks.push_back(MakeCache(options));
  pasts.emplace_back();
  RandomBits bits(seed, {.stage = test::kTestStage});
  for (int i = 0; i < 30; ++i) {
    const size_t which = bits.NextWord() % forks.size();
    const uint32_t choice = bits.NextWord() % 8;
    if (choice == 0 && forks.size() < 5) {
      forks.push_back(forks[which].Fork());
      pasts.push_back(pasts[which]);
    } else if (choice < 3) {
      const size_t n = bits.NextWord() % (forks[which].size() + 1);
      ASSERT_TRUE(forks[which].Truncate(n));
      pasts[which].push_back({false, 0, n});
    } else {
      const size_t first = bits.NextWord() % 900;
      const size_t count = 1 + bits.NextWord() % 300;
      Append(forks[which], tokens, first, count);
      pasts[which].push_back({true, first, count});
    }
  }
  for (size_t f = 0; f < forks.size(); ++f) {
    KvCache alone = MakeCache(options);
    for (const Step& step : pasts[f]) {
      if (step.append) {
        Append(alone, tokens, step.first, step.count);
      } else {
        ASSERT_TRUE(alone.Truncate(step.count));
      }
    }
    EXPECT_EQ(CacheContents(forks[f]), CacheContents(alone)) << "fork " << f;
  }
}

TEST(KvForkTest, BehaveAsIfTheySharedNothing) {
  for (uint64_t seed = 0; seed < 12; ++seed) {
    RunFamily(Options(seed % 2 * 64, seed % 3 == 0 ? 500 : 0), seed);
  }
}

TEST(KvForkTest, MayBeUsedByDifferentThreads) {
  const Tokens tokens(900, kHeads, kDim);
  KvCache cache = MakeCache(Options(0, 700));
  Append(cache, tokens, 0, 500);
  std::vector<KvCache> forks;
  for (int i = 0; i < 3; ++i) forks.push_back(cache.Fork());
  {
    std::vector<std::jthread> team;
    for (size_t i = 0; i < 3; ++i) {
      team.emplace_back([&, i] {
        KvCache own = std::move(forks[i]);
        for (size_t t = 500; t < 900; ++t) Append(own, tokens, t, 1);
        ASSERT_TRUE(own.Truncate(50 * i));
        forks[i] = own.Fork();
      });
    }
    for (size_t t = 500; t < 900; ++t) Append(cache, tokens, t, 1);
  }
  KvCache alone = MakeCache(Options(0, 700));
  Append(alone, tokens, 0, 900);
  EXPECT_EQ(CacheContents(cache), CacheContents(alone));
  ASSERT_TRUE(alone.Truncate(100));
  EXPECT_EQ(CacheContents(forks[2]), CacheContents(alone));
}

}  // namespace
}  // namespace turboquant
