// Pools of pages: what they hold, that pages and slabs are used again, and that caches are the same
// with and without.
#include "turboquant/page_pool.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "tests/cache/cache_support.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"
#include "turboquant/decoder_cache.h"
#include "turboquant/snapshot.h"

namespace turboquant {
namespace {

using test::CacheContents;
using test::MakeCache;
using test::Tokens;

constexpr size_t kSlab = size_t{2} << 20;
constexpr size_t kHeads = 8;
constexpr size_t kDim = 128;
constexpr size_t kPagesOfASlab = 7;  // of 270,400 bytes with what stands beside the tokens

std::shared_ptr<PagePool> MakePool(size_t slab_bytes = kSlab) {
  auto pool = PagePool::Create({.slab_bytes = slab_bytes});
  EXPECT_TRUE(pool) << pool.error().message;
  return *std::move(pool);
}

KvCacheOptions Options(std::shared_ptr<PagePool> pool) {
  KvCacheOptions options;
  options.format = {.head_dim = kDim, .kv_heads = kHeads};
  options.format.keys.scale_search = options.format.values.scale_search = false;
  options.sinks = options.window = 0;
  options.page_pool = std::move(pool);
  return options;
}

const Tokens& SomeTokens() {
  static const Tokens tokens(2 * kPageTokens, kHeads, kDim);
  return tokens;
}

void AppendPages(KvCache& cache, size_t pages) {
  for (size_t page = 0; page < pages; ++page) {
    test::Append(cache, SomeTokens(), page % 2 * kPageTokens, kPageTokens);
  }
}

TEST(PagePoolTest, OptionsThatMakeNone) {
  for (const size_t bytes : {size_t{0}, kSlab - 1, kSlab + 64, size_t{4096}}) {
    EXPECT_TRUE(test::FailsWith(PagePool::Create({.slab_bytes = bytes}),
                                ErrorCode::kInvalidArgument, "slab_bytes"));
  }
}

TEST(PagePoolTest, HoldsThePagesOfItsCaches) {
  const auto pool = MakePool();
  EXPECT_EQ(pool->Stats().slab_bytes, 0u);
  KvCache cache = MakeCache(Options(pool));
  KvCache other = MakeCache(Options(pool));
  AppendPages(cache, 5);
  AppendPages(other, 4);
  const PagePoolStats stats = pool->Stats();
  EXPECT_EQ(stats.pages, 9u);
  EXPECT_EQ(stats.slab_bytes, 2 * kSlab);
  const auto bytes_of_pages = [](const KvCache& of) {
    const KvCacheStats own = of.Stats();
    return own.code_bytes + own.scale_bytes;
  };
  const size_t bytes = bytes_of_pages(cache) + bytes_of_pages(other);
  EXPECT_GE(stats.page_bytes, bytes);
  EXPECT_LE(stats.page_bytes, bytes + 9 * 128);
  EXPECT_EQ(stats.used_bytes, stats.page_bytes);
  for (const KvPage& page : cache.view().pages) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(page.bytes) % 64, 0u);
  }
}

// Of forks, a page that both have is one; one that is written to is copied.
TEST(PagePoolTest, ForksShareAndCopy) {
  const auto pool = MakePool();
  KvCache cache = MakeCache(Options(pool));
  AppendPages(cache, 2);
  test::Append(cache, SomeTokens(), 0, 100);
  std::optional<KvCache> fork = cache.Fork();
  EXPECT_EQ(pool->Stats().pages, 3u);
  test::Append(*fork, SomeTokens(), 0, 1);
  EXPECT_EQ(pool->Stats().pages, 4u);
  fork.reset();
  EXPECT_EQ(pool->Stats().pages, 3u);
}

// A cache that evicts as much as it appends stays where it is.
TEST(PagePoolTest, PagesAreUsedAgain) {
  const auto pool = MakePool();
  KvCacheOptions options = Options(pool);
  options.max_tokens = 3 * kPageTokens;
  KvCache cache = MakeCache(options);
  AppendPages(cache, 5);
  const size_t used = pool->Stats().used_bytes;
  for (size_t page = 0; page < 3 * kPagesOfASlab; ++page) {
    AppendPages(cache, 1);
    EXPECT_EQ(pool->Stats().used_bytes, used);
    EXPECT_EQ(pool->Stats().slab_bytes, kSlab);
  }
  EXPECT_LE(pool->Stats().pages, 4u);
}

// Pages that come back were written to: what is made of them is zero again.
TEST(PagePoolTest, PagesUsedAgainAreZero) {
  const auto pool = MakePool();
  KvCache first = MakeCache(Options(pool));
  AppendPages(first, 2);
  first.Clear();
  AppendPages(first, 1);  // keeps the slab
  KvCache second = MakeCache(Options(pool));
  KvCache expected = MakeCache(Options(nullptr));
  for (KvCache* cache : {&second, &expected}) test::Append(*cache, SomeTokens(), 7, 90);
  EXPECT_EQ(CacheContents(second), CacheContents(expected));
}

