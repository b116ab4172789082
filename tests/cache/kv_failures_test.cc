// Calls that fail say why and change nothing.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "src/cache/kv_parts.h"
#include "tests/cache/cache_support.h"
#include "tests/support/expect_error.h"
#include "tests/support/threads.h"
#include "turboquant/kv_cache.h"

namespace turboquant {
namespace {

using test::Append;
using test::CacheContents;
using test::FailsWith;
using test::MakeCache;
using test::StatsNumbers;
using test::Tokens;

constexpr size_t kHeads = 2;
constexpr size_t kDim = 64;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

KvCacheOptions Options(size_t window = 64) {
  KvCacheOptions options;
  options.format = {.head_dim = kDim, .kv_heads = kHeads};
  options.window = window;
  return options;
}

// All that may be compared, addresses included.
struct Everything {
  CacheContents contents;
  std::vector<size_t> stats;
  std::vector<const void*> addresses;

  explicit Everything(const KvCache& cache) : contents(cache), stats(StatsNumbers(cache.Stats())) {
    const KvView view = cache.view();
    for (const KvPage& page : view.pages) addresses.push_back(page.bytes);
    for (const void* p : {view.sinks.keys, view.window.keys, view.window.values}) {
      addresses.push_back(p);
    }
  }
  bool operator==(const Everything&) const = default;
};

void ExpectRefused(KvCache& cache, const HeadsView& keys, const HeadsView& values, ErrorCode code,
                   const std::string& culprit) {
  const Everything before(cache);
  EXPECT_TRUE(FailsWith(cache.Append(keys, values), code, culprit));
  EXPECT_TRUE(FailsWith(cache.Append(keys, values, test::Threads(2)), code, culprit));
  EXPECT_EQ(Everything(cache), before) << culprit;
}

TEST(KvFailuresTest, AppendOfWrongShapes) {
  const Tokens tokens(300, kHeads, kDim);
  KvCache cache = MakeCache(Options());
  Append(cache, tokens, 0, 300);
  const HeadsView keys = tokens.Keys().Slice(0, 5);
  const HeadsView values = tokens.Values().Slice(0, 5);
  const auto with = [](HeadsView view, auto change) {
    change(view);
    return view;
  };
  const auto refuse = [&](const HeadsView& k, const HeadsView& v, ErrorCode code,
                          const std::string& culprit) {
    ExpectRefused(cache, k, v, code, culprit);
  };
  constexpr ErrorCode kMismatch = ErrorCode::kDimensionMismatch;
  constexpr ErrorCode kInvalid = ErrorCode::kInvalidArgument;
  refuse(with(keys, [](auto& k) { k.heads = 3; }), values, kMismatch,
         "keys have 3 heads of dim 64, expected 2 of 64");
  refuse(keys, with(values, [](auto& v) { v.dim = 32; }), kMismatch,
         "values have 2 heads of dim 32, expected 2 of 64");
  refuse(keys, with(values, [](auto& v) { v.tokens = 4; }), kMismatch,
         "there are keys of 5 tokens and values of 4");
  refuse(with(keys, [](auto& k) { k.data = nullptr; }), values, kInvalid,
         "keys have 5 tokens and no data");
  refuse(with(keys, [](auto& k) { k.token_stride = 63; }), values, kInvalid,
         "keys have token_stride 63 and head_stride 64, less than the 64 elements of a row");
  refuse(keys, with(values, [](auto& v) { v.head_stride = 1; }), kInvalid,
         "values have token_stride 128 and head_stride 1");
  EXPECT_TRUE(cache.Append({nullptr, RowType::kF32, 0, kHeads, kDim, 0, 0},
                           {nullptr, RowType::kF32, 0, kHeads, kDim, 0, 0}));
}

TEST(KvFailuresTest, AppendOfNumbersThatAreNone) {
  const Tokens good(300, kHeads, kDim);
  for (const size_t window : {0, 64}) {
    KvCache cache = MakeCache(Options(window));
    Append(cache, good, 0, 300);
    Tokens bad(100, kHeads, kDim);
    bad.keys[3 * kHeads + 1][17] = kNan;
    ExpectRefused(cache, bad.Keys(), bad.Values(), ErrorCode::kNonFinite,
                  "keys[3][1] is NaN at column 17");
    bad.keys[3 * kHeads + 1][17] = 0.0f;
    bad.values[99 * kHeads][63] = -kInfinity;
    ExpectRefused(cache, bad.Keys(), bad.Values(), ErrorCode::kNonFinite,
                  "values[99][0] is infinite at column 63");
    std::vector<BFloat16> halves(100 * kHeads * kDim, BFloat16{0});
    halves[(50 * kHeads + 1) * kDim + 2].bits = 0x7F80;
    ExpectRefused(cache, HeadsView::TokenMajor(halves.data(), 100, kHeads, kDim),
                  good.Values().Slice(0, 100), ErrorCode::kNonFinite,
                  "keys[50][1] is infinite at column 2");
  }
}

// All heads of one token are looked at together, in whatever order they lie.
TEST(KvFailuresTest, AppendOfOneTokenWithNumbersThatAreNone) {
  const Tokens good(300, kHeads, kDim);
  KvCache cache = MakeCache(Options());
  Append(cache, good, 0, 300);
  Tokens bad(1, kHeads, kDim);
  bad.values[1][63] = kInfinity;
  ExpectRefused(cache, bad.Keys(), bad.Values(), ErrorCode::kNonFinite,
                "values[0][1] is infinite at column 63");
  std::vector<float> head_major(kHeads * 7 * kDim, 1.0f);
  head_major[(7 + 3) * kDim + 5] = kNan;  // token 3 of head 1
  HeadsView keys = good.Keys().Slice(0, 1);
  keys.data = head_major.data() + 3 * kDim;
  keys.token_stride = kDim;
  keys.head_stride = 7 * kDim;
  ExpectRefused(cache, keys, good.Values().Slice(0, 1), ErrorCode::kNonFinite,
                "keys[0][1] is NaN at column 5");
}

TEST(KvFailuresTest, AppendOfRowsTooLong) {
  KvCache cache = MakeCache(Options());
  Tokens tokens(10, kHeads, kDim);
  for (float& x : tokens.keys[2 * kHeads]) x = 4096.0f;  // norm 32768, but a sink
  ExpectRefused(cache, tokens.Keys().Slice(0, 0), tokens.Values().Slice(0, 1),
                ErrorCode::kDimensionMismatch, "keys of 0 tokens and values of 1");
  std::swap_ranges(tokens.keys[2 * kHeads].begin(), tokens.keys[2 * kHeads].end(),
                   tokens.keys[4 * kHeads].begin());
  ExpectRefused(cache, tokens.Keys(), tokens.Values(), ErrorCode::kInvalidArgument,
                "keys[4][0] has norm 32768, more than the 16384 that can be packed");
  std::swap_ranges(tokens.keys[2 * kHeads].begin(), tokens.keys[2 * kHeads].end(),
                   tokens.keys[4 * kHeads].begin());
  ASSERT_TRUE(cache.Append(tokens.Keys(), tokens.Values()));
  for (float& x : tokens.values[7 * kHeads + 1]) x = 2048.5f;
  ExpectRefused(cache, tokens.Keys().Slice(4, 6), tokens.Values().Slice(4, 6),
                ErrorCode::kInvalidArgument,
                "values[3][1] has norm 16388, more than the 16384 that can be packed");
  for (float& x : tokens.values[7 * kHeads + 1]) x = 2048.0f;  // the limit itself
  EXPECT_TRUE(cache.Append(tokens.Keys().Slice(4, 6), tokens.Values().Slice(4, 6)));

  KvCacheOptions unpacked = Options();
  unpacked.format.values.method = KvMethod::kF32;
  KvCache any_norm = MakeCache(unpacked);
  for (float& x : tokens.values[7 * kHeads + 1]) x = 1e20f;
  EXPECT_TRUE(any_norm.Append(tokens.Keys(), tokens.Values()));
}

TEST(KvFailuresTest, AppendBeyondHalfs) {
  for (const bool exact : {false, true}) {
    KvCacheOptions options = Options();
    options.sinks = 20;
    if (exact) {
      options.exact_type = RowType::kF16;
    } else {
      options.format.keys.method = KvMethod::kF16;
    }
    KvCache cache = MakeCache(options);
    Tokens tokens(10, kHeads, kDim);
    tokens.keys[9 * kHeads + 1][5] = -65520.0f;
    ExpectRefused(cache, tokens.Keys(), tokens.Values(), ErrorCode::kInvalidArgument,
                  "keys[9][1] is -65520 at column 5, more than an f16 holds (65504)");
    tokens.keys[9 * kHeads + 1][5] = 65504.0f;
    EXPECT_TRUE(cache.Append(tokens.Keys(), tokens.Values()));
  }
}

// A row that rotates to a single coordinate: the worst there is for an unbiased scale.
std::vector<float> WorstRow(const KvCache& cache, bool values, size_t head, float norm) {
  const KvFormat::Parts& parts = cache.format().parts();
  const Rotation& rotation = (values ? parts.values : parts.keys).parts[0].cores[head].rotation();
  std::vector<float> row(kDim);
  row[3] = norm;
  const MatrixView<float> view = {row.data(), 1, kDim};
  EXPECT_TRUE(rotation.ApplyInverse(view, view));
  return row;
}

TEST(KvFailuresTest, FailuresOfPackingAreUndone) {
  for (const bool values : {false, true}) {
    for (const bool forked : {false, true}) {
      KvCacheOptions options = Options(0);
      options.format.keys.bits = 1;
      options.format.values.bits = 1;
      KvCache cache = MakeCache(options);
      Tokens tokens(900, kHeads, kDim);
      Append(cache, tokens, 0, 301);
      std::optional<KvCache> fork;
      if (forked) fork = cache.Fork();
      const auto worst = WorstRow(cache, values, 1, 16000.0f);
      std::ranges::copy(worst, (values ? tokens.values : tokens.keys)[899 * kHeads + 1].begin());
      const std::string side = values ? "values" : "keys";
      ExpectRefused(cache, tokens.Keys().Slice(301, 599), tokens.Values().Slice(301, 599),
                    ErrorCode::kInvalidArgument, side + "[598][1] cannot be packed: it has scale ");
      Append(cache, tokens, 301, 500);
      KvCache expected = MakeCache(options);
      Append(expected, tokens, 0, 801);
      EXPECT_EQ(CacheContents(cache), CacheContents(expected));
    }
  }
}

// A token alone is packed with all heads together: the first that fails is named all the same.
TEST(KvFailuresTest, FailuresOfATokenAloneAreUndone) {
  KvCacheOptions options = Options(0);
  options.format.keys.bits = 1;
  options.format.values.bits = 1;
  struct Case {
    std::vector<size_t> keys, values;  // heads that fail
    std::string message;
  };
  for (const Case& failing : {Case{{1}, {}, "keys[0][1]"}, Case{{}, {0}, "values[0][0]"},
                              Case{{1}, {0, 1}, "values[0][0]"}, Case{{0, 1}, {0}, "keys[0][0]"}}) {
    KvCache cache = MakeCache(options);
    Tokens tokens(400, kHeads, kDim);
    Append(cache, tokens, 0, 301);
    Tokens bad = tokens;
    for (const size_t head : failing.keys) {
      std::ranges::copy(WorstRow(cache, false, head, 16000.0f), bad.keys[head].begin());
    }
    for (const size_t head : failing.values) {
      std::ranges::copy(WorstRow(cache, true, head, 16000.0f), bad.values[head].begin());
    }
    ExpectRefused(cache, bad.Keys().Slice(0, 1), bad.Values().Slice(0, 1),
                  ErrorCode::kInvalidArgument,
                  failing.message + " cannot be packed: it has scale ");
    Append(cache, tokens, 301, 1);
    KvCache expected = MakeCache(options);
    Append(expected, tokens, 0, 302);
    EXPECT_EQ(CacheContents(cache), CacheContents(expected)) << failing.message;
  }
}

TEST(KvFailuresTest, FailuresOfPackingNameTokensOfTheWindow) {
  KvCacheOptions options = Options(64);
  options.format.keys.bits = 1;
  KvCache cache = MakeCache(options);
  Tokens tokens(200, kHeads, kDim);
  std::ranges::copy(WorstRow(cache, false, 0, 16000.0f), tokens.keys[20 * kHeads].begin());
  Append(cache, tokens, 0, 100);
  ExpectRefused(cache, tokens.Keys().Slice(100, 50), tokens.Values().Slice(100, 50),
                ErrorCode::kInvalidArgument,
                "keys of visible token 20, head 0, cannot be packed: it has scale ");
  ASSERT_TRUE(cache.Truncate(20));
  Append(cache, tokens, 21, 150);
}

TEST(KvFailuresTest, OutlierChannelsAreNotChosenByAFailedAppend) {
  KvCacheOptions options = Options(0);
  options.format.values = {.bits = 1, .outlier_channels = 2};
  KvCache cache = MakeCache(options);
  Tokens tokens(50, kHeads, kDim);
  std::ranges::fill(tokens.values[49 * kHeads], 0.0f);
  // 62 of the channels: one coordinate after their rotation is not to be had, so a long row with a
  // key that does not fit instead.
  options.format.keys.bits = 1;
  KvCache narrow = MakeCache(options);
  std::ranges::copy(WorstRow(narrow, false, 0, 16000.0f), tokens.keys[49 * kHeads].begin());
  ExpectRefused(narrow, tokens.Keys(), tokens.Values(), ErrorCode::kInvalidArgument,
                "keys[49][0] cannot be packed");
  EXPECT_EQ(narrow.view().value_channels, nullptr);
}

TEST(KvFailuresTest, OtherCalls) {
  const Tokens tokens(100, kHeads, kDim);
  KvCache cache = MakeCache(Options());
  Append(cache, tokens, 0, 100);
  const Everything before(cache);
  EXPECT_TRUE(
      FailsWith(cache.Truncate(101), ErrorCode::kInvalidArgument, "cannot keep 101 tokens of 100"));
  std::vector<float> rows(100 * kHeads * kDim);
  const auto out = [&](size_t count) {
    return HeadsOutput::TokenMajor(rows.data(), count, kHeads, kDim);
  };
  EXPECT_TRUE(FailsWith(cache.Reconstruct(90, 11, out(11), out(11)), ErrorCode::kInvalidArgument,
                        "tokens 90 to 90 + 11 were asked for, there are 100"));
  EXPECT_TRUE(FailsWith(cache.Reconstruct(90, SIZE_MAX, out(2), out(2)),
                        ErrorCode::kInvalidArgument, "were asked for, there are 100"));
  EXPECT_TRUE(FailsWith(cache.Reconstruct(SIZE_MAX, 2, out(2), out(2)), ErrorCode::kInvalidArgument,
                        "were asked for, there are 100"));
  EXPECT_TRUE(FailsWith(cache.Reconstruct(0, 10, out(11), out(10)), ErrorCode::kDimensionMismatch,
                        "keys have 11 tokens of 2 heads of dim 64, expected 10 of 2 of 64"));
  HeadsOutput narrow = out(10);
  narrow.dim = 63;
  EXPECT_TRUE(FailsWith(cache.Reconstruct(0, 10, out(10), narrow), ErrorCode::kDimensionMismatch,
                        "values have 10 tokens of 2 heads of dim 63"));
  narrow = out(10);
  narrow.head_stride = 2;
  EXPECT_TRUE(FailsWith(cache.Reconstruct(0, 10, narrow, out(10)), ErrorCode::kInvalidArgument,
                        "keys have token_stride 128 and head_stride 2"));
  narrow.data = nullptr;
  EXPECT_TRUE(FailsWith(cache.Reconstruct(0, 10, narrow, out(10)), ErrorCode::kInvalidArgument,
                        "keys have 10 tokens and no data"));
  EXPECT_EQ(Everything(cache), before);
}

TEST(KvFailuresTest, OptionsThatContradict) {
  struct Row {
    std::string culprit;
    void (*change)(KvCacheOptions&);
  };
  const Row rows[] = {
      {"head_dim must be", [](auto& o) { o.format.head_dim = 0; }},
      {"exact_type must be kF32 or kF16", [](auto& o) { o.exact_type = RowType::kBF16; }},
      {"max_tokens 67 is less than the 4 sinks and the window of 64",
       [](auto& o) { o.max_tokens = 67; }},
      {"max_tokens 3 is less than the 4 sinks",
       [](auto& o) {
         o.max_tokens = 3;
         o.window = 0;
       }},
      {"max_tokens 100 is less than",
       [](auto& o) {
         o.max_tokens = 100;
         o.window = SIZE_MAX - 1;
       }},
      {"first_position must be at most 2^52", [](auto& o) { o.first_position = 1ull << 53; }},
      {"rope has 33 inverse_frequencies, head_dim 64 has room for 32",
       [](auto& o) { o.rope = {.inverse_frequencies = std::vector<double>(33, 1.0)}; }},
      {"rope.inverse_frequencies[1] is",
       [](auto& o) { o.rope = {.inverse_frequencies = {1.0, INFINITY}}; }},
      {"rope.pairing 2 is neither", [](auto& o) { o.rope = {{}, static_cast<RopePairing>(2)}; }},
      {"key_map 4 is none of", [](auto& o) { o.key_map = static_cast<KeyMapKind>(4); }},
      {"query_heads must be a multiple of kv_heads 2, got 3", [](auto& o) { o.query_heads = 3; }},
      {"key_map_shrinkage must be a finite number from 0 on, got -1",
       [](auto& o) { o.key_map_shrinkage = -1.0; }},
      {"key_map_shrinkage", [](auto& o) { o.key_map_shrinkage = NAN; }},
  };
  for (const Row& row : rows) {
    KvCacheOptions options = Options();
    row.change(options);
    EXPECT_TRUE(FailsWith(KvCache::Create(options), ErrorCode::kInvalidArgument, row.culprit));
  }
}

}  // namespace
}  // namespace turboquant
