#include "turboquant/webgpu/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "src/base/try.h"
#include "tests/support/expect_error.h"
#include "tests/support/random_rows.h"
#include "tests/webgpu/software_device.h"

namespace turboquant {
namespace {

using test::FailsWith;
using test::NormalRows;
using test::Rows;

using WebGpuAttentionTest = WebGpuTest;

// Keys and values encoded on the CPU, and what attention to them is in double.
struct Head {
  WebGpuMseQuantizer keys;
  WebGpuMseQuantizer values;
  MseRows packed_keys;
  MseRows packed_values;

  static Result<Head> Make(const WebGpuDevice& device, size_t tokens, size_t value_dim = 80) {
    TQ_TRY(auto keys, WebGpuMseQuantizer::Create(device, {.dim = 48, .bits = 3}));
    TQ_TRY(auto values,
           WebGpuMseQuantizer::Create(device, {.dim = value_dim, .bits = 5, .stream = {0, 0, 1}}));
    Rows key_rows = NormalRows(tokens, 48, 1);
    for (size_t t = 0; t < tokens; t += 7) {
      for (float& x : key_rows[t]) x *= 3.0f;  // some tokens weigh more
    }
    TQ_TRY(MseRows packed_keys, keys.host().Encode(key_rows.view()));
    TQ_TRY(MseRows packed_values, values.host().Encode(NormalRows(tokens, value_dim, 2).view()));
    return Head{std::move(keys), std::move(values), std::move(packed_keys),
                std::move(packed_values)};
  }

  Rows Expected(const Rows& queries, double scale) const {
    const size_t tokens = packed_keys.size();
    const size_t dim = packed_values.dim();
    Rows scores(queries.rows, tokens);
    Rows decoded(tokens, dim);
    EXPECT_TRUE(
        keys.host().Score(*keys.host().Prepare(queries.view()), packed_keys, scores.view()));
    EXPECT_TRUE(values.host().Decode(packed_values, decoded.view()));
    Rows expected(queries.rows, dim);
    for (size_t q = 0; q < queries.rows; ++q) {
      const double largest = std::ranges::max(scores[q]) * scale;
      std::vector<double> sums(dim);
      double total = 0.0;
      for (size_t t = 0; t < tokens; ++t) {
        const double weight = std::exp(scores[q][t] * scale - largest);
        total += weight;
        for (size_t j = 0; j < dim; ++j) sums[j] += weight * decoded[t][j];
      }
      for (size_t j = 0; j < dim; ++j) expected[q][j] = static_cast<float>(sums[j] / total);
    }
    return expected;
  }
};

void ExpectAttention(const WebGpuDevice& device, size_t tokens, size_t queries,
                     size_t value_dim = 80) {
  const Result<Head> head = Head::Make(device, tokens, value_dim);
  ASSERT_TRUE(head) << head.error().message;
  const auto keys = head->keys.Upload(head->packed_keys);
  const auto values = head->values.Upload(head->packed_values);
  ASSERT_TRUE(keys && values);
  const Rows asked = NormalRows(queries, 48, 3);
  const auto prepared = head->keys.Prepare(asked.view());
  ASSERT_TRUE(prepared) << prepared.error().message;
  for (const float scale : {0.0f, 0.5f}) {
    Rows actual(queries, value_dim);
    const auto done = AttendOnDevice(*prepared, {head->keys, *keys}, {head->values, *values},
                                     actual.view(), scale);
    ASSERT_TRUE(done) << done.error().message;
    const Rows expected = head->Expected(asked, scale == 0.0f ? 1.0 / std::sqrt(48.0) : 0.5);
    for (size_t i = 0; i < actual.values.size(); ++i) {
      ASSERT_NEAR(actual.values[i], expected.values[i], 1e-5 * 10.0) << i;  // norms are 9 to 17
    }
  }
}

TEST_F(WebGpuAttentionTest, OutputsAreThoseOfTheDecodedRows) {
  ExpectAttention(device(), 700, 6);
  ExpectAttention(device(), 1, 1);
  ExpectAttention(device(), 300, 2, 300);  // more quads of coordinates than threads
}

TEST_F(WebGpuAttentionTest, PiecesOfKeysAndValuesNeedNotAgree) {
  const auto small = WebGpuDevice::Create({.max_buffer_bytes = 16384});
  ASSERT_TRUE(small) << small.error().message;
  ExpectAttention(*small, 700, 9);
}

TEST_F(WebGpuAttentionTest, CallsThatBreakTheContractAreRefused) {
  const Result<Head> head = Head::Make(device(), 20);
  ASSERT_TRUE(head) << head.error().message;
  const auto keys = head->keys.Upload(head->packed_keys);
  auto values = head->values.Upload(head->packed_values);
  ASSERT_TRUE(keys && values);
  const auto prepared = head->keys.Prepare(NormalRows(2, 48, 3).view());
  const auto of_values = head->values.Prepare(NormalRows(2, 80, 3).view());
  ASSERT_TRUE(prepared && of_values);
  Rows out(2, 80);
  const auto attend = [&](const WebGpuMseQueries& queries, const WebGpuPackedRows& k,
                          const WebGpuPackedRows& v) {
    return AttendOnDevice(queries, k, v, out.view());
  };
  EXPECT_TRUE(FailsWith(attend(*of_values, {head->keys, *keys}, {head->values, *values}),
                        ErrorCode::kInvalidArgument, "queries"));
  EXPECT_TRUE(FailsWith(attend(*prepared, {head->keys, *keys}, {head->values, *keys}),
                        ErrorCode::kInvalidArgument, "another quantizer"));
  ASSERT_TRUE(values->Truncate(19));
  EXPECT_TRUE(FailsWith(attend(*prepared, {head->keys, *keys}, {head->values, *values}),
                        ErrorCode::kDimensionMismatch, "19"));
  Rows wrong(2, 48);
  EXPECT_TRUE(FailsWith(
      AttendOnDevice(*prepared, {head->keys, *keys}, {head->values, *values}, wrong.view()),
      ErrorCode::kDimensionMismatch, "19"));
  std::ranges::fill(out.values, 1.0f);
  ASSERT_TRUE(attend(*prepared, {head->keys, head->keys.MakeRows()},
                     {head->values, head->values.MakeRows()}));
  EXPECT_EQ(std::ranges::count(out.values, 0.0f), 160);
}

}  // namespace
}  // namespace turboquant
