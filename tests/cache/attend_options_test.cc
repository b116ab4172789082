// Every option of Attend and AttentionLogits against attention in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "tests/cache/attend_bounds.h"
#include "tests/cache/attend_cases.h"
#include "tests/cache/attend_reference.h"

namespace turboquant {
namespace {

using test::Attended;
using test::ExpectAttends;
using test::MakeCache;
using test::Queries;

constexpr size_t kHeads = 2;
constexpr size_t kQueryHeads = 6;
constexpr size_t kDim = 64;
constexpr uint64_t kFirst = 1000;  // position of the first token
constexpr float kHiddenBias = -std::numeric_limits<float>::infinity();

KvCacheOptions Options(size_t sinks, size_t window, size_t max_tokens) {
  KvCacheOptions options;
  options.format = {.head_dim = kDim, .kv_heads = kHeads};
  options.sinks = sinks;
  options.window = window;
  options.max_tokens = max_tokens;
  options.first_position = kFirst;
  options.rope = RopeParameters::FromTheta(1e4, kDim);
  options.known_key_map = test::RandomKeyMap(KeyMapKind::kDiagonal, kHeads, kDim);
  return options;
}

KvCache Filled(const KvCacheOptions& options, size_t tokens) {
  KvCache cache = MakeCache(options);
  test::Append(cache, test::AttendTokens(tokens, options.format), 0, tokens);
  return cache;
}

// Sinks, a page whose front is evicted, two more, a window: positions 1000.., 1130.. to 1729.
KvCache Evicted() {
  KvCache cache = Filled(Options(4, 64, 604), 730);
  const KvView view = cache.view();
  EXPECT_EQ(view.first_lane, 126u);
  EXPECT_EQ(view.packed_position, kFirst + 130);
  EXPECT_EQ(view.pages.size(), 3u);
  return cache;
}

TEST(AttendOptionsTest, Scale) {
  const KvCache cache = Evicted();
  const Queries queries(2, kQueryHeads, kDim);
  for (const float scale : {0.01f, 0.125f, 0.4f}) ExpectAttends(cache, queries, {.scale = scale});
  EXPECT_EQ(Attended(cache, queries, {.scale = 0.125f}), Attended(cache, queries));
  EXPECT_NE(Attended(cache, queries, {.scale = 0.126f}), Attended(cache, queries));
}

TEST(AttendOptionsTest, CausalMasksOfSeveralQueryTokens) {
  const KvCache cache = Evicted();
  for (const size_t tokens : {1, 2, 11, 70, 130}) {
    ExpectAttends(cache, Queries(tokens, kHeads, kDim), {});
    ExpectAttends(cache, Queries(tokens, kHeads, kDim), {.causal = false});
    if (HasFailure()) return;
  }
  const KvCache few = Filled(Options(4, 64, 0), 5);
  ExpectAttends(few, Queries(5, kQueryHeads, kDim), {});
  // More queries than tokens are possible where no mask ties them to tokens.
  ExpectAttends(few, Queries(9, kQueryHeads, kDim), {.causal = false});
}

TEST(AttendOptionsTest, SlidingWindows) {
  const KvCache evicted = Evicted();
  const KvCache packed = Filled(Options(0, 0, 0), 530);
  for (const KvCache* cache : {&evicted, &packed}) {
    for (const size_t reach : {1, 2, 5, 16, 63, 64, 65, 75, 100, 256, 300, 599, 600, 730, 5000}) {
      for (const bool causal : {true, false}) {
        SCOPED_TRACE("window of " + std::to_string(reach));
        ExpectAttends(*cache, Queries(3, kQueryHeads, kDim),
                      {.causal = causal, .sliding_window = reach});
        if (HasFailure()) return;
      }
    }
    ExpectAttends(*cache, Queries(1, kQueryHeads, kDim), {.sliding_window = SIZE_MAX});
  }
}

// Of a token in the middle, in the sinks, in the evicted gap, before all, behind all.
TEST(AttendOptionsTest, QueryPositions) {
  const KvCache cache = Evicted();
  for (const uint64_t position :
       {0,    998,  1000, 1002, 1003, 1004, 1050, 1128, 1129, 1130, 1131,
        1257, 1258, 1259, 1300, 1513, 1514, 1515, 1663, 1729, 1730, 9000}) {
    for (const size_t reach : {0, 40}) {
      SCOPED_TRACE("position " + std::to_string(position));
      ExpectAttends(cache, Queries(3, kQueryHeads, kDim),
                    {.sliding_window = reach, .query_position = position});
      if (HasFailure()) return;
    }
  }
  ExpectAttends(cache, Queries(3, kQueryHeads, kDim), {.query_position = uint64_t{1} << 52});
}

TEST(AttendOptionsTest, NothingSeenIsZero) {
  const KvCache empty = MakeCache(Options(4, 64, 0));
  const KvCache evicted = Evicted();
  const KvCache packed = Filled(Options(0, 0, 0), 300);
  const AttendOptions before = {.query_position = kFirst - 3};
  for (const size_t tokens : {1, 3, 70}) {
    const Queries queries(tokens, kQueryHeads, kDim);
    for (const Attended& attended :
         {Attended(empty, queries, before), Attended(empty, queries, {.causal = false}),
          Attended(evicted, queries, {.sliding_window = 10, .query_position = 90000})}) {
      EXPECT_EQ(attended.outputs, std::vector<float>(attended.outputs.size(), 0.0f));
      EXPECT_EQ(attended.log_sum_exp, std::vector<float>(attended.log_sum_exp.size(), kHiddenBias));
    }
    ExpectAttends(packed, queries, before);  // the first three see nothing
    if (HasFailure()) return;
  }
}

TEST(AttendOptionsTest, SoftCaps) {
  const KvCache cache = Evicted();
  for (const float cap : {0.5f, 5.0f, 50.0f}) {
    for (const double deviation : {1.0, 8.0})
      ExpectAttends(cache, Queries(3, kQueryHeads, kDim, deviation), {.logit_softcap = cap});
  }
}

TEST(AttendOptionsTest, AlibiSlopes) {
  const KvCache cache = Evicted();
  const Queries queries(3, kQueryHeads, kDim);
  const std::vector<float> slopes = {0.5f, 0.25f, 0.0f, 0.01f, 0.7071f, 2.0f};
  ExpectAttends(cache, queries, {.alibi_slopes = slopes});
  ExpectAttends(cache, queries, {.causal = false, .alibi_slopes = slopes});
  ExpectAttends(cache, queries, {.alibi_slopes = slopes, .query_position = 1400});
  ExpectAttends(cache, queries,
                {.sliding_window = 300, .logit_softcap = 3.0f, .alibi_slopes = slopes});
}

// [query tokens × tokens] behind a stride.
struct Bias {
  size_t rows;
  size_t cols;
  size_t stride;
  std::vector<float> numbers;

