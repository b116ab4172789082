#include "src/eval/cache_spec.h"

#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/expect_error.h"

namespace turboquant::eval {
namespace {

using test::FailsWith;
using ::testing::ElementsAre;

std::vector<CacheSpec> Expand(const CacheChoices& choices) {
  auto specs = ExpandCaches(choices);
  EXPECT_TRUE(specs.has_value()) << specs.error().message;
  return *specs;
}

CacheChoices Of(std::vector<std::string> policies) {
  CacheChoices choices;
  choices.policies = std::move(policies);
  return choices;
}

TEST(CacheSpecTest, PoliciesAreThoseOfTheLibrary) {
  const std::vector<CacheSpec> specs = Expand(Of(CachePolicyNames()));
  ASSERT_EQ(specs.size(), 5u);
  for (const CacheSpec& spec : specs) {
    EXPECT_EQ(Describe(spec.options), Describe(*PolicyOptions(spec.policy, 0, 1)));
    EXPECT_FALSE(spec.baseline.has_value());
  }
  EXPECT_EQ(specs[0].options.format.keys.bits, 8);
  EXPECT_EQ(specs[1].key_map_tokens, 256u);
  EXPECT_EQ(specs[3].policy, "paper");
  EXPECT_EQ(specs[3].key_map_tokens, 0u);  // it has no map
  EXPECT_TRUE(FailsWith(ExpandCaches(Of({"bold"})), ErrorCode::kInvalidArgument, "'bold'"));
}

TEST(CacheSpecTest, ExplicitChoicesMultiplyAndNothingIsThereTwice) {
  CacheChoices choices = Of({"safe", "balanced", "paper"});
  choices.key_bits = {2, 4};
  choices.value_bits = {3};
  choices.windows = {0, 64, 128};
  choices.sinks = {1};
  // safe and balanced differ in nothing but widths.
  EXPECT_EQ(Expand(choices).size(), 2u * 3u * 2u);
  choices.key_maps = {KeyMapKind::kNone, KeyMapKind::kFull};
  choices.key_map_tokens = {0, 256};  // of no effect without a map
  const std::vector<CacheSpec> specs = Expand(choices);
  EXPECT_EQ(specs.size(), 2u * 3u * 2u * 3u);
  std::set<std::string> policies;
  for (const CacheSpec& spec : specs) {
    policies.insert(spec.policy);
    EXPECT_EQ(spec.options.sinks, 1u);
    EXPECT_EQ(spec.options.format.values.bits, 3);
  }
  EXPECT_EQ(policies, (std::set<std::string>{"safe", "paper"}));
}

TEST(CacheSpecTest, WidthsOfUnquantizedSidesDoNotMatter) {
  CacheChoices choices = Of({"balanced"});
  choices.key_methods = {KvMethod::kF16, KvMethod::kProd};
  choices.key_bits = {3, 4};
  const std::vector<CacheSpec> specs = Expand(choices);
  ASSERT_EQ(specs.size(), 3u);
  EXPECT_EQ(NominalBits(specs[0].options.format.keys), 16);
  EXPECT_EQ(NominalBits(specs[1].options.format.keys), 3);
  choices.value_methods = {KvMethod::kProd};
  EXPECT_TRUE(FailsWith(ExpandCaches(choices), ErrorCode::kInvalidArgument, "too noisy"));
}

TEST(CacheSpecTest, KeyCodesAreOfTheKeysThatHaveThem) {
  CacheChoices choices;
  choices.policies = {"small", "paper"};
  EXPECT_EQ(KeyCodesName(Expand(choices)[0].options), "auto");
  choices.key_codes = {KeyCodes::kNearest, KeyCodes::kWeighted};
  const std::vector<CacheSpec> specs = Expand(choices);
  ASSERT_EQ(specs.size(), 3u);  // paper has no map, so it is one cache either way
  EXPECT_EQ(KeyCodesName(specs[0].options), "nearest");
  EXPECT_EQ(KeyCodesName(specs[1].options), "weighted");
  EXPECT_EQ(KeyCodesName(specs[2].options), "auto");
  EXPECT_EQ(ChoicesInName("small", "auto", "nearest"), ", nearest codes");
  EXPECT_EQ(ChoicesInName("small", "on", "weighted"), ", search on, weighted codes");
  EXPECT_TRUE(FailsWith(ParseKeyCodes("best"), ErrorCode::kInvalidArgument, "nearest, weighted"));
}

TEST(CacheSpecTest, ScaleSearchIsOfTheSidesThatHaveIt) {
  CacheChoices choices = Of({"safe", "paper"});
  choices.key_bits = {2, 8};
  choices.value_bits = {2};
  EXPECT_EQ(ScaleSearchName(Expand(choices)[0].options.format), "auto");
  EXPECT_EQ(ScaleSearchName(Expand(choices)[2].options.format), "off");
  choices.scale_searches = {ScaleSearch::kOff, ScaleSearch::kOn};
  const std::vector<CacheSpec> specs = Expand(choices);
  ASSERT_EQ(specs.size(), 8u);
  for (size_t s = 0; s < specs.size(); ++s) {
    const KvFormatOptions& format = specs[s].options.format;
    const bool on = s % 2 == 1;
    EXPECT_EQ(format.values.scale_search, on) << s;
    EXPECT_EQ(format.keys.scale_search.value_or(false), on && format.keys.bits == 2) << s;
    EXPECT_EQ(ScaleSearchName(format), on ? "on" : "off");
  }
  EXPECT_EQ(ChoicesInName("safe", "off", "auto"), ", search off");
  EXPECT_EQ(ChoicesInName("paper", "off", "auto"), "");
  EXPECT_EQ(ChoicesInName("paper", "on", "auto"), ", search on");
  EXPECT_TRUE(FailsWith(ParseScaleSearch("yes"), ErrorCode::kInvalidArgument, "off, on"));
}

TEST(CacheSpecTest, BaselinesStandBesideEachSetOfExactTokens) {
  CacheChoices choices = Of({"balanced", "small"});
  choices.windows = {0, 64};
  EXPECT_EQ(BaselinesBeside(Expand(choices)).size(), 2u * 7u);
  choices.key_map_tokens = {256, 0};  // a cache that waits for its map keeps more tokens exact
  const std::vector<CacheSpec> baselines = BaselinesBeside(Expand(choices));
  EXPECT_EQ(baselines.size(), 4u * 7u);
  size_t waiting = 0;
  for (const CacheSpec& spec : baselines) {
    ASSERT_TRUE(spec.baseline.has_value());
    EXPECT_TRUE(IsBaseline(*spec.baseline));
    waiting += spec.WaitsForMap() ? 1 : 0;
  }
  EXPECT_EQ(waiting, 2u * 7u);
}

TEST(CacheSpecTest, Names) {
  EXPECT_EQ(WidthsName("mse", 8, "mse", 4), "K8V4");
  EXPECT_EQ(WidthsName("prod", 4, "mse", 3), "Kprod4V3");
  EXPECT_EQ(WidthsName("f16", 16, "f32", 32), "Kf16Vf32");
  for (const auto method : {KvMethod::kMse, KvMethod::kProd, KvMethod::kF16, KvMethod::kF32}) {
    EXPECT_EQ(*ParseKvMethod(KvMethodName(method)), method);
  }
  for (const auto kind :
       {KeyMapKind::kNone, KeyMapKind::kCenter, KeyMapKind::kDiagonal, KeyMapKind::kFull}) {
    EXPECT_EQ(*ParseKeyMapKind(KeyMapKindName(kind)), kind);
  }
  EXPECT_TRUE(FailsWith(ParseKvMethod("q4"), ErrorCode::kInvalidArgument, "mse, prod, f16, f32"));
  EXPECT_TRUE(FailsWith(ParseKeyMapKind("pair"), ErrorCode::kInvalidArgument,
                        "none, center, diagonal, full"));
  EXPECT_TRUE(IsCachePolicy("peer"));
  EXPECT_FALSE(IsCachePolicy("no-search"));
  EXPECT_THAT(CachePolicyNames(), ElementsAre("safe", "balanced", "small", "paper", "peer"));
}

}  // namespace
}  // namespace turboquant::eval
