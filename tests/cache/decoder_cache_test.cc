#include "turboquant/decoder_cache.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/cache/cache_support.h"
#include "tests/support/expect_error.h"

namespace turboquant {
namespace {

using test::CacheContents;
using test::FailsWith;
using test::Tokens;

constexpr size_t kHeads = 2;
constexpr size_t kDim = 16;

DecoderCacheOptions Options(size_t layers = 3) {
  DecoderCacheOptions options;
  options.layers = layers;
  options.layer.format = {.head_dim = kDim, .kv_heads = kHeads};
  return options;
}

DecoderCache MakeDecoder(const DecoderCacheOptions& options) {
  auto cache = DecoderCache::Create(options);
  EXPECT_TRUE(cache) << cache.error().message;
  return *std::move(cache);
}

TEST(DecoderCacheTest, LayersAreCachesOfTheirOwn) {
  const Tokens tokens(300, kHeads, kDim);
  DecoderCacheOptions options = Options();
  options.layer.format.layer = 77;  // ignored
  DecoderCache decoder = MakeDecoder(options);
  ASSERT_EQ(decoder.layers(), 3u);
  for (size_t layer = 0; layer < 3; ++layer) {
    test::Append(decoder.layer(layer), tokens, 0, 300);
    KvCacheOptions alone = options.layer;
    alone.format.layer = static_cast<uint32_t>(layer);
    KvCache cache = test::MakeCache(alone);
    test::Append(cache, tokens, 0, 300);
    EXPECT_EQ(CacheContents(decoder.layer(layer)), CacheContents(cache));
  }
  EXPECT_NE(test::PagesOf(decoder.layer(0)), test::PagesOf(decoder.layer(1)));
}

TEST(DecoderCacheTest, OverridesChangeTheirLayerOnly) {
  DecoderCacheOptions options = Options(4);
  options.overrides = {{.layer = 3, .keys = KvSideOptions{.bits = 8}, .window = 0},
                       {.layer = 1,
                        .values = KvSideOptions{.method = KvMethod::kF16},
                        .key_map = KeyMapKind::kNone}};
  const DecoderCache decoder = MakeDecoder(options);
  const auto layer = [&](size_t l) { return decoder.layer(l).options(); };
  EXPECT_EQ(Describe(layer(0)), Describe(layer(2)));
  EXPECT_EQ(layer(3).format.keys.bits, 8);
  EXPECT_EQ(layer(3).window, 0u);
  EXPECT_EQ(layer(3).format.values.bits, 4);
  EXPECT_EQ(layer(3).key_map, KeyMapKind::kDiagonal);
  EXPECT_EQ(layer(1).format.values.method, KvMethod::kF16);
  EXPECT_EQ(layer(1).key_map, KeyMapKind::kNone);
  EXPECT_EQ(layer(1).window, 64u);
  EXPECT_EQ(layer(1).format.keys.bits, 4);
}

TEST(DecoderCacheTest, LayersMayHaveTheirOwnRopeAndKeyMap) {
  const std::vector<float> center(kHeads * kDim, 0.5f);
  auto map = KeyMap::FromNumbers(KeyMapKind::kCenter, kHeads, kDim, center, {});
  ASSERT_TRUE(map) << map.error().message;
  DecoderCacheOptions options = Options(2);
  options.layer.rope = RopeParameters::FromTheta(10000.0, kDim);
  options.overrides = {{.layer = 1,
                        .rope = RopeParameters::FromTheta(100.0, kDim),
                        .known_key_map = std::make_shared<const KeyMap>(*std::move(map))}};
  const DecoderCache decoder = MakeDecoder(options);
  EXPECT_EQ(decoder.layer(0).options().rope, RopeParameters::FromTheta(10000.0, kDim));
  EXPECT_EQ(decoder.layer(1).options().rope, RopeParameters::FromTheta(100.0, kDim));
  EXPECT_EQ(decoder.layer(0).key_map(), nullptr);
  ASSERT_NE(decoder.layer(1).key_map(), nullptr);
  EXPECT_EQ(decoder.layer(1).key_map()->center(1)[3], 0.5f);
}

TEST(DecoderCacheTest, SizeIsThatOfTheShortestLayer) {
  const Tokens tokens(300, kHeads, kDim);
  DecoderCache decoder = MakeDecoder(Options());
  EXPECT_EQ(decoder.size(), 0u);
  for (size_t layer = 0; layer < 3; ++layer) test::Append(decoder.layer(layer), tokens, 0, 200);
  test::Append(decoder.layer(0), tokens, 200, 1);
  EXPECT_EQ(decoder.size(), 200u);
  EXPECT_TRUE(FailsWith(decoder.Truncate(201), ErrorCode::kInvalidArgument,
                        "cannot keep 201 tokens of 200"));
  EXPECT_EQ(decoder.layer(0).size(), 201u);
  ASSERT_TRUE(decoder.Truncate(150));
  for (size_t layer = 0; layer < 3; ++layer) EXPECT_EQ(decoder.layer(layer).size(), 150u);
  decoder.Clear();
  EXPECT_EQ(decoder.size(), 0u);
  EXPECT_EQ(decoder.layer(2).size(), 0u);
}

TEST(DecoderCacheTest, ForksAreIndependent) {
  const Tokens tokens(300, kHeads, kDim);
  DecoderCache decoder = MakeDecoder(Options());
  for (size_t layer = 0; layer < 3; ++layer) test::Append(decoder.layer(layer), tokens, 0, 290);
  DecoderCache fork = decoder.Fork();
  const CacheContents before(decoder.layer(1));
  ASSERT_TRUE(fork.Truncate(100));
  EXPECT_EQ(CacheContents(decoder.layer(1)), before);
  EXPECT_EQ(fork.size(), 100u);
}

TEST(DecoderCacheTest, StatsAreSums) {
  const Tokens tokens(300, kHeads, kDim);
  DecoderCache decoder = MakeDecoder(Options());
  for (size_t layer = 0; layer < 3; ++layer) {
    test::Append(decoder.layer(layer), tokens, 0, 250 + 10 * layer);
  }
  const KvCacheStats stats = decoder.Stats();
  EXPECT_EQ(stats.tokens, 250u);
  size_t packed = 0;
  size_t codes = 0;
  size_t f16 = 0;
  for (size_t layer = 0; layer < 3; ++layer) {
    const KvCacheStats own = decoder.layer(layer).Stats();
    packed += own.packed_tokens;
    codes += own.code_bytes;
    f16 += own.f16_bytes;
  }
  EXPECT_EQ(stats.packed_tokens, packed);
  EXPECT_EQ(stats.code_bytes, codes);
  EXPECT_EQ(stats.f16_bytes, f16);
  EXPECT_TRUE(stats.key_map_ready);
}

TEST(DecoderCacheTest, ReadyWhenEveryMapIs) {
  const Tokens tokens(300, kHeads, kDim);
  DecoderCacheOptions options = Options();
  options.layer.rope = RopeParameters::FromTheta(1e4, kDim);
  DecoderCache decoder = MakeDecoder(options);
  for (size_t layer = 0; layer < 3; ++layer) {
    EXPECT_FALSE(decoder.Stats().key_map_ready);
    test::Append(decoder.layer(layer), tokens, 0, 300);
  }
  EXPECT_TRUE(decoder.Stats().key_map_ready);
}

TEST(DecoderCacheTest, RefusesWithTheLayer) {
  const auto refused = [](auto change, const std::string& culprit) {
    DecoderCacheOptions options = Options();
    change(options);
    EXPECT_TRUE(FailsWith(DecoderCache::Create(options), ErrorCode::kInvalidArgument, culprit));
  };
  refused([](auto& o) { o.layers = 0; }, "layers must be 1 to 4096, got 0");
  refused([](auto& o) { o.layers = 4097; }, "layers must be 1 to 4096, got 4097");
  refused([](auto& o) { o.layer.format.head_dim = 1; }, "layer 0: head_dim must be");
  refused([](auto& o) { o.overrides = {{.layer = 3}}; }, "overrides[0] is of layer 3, there are 3");
  refused([](auto& o) { o.overrides = {{.layer = 1}, {.layer = 0}, {.layer = 1}}; },
          "overrides[0] and overrides[2] are both of layer 1");
  refused([](auto& o) { o.overrides = {{.layer = 2, .values = KvSideOptions{.bits = 11}}}; },
          "layer 2: values.bits must be 1 to 8, got 11");
}

}  // namespace
}  // namespace turboquant