  Bias(size_t rows_in, size_t cols_in, size_t padding,
       const std::function<float(size_t, size_t)>& at)
      : rows(rows_in), cols(cols_in), stride(cols_in + padding), numbers(rows_in * stride, NAN) {
    for (size_t t = 0; t < rows; ++t) {
      for (size_t k = 0; k < cols; ++k) numbers[t * stride + k] = at(t, k);
    }
  }
  MatrixView<const float> view() const { return {numbers.data(), rows, cols, stride}; }
};

TEST(AttendOptionsTest, Biases) {
  const KvCache cache = Evicted();
  const size_t tokens = cache.size();
  const test::Rows normal = test::NormalRows(3, tokens, 12);
  const std::function<float(size_t, size_t)> kinds[] = {
      [&](size_t t, size_t k) { return normal[t][k]; },
      [&](size_t t, size_t k) { return (t + k) % 3 == 0 ? kHiddenBias : normal[t][k]; },
      // Whole blocks, in front, in the middle, behind.
      [&](size_t, size_t k) { return k < 4 ? kHiddenBias : 0.0f; },
      [&](size_t, size_t k) { return k < 200 ? kHiddenBias : 0.5f; },
      [&](size_t t, size_t k) { return k >= 134 + t && k < 390 ? kHiddenBias : 0.5f; },
      [&](size_t, size_t k) { return k >= 390 ? kHiddenBias : -2.0f; },
      // One token alone; none for one query; masks of -FLT_MAX.
      [&](size_t t, size_t k) { return k == 300 + t ? 0.0f : kHiddenBias; },
      [&](size_t t, size_t k) { return t == 1 ? kHiddenBias : normal[t][k]; },
      [&](size_t, size_t k) { return k % 2 == 0 ? 0.0f : -1e30f; },
      [&](size_t, size_t k) { return 1000.0f + 0.001f * static_cast<float>(k); },
  };
  for (const auto& kind : kinds) {
    for (const size_t padding : {0, 5}) {
      const Bias bias(3, tokens, padding, kind);
      SCOPED_TRACE("kind " + std::to_string(&kind - kinds));
      for (const bool causal : {true, false}) {
        ExpectAttends(cache, Queries(3, kQueryHeads, kDim),
                      {.causal = causal, .bias = bias.view()});
      }
      if (HasFailure()) return;
    }
  }
}

TEST(AttendOptionsTest, EverythingAtOnce) {
  const KvCache cache = Evicted();
  const test::Rows normal = test::NormalRows(5, cache.size(), 12);
  const Bias bias(5, cache.size(), 3, [&](size_t t, size_t k) {
    return normal[t][k] > 1.5f ? kHiddenBias : normal[t][k];
  });
  const std::vector<float> slopes = {0.5f, 0.25f, 0.0f, 0.01f, 0.7071f, 2.0f};
  for (const int digits : {1, 2}) {
    for (const uint64_t position : {1100, 1400, 1725}) {
      ExpectAttends(cache, Queries(5, kQueryHeads, kDim, 3.0),
                    {.scale = 0.2f,
                     .sliding_window = 333,
                     .logit_softcap = 6.0f,
                     .alibi_slopes = slopes,
                     .bias = bias.view(),
                     .query_position = position,
                     .digits = digits});
    }
  }
}

// -FLT_MAX is the mask of many: next to others it hides a token.
TEST(AttendOptionsTest, LowestBiasHides) {
  const KvCache cache = Evicted();
  constexpr float kLowest = std::numeric_limits<float>::lowest();
  const auto hides = [](size_t t, size_t k) { return k % 7 == t; };
  const Bias lowest(3, cache.size(), 0,
                    [&](size_t t, size_t k) { return hides(t, k) ? kLowest : 0.0f; });
  const Bias infinite(3, cache.size(), 0,
                      [&](size_t t, size_t k) { return hides(t, k) ? kHiddenBias : 0.0f; });
  const Queries queries(3, kQueryHeads, kDim);
  EXPECT_EQ(Attended(cache, queries, {.bias = lowest.view()}),
            Attended(cache, queries, {.bias = infinite.view()}));
}

// Exact tokens of several blocks, queries of more rows than a tile.
TEST(AttendOptionsTest, LongWindowsAndWideGroups) {
  KvCacheOptions options = Options(300, 600, 0);
  const KvCache exact = Filled(options, 900);
  EXPECT_EQ(exact.view().packed_tokens, 0u);
  ExpectAttends(exact, Queries(3, kQueryHeads, kDim), {});
  ExpectAttends(exact, Queries(3, kQueryHeads, kDim), {.query_position = kFirst + 280});
  const KvCache mixed = Filled(options, 1500);
  EXPECT_EQ(mixed.view().packed_tokens, 576u);
  ExpectAttends(mixed, Queries(3, kQueryHeads, kDim), {.sliding_window = 700});
  ExpectAttends(Evicted(), Queries(2, 70 * kHeads, kDim), {});
}

}  // namespace
}  // namespace turboquant
