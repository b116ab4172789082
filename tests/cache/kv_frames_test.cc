// Page frames, centres and maps: what pages hold, and that it is undone.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "src/cache/page_frame.h"
#include "tests/cache/cache_support.h"
#include "tests/support/expect_error.h"
#include "turboquant/kv_cache.h"

namespace turboquant {
namespace {

using test::Append;
using test::Decoded;
using test::FailsWith;
using test::MakeCache;
using test::Tokens;

constexpr size_t kHeads = 2;
constexpr size_t kDim = 16;
constexpr size_t kRotaryDim = 12;
constexpr uint64_t kFirstPosition = 5000;

KvCacheOptions Options(size_t window) {
  KvCacheOptions options;
  options.format = {.head_dim = kDim, .kv_heads = kHeads};
  options.window = window;
  options.first_position = kFirstPosition;
  options.rope = RopeParameters::FromTheta(1e4, kRotaryDim);
  return options;
}

std::shared_ptr<const KeyMap> RandomMap(KeyMapKind kind) {
  const test::Rows center = test::NormalRows(kHeads, kDim, 50);
  test::Rows map = test::NormalRows(kHeads, kind == KeyMapKind::kFull ? kDim * kDim : kDim, 51);
  if (kind == KeyMapKind::kCenter) map.values.clear();
  for (float& x : map.values) x = kind == KeyMapKind::kDiagonal ? std::exp(x) : 0.3f * x;
  if (kind == KeyMapKind::kFull) {  // far from singular
    for (size_t i = 0; i < kHeads * kDim; ++i) map.values[i * kDim + i % kDim] += 2.0f;
  }
  auto result = KeyMap::FromNumbers(kind, kHeads, kDim, center.values, map.values);
  EXPECT_TRUE(result) << result.error().message;
  return std::make_shared<const KeyMap>(*std::move(result));
}

// A (R_-s key - m) in double.
std::vector<double> Framed(std::span<const float> key, const KeyMap& map, size_t head,
                           const RopeParameters& rope, uint64_t base) {
  std::vector<double> turned(key.begin(), key.end());
  const size_t pairs = rope.inverse_frequencies.size();
  for (size_t i = 0; i < pairs; ++i) {
    const size_t first = rope.pairing == RopePairing::kHalf ? i : 2 * i;
    const size_t second = rope.pairing == RopePairing::kHalf ? i + pairs : 2 * i + 1;
    const double angle = static_cast<double>(base) * rope.inverse_frequencies[i];
    const double x = turned[first];
    const double y = turned[second];
    turned[first] = x * std::cos(angle) + y * std::sin(angle);
    turned[second] = y * std::cos(angle) - x * std::sin(angle);
  }
  for (size_t j = 0; j < kDim; ++j) turned[j] -= map.center(head)[j];
  std::vector<double> framed(kDim);
  for (size_t i = 0; i < kDim; ++i) {
    if (map.kind() != KeyMapKind::kFull) {
      framed[i] = turned[i] * (map.kind() == KeyMapKind::kDiagonal ? map.scale(head)[i] : 1.0f);
      continue;
    }
    for (size_t j = 0; j < kDim; ++j) framed[i] += map.matrix(head)[i * kDim + j] * turned[j];
  }
  return framed;
}

// Unquantized keys are packed framed as well: what a page holds and what comes back can be told
// exactly.
TEST(KvFramesTest, PagesHoldFramedKeysThatComeBack) {
  const Tokens tokens(700, kHeads, kDim);
  for (const KeyMapKind kind : {KeyMapKind::kCenter, KeyMapKind::kDiagonal, KeyMapKind::kFull}) {
    for (const RopePairing pairing : {RopePairing::kHalf, RopePairing::kInterleaved}) {
      KvCacheOptions options = Options(0);
      options.format.keys.method = KvMethod::kF32;
      options.rope->pairing = pairing;
      options.known_key_map = RandomMap(kind);
      KvCache cache = MakeCache(options);
      Append(cache, tokens, 0, 700);
      const KvView view = cache.view();
      ASSERT_EQ(view.packed_tokens, 696u);
      EXPECT_EQ(view.rotary_dim, kRotaryDim);
      EXPECT_EQ(view.key_map, options.known_key_map.get());
      const size_t head_bytes = cache.format().HeadBytes();
      for (const size_t t : {0, 255, 256, 300, 695}) {
        const uint64_t base = kFirstPosition + 4 + t / 256 * 256;
        for (size_t head = 0; head < kHeads; ++head) {
          std::vector<float> row(kDim);
          std::memcpy(row.data(),
                      view.pages[t / 256].bytes + head * head_bytes + t % 256 * kDim * 4, kDim * 4);
          const auto expected =
              Framed(tokens.Row(false, 4 + t, head), *view.key_map, head, *options.rope, base);
          for (size_t j = 0; j < kDim; ++j) EXPECT_NEAR(row[j], expected[j], 2e-5) << t;
        }
      }
      const Decoded shown(cache);
      for (size_t i = 0; i < shown.keys.size(); ++i) {
        ASSERT_NEAR(shown.keys[i], tokens.keys.values[i], 5e-5);
      }
    }
  }
}

TEST(KvFramesTest, FramesKeepTheirBase) {
  const Tokens tokens(900, kHeads, kDim);
  KvCacheOptions options = Options(0);
  options.max_tokens = 300;
  options.known_key_map = RandomMap(KeyMapKind::kDiagonal);
  KvCache cache = MakeCache(options);
  const auto expect_base = [&](size_t page, uint64_t base) {
    std::vector<float> turns(kRotaryDim);
    MakeTurns(*options.rope, base, turns);
    const float* held = cache.view().pages[page].turns;
    ASSERT_NE(held, nullptr);
    EXPECT_TRUE(std::ranges::equal(turns, std::span(held, kRotaryDim))) << base;
  };
  Append(cache, tokens, 0, 10);
  expect_base(0, kFirstPosition + 4);
  Append(cache, tokens, 10, 590);  // 596 behind the sinks, 300 of them evicted
  ASSERT_EQ(cache.view().pages.size(), 2u);
  EXPECT_EQ(cache.view().first_lane, 44u);
  EXPECT_EQ(cache.view().packed_position, kFirstPosition + 4 + 300);
  expect_base(0, kFirstPosition + 4 + 256);
  expect_base(1, kFirstPosition + 4 + 512);
  Append(cache, tokens, 600, 180);  // to a third page while the first has evicted lanes
  EXPECT_EQ(cache.view().first_lane, 224u);
  ASSERT_EQ(cache.view().pages.size(), 3u);
  expect_base(2, kFirstPosition + 4 + 768);
  // A page that begins anew behind evicted tokens.
  ASSERT_TRUE(cache.Truncate(4));
  EXPECT_EQ(cache.next_position(), kFirstPosition + 4 + 480);
  Append(cache, tokens, 0, 1);
  expect_base(0, kFirstPosition + 4 + 480);
  ASSERT_TRUE(cache.Truncate(2));
  Append(cache, tokens, 0, 3);
  expect_base(0, kFirstPosition + 4);
}

TEST(KvFramesTest, KnownMapsThatDoNotFit) {
  KvCacheOptions options = Options(64);
  options.known_key_map = RandomMap(KeyMapKind::kDiagonal);
  options.format.kv_heads = 4;
  EXPECT_TRUE(FailsWith(KvCache::Create(options), ErrorCode::kDimensionMismatch,
                        "known_key_map has 2 heads of dim 16, the cache has 4 of 16"));
  options.format.kv_heads = kHeads;
  options.key_map = KeyMapKind::kNone;
  EXPECT_TRUE(FailsWith(KvCache::Create(options), ErrorCode::kInvalidArgument,
                        "known_key_map is given, but key_map is kNone"));
  options.key_map = KeyMapKind::kDiagonal;
  options.rope = {};
  EXPECT_TRUE(FailsWith(KvCache::Create(options), ErrorCode::kInvalidArgument, "needs rope"));
  options.known_key_map = RandomMap(KeyMapKind::kCenter);
  EXPECT_TRUE(KvCache::Create(options));
}

}  // namespace
}  // namespace turboquant
