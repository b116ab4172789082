#include "turboquant/onnx/generation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "src/onnx/sampler.h"
#include "tests/onnx/tiny_bundle.h"
#include "tests/support/expect_error.h"

namespace turboquant {
namespace {

using test::FailsWith;
using test::TinyBundle;

Sampler MakeSampler(const SamplingOptions& options) {
  Result<Sampler> sampler = Sampler::Create(options);
  EXPECT_TRUE(sampler) << sampler.error().message;
  return *std::move(sampler);
}

TEST(SamplerTest, GreedyTakesTheFirstOfTheLargest) {
  const std::vector<float> logits = {1.0f, 3.0f, -INFINITY, 3.0f};
  EXPECT_EQ(*MakeSampler({}).Choose(logits), 1);
}

// Shares of many draws against the softmax; 5 standard deviations.
TEST(SamplerTest, DrawsFollowTheSoftmax) {
  const std::vector<float> logits = {0.0f, 1.0f, 2.0f, -INFINITY};
  for (const double temperature : {0.5, 1.0, 2.0}) {
    Sampler sampler = MakeSampler({.temperature = temperature});
    std::vector<int> counts(4);
    constexpr int kDraws = 20000;
    for (int i = 0; i < kDraws; ++i) ++counts[*sampler.Choose(logits)];
    double total = 0.0;
    for (const float logit : logits) total += std::exp(logit / temperature);
    for (size_t id = 0; id < 4; ++id) {
      const double share = std::exp(logits[id] / temperature) / total;
      const double deviation = std::sqrt(kDraws * share * (1.0 - share));
      EXPECT_NEAR(counts[id], kDraws * share, 5.0 * deviation) << id << " at " << temperature;
    }
  }
}

TEST(SamplerTest, TopKAndTopPLeaveOutTheRest) {
  const std::vector<float> logits = {0.0f, 1.0f, 2.0f, 1.9f};  // shares .06, .16, .41, .37
  const auto drawn = [&](const SamplingOptions& options) {
    Sampler sampler = MakeSampler(options);
    std::vector<bool> seen(4);
    for (int i = 0; i < 2000; ++i) seen[*sampler.Choose(logits)] = true;
    return seen;
  };
  using Seen = std::vector<bool>;
  EXPECT_EQ(drawn({.temperature = 1.0}), (Seen{true, true, true, true}));
  EXPECT_EQ(drawn({.temperature = 1.0, .top_k = 1}), (Seen{false, false, true, false}));
  EXPECT_EQ(drawn({.temperature = 1.0, .top_k = 3}), (Seen{false, true, true, true}));
  EXPECT_EQ(drawn({.temperature = 1.0, .top_p = 0.3}), (Seen{false, false, true, false}));
  EXPECT_EQ(drawn({.temperature = 1.0, .top_p = 0.5}), (Seen{false, false, true, true}));
  EXPECT_EQ(drawn({.temperature = 1.0, .top_p = 0.9}), (Seen{false, true, true, true}));
}

// Of .52 and .48 in a nucleus, neither gets what was left out; 5 standard deviations.
TEST(SamplerTest, TheNucleusKeepsItsShares) {
  const std::vector<float> logits = {0.0f, 1.0f, 2.0f, 1.9f};
  Sampler sampler = MakeSampler({.temperature = 1.0, .top_p = 0.5});
  constexpr int kDraws = 20000;
  int first = 0;
  for (int i = 0; i < kDraws; ++i) first += *sampler.Choose(logits) == 2;
  const double share = 1.0 / (1.0 + std::exp(-0.1));
  EXPECT_NEAR(first, kDraws * share, 5.0 * std::sqrt(kDraws * share * (1.0 - share)));
}

TEST(SamplerTest, EqualLogitsAreCutByTheirIds) {
  const std::vector<float> logits(9, 1.0f);
  Sampler sampler = MakeSampler({.temperature = 1.0, .top_k = 1});
  for (int i = 0; i < 20; ++i) EXPECT_EQ(*sampler.Choose(logits), 0);
}

TEST(SamplerTest, TheSeedDecides) {
  const std::vector<float> logits(50, 0.0f);
  const auto draws = [&](uint64_t seed) {
    Sampler sampler = MakeSampler({.temperature = 1.0, .seed = seed});
    std::vector<int64_t> ids;
    for (int i = 0; i < 20; ++i) ids.push_back(*sampler.Choose(logits));
    return ids;
  };
  EXPECT_EQ(draws(1), draws(1));
  EXPECT_NE(draws(1), draws(2));
}

TEST(SamplerTest, Refusals) {
  EXPECT_TRUE(FailsWith(Sampler::Create({.temperature = -1.0}), ErrorCode::kInvalidArgument,
                        "temperature must be 0 or more, got -1"));
  EXPECT_TRUE(FailsWith(Sampler::Create({.top_p = 0.0}), ErrorCode::kInvalidArgument, "top_p"));
  EXPECT_TRUE(FailsWith(Sampler::Create({.top_p = 1.5}), ErrorCode::kInvalidArgument, "got 1.5"));
  EXPECT_TRUE(FailsWith(MakeSampler({}).Choose(std::vector<float>{0.0f, NAN}), ErrorCode::kModel,
                        "token 1"));
  EXPECT_TRUE(FailsWith(MakeSampler({}).Choose(std::vector<float>{INFINITY}), ErrorCode::kModel,
                        "token 0"));
}

class GenerationTest : public test::OnnxTest {
 protected:
  OnnxDecoder Load(const TinyBundle& bundle) {
    Result<OnnxDecoder> decoder = bundle.Load(runtime());
    EXPECT_TRUE(decoder) << decoder.error().message;
    return *std::move(decoder);
  }
  static std::vector<int64_t> Prompt() { return test::TinyGolden()["ids"]; }
  static std::vector<int64_t> Greedy() { return test::TinyGolden()["greedy"]; }
};

TEST_F(GenerationTest, GreedyTokensAreNumPys) {
  const TinyBundle bundle;
  const OnnxDecoder decoder = Load(bundle);
  for (const size_t prefill : {512, 5}) {
    DecoderSequence sequence = DecoderSequence::Exact(decoder);
    std::vector<int64_t> told;
    GenerationOptions options;
    options.max_new_tokens = 12;
    options.prefill_tokens = prefill;
    options.keep_logits = true;
    options.on_token = [&](int64_t token) { told.push_back(token); };
    const auto generation = Generate(sequence, Prompt(), options);
    ASSERT_TRUE(generation) << generation.error().message;
    EXPECT_EQ(generation->tokens, Greedy());
    EXPECT_EQ(told, generation->tokens);
    EXPECT_FALSE(generation->ended);
    EXPECT_EQ(sequence.tokens(), 16u + 11);
    EXPECT_EQ(generation->step_seconds.size(), 11u);
    EXPECT_EQ(generation->logits.size(), 12u * 300);
    const auto last = std::span(generation->logits).last(300);
    EXPECT_EQ(std::ranges::max_element(last) - last.begin(), Greedy().back());
  }
}

TEST_F(GenerationTest, AnyEndOfTextTokenStops) {
  const TinyBundle bundle;
  bundle.SetConfig("eos_token_id", {299, Greedy()[3]});
  const OnnxDecoder decoder = Load(bundle);
  DecoderSequence sequence = DecoderSequence::Exact(decoder);
  GenerationOptions options;
  options.max_new_tokens = 12;
  auto generation = Generate(sequence, Prompt(), options);
  ASSERT_TRUE(generation) << generation.error().message;
  EXPECT_TRUE(generation->ended);
  std::vector<int64_t> expected = Greedy();
  expected.resize(4);
  EXPECT_EQ(generation->tokens, expected);
  DecoderSequence on = DecoderSequence::Exact(decoder);
  options.stop_on_eos = false;
  generation = Generate(on, Prompt(), options);
  ASSERT_TRUE(generation) << generation.error().message;
  EXPECT_EQ(generation->tokens, Greedy());
}

TEST_F(GenerationTest, EightBitsWriteTheSameText) {
  const TinyBundle bundle;
  const OnnxDecoder decoder = Load(bundle);
  QuantizedSequenceOptions quantized;
  quantized.cache.sinks = quantized.cache.window = 0;
  quantized.cache.key_map = KeyMapKind::kNone;
  quantized.cache.format.keys.bits = quantized.cache.format.values.bits = 8;
  auto sequence = DecoderSequence::Quantized(decoder, quantized);
  ASSERT_TRUE(sequence) << sequence.error().message;
  GenerationOptions options;
  options.max_new_tokens = 12;
  const auto generation = Generate(*sequence, Prompt(), options);
  ASSERT_TRUE(generation) << generation.error().message;
  EXPECT_EQ(generation->tokens, Greedy());
  EXPECT_EQ(sequence->cache()->layer(0).view().packed_tokens, 16u + 11);
}

TEST_F(GenerationTest, Refusals) {
  const TinyBundle bundle;
  const OnnxDecoder decoder = Load(bundle);
  DecoderSequence sequence = DecoderSequence::Exact(decoder);
  EXPECT_TRUE(FailsWith(Generate(sequence, {}, {}), ErrorCode::kInvalidArgument, "prompt"));
  EXPECT_TRUE(FailsWith(Generate(sequence, Prompt(), {.max_new_tokens = 0}),
                        ErrorCode::kInvalidArgument, "max_new_tokens"));
  EXPECT_TRUE(FailsWith(Generate(sequence, Prompt(), {.sampling = {.top_p = 2.0}}),
                        ErrorCode::kInvalidArgument, "top_p"));
}

}  // namespace
}  // namespace turboquant
