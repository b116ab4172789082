#include "turboquant/snapshot.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/storage/snapshot_examples.h"

namespace turboquant {
namespace {

// Loads what `cache` saves, without and with expectations, and compares: now, and after the same
// further calls. `next` is the first token of the stream that the cache has not seen.
void ExpectComesBack(KvCache& cache, const TokenStream& stream, size_t next,
                     const KvCacheOptions& options) {
  const Bytes bytes = Saved(cache);
  Result<KvCache> loaded = ReadKvCache(bytes);
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(Saved(*loaded), bytes);
  EXPECT_EQ(CacheAnswers(*loaded, stream.Queries()), CacheAnswers(cache, stream.Queries()));
  const Result<KvCache> expected = ReadKvCache(bytes, options);
  ASSERT_TRUE(expected) << expected.error().message;
  EXPECT_EQ(Saved(*expected), bytes);
  EXPECT_EQ(CacheAnswers(*expected, stream.Queries()), CacheAnswers(cache, stream.Queries()));

  for (const size_t count : {1, 70, 200}) {
    for (KvCache* each : {&cache, &*loaded}) stream.AppendTo(*each, next, count);
    next += count;
    ASSERT_EQ(Saved(*loaded), Saved(cache)) << "after " << count;
  }
  const size_t kept = cache.size() - std::min<size_t>(cache.size(), 100);
  for (KvCache* each : {&cache, &*loaded}) ASSERT_TRUE(each->Truncate(kept));
  EXPECT_EQ(Saved(*loaded), Saved(cache));
  EXPECT_EQ(CacheAnswers(*loaded, stream.Queries()), CacheAnswers(cache, stream.Queries()));
  for (KvCache* each : {&cache, &*loaded}) {
    each->Clear();
    stream.AppendTo(*each, 0, 150);
  }
  EXPECT_EQ(Saved(*loaded), Saved(cache));
}

// 300 tokens of the stream, in pieces.
void ExpectComesBack(const KvCacheOptions& options) {
  SCOPED_TRACE(Describe(options));
  const TokenStream stream(options);
  KvCache cache = test::MakeCache(options);
  for (size_t first = 0; first < 300; first += 100) stream.AppendTo(cache, first, 100);
  ExpectComesBack(cache, stream, 300, options);
}

TEST(SnapshotTest, EveryWidthComesBack) {
  for (int bits = 1; bits <= 8; ++bits) {
    KvCacheOptions options = SnapshotOptions();
    options.format.keys.bits = bits;
    options.format.values.bits = 9 - bits;
    ExpectComesBack(options);
    if (bits < 8) {
      options.format.keys.outlier_channels = 6;
      options.format.values = {.bits = bits, .outlier_channels = 8};
      ExpectComesBack(options);
    }
    if (bits > 1) {
      options.format.keys = {.method = KvMethod::kProd, .bits = bits};
      options.format.values = {.method = bits % 2 == 0 ? KvMethod::kF16 : KvMethod::kF32};
      ExpectComesBack(options);
      options.format.keys = {.method = bits % 2 == 0 ? KvMethod::kF32 : KvMethod::kF16};
      ExpectComesBack(options);
    }
  }
}

TEST(SnapshotTest, EveryFormatOptionComesBack) {
  KvCacheOptions options = SnapshotOptions(7);
  options.rope = {};
  ExpectComesBack(options);
  options = SnapshotOptions(32);
  options.format.rotation = RotationKind::kDense;
  options.format.seed = ~uint64_t{0};
  options.format.keys = {.method = KvMethod::kProd, .bits = 3, .sketch = SketchKind::kGaussian};
  ExpectComesBack(options);
  for (const int rounds : {2, 3}) {
    options = SnapshotOptions();
    options.format.rotation_rounds = rounds;
    ExpectComesBack(options);
  }
  for (const Scale scale : {Scale::kNorm, Scale::kMatched, Scale::kLeastSquares}) {
    options = SnapshotOptions();
    options.format.keys.scale = scale;
    options.format.values = {.bits = 2, .scale = scale, .scale_search = true};
    ExpectComesBack(options);
  }
  // The parts of a split search by their own widths, by default and when told.
  for (const std::optional<bool> search :
       {std::optional<bool>(), std::optional(true), std::optional(false)}) {
    options = SnapshotOptions();
    options.format.keys = {.bits = 2, .scale_search = search, .outlier_channels = 4};
    options.format.values = {.bits = 7, .scale_search = search, .outlier_channels = 4};
    ExpectComesBack(options);
  }
}

TEST(SnapshotTest, EveryPolicyComesBack) {
  for (const size_t window : {0, 1, 100}) {
    for (const size_t sinks : {0, 9}) {
      for (const RowType type : {RowType::kF16, RowType::kF32}) {
        KvCacheOptions options = SnapshotOptions();
        options.window = window;
        options.sinks = sinks;
        options.exact_type = type;
        ExpectComesBack(options);
      }
    }
  }
  KvCacheOptions all_exact = SnapshotOptions();
  all_exact.window = ~size_t{0};
  ExpectComesBack(all_exact);
}

TEST(SnapshotTest, EveryKeyMapComesBack) {
  for (const KeyMapKind kind :
       {KeyMapKind::kNone, KeyMapKind::kCenter, KeyMapKind::kDiagonal, KeyMapKind::kFull}) {
    for (const size_t query_heads : {size_t{0}, kSnapshotQueryHeads}) {
      for (const bool rope : {false, true}) {
        KvCacheOptions options = SnapshotOptions();
        options.key_map = kind;
        options.query_heads = query_heads;
        options.rope->pairing = RopePairing::kInterleaved;
        options.key_map_shrinkage = 0.1;
        if (!rope) options.rope.reset();
        ExpectComesBack(options);
      }
    }
  }
  KvCacheOptions options = SnapshotOptions();
  const TokenStream stream(options);
  KvCache source = test::MakeCache(options);
  stream.AppendTo(source, 0, 200);
  options.known_key_map = std::make_shared<const KeyMap>(*source.key_map());
  ExpectComesBack(options);
  options.max_tokens = 40;  // never packs
  ExpectComesBack(options);
}

// All counts of tokens: no token, sinks that are not full, before the key map, at its estimation,
// in the middle of windows and pages.
TEST(SnapshotTest, EveryLengthComesBack) {
  for (const size_t window : {0, 16}) {
    KvCacheOptions options = SnapshotOptions();
    options.window = window;
    const TokenStream stream(options);
    for (const size_t tokens : {0, 1, 4, 5, 60, 131, 132, 133, 259, 260, 261, 340, 516, 600}) {
      SCOPED_TRACE(tokens);
      KvCache cache = test::MakeCache(options);
      for (size_t first = 0; first < tokens;) {
        const size_t count = std::min<size_t>(tokens - first, 37);
        stream.AppendTo(cache, first, count);
        first += count;
      }
      ExpectComesBack(cache, stream, tokens, options);
    }
  }
}

TEST(SnapshotTest, EvictedTokensStayAway) {
  for (const size_t window : {0, 16}) {
    for (const size_t max_tokens : {200, 300, 1000}) {
      KvCacheOptions options = SnapshotOptions();
      options.window = window;
      options.max_tokens = max_tokens;
      options.format.keys.outlier_channels = 4;
      const TokenStream stream(options);
      for (const size_t tokens : {210, 333, 777, 1290}) {
        SCOPED_TRACE(std::to_string(max_tokens) + " of " + std::to_string(tokens));
        KvCache cache = test::MakeCache(options);
        for (size_t first = 0; first < tokens;) {
          const size_t count = std::min<size_t>(tokens - first, 53);
          stream.AppendTo(cache, first, count);
          first += count;
        }
        ExpectComesBack(cache, stream, tokens, options);
      }
    }
  }
}

TEST(SnapshotTest, TruncatedTokensStayAway) {
  for (const size_t max_tokens : {0, 400}) {
    KvCacheOptions options = SnapshotOptions();
    options.max_tokens = max_tokens;
    options.format.values.outlier_channels = 4;
    const TokenStream stream(options);
    for (const size_t kept : {0, 2, 4, 70, 133, 260, 261, 390}) {
      SCOPED_TRACE(kept);
      KvCache cache = test::MakeCache(options);
      stream.AppendTo(cache, 0, 600);
      ASSERT_TRUE(cache.Truncate(std::min(kept, cache.size())));
      ExpectComesBack(cache, stream, 600, options);
    }
  }
}

TEST(SnapshotTest, ForksAreSavedAsTheyAre) {
  const KvCacheOptions options = SnapshotOptions();
  const TokenStream stream(options);
  KvCache cache = test::MakeCache(options);
  stream.AppendTo(cache, 0, 300);
  KvCache fork = cache.Fork();
  const Bytes common = Saved(cache);
  EXPECT_EQ(Saved(fork), common);
  stream.AppendTo(fork, 700, 200);
  EXPECT_EQ(Saved(cache), common);
  EXPECT_NE(Saved(fork), common);
  ExpectComesBack(fork, stream, 900, options);
  ExpectComesBack(cache, stream, 300, options);
}

// Queries wait for the key map; where those of a token are missing, none do.
TEST(SnapshotTest, ObservedQueriesComeBack) {
  const KvCacheOptions options = SnapshotOptions();
  const TokenStream stream(options);
  KvCache observed = test::MakeCache(options);
  stream.AppendTo(observed, 0, 60);
  KvCache ahead = test::MakeCache(options);
  stream.AppendTo(ahead, 0, 60);
  ASSERT_TRUE(ahead.ObserveQueries(stream.Queries().Slice(60, 40)));
  KvCache gap = test::MakeCache(options);
  test::Append(gap, stream.tokens(), 0, 60);
  ASSERT_TRUE(gap.ObserveQueries(stream.Queries().Slice(60, 1)));
  EXPECT_NE(Saved(observed), Saved(ahead));
  EXPECT_NE(Saved(observed), Saved(gap));
  ExpectComesBack(observed, stream, 60, options);
  ExpectComesBack(ahead, stream, 60, options);
  ExpectComesBack(gap, stream, 60, options);
}

TEST(SnapshotTest, FilesComeBack) {
  const TemporaryFolder folder;
  const KvCacheOptions options = SnapshotOptions();
  const TokenStream stream(options);
  KvCache cache = test::MakeCache(options);
  stream.AppendTo(cache, 0, 300);
  ASSERT_TRUE(SaveKvCache(folder / "cache", cache));
  ASSERT_TRUE(SaveKvCache(folder / "cache", cache));  // over itself
  EXPECT_EQ(folder.FileCount(), 1u);
  const Bytes bytes = Saved(cache);
  EXPECT_EQ(std::filesystem::file_size(folder / "cache"), bytes.size());
  for (const Backend backend : {Backend::kAuto, Backend::kScalar}) {
    const Result<KvCache> loaded = LoadKvCache(folder / "cache", backend);
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(CacheAnswers(*loaded, stream.Queries()), CacheAnswers(cache, stream.Queries()));
    if (backend == Backend::kScalar) {
      EXPECT_EQ(loaded->format().backend(), backend);
    }
  }
  const Result<KvCache> expected = LoadKvCache(folder / "cache", options);
  ASSERT_TRUE(expected) << expected.error().message;
  EXPECT_EQ(Saved(*expected), bytes);

  EXPECT_TRUE(FailsWith(LoadKvCache(folder / "none"), ErrorCode::kIo, {"none"}));
  EXPECT_TRUE(FailsWith(SaveKvCache(folder / "none" / "cache", cache), ErrorCode::kIo, {"none"}));
  KvCacheOptions other = options;
  other.format.seed = 1;
  EXPECT_TRUE(FailsWith(LoadKvCache(folder / "cache", other), ErrorCode::kInvalidArgument,
                        {"cache'", "'seed'", "'42'", "'1'"}));
}

TEST(SnapshotTest, DecodersComeBack) {
  const TemporaryFolder folder;
  DecoderCacheOptions options;
  options.layers = 3;
  options.layer = SnapshotOptions();
  options.overrides = {{.layer = 1, .keys = KvSideOptions{.bits = 8}, .window = size_t{30}},
                       {.layer = 2, .key_map = KeyMapKind::kFull}};
  auto cache = DecoderCache::Create(options);
  ASSERT_TRUE(cache);
  const TokenStream stream(options.layer);
  for (size_t layer = 0; layer < 3; ++layer) {
    stream.AppendTo(cache->layer(layer), 0, layer == 0 ? 301 : 300);  // within a step
  }
  ASSERT_TRUE(SaveDecoderCache(folder / "decoder", *cache));
  const Bytes bytes = SerializeDecoderCache(*cache).value();
  EXPECT_EQ(std::filesystem::file_size(folder / "decoder"), bytes.size());
  for (const bool expected : {false, true}) {
    auto loaded = expected ? LoadDecoderCache(folder / "decoder", options)
                           : LoadDecoderCache(folder / "decoder");
    ASSERT_TRUE(loaded) << loaded.error().message;
    ASSERT_EQ(loaded->layers(), 3u);
    EXPECT_EQ(loaded->size(), 300u);
    EXPECT_EQ(SerializeDecoderCache(*loaded).value(), bytes);
    for (size_t layer = 0; layer < 3; ++layer) {
      EXPECT_EQ(CacheAnswers(loaded->layer(layer), stream.Queries()),
                CacheAnswers(cache->layer(layer), stream.Queries()));
      EXPECT_EQ(loaded->layer(layer).options().format.layer, layer);
    }
  }
  EXPECT_TRUE(FailsWith(ReadKvCache(bytes), ErrorCode::kInvalidArgument, {"decoder of 3 layers"}));
  EXPECT_TRUE(FailsWith(ReadDecoderCache(Saved(cache->layer(0))), ErrorCode::kInvalidArgument,
                        {"single cache"}));
}

}  // namespace
}  // namespace turboquant
