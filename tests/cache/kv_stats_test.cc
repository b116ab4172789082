// What a cache says it holds is what it has allocated. This file counts every operator new of the
// program.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "tests/cache/cache_support.h"
#include "turboquant/decoder_cache.h"
#include "turboquant/kv_cache.h"

namespace {

std::atomic<size_t> live_bytes = 0;  // requested and not given back
std::atomic<size_t> peak_bytes = 0;  // the most of them since it was set

// In front of what is handed out, as far from it as the alignment asks.
struct Block {
  void* start;
  size_t size;
};

void* Allocate(size_t size, size_t alignment) {
  const size_t room = sizeof(Block) + alignment;
  void* start = std::malloc(size + room);
  if (start == nullptr) throw std::bad_alloc();
  const auto first = reinterpret_cast<uintptr_t>(start) + room;
  auto* bytes = reinterpret_cast<std::byte*>(first - first % alignment);
  reinterpret_cast<Block*>(bytes)[-1] = {start, size};
  const size_t live = live_bytes += size;
  size_t peak = peak_bytes;
  while (peak < live && !peak_bytes.compare_exchange_weak(peak, live)) {
  }
  return bytes;
}

void Free(void* bytes) {
  if (bytes == nullptr) return;
  const Block block = static_cast<Block*>(bytes)[-1];
  live_bytes -= block.size;
  std::free(block.start);
}

}  // namespace

// Every form, as sanitizers bring forms of their own that don't call these. Over-aligned arrays and
// objects that may be missing are not asked for.
constexpr size_t kUsual = alignof(std::max_align_t);
void* operator new(size_t size) { return Allocate(size, kUsual); }
void* operator new[](size_t size) { return Allocate(size, kUsual); }
void* operator new(size_t size, const std::nothrow_t&) noexcept { return Allocate(size, kUsual); }
void* operator new[](size_t size, const std::nothrow_t&) noexcept { return Allocate(size, kUsual); }
void* operator new(size_t size, std::align_val_t alignment) {
  return Allocate(size, std::max(static_cast<size_t>(alignment), kUsual));
}
void operator delete(void* bytes) noexcept { Free(bytes); }
void operator delete[](void* bytes) noexcept { Free(bytes); }
void operator delete(void* bytes, size_t) noexcept { Free(bytes); }
void operator delete[](void* bytes, size_t) noexcept { Free(bytes); }
void operator delete(void* bytes, const std::nothrow_t&) noexcept { Free(bytes); }
void operator delete[](void* bytes, const std::nothrow_t&) noexcept { Free(bytes); }
void operator delete(void* bytes, std::align_val_t) noexcept { Free(bytes); }
void operator delete(void* bytes, size_t, std::align_val_t) noexcept { Free(bytes); }

namespace turboquant {
namespace {

using test::MakeCache;
using test::Tokens;

constexpr size_t kHeads = 2;
constexpr size_t kDim = 40;

std::vector<KvCacheOptions> Choices() {
  std::vector<KvCacheOptions> choices;
  const auto add = [&](auto change) {
    KvCacheOptions options;
    options.format = {.head_dim = kDim, .kv_heads = kHeads};
    change(options);
    choices.push_back(options);
  };
  add([](auto&) {});
  add([](auto& o) { o.window = 0; });
  add([](auto& o) { o.max_tokens = 400; });
  add([](auto& o) { o.max_tokens = 100; });
  add([](auto& o) { o.exact_type = RowType::kF16; });
  add([](auto& o) { o.format.rotation = RotationKind::kDense; });
  add([](auto& o) { o.format.keys.bits = 7; });
  add([](auto& o) { o.format.keys.bits = 8; });
  add([](auto& o) { o.format.keys.method = KvMethod::kF16; });
  add([](auto& o) { o.format.keys.method = KvMethod::kProd; });
  add([](auto& o) {
    o.format.keys = {.method = KvMethod::kProd, .sketch = SketchKind::kGaussian};
  });
  add([](auto& o) { o.format.values = {.bits = 2, .outlier_channels = 8}; });
  add([](auto& o) { o.key_map = KeyMapKind::kCenter; });
  for (const KeyMapKind kind : {KeyMapKind::kNone, KeyMapKind::kDiagonal, KeyMapKind::kFull}) {
    add([&](auto& o) {
      o.rope = RopeParameters::FromTheta(1e4, kDim);
      o.key_map = kind;
      o.query_heads = 4;
    });
  }
  return choices;
}

// A step of a cache's life, and how much memory there is more than before it.
class Life {
 public:
  explicit Life(const KvCacheOptions& options)
      : options_(options), tokens_(1000, kHeads, kDim), queries_(1000, 4, kDim) {
    (void)KvCache::Create(options);  // codebooks are remembered for the whole process
  }

