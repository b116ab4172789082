#include <gtest/gtest.h>

#include <string>

#include "tests/cache/cache_support.h"
#include "tests/support/expect_error.h"
#include "turboquant/kv_cache.h"

namespace turboquant {
namespace {

KvCacheOptions Policy(const std::string& name) {
  auto options = PolicyOptions(name, 128, 8);
  EXPECT_TRUE(options) << options.error().message;
  return *std::move(options);
}

TEST(KvPoliciesTest, AreWhatTheirDescriptionSays) {
  KvCacheOptions balanced = Policy("balanced");
  balanced.rope = RopeParameters::FromTheta(1e4, 128);
  const std::string sides =
      "keys mse 4 bits unbiased scale searched, values mse 4 bits unbiased scale searched, ";
  EXPECT_EQ(Describe(balanced),
            sides +
                "hadamard rotation 1 round, diagonal key map in page frames, 4 sinks, window "
                "64, seed 42");
  balanced.query_heads = 8;
  EXPECT_EQ(Describe(balanced),
            sides +
                "hadamard rotation 1 round, diagonal key map in page frames, query-weighted "
                "codes, 4 sinks, window 64, seed 42");
  EXPECT_EQ(Describe(Policy("safe")),
            "keys mse 8 bits unbiased scale, values mse 4 bits unbiased scale searched, hadamard "
            "rotation 1 round, no key map without rope, 4 sinks, window 64, seed 42");
  EXPECT_EQ(Describe(Policy("small")),
            "keys mse 3 bits unbiased scale searched, values mse 3 bits unbiased scale searched, "
            "hadamard rotation 1 round, no key map without rope, 4 sinks, window 64, seed 42");
  EXPECT_EQ(Describe(Policy("paper")),
            "keys mse 4 bits norm scale, values mse 4 bits norm scale, hadamard rotation 2 rounds, "
            "no key map, 0 sinks, window 0, seed 42");
  EXPECT_EQ(Describe(Policy("peer")),
            "keys prod 4 bits gaussian sketch, values mse 4 bits norm scale, dense rotation, no "
            "key map, 0 sinks, window 0, seed 42");
}

TEST(KvPoliciesTest, DescriptionNamesWhatWasChanged) {
  KvCacheOptions options = Policy("balanced");
  options.format.keys = {.bits = 2, .scale = Scale::kMatched, .outlier_channels = 32};
  options.format.values = {.method = KvMethod::kF16};
  options.key_map = KeyMapKind::kCenter;
  options.max_tokens = 4096;
  options.exact_type = RowType::kF16;
  options.format.seed = 7;
  EXPECT_EQ(Describe(options),
            "keys mse 2 bits matched scale 32 outlier channels, values f16, hadamard rotation 1 "
            "round, centre of the first positions, 4 sinks, window 64, at most 4096 tokens, exact "
            "tokens f16, seed 7");
}

TEST(KvPoliciesTest, TakeTheShapeAndWork) {
  const test::Tokens tokens(200, 2, 64);
  for (const char* name : {"safe", "balanced", "small", "paper", "peer"}) {
    const auto options = PolicyOptions(name, 64, 2);
    ASSERT_TRUE(options);
    KvCache cache = test::MakeCache(*options);
    test::Append(cache, tokens, 0, 200);
    EXPECT_EQ(cache.size(), 200u);
    EXPECT_EQ(Describe(cache.options()), Describe(*options)) << "defaults filled in say the same";
  }
}

TEST(KvPoliciesTest, UnknownNamesListTheKnown) {
  EXPECT_TRUE(test::FailsWith(PolicyOptions("fast", 128, 8), ErrorCode::kInvalidArgument,
                              "policy 'fast' is none of safe, balanced, small, paper, peer"));
}

}  // namespace
}  // namespace turboquant
