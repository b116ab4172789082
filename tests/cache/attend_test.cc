// Attention on packed keys and values is attention on what they decode to, within what the digits
// of queries and weights lose: over formats, shapes, maps, frames and lengths.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>
#include <vector>

#include "tests/cache/attend_bounds.h"
#include "tests/cache/attend_cases.h"
#include "tests/cache/attend_reference.h"

namespace turboquant {
namespace {

using test::AttendBounds;
using test::AttendCase;
using test::Attended;
using test::DenseAttention;
using test::DenseRow;
using test::ErrorBound;
using test::Queries;

// Largest of many roundings next to their root mean square.
constexpr double kPeak = 7.0;

class AttendTest : public testing::TestWithParam<AttendCase> {
 protected:
  AttendTest()
      : cache_(test::MakeCache(GetParam().options)),
        queries_(GetParam().query_tokens, GetParam().group * GetParam().options.format.kv_heads,
                 GetParam().options.format.head_dim, GetParam().deviation) {
    options_.digits = GetParam().digits;
    const test::Tokens tokens = test::AttendTokens(GetParam().tokens, GetParam().options.format);
    test::Append(cache_, tokens, 0, tokens.count());
  }

  // body(token, head, row of logits or outputs).
  template <class Body>
  void ForRows(const Body& body) const {
    for (size_t token = 0; token < queries_.tokens; ++token) {
      for (size_t head = 0; head < queries_.heads; ++head) {
        body(token, head, token * queries_.heads + head);
        if (HasFatalFailure()) return;
      }
    }
  }

