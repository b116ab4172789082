// What mathematics says of caches: the distortion of outlier splits, and that the softmax takes no
// notice of centres and maps.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "tests/cache/attend_cases.h"
#include "tests/cache/attend_reference.h"
#include "turboquant/kv_cache.h"

namespace turboquant {
namespace {

using test::Attended;
using test::MakeCache;
using test::Queries;
using test::Tokens;

// The paper's 2.5-bit mode: 32 of 128 channels have 3 bits, the others 2; each part is a unit of
// its own, with the distortion of its dim: D_32(3) = .0323, D_96(2) = .1155.
TEST(KvTheoryTest, PartsOfAnOutlierSplitHaveTheirOwnDistortion) {
  constexpr size_t kDim = 128;
  constexpr size_t kTokens = 3000;
  KvCacheOptions options;
  options.format = {.head_dim = kDim, .kv_heads = 1};
  const KvSideOptions side = {
      .bits = 2, .scale = Scale::kNorm, .scale_search = false, .outlier_channels = 32};
  options.format.keys = side;
  options.format.values = side;
  options.sinks = 0;
  options.window = 0;
  options.key_map = KeyMapKind::kNone;
  Tokens tokens(kTokens, 1, kDim);
  const auto loud = [](size_t channel) { return channel % 4 == 1; };
  for (test::Rows* rows : {&tokens.keys, &tokens.values}) {
    for (size_t i = 0; i < rows->values.size(); ++i)
      if (loud(i % kDim)) rows->values[i] *= 6.0f;
  }
  KvCache cache = MakeCache(options);
  test::Append(cache, tokens, 0, kTokens);
  const test::Decoded decoded(cache);
  for (const bool values : {false, true}) {
    double errors[2] = {};
    double squares[2] = {};
    for (size_t t = 0; t < kTokens; ++t) {
      for (size_t j = 0; j < kDim; ++j) {
        const double came = static_cast<double>(tokens.Row(values, t, 0)[j]);
        const double error = static_cast<double>(decoded.Row(values, t, 0)[j]) - came;
        errors[loud(j)] += error * error;
        squares[loud(j)] += came * came;
      }
    }
    EXPECT_NEAR(errors[1] / squares[1], 0.0323, 0.02 * 0.0323);
    EXPECT_NEAR(errors[0] / squares[0], 0.1155, 0.02 * 0.1155);
  }
}

// softmax(q · (k - c)) = softmax(q · k): a float window of keys as they are, pages of keys less a
// centre, no quantization in between. Frames and maps are exact algebra as well.
TEST(KvTheoryTest, CentresAndMapsDoNotChangeTheSoftmax) {
  constexpr size_t kHeads = 2;
  constexpr size_t kDim = 64;
  KvCacheOptions options;
  options.format = {.head_dim = kDim, .kv_heads = kHeads};
  options.format.keys.method = KvMethod::kF32;
  options.format.values.method = KvMethod::kF32;
  options.key_map = KeyMapKind::kNone;
  const Tokens tokens = test::AttendTokens(900, options.format);
  const Queries queries(3, 3 * kHeads, kDim, 2.0);
  KvCache plain = MakeCache(options);
  test::Append(plain, tokens, 0, 900);
  const Attended expected(plain, queries);
  ASSERT_GT(plain.view().window.count, 63u);
  for (const KeyMapKind kind : {KeyMapKind::kCenter, KeyMapKind::kDiagonal, KeyMapKind::kFull}) {
    for (const bool turned : {false, true}) {
      if (!turned && kind != KeyMapKind::kCenter) continue;
      KvCacheOptions mapped = options;
      mapped.key_map = kind;
      mapped.known_key_map = test::RandomKeyMap(kind, kHeads, kDim);
      if (turned) mapped.rope = RopeParameters::FromTheta(1e4, kDim);
      KvCache cache = MakeCache(mapped);
      test::Append(cache, tokens, 0, 900);
      EXPECT_NE(test::PagesOf(cache), test::PagesOf(plain));
      const Attended attended(cache, queries);
      EXPECT_NE(attended.outputs, expected.outputs);  // not the same arithmetic
      for (size_t i = 0; i < expected.outputs.size(); ++i)
        ASSERT_NEAR(attended.outputs[i], expected.outputs[i], 1e-5) << i;
      for (size_t i = 0; i < expected.log_sum_exp.size(); ++i)
        ASSERT_NEAR(attended.log_sum_exp[i], expected.log_sum_exp[i], 1e-5) << i;
    }
  }
}

}  // namespace
}  // namespace turboquant