TEST(PagePoolTest, SlabsGoBackOnceTheirPagesAreFree) {
  const auto pool = MakePool();
  std::optional<KvCache> first = MakeCache(Options(pool));
  std::optional<KvCache> second = MakeCache(Options(pool));
  AppendPages(*first, kPagesOfASlab);       // fills one
  AppendPages(*second, kPagesOfASlab + 2);  // fills one and begins one
  EXPECT_EQ(pool->Stats().slab_bytes, 3 * kSlab);
  first.reset();
  EXPECT_EQ(pool->Stats().slab_bytes, 2 * kSlab);
  // Whatever was free in the slab that went is not handed out.
  AppendPages(*second, 2 * kPagesOfASlab);
  KvCache expected = MakeCache(Options(nullptr));
  AppendPages(expected, kPagesOfASlab + 2);
  AppendPages(expected, 2 * kPagesOfASlab);
  EXPECT_EQ(CacheContents(*second), CacheContents(expected));
  second.reset();
  EXPECT_EQ(pool->Stats().slab_bytes, 0u);
  EXPECT_EQ(pool->Stats().pages, 0u);
  KvCache third = MakeCache(Options(pool));
  AppendPages(third, 1);
  EXPECT_EQ(pool->Stats().slab_bytes, kSlab);
  EXPECT_EQ(pool->Stats().used_bytes, pool->Stats().page_bytes);
}

// Free pages of two slabs are chained: those of the slab that goes are taken out, others stay.
TEST(PagePoolTest, FreePagesOfOtherSlabsStay) {
  const auto pool = MakePool();
  std::optional<KvCache> first = MakeCache(Options(pool));
  KvCache second = MakeCache(Options(pool));
  AppendPages(*first, kPagesOfASlab);
  AppendPages(second, kPagesOfASlab);
  ASSERT_TRUE(first->Truncate(3 * kPageTokens));
  ASSERT_TRUE(second.Truncate(3 * kPageTokens));
  ASSERT_TRUE(first->Truncate(2 * kPageTokens));
  first.reset();
  EXPECT_EQ(pool->Stats().slab_bytes, kSlab);
  AppendPages(second, kPagesOfASlab - 3);
  EXPECT_EQ(pool->Stats().slab_bytes, kSlab);
  EXPECT_EQ(pool->Stats().pages, kPagesOfASlab);
}

TEST(PagePoolTest, PageLargerThanASlab) {
  const auto pool = MakePool();
  KvCacheOptions options = Options(pool);
  options.format.keys.method = options.format.values.method = KvMethod::kF32;
  KvCache cache = MakeCache(options);
  AppendPages(cache, 2);
  EXPECT_EQ(pool->Stats().slab_bytes, 4 * kSlab);  // 2 MB of tokens and some
  KvCache expected = MakeCache(options);
  AppendPages(expected, 2);
  EXPECT_EQ(CacheContents(cache), CacheContents(expected));
}

TEST(PagePoolTest, LivesAsLongAsItsCaches) {
  std::weak_ptr<PagePool> pool;
  {
    std::shared_ptr<PagePool> made = MakePool();
    pool = made;
    std::optional<KvCache> cache = MakeCache(Options(std::move(made)));
    AppendPages(*cache, 2);
    KvCache fork = cache->Fork();
    cache.reset();
    EXPECT_EQ(pool.lock()->Stats().pages, 2u);
  }
  EXPECT_TRUE(pool.expired());
}

// Layers of several widths, and a loaded snapshot of them, in one pool.
TEST(PagePoolTest, DecodersAndSnapshots) {
  const auto pool = MakePool();
  DecoderCacheOptions options;
  options.layers = 3;
  options.layer = Options(pool);
  options.overrides = {{.layer = 1, .keys = KvSideOptions{.bits = 8, .scale_search = false}}};
  auto decoder = DecoderCache::Create(options);
  ASSERT_TRUE(decoder);
  for (size_t layer = 0; layer < 3; ++layer) AppendPages(decoder->layer(layer), 2);
  EXPECT_EQ(pool->Stats().pages, 6u);
  const test::TemporaryFolder folder;
  ASSERT_TRUE(SaveDecoderCache(folder / "layers.safetensors", *decoder));
  auto loaded = LoadDecoderCache(folder / "layers.safetensors", options);
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(pool->Stats().pages, 12u);
  EXPECT_EQ(CacheContents(loaded->layer(1)), CacheContents(decoder->layer(1)));
}

TEST(PagePoolTest, CachesOfManyThreads) {
  const auto pool = MakePool();
  KvCache expected = MakeCache(Options(nullptr));
  AppendPages(expected, 3);
  const CacheContents contents(expected);
  std::vector<std::jthread> team;
  for (int thread = 0; thread < 4; ++thread) {
    team.emplace_back([&] {
      for (int round = 0; round < 4; ++round) {
        KvCache cache = MakeCache(Options(pool));
        AppendPages(cache, 3);
        EXPECT_EQ(CacheContents(cache), contents);
        EXPECT_GE(pool->Stats().pages, 3u);
      }
    });
  }
  team.clear();
  EXPECT_EQ(pool->Stats().pages, 0u);
}

}  // namespace
}  // namespace turboquant
