// The same bits from every backend, for every ParallelFor, however queries are laid out and however
// many share a call.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "src/base/half.h"
#include "tests/cache/attend_cases.h"
#include "tests/cache/attend_reference.h"
#include "tests/support/threads.h"

namespace turboquant {
namespace {

using test::Attended;
using test::MakeCache;
using test::Queries;

// A team of `threads` that takes tasks in a random order.
ParallelFor Shuffled(size_t threads, unsigned seed) {
  return [threads, seed](size_t tasks, const std::function<void(size_t)>& body) {
    std::vector<size_t> order(tasks);
    std::iota(order.begin(), order.end(), size_t{0});
    std::shuffle(order.begin(), order.end(), std::mt19937(seed));
    test::Threads(threads)(tasks, [&](size_t task) { body(order[task]); });
  };
}

struct Everything {
  std::vector<std::vector<std::byte>> pages;
  Attended attended;
  Attended one_digit;
  std::vector<float> logits;
  std::vector<float> scores;

  Everything(const KvCache& cache, const Queries& queries, const ParallelFor& parallel_for)
      : pages(test::PagesOf(cache)),
        attended(cache, queries, {.parallel_for = parallel_for}),
        one_digit(cache, queries,
                  {.logit_softcap = 20.0f, .digits = 1, .parallel_for = parallel_for}),
        logits(test::LogitsOf(cache, queries, {.parallel_for = parallel_for})),
        scores(queries.tokens * queries.heads * cache.size()) {
    EXPECT_TRUE(cache.Scores(queries.view(),
                             {scores.data(), queries.tokens * queries.heads, cache.size()}));
  }
  bool operator==(const Everything&) const = default;
};

// Half of the pairwise cases that have pages.
std::vector<test::AttendCase> Cases() {
  std::vector<test::AttendCase> cases;
  bool take = false;
  for (const test::AttendCase& attend_case : test::PairwiseAttendCases()) {
    if (attend_case.tokens < 60) continue;
    take = !take;
    if (take) cases.push_back(attend_case);
  }
  return cases;
}

class AttendEqualityTest : public testing::TestWithParam<test::AttendCase> {};

TEST_P(AttendEqualityTest, OnEveryBackendAndForAnyThreads) {
  const test::AttendCase& attend_case = GetParam();
  KvCacheOptions options = attend_case.options;
  const test::Tokens tokens = test::AttendTokens(attend_case.tokens, options.format);
  options.format.backend = Backend::kScalar;
  KvCache scalar = MakeCache(options);
  test::Append(scalar, tokens, 0, tokens.count());
  const Queries few(attend_case.query_tokens, attend_case.group * options.format.kv_heads,
                    options.format.head_dim, attend_case.deviation);
  const Everything expected(scalar, few, {});
  for (const Backend backend : AvailableBackends()) {
    SCOPED_TRACE(BackendName(backend));
    options.format.backend = backend;
    for (const size_t threads : {1, 2, 5}) {
      if (backend == Backend::kScalar && threads != 2) continue;  // slow
      const ParallelFor parallel_for = Shuffled(threads, static_cast<unsigned>(threads));
      KvCache cache = MakeCache(options);
      test::Append(cache, tokens, 0, tokens.count(), parallel_for);
      EXPECT_TRUE(Everything(cache, few, parallel_for) == expected) << threads << " threads";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Pairwise, AttendEqualityTest, testing::ValuesIn(Cases()),
                         [](const auto& test) { return test.param.name; });

constexpr size_t kHeads = 2;
constexpr size_t kQueryHeads = 6;
constexpr size_t kDim = 40;

KvCache Filled(size_t tokens) {
  KvCacheOptions options;
  options.format = {.head_dim = kDim, .kv_heads = kHeads};
  options.format.keys = {.bits = 3, .outlier_channels = 10};
  options.max_tokens = 10'000;
  options.rope = RopeParameters::FromTheta(1e4, kDim);
  options.known_key_map = test::RandomKeyMap(KeyMapKind::kDiagonal, kHeads, kDim);
  KvCache cache = MakeCache(options);
  test::Append(cache, test::AttendTokens(tokens, options.format), 0, tokens);
  return cache;
}

// Prefill of any length: every row is what it is alone.
TEST(AttendEqualityTest, HowManyQueriesACallBringsMakesNoDifference) {
  const KvCache cache = Filled(700);
  constexpr size_t kMost = 130;
  const Queries all(kMost, kQueryHeads, kDim, 3.0);
  constexpr size_t kRow = kQueryHeads * kDim;
  std::vector<float> outputs;
  std::vector<float> log_sum_exp;
  for (size_t t = 0; t < kMost; ++t) {
    const uint64_t position = cache.next_position() - kMost + t;
    const Attended alone(cache.view(), all.view().Slice(t, 1), {.query_position = position});
    outputs.insert(outputs.end(), alone.outputs.begin(), alone.outputs.end());
    log_sum_exp.insert(log_sum_exp.end(), alone.log_sum_exp.begin(), alone.log_sum_exp.end());
  }
  for (size_t count = 1; count <= kMost; ++count) {
    const Attended together(cache.view(), all.view().Slice(kMost - count, count));
    ASSERT_TRUE(std::ranges::equal(together.outputs, std::span(outputs).last(count * kRow)))
        << count;
    ASSERT_TRUE(
        std::ranges::equal(together.log_sum_exp, std::span(log_sum_exp).last(count * kQueryHeads)));
  }
  // More than a span of 2048 tokens on both sides of a prefill's end, in threads.
  const KvCache longer = Filled(3000);
  const Attended prefill(longer.view(), all.view(), {.parallel_for = Shuffled(3, 1)});
  const Attended last(longer.view(), all.view().Slice(kMost - 1, 1),
                      {.parallel_for = Shuffled(2, 2)});
  EXPECT_TRUE(std::ranges::equal(last.outputs, std::span(prefill.outputs).last(kRow)));
}

// Sums of several spans, whoever has made them and in whatever order.
TEST(AttendEqualityTest, SpansAreMergedInTheirOrder) {
  const KvCache cache = Filled(9000);
  const Queries queries(1, kQueryHeads, kDim, 3.0);
  const Attended expected(cache.view(), queries.view());
  for (const unsigned threads : {1u, 2u, 5u}) {
    const Attended shared(cache.view(), queries.view(),
                          {.parallel_for = Shuffled(threads, threads)});
    EXPECT_TRUE(shared == expected) << threads << " threads";
  }
}

template <class T>
std::vector<T> Transposed(const Queries& queries, const std::function<T(float)>& convert,
                          bool head_major) {
  std::vector<T> numbers;
  const size_t outer = head_major ? queries.heads : queries.tokens;
  const size_t inner = head_major ? queries.tokens : queries.heads;
  for (size_t i = 0; i < outer; ++i) {
    for (size_t k = 0; k < inner; ++k) {
      for (const float x : head_major ? queries.Row(k, i) : queries.Row(i, k))
        numbers.push_back(convert(x));
    }
  }
  return numbers;
}

TEST(AttendEqualityTest, AnyLayoutOfQueriesAndOutputs) {
  const KvCache cache = Filled(400);
  for (const size_t tokens : {1, 3, 30}) {
    const Queries queries(tokens, kQueryHeads, kDim);
    const Attended expected(cache, queries);
    const std::vector<float> by_head =
        Transposed<float>(queries, [](float x) { return x; }, /*head_major=*/true);
    EXPECT_EQ(
        Attended(cache.view(), HeadsView::HeadMajor(by_head.data(), tokens, kQueryHeads, kDim)),
        expected);
    // Rows with room between them, which stays as it was.
    std::vector<float> out(tokens * kQueryHeads * (kDim + 3) + 17, -7.0f);
    const HeadsOutput loose = {out.data(), tokens,   kQueryHeads,
                               kDim,       kDim + 3, tokens * (kDim + 3)};
    ASSERT_TRUE(cache.Attend(queries.view(), {}, loose));
    for (size_t i = 0; i < out.size(); ++i) {
      const size_t row = i / (kDim + 3);
      const size_t column = i % (kDim + 3);
      const bool padding = row >= tokens * kQueryHeads || column >= kDim;
      const size_t at = (row % tokens * kQueryHeads + row / tokens) * kDim + column;
      ASSERT_EQ(out[i], padding ? -7.0f : expected.outputs[at]) << i;
    }
    std::vector<float> logits(tokens * kQueryHeads * (cache.size() + 9), -7.0f);
    ASSERT_TRUE(
        AttentionLogits(queries.view(), cache.view(), {},
                        {logits.data(), tokens * kQueryHeads, cache.size(), cache.size() + 9}));
    const std::vector<float> dense = test::LogitsOf(cache, queries, {});
    for (size_t i = 0; i < logits.size(); ++i) {
      const size_t column = i % (cache.size() + 9);
      const size_t at = i / (cache.size() + 9) * cache.size() + column;
      ASSERT_EQ(logits[i], column >= cache.size() ? -7.0f : dense[at]);
    }
  }
}

TEST(AttendEqualityTest, HalfQueriesAreTheFloatsTheyStandFor) {
  const KvCache cache = Filled(400);
  Queries queries(3, kQueryHeads, kDim);
  const auto f16 = Transposed<Float16>(queries, F32ToF16, false);
  const auto bf16 = Transposed<BFloat16>(queries, F32ToBF16, true);
  Queries rounded = queries;
  for (float& x : rounded.rows.values) x = F16ToF32(F32ToF16(x));
  EXPECT_EQ(Attended(cache.view(), HeadsView::TokenMajor(f16.data(), 3, kQueryHeads, kDim)),
            Attended(cache, rounded));
  rounded = queries;
  for (float& x : rounded.rows.values) x = BF16ToF32(F32ToBF16(x));
  EXPECT_EQ(Attended(cache.view(), HeadsView::HeadMajor(bf16.data(), 3, kQueryHeads, kDim)),
            Attended(cache, rounded));
}

// Scores are logits without scale and mask.
TEST(AttendEqualityTest, ScoresAreLogitsWithoutScale) {
  const KvCache cache = Filled(400);
  const Queries queries(3, kQueryHeads, kDim);
  std::vector<float> scores(3 * kQueryHeads * cache.size());
  ASSERT_TRUE(cache.Scores(queries.view(), {scores.data(), 3 * kQueryHeads, cache.size()}));
  EXPECT_EQ(scores, test::LogitsOf(cache, queries, {.scale = 1.0f, .causal = false}));
}

// A view of two halves of the tokens, each attended to alone, is merged by log-sum-exp.
void ExpectMerged(const KvCache& cache, const KvView& front, const KvView& back) {
  ASSERT_EQ(front.tokens() + back.tokens(), cache.size());
  const Queries queries(2, kQueryHeads, kDim, 2.0);
  const AttendOptions options = {.query_position = cache.next_position() - 2};
  const Attended whole(cache, queries, options);
  const Attended halves[2] = {Attended(front, queries.view(), options),
                              Attended(back, queries.view(), options)};
  for (size_t r = 0; r < 2 * kQueryHeads; ++r) {
    const double log_sum_exp = static_cast<double>(whole.log_sum_exp[r]);
    double shares[2];
    for (const size_t i : {0, 1})
      shares[i] = std::exp(static_cast<double>(halves[i].log_sum_exp[r]) - log_sum_exp);
    EXPECT_NEAR(shares[0] + shares[1], 1.0, 3e-6);
    for (size_t j = 0; j < kDim; ++j) {
      const size_t at = r * kDim + j;
      const double merged = shares[0] * static_cast<double>(halves[0].outputs[at]) +
                            shares[1] * static_cast<double>(halves[1].outputs[at]);
      EXPECT_NEAR(merged, static_cast<double>(whole.outputs[at]), 5e-6) << r << ", " << j;
    }
  }
}

TEST(AttendEqualityTest, HalvesMergeByLogSumExp) {
  const KvCache cache = Filled(3100);
  const KvView whole = cache.view();
  ASSERT_GT(whole.pages.size(), 11u);
  // Sinks and some pages; the other pages and the window.
  for (const size_t pages : {0, 1, 8, 9, 11}) {
    KvView front = whole;
    KvView back = whole;
    front.pages = whole.pages.first(pages);
    front.packed_tokens = pages * kPageTokens;
    front.window.count = 0;
    back.sinks.count = 0;
    back.pages = whole.pages.subspan(pages);
    back.packed_tokens -= front.packed_tokens;
    back.packed_position += front.packed_tokens;
    ExpectMerged(cache, front, back);
  }
  // Sinks and window; all pages.
  KvView exact = whole;
  exact.pages = {};
  exact.packed_tokens = 0;
  exact.packed_position += whole.packed_tokens;
  KvView packed = whole;
  packed.sinks.count = 0;
  packed.window.count = 0;
  ExpectMerged(cache, exact, packed);
}

// A page that is left half way: the second half has lanes in front that it does not show.
TEST(AttendEqualityTest, EvictedLanesCountForNothing) {
  const KvCache cache = Filled(700);
  const Queries queries(1, kQueryHeads, kDim);
  for (const size_t gone : {1, 15, 16, 17, 100, 255, 256, 257, 300}) {
    KvView view = cache.view();
    view.sinks.count = 0;
    view.pages = view.pages.subspan(gone / kPageTokens);
    view.first_lane = gone % kPageTokens;
    view.packed_tokens -= gone;
    view.packed_position += gone;
    const AttendOptions options = {.sliding_window = cache.size() - 4 - gone};
    EXPECT_EQ(Attended(view, queries.view()), Attended(cache, queries, options)) << gone;
  }
}

}  // namespace
}  // namespace turboquant
