// Which tokens a cache shows, where, and in which form.
#include "turboquant/kv_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "src/base/aligned_bytes.h"
#include "src/base/half.h"
#include "src/base/random.h"
#include "src/cache/kv_parts.h"
#include "tests/cache/attend_cases.h"
#include "tests/cache/cache_support.h"
#include "tests/cache/token_model.h"
#include "tests/support/threads.h"

namespace turboquant {
namespace {

using test::Append;
using test::CacheContents;
using test::Decoded;
using test::MakeCache;
using test::Tokens;

constexpr size_t kHeads = 2;
constexpr size_t kDim = 16;

KvCacheOptions Options(size_t sinks, size_t window, size_t max_tokens = 0) {
  KvCacheOptions options;
  options.format = {.head_dim = kDim, .kv_heads = kHeads};
  options.sinks = sinks;
  options.window = window;
  options.max_tokens = max_tokens;
  options.first_position = 1000;
  return options;
}

// What packing makes of every token: without maps it does not depend on the place.
Decoded Packed(const Tokens& tokens) {
  KvCache cache = MakeCache(Options(0, 0));
  Append(cache, tokens, 0, tokens.count());
  return Decoded(cache);
}

// Lanes behind the last token are zero: clearing them changes nothing.
void ExpectZeroLanes(const KvCache& cache) {
  const KvView view = cache.view();
  const size_t lane = (view.first_lane + view.packed_tokens) % 256;
  if (view.pages.empty() || lane == 0) return;
  const KvFormat::Parts& parts = cache.format().parts();
  AlignedBytes page(cache.format().PageBytes());
  std::memcpy(page.data(), view.pages.back().bytes, page.size());
  for (size_t head = 0; head < kHeads; ++head) {
    std::byte* bytes = page.data() + head * parts.head_bytes;
    ClearTokens(parts.keys, false, lane, 256 - lane, bytes);
    ClearTokens(parts.values, true, lane, 256 - lane, bytes);
  }
  EXPECT_EQ(std::memcmp(page.data(), view.pages.back().bytes, page.size()), 0);
}

void RunRandomly(const KvCacheOptions& options, uint64_t seed, const Tokens& tokens,
                 const Decoded& packed) {
  SCOPED_TRACE(Describe(options) + " run " + std::to_string(seed));
  KvCache cache = MakeCache(options);
  test::TokenModel model(options);
  RandomBits bits(seed, {.stage = test::kTestStage});
  constexpr size_t kCounts[] = {1, 1, 2, 5, 63, 64, 65, 130, 256, 300, 700};
  size_t next = 0;
  for (int step = 0; step < 40; ++step) {
    const uint32_t choice = bits.NextWord() % 16;
    if (choice == 0) {
      cache.Clear();
      model.Clear();
    } else if (choice < 5) {
      const size_t n = bits.NextWord() % (cache.size() + 1);
      ASSERT_TRUE(cache.Truncate(n));
      model.Truncate(n);
    } else {
      const size_t count = kCounts[bits.NextWord() % std::size(kCounts)];
      if (next + count > tokens.count()) next = 0;
      Append(cache, tokens, next, count);
      for (size_t i = 0; i < count; ++i) model.Append(next + i);
      next += count;
    }
    model.ExpectSame(cache, packed, tokens);
    ExpectZeroLanes(cache);
    if (testing::Test::HasFailure()) return;
  }
}

TEST(KvCacheTest, ShowsTheTokensOfTheModel) {
  const Tokens tokens(1500, kHeads, kDim);
  const Decoded packed = Packed(tokens);
  uint64_t seed = 0;
  for (const size_t sinks : {0, 4}) {
    for (const size_t window : {0, 1, 40, 64, 200}) {
      for (const size_t max_tokens : {0, 4, 100, 204, 300, 700}) {
        if (max_tokens != 0 && sinks + window > max_tokens) continue;
        for (int run = 0; run < 3; ++run) {
          RunRandomly(Options(sinks, window, max_tokens), ++seed, tokens, packed);
          ASSERT_FALSE(HasFailure());
        }
      }
    }
  }
}

TEST(KvCacheTest, HowManyTokensAnAppendBringsMakesNoDifference) {
  const Tokens tokens(900, kHeads, kDim);
  for (const RowType exact : {RowType::kF32, RowType::kF16}) {
    for (const size_t max_tokens : {0, 150, 400}) {
      KvCacheOptions options = Options(4, 64, max_tokens);
      options.exact_type = exact;
      KvCache at_once = MakeCache(options);
      KvCache one_by_one = MakeCache(options);
      Append(at_once, tokens, 0, 900);
      for (size_t i = 0; i < 900; ++i) Append(one_by_one, tokens, i, 1);
      EXPECT_EQ(test::PagesOf(at_once), test::PagesOf(one_by_one));
      EXPECT_EQ(Decoded(at_once).keys, Decoded(one_by_one).keys);
      EXPECT_EQ(at_once.view().first_lane, one_by_one.view().first_lane);
      EXPECT_EQ(at_once.next_position(), one_by_one.next_position());
    }
  }
}

// A token alone is packed with all heads together, many tokens head by head.
TEST(KvCacheTest, TokensAloneArePackedAsTokensTogether) {
  constexpr size_t kManyHeads = 18;  // more than are encoded together
  constexpr size_t kWideDim = 128;
  Tokens tokens(270, kManyHeads, kWideDim);
  for (const size_t token : {3u, 40u, 41u}) {  // beyond what needs no prescale
    std::ranges::fill(tokens.keys[token * kManyHeads + 2], 0.0f);
    for (float& x : tokens.keys[token * kManyHeads + 5]) x *= 1e-20f;
    for (float& x : tokens.values[token * kManyHeads + 17]) x = 0.0f;
  }
  struct Case {
    int key_bits, value_bits;
    KvMethod method;
    size_t outliers;
    bool framed;
  };
  for (const Case& c : {Case{4, 4, KvMethod::kMse, 0, false}, Case{3, 2, KvMethod::kMse, 0, true},
                        Case{2, 8, KvMethod::kMse, 0, false}, Case{4, 4, KvMethod::kProd, 0, true},
                        Case{2, 3, KvMethod::kMse, 8, false}}) {
    KvCacheOptions options;
    options.format = {.head_dim = kWideDim, .kv_heads = kManyHeads};
    options.format.keys = {.method = c.method, .bits = c.key_bits};
    options.format.values = {.bits = c.value_bits, .outlier_channels = c.outliers};
    options.sinks = 0;
    options.window = 0;
    if (c.framed) {
      options.rope = RopeParameters::FromTheta(10000.0, kWideDim);
      options.known_key_map = test::RandomKeyMap(KeyMapKind::kDiagonal, kManyHeads, kWideDim);
    }
    KvCache together = MakeCache(options);
    KvCache alone = MakeCache(options);
    // Outlier channels are chosen by the tokens of the first call.
    Append(together, tokens, 0, 2);
    Append(alone, tokens, 0, 2);
    Append(together, tokens, 2, 268);
    for (size_t i = 2; i < 270; ++i) Append(alone, tokens, i, 1);
    EXPECT_EQ(test::PagesOf(together), test::PagesOf(alone)) << c.key_bits << c.value_bits;
  }
}

TEST(KvCacheTest, WindowKeepsBetweenWindowAnd63More) {
  const Tokens tokens(400, kHeads, kDim);
  KvCache cache = MakeCache(Options(4, 40));
  for (size_t i = 0; i < 400; ++i) {
    Append(cache, tokens, i, 1);
    const KvView view = cache.view();
    EXPECT_EQ(view.packed_tokens % 64, 0u);
    if (i + 1 < 4 + 40) continue;
    EXPECT_GE(view.window.count, 40u);
    EXPECT_LE(view.window.count, 103u);
  }
}

TEST(KvCacheTest, PagesNeverMove) {
  const Tokens tokens(1200, kHeads, kDim);
  KvCache cache = MakeCache(Options(4, 64));
  std::vector<const std::byte*> seen;
  for (size_t i = 0; i < 1200; i += 100) {
    Append(cache, tokens, i, 100);
    const auto pages = cache.view().pages;
    for (size_t p = 0; p < pages.size(); ++p) {
      EXPECT_EQ(reinterpret_cast<uintptr_t>(pages[p].bytes) % 64, 0u);
      EXPECT_EQ(pages[p].turns, nullptr);
      if (p == seen.size()) seen.push_back(pages[p].bytes);
      EXPECT_EQ(pages[p].bytes, seen[p]);
    }
  }
  EXPECT_EQ(seen.size(), 5u);
}

TEST(KvCacheTest, EveryLayoutAndTypeOfInput) {
  const Tokens tokens(300, kHeads, kDim);
  KvCache expected = MakeCache(Options(4, 64));
  Append(expected, tokens, 0, 300);
  std::vector<float> by_head[2];
  std::vector<BFloat16> halves[2];
  for (const bool values : {false, true}) {
    for (size_t head = 0; head < kHeads; ++head) {
      for (size_t t = 0; t < 300; ++t) {
        const auto row = tokens.Row(values, t, head);
        by_head[values].insert(by_head[values].end(), row.begin(), row.end());
      }
    }
    for (const float x : (values ? tokens.values : tokens.keys).values) {
      halves[values].push_back(F32ToBF16(x));
    }
  }
  KvCache head_major = MakeCache(Options(4, 64));
  ASSERT_TRUE(head_major.Append(HeadsView::HeadMajor(by_head[0].data(), 300, kHeads, kDim),
                                HeadsView::HeadMajor(by_head[1].data(), 300, kHeads, kDim)));
  EXPECT_EQ(CacheContents(head_major), CacheContents(expected));
  Tokens rounded = tokens;
  for (float& x : rounded.keys.values) x = BF16ToF32(F32ToBF16(x));
  for (float& x : rounded.values.values) x = BF16ToF32(F32ToBF16(x));
  KvCache from_floats = MakeCache(Options(4, 64));
  Append(from_floats, rounded, 0, 300);
  KvCache from_halves = MakeCache(Options(4, 64));
  ASSERT_TRUE(from_halves.Append(HeadsView::TokenMajor(halves[0].data(), 300, kHeads, kDim),
                                 HeadsView::TokenMajor(halves[1].data(), 300, kHeads, kDim)));
  EXPECT_EQ(CacheContents(from_halves), CacheContents(from_floats));
}

TEST(KvCacheTest, ThreadsAndBackendsMakeNoDifference) {
  const Tokens tokens(700, kHeads, kDim);
  for (const KvMethod method : {KvMethod::kMse, KvMethod::kProd}) {
    KvCacheOptions options = Options(4, 64);
    options.format.keys = {.method = method, .bits = 3};
    KvCache expected = MakeCache(options);
    Append(expected, tokens, 0, 700);
    for (const ParallelFor& parallel_for : {test::Threads(3), test::Backwards()}) {
      KvCache cache = MakeCache(options);
      Append(cache, tokens, 0, 700, parallel_for);
      EXPECT_EQ(CacheContents(cache), CacheContents(expected));
    }
    for (const Backend backend : AvailableBackends()) {
      options.format.backend = backend;
      KvCache cache = MakeCache(options);
      Append(cache, tokens, 0, 700);
      EXPECT_EQ(CacheContents(cache), CacheContents(expected)) << BackendName(backend);
    }
  }
}

TEST(KvCacheTest, ExactTokensOfHalfType) {
  const Tokens tokens(50, kHeads, kDim);
  KvCacheOptions options = Options(4, 64);
  options.exact_type = RowType::kF16;
  KvCache cache = MakeCache(options);
  Append(cache, tokens, 0, 50);
  const Decoded shown(cache);
  for (size_t i = 0; i < shown.keys.size(); ++i) {
    ASSERT_EQ(shown.keys[i], F16ToF32(F32ToF16(tokens.keys.values[i])));
  }
  const KvView view = cache.view();
  EXPECT_EQ(view.window.type, RowType::kF16);
  const auto* row = static_cast<const uint16_t*>(view.window.values) +
                    7 * view.window.token_stride + view.window.head_stride;
  EXPECT_EQ(row[3], F32ToF16(tokens.Row(true, 11, 1)[3]).bits);
}

TEST(KvCacheTest, ReconstructsAnyPart) {
  const Tokens tokens(700, kHeads, kDim);
  KvCache cache = MakeCache(Options(4, 64, 600));
  Append(cache, tokens, 0, 700);
  const Decoded all(cache);
  for (const auto& [first, count] :
       {std::pair<size_t, size_t>{0, 0}, {0, 3}, {2, 10}, {250, 300}, {530, 70}, {600, 0}}) {
    std::vector<float> keys(count * kHeads * kDim);
    std::vector<float> values(count * kHeads * kDim);
    ASSERT_TRUE(cache.Reconstruct(first, count,
                                  HeadsOutput::HeadMajor(keys.data(), count, kHeads, kDim),
                                  HeadsOutput::TokenMajor(values.data(), count, kHeads, kDim)));
    for (size_t t = 0; t < count; ++t) {
      for (size_t head = 0; head < kHeads; ++head) {
        EXPECT_TRUE(std::ranges::equal(std::span(keys).subspan((head * count + t) * kDim, kDim),
                                       all.Row(false, first + t, head)));
        EXPECT_TRUE(std::ranges::equal(std::span(values).subspan((t * kHeads + head) * kDim, kDim),
                                       all.Row(true, first + t, head)));
      }
    }
  }
}

// The channels of largest mean square over the first packed tokens, first and ascending.
TEST(KvCacheTest, OutlierChannelsAreTheLargest) {
  Tokens tokens(700, kHeads, kDim);
  const std::vector<uint16_t> loud[kHeads] = {{3, 7, 12}, {0, 5, 15}};
  for (size_t t = 0; t < 700; ++t) {
    for (size_t head = 0; head < kHeads; ++head) {
      // Behind token 600 others are loud: too late.
      for (const uint16_t c : loud[head]) tokens.keys[t * kHeads + head][t < 600 ? c : 1] *= 9.0f;
    }
  }
  KvCacheOptions options = Options(4, 0);
  options.format.keys = {.bits = 3, .outlier_channels = 3};
  KvCache cache = MakeCache(options);
  EXPECT_EQ(cache.view().key_channels, nullptr);
  Append(cache, tokens, 0, 700);
  const uint16_t* channels = cache.view().key_channels;
  ASSERT_NE(channels, nullptr);
  EXPECT_EQ(cache.view().value_channels, nullptr);
  for (size_t head = 0; head < kHeads; ++head) {
    const std::vector<uint16_t> order(channels + head * kDim, channels + (head + 1) * kDim);
    EXPECT_EQ(std::vector<uint16_t>(order.begin(), order.begin() + 3), loud[head]);
    EXPECT_TRUE(std::ranges::is_sorted(order.begin() + 3, order.end()));
    std::vector<uint16_t> sorted = order;
    std::ranges::sort(sorted);
    std::vector<uint16_t> all(kDim);
    std::iota(all.begin(), all.end(), uint16_t{0});
    EXPECT_EQ(sorted, all);
  }
  // Channels come back to their places: the error is that of 3 bits, not of a permutation.
  const Decoded shown(cache);
  EXPECT_LT(test::SquaredDistance(shown.keys, tokens.keys.values),
            0.05 * test::Dot(shown.keys, shown.keys));
  cache.Clear();
  EXPECT_EQ(cache.view().key_channels, nullptr);
}

TEST(KvCacheTest, UnquantizedSidesComeBackAsTheyAre) {
  const Tokens tokens(600, kHeads, kDim);
  KvCacheOptions options = Options(4, 64);
  options.format.keys.method = KvMethod::kF32;
  options.format.values.method = KvMethod::kF16;
  KvCache cache = MakeCache(options);
  Append(cache, tokens, 0, 600);
  ASSERT_TRUE(cache.Truncate(300));
  const Decoded shown(cache);
  EXPECT_TRUE(
      std::ranges::equal(shown.keys, std::span(tokens.keys.values).first(shown.keys.size())));
  for (size_t t = 4; t < 300; ++t) {
    ASSERT_EQ(shown.Row(true, t, 1)[2], F16ToF32(F32ToF16(tokens.Row(true, t, 1)[2])));
  }
  ExpectZeroLanes(cache);
}

}  // namespace
}  // namespace turboquant
