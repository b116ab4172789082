#include "src/eval/decoded_attention.h"

#include <vector>

#include "gtest/gtest.h"
#include "tests/support/random_rows.h"

namespace turboquant::eval {
namespace {

constexpr size_t kDim = 32;
constexpr size_t kKvHeads = 2;
constexpr size_t kQueryHeads = 6;
constexpr size_t kTokens = 600;

struct Attended {
  KvCache cache;
  test::Rows queries;
  std::vector<float> outputs;
};

Attended Attend(std::string_view policy, KvMethod method) {
  KvCacheOptions options = *PolicyOptions(policy, kDim, kKvHeads);
  options.format.keys.method = options.format.values.method = method;
  options.rope = RopeParameters::FromTheta(1e4, kDim);
  Attended attended = {*KvCache::Create(options), test::NormalRows(kQueryHeads, kDim, 3),
                       std::vector<float>(kQueryHeads * kDim)};
  const test::Rows keys = test::NormalRows(kTokens * kKvHeads, kDim, 1);
  const test::Rows values = test::NormalRows(kTokens * kKvHeads, kDim, 2);
  EXPECT_TRUE(
      attended.cache.Append(HeadsView::TokenMajor(keys.values.data(), kTokens, kKvHeads, kDim),
                            HeadsView::TokenMajor(values.values.data(), kTokens, kKvHeads, kDim)));
  EXPECT_TRUE(attended.cache.Attend(
      HeadsView::TokenMajor(attended.queries.values.data(), 1, kQueryHeads, kDim), {},
      HeadsOutput::TokenMajor(attended.outputs.data(), 1, kQueryHeads, kDim)));
  return attended;
}

double Error(const Attended& attended, std::vector<size_t> heads) {
  const auto error = MaxErrorOverDecoded(attended.cache, attended.queries.values, attended.outputs,
                                         kQueryHeads, heads);
  EXPECT_TRUE(error.has_value()) << error.error().message;
  return *error;
}

TEST(DecodedAttentionTest, AttentionOnCodesIsAttentionOverWhatTheyMean) {
  for (const std::string_view policy : {"safe", "balanced", "small", "paper"}) {
    const Attended attended = Attend(policy, KvMethod::kMse);
    EXPECT_LT(Error(attended, {0, 1, 2, 3, 4, 5}), 2e-3) << policy;
    EXPECT_GT(Error(attended, {0, 1, 2, 3, 4, 5}), 1e-6) << policy;  // two digits are not a float
  }
  EXPECT_LT(Error(Attend("paper", KvMethod::kF32), {0, 5}), 1e-6);
}

TEST(DecodedAttentionTest, SeesWhatIsWrongInTheHeadsThatAreChecked) {
  Attended attended = Attend("balanced", KvMethod::kMse);
  const double before = Error(attended, {0, 5});
  attended.outputs[3 * kDim + 4] += 1.0f;  // query head 3
  EXPECT_EQ(Error(attended, {0, 5}), before);
  EXPECT_GT(Error(attended, {3}), 0.5);
  attended.outputs[5 * kDim + 31] *= 1.5f;
  EXPECT_GT(Error(attended, {0, 5}), before);
}

}  // namespace
}  // namespace turboquant::eval