  void Run() {
    const size_t before = live_bytes;
    std::optional<KvCache> cache = MakeCache(options_);
    Expect(*cache, before, "new");
    for (const size_t count : {3, 1, 1, 80, 60, 1, 300, 5}) {
      (void)cache->ObserveQueries(queries_.Keys().Slice(next_, count));
      Expect(*cache, before, "observed");
      test::Append(*cache, tokens_, next_, count);
      next_ += count;
      Expect(*cache, before, "appended");
    }
    const size_t size = cache->size();
    for (const size_t n : {size - 3, size - 90, size - 95, size_t{2}}) {
      ASSERT_TRUE(cache->Truncate(std::min(n, cache->size())));
      Expect(*cache, before, "truncated");
    }
    test::Append(*cache, tokens_, 0, 700);
    Expect(*cache, before, "appended again");
    Fork(*cache, before);
    cache->Clear();
    Expect(*cache, before, "cleared");
    cache.reset();
    EXPECT_EQ(live_bytes - before, 0u) << "destroyed";
  }

 private:
  void Expect(const KvCache& cache, size_t before, const char* step) {
    const size_t held = live_bytes - before;
    const KvCacheStats stats = cache.Stats();
    EXPECT_EQ(stats.total_bytes, held) << step;
    EXPECT_EQ(stats.total_bytes, stats.code_bytes + stats.scale_bytes + stats.exact_bytes +
                                     stats.scratch_bytes + stats.quantizer_bytes +
                                     stats.other_bytes);
    EXPECT_EQ(stats.code_bytes + stats.scale_bytes,
              cache.view().pages.size() * cache.format().PageBytes());
    EXPECT_EQ(stats.tokens, cache.size());
    EXPECT_EQ(stats.packed_tokens, cache.view().packed_tokens);
    EXPECT_EQ(stats.exact_tokens + stats.packed_tokens, stats.tokens);
    EXPECT_EQ(stats.f16_bytes, stats.tokens * kHeads * kDim * 4);
    EXPECT_EQ(stats.f32_bytes, stats.tokens * kHeads * kDim * 8);
  }

  // A fork holds what it does not share: everything but pages, tables and an estimated map.
  void Fork(KvCache& cache, size_t before) {
    const KvCache fork = cache.Fork();
    const KvCacheStats own = cache.Stats();
    const KvCacheStats stats = fork.Stats();
    const size_t held = live_bytes - before;
    const size_t pages = fork.view().pages.size();
    const size_t turns = fork.view().rotary_dim * sizeof(float);
    const size_t shared = stats.code_bytes + stats.scale_bytes + stats.quantizer_bytes;
    const size_t headers = own.total_bytes + stats.total_bytes - shared - held;
    EXPECT_EQ(headers % std::max<size_t>(pages, 1), 0u);  // what stands beside each shared page
    EXPECT_LE(headers, pages * (turns + 64));
    EXPECT_GE(headers, pages * turns);
  }

  KvCacheOptions options_;
  Tokens tokens_;
  Tokens queries_;
  size_t next_ = 0;
};

TEST(KvStatsTest, TotalIsWhatIsAllocated) {
  for (const KvCacheOptions& options : Choices()) {
    SCOPED_TRACE(Describe(options));
    Life(options).Run();
  }
}

TEST(KvStatsTest, PagesOfKnownSize) {
  KvCacheOptions options;
  options.format = {.head_dim = 128, .kv_heads = 8};
  options.window = 0;
  KvCache cache = MakeCache(options);
  const Tokens tokens(4 + 512, 8, 128);
  test::Append(cache, tokens, 0, 516);
  const KvCacheStats stats = cache.Stats();
  EXPECT_EQ(stats.code_bytes, 512u * 8 * 128);  // two sides of half a byte
  EXPECT_EQ(stats.scale_bytes, 512u * 8 * 4);
  EXPECT_EQ(stats.exact_bytes, 4u * 8 * 128 * 8);
  EXPECT_EQ(stats.scratch_bytes, 0u);
  EXPECT_TRUE(stats.key_map_ready);
}

TEST(KvStatsTest, TokensEvictedAtOnceTakeNoMemory) {
  KvCacheOptions options;
  options.format = {.head_dim = kDim, .kv_heads = kHeads};
  options.max_tokens = 300;
  KvCache cache = MakeCache(options);
  const Tokens tokens(20'000, kHeads, kDim);
  const size_t before = live_bytes;
  peak_bytes = before;
  test::Append(cache, tokens, 0, 20'000);
  EXPECT_LE(cache.view().pages.size(), 2u);
  EXPECT_LT(peak_bytes - before, 1'000'000u);  // of 2 MB in all
}

TEST(KvStatsTest, DecoderHoldsTheSumOfItsLayers) {
  DecoderCacheOptions options;
  options.layers = 3;
  options.layer.format = {.head_dim = kDim, .kv_heads = kHeads};
  options.overrides = {{.layer = 1, .keys = KvSideOptions{.bits = 8}}};
  (void)DecoderCache::Create(options);
  const Tokens tokens(300, kHeads, kDim);
  const size_t before = live_bytes;
  auto cache = DecoderCache::Create(options);
  ASSERT_TRUE(cache);
  for (size_t layer = 0; layer < 3; ++layer) test::Append(cache->layer(layer), tokens, 0, 300);
  const size_t held = live_bytes - before;
  EXPECT_EQ(cache->Stats().total_bytes, held);
  EXPECT_EQ(cache->Stats().tokens, 300u);
}

}  // namespace
}  // namespace turboquant
