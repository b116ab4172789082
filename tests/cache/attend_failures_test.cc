// Calls of Attend, AttentionLogits and Scores that fail say why and write nothing.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "tests/cache/attend_cases.h"
#include "tests/cache/attend_reference.h"
#include "tests/support/expect_error.h"
#include "tests/support/threads.h"

namespace turboquant {
namespace {

using test::FailsWith;
using test::MakeCache;
using test::Queries;

constexpr size_t kHeads = 2;
constexpr size_t kQueryHeads = 4;
constexpr size_t kDim = 32;
constexpr size_t kTokens = 400;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr ErrorCode kMismatch = ErrorCode::kDimensionMismatch;
constexpr ErrorCode kInvalid = ErrorCode::kInvalidArgument;
constexpr ErrorCode kNonFinite = ErrorCode::kNonFinite;

KvCacheOptions Options() {
  KvCacheOptions options;
  options.format = {.head_dim = kDim, .kv_heads = kHeads};
  options.rope = RopeParameters::FromTheta(1e4, kDim);
  options.known_key_map = test::RandomKeyMap(KeyMapKind::kDiagonal, kHeads, kDim);
  return options;
}

// All that a call is given, to be spoilt.
struct Call {
  KvView view;
  Queries rows;
  HeadsView queries;
  AttendOptions options;
  std::vector<float> slopes = std::vector<float>(kQueryHeads, 0.1f);
  std::vector<float> bias;
  std::vector<float> written;
  std::vector<float> log_sum_exp;
  HeadsOutput outputs;
  MatrixView<float> logits;

  Call(const KvCache& cache, size_t query_tokens)
      : view(cache.view()),
        rows(query_tokens, kQueryHeads, kDim),
        queries(rows.view()),
        bias(query_tokens * cache.size(), 0.0f),
        written(query_tokens * kQueryHeads * (kDim + cache.size()), -7.0f),
        log_sum_exp(query_tokens * kQueryHeads, -7.0f),
        outputs(HeadsOutput::TokenMajor(written.data(), query_tokens, kQueryHeads, kDim)),
        logits(written.data() + query_tokens * kQueryHeads * kDim, query_tokens * kQueryHeads,
               cache.size()) {
    options.log_sum_exp = log_sum_exp;
    options.alibi_slopes = slopes;
    options.bias = {bias.data(), query_tokens, cache.size()};
  }
  Call(const Call&) = delete;  // points into itself
  Call& operator=(const Call&) = delete;