  KvCache cache_;
  Queries queries_;
  AttendOptions options_;
};

// Two sides: next to the bound, and as large as roundings are.
TEST_P(AttendTest, LogitsAreThoseOfTheDecodedKeys) {
  const DenseAttention dense(cache_);
  const AttendBounds bounds(cache_, dense);
  const std::vector<float> logits = test::LogitsOf(cache_, queries_, options_);
  double largest_ratio = 0.0;
  double squares = 0.0;
  double expected_squares = 0.0;
  size_t count = 0;
  ForRows([&](size_t token, size_t head, size_t r) {
    const DenseRow row = dense.Attend(queries_, token, head, options_);
    const ErrorBound bound =
        bounds.Logits(queries_.Row(token, head), dense.KvHead(queries_, head), options_);
    for (size_t t = 0; t < row.logits.size(); ++t) {
      const double logit = static_cast<double>(logits[r * row.logits.size() + t]);
      ASSERT_EQ(logit == test::kHidden, row.logits[t] == test::kHidden) << token << " sees " << t;
      if (logit == test::kHidden) continue;
      const double error = std::fabs(logit - row.logits[t]);
      ASSERT_LE(error, bound.worst[t]) << "query " << token << ", " << head << ", token " << t;
      ASSERT_LE(error, kPeak * bound.rms[t] + bound.slack[t]) << "token " << t;
      largest_ratio = std::max(largest_ratio, error / bound.worst[t]);
      if (bound.rms[t] == 0.0) continue;
      squares += error * error;
      expected_squares += bound.rms[t] * bound.rms[t];
      ++count;
    }
  });
  RecordProperty("largest_error_over_bound", std::to_string(largest_ratio));
  if (count < 1000 || squares == 0.0) return;
  RecordProperty("rms_over_expected", std::to_string(std::sqrt(squares / expected_squares)));
  EXPECT_GT(squares, 0.3 * expected_squares);
  EXPECT_LT(squares, 2.5 * expected_squares);
}

TEST_P(AttendTest, OutputsAreThoseOfTheDecodedTokens) {
  const DenseAttention dense(cache_);
  const AttendBounds bounds(cache_, dense);
  const Attended attended(cache_, queries_, options_);
  const size_t dim = queries_.dim;
  double largest_ratio = 0.0;
  double largest_error = 0.0;
  double largest_output = 0.0;
  ForRows([&](size_t token, size_t head, size_t r) {
    const size_t kv_head = dense.KvHead(queries_, head);
    const DenseRow row = dense.Attend(queries_, token, head, options_);
    const ErrorBound logits = bounds.Logits(queries_.Row(token, head), kv_head, options_);
    const ErrorBound bound = bounds.Output(row, kv_head, logits, options_);
    std::vector<double> difference(dim);
    for (size_t j = 0; j < dim; ++j) {
      difference[j] = static_cast<double>(attended.outputs[r * dim + j]) - row.output[j];
      largest_error = std::max(largest_error, std::fabs(difference[j]));
      largest_output = std::max(largest_output, std::fabs(row.output[j]));
    }
    const std::vector<float> stored = bounds.ToStored(difference, kv_head);
    for (size_t j = 0; j < dim; ++j) {
      const double error = std::fabs(static_cast<double>(stored[j]));
      ASSERT_LE(error, bound.worst[j]) << "query " << token << ", " << head << ", column " << j;
      largest_ratio = std::max(largest_ratio, error / bound.worst[j]);
    }
    const double logit_error = *std::ranges::max_element(logits.worst);
    ASSERT_NEAR(static_cast<double>(attended.log_sum_exp[r]), row.log_sum_exp, logit_error);
  });
  RecordProperty("largest_error_over_bound", std::to_string(largest_ratio));
  RecordProperty("error_over_largest_output", std::to_string(largest_error / largest_output));
  // Keys of a sketch are noise that the digits have to carry as well.
  const bool sketched = GetParam().options.format.keys.method == KvMethod::kProd;
  const double allowed = options_.digits == 1 ? 0.06 : sketched ? 4e-3 : 1e-3;
  EXPECT_LE(largest_error, allowed * largest_output);
}

// The digits of queries set aside (Attend and AttentionLogits round alike, given the same unit),
// only those of weights remain, which are random: no token can be forgotten or counted twice.
TEST_P(AttendTest, OutputsAreTheSoftmaxOfTheLogits) {
  const DenseAttention dense(cache_);
  const AttendBounds bounds(cache_, dense);
  const Attended attended(cache_, queries_, options_);
  AttendOptions base_two = options_;
  base_two.scale =
      static_cast<float>(1.0 / std::sqrt(static_cast<double>(queries_.dim)) * std::numbers::log2e);
  const std::vector<float> logits = test::LogitsOf(cache_, queries_, base_two);
  const size_t dim = queries_.dim;
  double largest_ratio = 0.0;
  double squares = 0.0;
  double expected_squares = 0.0;
  size_t count = 0;
  ForRows([&](size_t token, size_t head, size_t r) {
    const size_t kv_head = dense.KvHead(queries_, head);
    DenseRow row;
    for (size_t t = 0; t < dense.tokens(); ++t) {
      row.logits.push_back(static_cast<double>(logits[r * dense.tokens() + t]) * std::numbers::ln2);
    }
    test::SoftmaxInDouble(dense.decoded(), kv_head, row);
    const ErrorBound bound = bounds.Output(row, kv_head, {}, options_);
    std::vector<double> difference(dim);
    for (size_t j = 0; j < dim; ++j)
      difference[j] = static_cast<double>(attended.outputs[r * dim + j]) - row.output[j];
    const std::vector<float> stored = bounds.ToStored(difference, kv_head);
    for (size_t j = 0; j < dim; ++j) {
      const double allowed = kPeak * bound.rms[j] + 2.0 * bound.slack[j];
      const double error = std::fabs(static_cast<double>(stored[j]));
      ASSERT_LE(error, allowed) << "query " << token << ", " << head << ", column " << j;
      largest_ratio = std::max(largest_ratio, error / allowed);
      if (bound.rms[j] < bound.slack[j]) continue;
      squares += error * error;
      expected_squares += bound.rms[j] * bound.rms[j];
      ++count;
    }
    ASSERT_NEAR(static_cast<double>(attended.log_sum_exp[r]), row.log_sum_exp,
                1e-6 * (1.0 + std::fabs(row.log_sum_exp)));
  });
  RecordProperty("largest_error_over_bound", std::to_string(largest_ratio));
  if (count < 500) return;
  RecordProperty("rms_over_expected", std::to_string(std::sqrt(squares / expected_squares)));
  EXPECT_GT(squares, 0.1 * expected_squares);
  EXPECT_LT(squares, 2.5 * expected_squares);
}

INSTANTIATE_TEST_SUITE_P(Pairwise, AttendTest, testing::ValuesIn(test::PairwiseAttendCases()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace turboquant