  bool WroteNothing() const {
    const auto untouched = [](float x) { return x == -7.0f; };
    return std::ranges::all_of(written, untouched) && std::ranges::all_of(log_sum_exp, untouched);
  }
};

struct Spoilt {
  ErrorCode code;
  std::string culprit;
  std::function<void(Call&)> spoil;
};

KvCache Filled(const KvCacheOptions& options) {
  KvCache cache = MakeCache(options);
  test::Append(cache, test::AttendTokens(kTokens, options.format), 0, kTokens);
  return cache;
}

enum class Which { kBoth, kAttend, kLogits };

// One query token and more than fit a tile, without and with threads.
void ExpectRefused(const KvCache& cache, const std::vector<Spoilt>& calls, Which which) {
  for (const Spoilt& spoilt : calls) {
    for (const size_t query_tokens : {3, 40}) {
      for (const bool threads : {false, true}) {
        Call call(cache, query_tokens);
        if (threads) call.options.parallel_for = test::Threads(2);
        spoilt.spoil(call);
        if (which != Which::kLogits) {
          EXPECT_TRUE(FailsWith(Attend(call.queries, call.view, call.options, call.outputs),
                                spoilt.code, spoilt.culprit));
        }
        if (which != Which::kAttend) {
          EXPECT_TRUE(FailsWith(AttentionLogits(call.queries, call.view, call.options, call.logits),
                                spoilt.code, spoilt.culprit));
        }
        EXPECT_TRUE(call.WroteNothing()) << spoilt.culprit;
      }
    }
  }
}

TEST(AttendFailuresTest, NothingSpoiltSucceeds) {
  const KvCache cache = Filled(Options());
  Call call(cache, 3);
  EXPECT_TRUE(Attend(call.queries, call.view, call.options, call.outputs));
  EXPECT_TRUE(AttentionLogits(call.queries, call.view, call.options, call.logits));
  EXPECT_EQ(std::ranges::count(call.written, -7.0f), 0);
  EXPECT_EQ(std::ranges::count(call.log_sum_exp, -7.0f), 0);
}

TEST(AttendFailuresTest, Queries) {
  ExpectRefused(Filled(Options()),
                {
                    {kMismatch, "queries have 31 columns, the cache has head_dim 32",
                     [](Call& c) { c.queries.dim = 31; }},
                    {kMismatch, "queries have 3 heads, not a multiple of the cache's 2",
                     [](Call& c) { c.queries.heads = 3; }},
                    {kMismatch, "queries have 0 heads", [](Call& c) { c.queries.heads = 0; }},
                    {kInvalid, "queries have no data", [](Call& c) { c.queries.data = nullptr; }},
                    {kNonFinite, "queries[2][3] is NaN at column 31",
                     [](Call& c) { c.rows.rows[2 * kQueryHeads + 3][31] = kNan; }},
                    {kNonFinite, "queries[1][0] is infinite at column 7",
                     [](Call& c) { c.rows.rows[kQueryHeads][7] = -kInfinity; }},
                    {kInvalid, "queries[0][1] has norm 2199023255552, the largest taken is 2^40",
                     [](Call& c) {
                       std::ranges::fill(c.rows.rows[1], 0.0f);
                       c.rows.rows[1][9] = 0x1p41f;
                     }},
                    {kInvalid, "queries[0][0] has norm ", [](Call& c) { c.options.scale = 1e38f; }},
                    {kInvalid, "times the scale more than the 2^60 that logits bear",
                     [](Call& c) { c.options.scale = 0x1p61f; }},
                },
                Which::kBoth);
}

TEST(AttendFailuresTest, Options) {
  ExpectRefused(
      Filled(Options()),
      {
          {kInvalid, "scale must be finite and not negative, got -1",
           [](Call& c) { c.options.scale = -1.0f; }},
          {kInvalid, "scale must be finite", [](Call& c) { c.options.scale = kInfinity; }},
          {kInvalid, "scale must be finite", [](Call& c) { c.options.scale = kNan; }},
          {kInvalid, "logit_softcap must be finite and not negative, got -5",
           [](Call& c) { c.options.logit_softcap = -5.0f; }},
          {kInvalid, "logit_softcap", [](Call& c) { c.options.logit_softcap = kNan; }},
          {kInvalid, "digits must be 1 or 2, got 0", [](Call& c) { c.options.digits = 0; }},
          {kInvalid, "digits must be 1 or 2, got 3", [](Call& c) { c.options.digits = 3; }},
          {kInvalid, "query_position must be at most 2^62, got 4611686018427387905",
           [](Call& c) { c.options.query_position = (uint64_t{1} << 62) + 1; }},
          {kInvalid, "query_position must be at most 2^62",
           [](Call& c) { c.options.query_position = UINT64_MAX; }},
          {kMismatch, "there are 3 alibi_slopes for 4 query heads",
           [](Call& c) { c.options.alibi_slopes = std::span(c.slopes).first(3); }},
          {kNonFinite, "alibi_slopes[2] is not finite", [](Call& c) { c.slopes[2] = kNan; }},
          {kInvalid, "alibi_slopes[3] is -2199023255552, the largest taken is 2^40",
           [](Call& c) { c.slopes[3] = -0x1p41f; }},
          {kMismatch, "log_sum_exp has 5 elements, there are ",
           [](Call& c) { c.options.log_sum_exp = std::span(c.log_sum_exp).first(5); }},
          {kMismatch, "bias is 2 × 400 with stride 400, expected ",
           [](Call& c) { c.options.bias.rows = 2; }},
          {kMismatch, "× 399 with stride 400, expected ",
           [](Call& c) { c.options.bias.cols = 399; }},
          {kMismatch, "with stride 399, expected ", [](Call& c) { c.options.bias.stride = 399; }},
          {kNonFinite, "bias[2] is NaN at column 399",
           [](Call& c) { c.bias[2 * kTokens + 399] = kNan; }},
          {kNonFinite, "bias[0] is infinite at column 4", [](Call& c) { c.bias[4] = kInfinity; }},
          {kInvalid, "bias[1] is 2.535301200456459e+30 at column 0, the largest taken is 2^100",
           [](Call& c) { c.bias[kTokens] = 0x1p101f; }},
      },
      Which::kBoth);
}

TEST(AttendFailuresTest, Outputs) {
  const KvCache cache = Filled(Options());
  ExpectRefused(cache,
                {
                    {kMismatch, "outputs have 2 tokens of 4 heads of dim 32, expected ",
                     [](Call& c) { c.outputs.tokens = 2; }},
                    {kMismatch, "tokens of 2 heads of dim 32, expected ",
                     [](Call& c) { c.outputs.heads = 2; }},
                    {kMismatch, "heads of dim 33, expected ", [](Call& c) { c.outputs.dim = 33; }},
                    {kInvalid, "tokens and no data", [](Call& c) { c.outputs.data = nullptr; }},
                    {kInvalid, "outputs have token_stride 31 and head_stride 32, less than the 32",
                     [](Call& c) { c.outputs.token_stride = 31; }},
                    {kInvalid, "and head_stride 0, less than the 32",
                     [](Call& c) { c.outputs.head_stride = 0; }},
                },
                Which::kAttend);
  ExpectRefused(
      cache,
      {
          {kMismatch, "logits are 11 × 400 with stride 400, expected ",
           [](Call& c) { c.logits.rows = 11; }},
          {kMismatch, "× 401 with stride 401, expected ",
           [](Call& c) { c.logits.cols = c.logits.stride = 401; }},
          {kMismatch, "× 400 with stride 7, expected ", [](Call& c) { c.logits.stride = 7; }},
          {kInvalid, "logits have no data", [](Call& c) { c.logits.data = nullptr; }},
      },
      Which::kLogits);
}

TEST(AttendFailuresTest, Views) {
  const KvCache cache = Filled(Options());
  std::vector<KvPage> pages(cache.view().pages.begin(), cache.view().pages.end());
  const std::vector<KvPage> good = pages;
  const std::shared_ptr<const KeyMap> narrow =
      test::RandomKeyMap(KeyMapKind::kDiagonal, kHeads, kDim - 2);
  const std::vector<uint16_t> channels(kHeads * kDim);
  ASSERT_EQ(pages.size(), 2u);
  ExpectRefused(
      cache,
      {
          {kInvalid, "the view has no format", [](Call& c) { c.view.format = nullptr; }},
          {kInvalid, "sinks has 4 tokens but no keys or no values",
           [](Call& c) { c.view.sinks.keys = nullptr; }},
          {kInvalid, "tokens but no keys or no values",
           [](Call& c) { c.view.window.values = nullptr; }},
          {kInvalid, "window is of bf16, exact tokens are f32 or f16",
           [](Call& c) { c.view.window.type = RowType::kBF16; }},
          {kInvalid, "sinks has token_stride 31, less than head_dim 32",
           [](Call& c) { c.view.sinks.token_stride = 31; }},
          {kInvalid, "packed tokens from lane 257, but 2 pages of 256",
           [](Call& c) { c.view.first_lane = 257; }},
          {kInvalid, "packed tokens from lane 0, but 1 pages of 256",
           [](Call& c) { c.view.pages = c.view.pages.first(1); }},
          {kInvalid, "page 1 of the view has no bytes or no turns",
           [&](Call& c) {
             pages = good;
             pages[1].bytes = nullptr;
             c.view.pages = pages;
           }},
          {kInvalid, "page 0 of the view has no bytes or no turns",
           [&](Call& c) {
             pages = good;
             pages[0].turns = nullptr;
             c.view.pages = pages;
           }},
          {kInvalid, "rotary_dim must be even and at most head_dim 32, got 31",
           [](Call& c) { c.view.rotary_dim = 31; }},
          {kInvalid, "rotary_dim must be even and at most head_dim 32, got 34",
           [](Call& c) { c.view.rotary_dim = 34; }},
          {kMismatch, "the key map is of 2 heads of 30, the format of 2 heads of 32",
           [&](Call& c) { c.view.key_map = narrow.get(); }},
          {kInvalid, "the view has key_channels, the format 0 outlier channels of that side",
           [&](Call& c) { c.view.key_channels = channels.data(); }},
          {kInvalid, "the view has value_channels",
           [&](Call& c) { c.view.value_channels = channels.data(); }},
          {kInvalid, "tokens from position 9223372036854775807 on, positions end at 2^62",
           [](Call& c) { c.view.first_position = INT64_MAX; }},
          {kInvalid, "tokens from position 18446744073709551615 on",
           [](Call& c) { c.view.packed_position = UINT64_MAX; }},
      },
      Which::kBoth);
}

TEST(AttendFailuresTest, ViewsWithoutTheChannelsOfTheirFormat) {
  for (const bool values : {false, true}) {
    KvCacheOptions options = Options();
    (values ? options.format.values : options.format.keys).outlier_channels = 8;
    ExpectRefused(
        Filled(options),
        {{kInvalid,
          std::string("the view has no ") + (values ? "value" : "key") +
              "_channels, the format 8 outlier channels of that side",
          [&](Call& c) { (values ? c.view.value_channels : c.view.key_channels) = nullptr; }}},
        Which::kBoth);
  }
}

TEST(AttendFailuresTest, MoreQueriesThanTokens) {
  KvCache cache = MakeCache(Options());
  test::Append(cache, test::AttendTokens(2, Options().format), 0, 2);
  ExpectRefused(cache,
                {{kInvalid,
                  " query tokens but only 2 tokens in the view: append before attending, or set "
                  "query_position",
                  [](Call&) {}}},
                Which::kBoth);
}

TEST(AttendFailuresTest, Scores) {
  const KvCache cache = Filled(Options());
  Call call(cache, 3);
  call.rows.rows[5][3] = kNan;
  EXPECT_TRUE(FailsWith(cache.Scores(call.queries, call.logits), kNonFinite,
                        "queries[1][1] is NaN at column 3"));
  call.logits.rows = 5;
  call.rows.rows[5][3] = 0.0f;
  EXPECT_TRUE(FailsWith(cache.Scores(call.queries, call.logits), kMismatch,
                        "logits are 5 × 400 with stride 400, expected 12 × 400"));
  EXPECT_TRUE(call.WroteNothing());
}

TEST(AttendFailuresTest, NoQueriesAreNoFailure) {
  const KvCache cache = Filled(Options());
  Call call(cache, 3);
  call.options = {};
  call.queries.tokens = 0;
  call.queries.data = nullptr;
  call.outputs.tokens = 0;
  call.outputs.data = nullptr;
  call.logits.rows = 0;
  EXPECT_TRUE(Attend(call.queries, call.view, call.options, call.outputs));
  EXPECT_TRUE(AttentionLogits(call.queries, call.view, call.options, call.logits));
  EXPECT_TRUE(call.WroteNothing());
}

// The largest of all that is taken together: finite all the same.
TEST(AttendFailuresTest, ExtremesThatAreTakenStayFinite) {
  const KvCache cache = Filled(Options());
  for (const int digits : {1, 2}) {
    Call call(cache, 3);
    for (float& x : call.rows.rows.values) x *= 0x1p57f / 8.0f;
    for (float& x : call.bias) x = 0x1p100f;
    std::ranges::fill(call.slopes, 0x1p40f);
    std::ranges::fill(std::span(call.bias).first(100), -std::numeric_limits<float>::max());
    call.options.scale = 0x1p-20f;
    call.options.digits = digits;
    call.options.query_position = uint64_t{1} << 62;
    for (float& x : call.rows.rows.values) x *= 0x1p-20f;
    ASSERT_TRUE(Attend(call.queries, call.view, call.options, call.outputs));
    ASSERT_TRUE(AttentionLogits(call.queries, call.view, call.options, call.logits));
    EXPECT_FALSE(std::ranges::any_of(call.written, [](float x) { return std::isnan(x); }));
    for (size_t i = 0; i < 3 * kQueryHeads * kDim; ++i) EXPECT_LT(std::fabs(call.written[i]), 100);
  }
}

// Queries as small and as large as they come: scores keep their proportions.
TEST(AttendFailuresTest, TinyAndZeroQueries) {
  const KvCache cache = Filled(Options());
  Queries queries(1, kQueryHeads, kDim);
  std::ranges::fill(queries.rows.values, 0.0f);
  const test::DenseAttention dense(cache);
  const test::Attended zero(cache, queries);
  for (size_t head = 0; head < kQueryHeads; ++head) {
    const test::DenseRow row = dense.Attend(queries, 0, head, {});
    EXPECT_NEAR(zero.log_sum_exp[head], std::log(static_cast<double>(kTokens)), 1e-6);
    for (size_t j = 0; j < kDim; ++j)
      EXPECT_NEAR(zero.outputs[head * kDim + j], row.output[j], 2e-5);
  }
  for (float& x : queries.rows.values) x = 1e-42f;  // denormal
  const test::Attended tiny(cache, queries);
  EXPECT_EQ(tiny.outputs, zero.outputs);
}

}  // namespace
}  // namespace turboquant
