#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "src/onnx/layer_damage.h"
#include "src/onnx/model_measure.h"
#include "src/onnx/real_model_workload.h"
#include "tests/onnx/tiny_bundle.h"
#include "tests/support/expect_error.h"

namespace turboquant::eval {
namespace {

using test::FailsWith;
using test::TinyBundle;

CacheSpec Spec(int bits, size_t sinks, size_t window, KeyMapKind map = KeyMapKind::kNone) {
  CacheSpec spec;
  spec.policy = "balanced";
  spec.options.format.keys.bits = spec.options.format.values.bits = bits;
  spec.options.sinks = sinks;
  spec.options.window = window;
  spec.options.key_map = map;
  if (map == KeyMapKind::kNone) spec.key_map_tokens = 0;
  return spec;
}

CacheSpec Unquantized() {
  CacheSpec spec = Spec(4, 0, 0);
  spec.options.format.keys = spec.options.format.values = {.method = KvMethod::kF32};
  return spec;
}

class RealModelTest : public test::OnnxTest {
 protected:
  void SetUp() override {
    OnnxTest::SetUp();
    if (IsSkipped()) return;
    Result<Tokenizer> tokenizer = Tokenizer::Load(test::TinyFolder() / "tokenizer.json");
    if (!tokenizer) GTEST_SKIP() << tokenizer.error().message;
    tokenizer_.emplace(*std::move(tokenizer));
    Result<OnnxDecoder> decoder = bundle_.Load(runtime());
    ASSERT_TRUE(decoder) << decoder.error().message;
    decoder_.emplace(*std::move(decoder));
  }

  Result<BenchmarkResult> Run(const RealModelOptions& options) const {
    BenchmarkResult result;
    const Result<void> ran = RunRealModel(options, *decoder_, *tokenizer_, RunContext(), result);
    if (!ran) return std::unexpected(ran.error());
    return result;
  }

  static std::string Text() {
    std::string text;
    for (int i = 0; i < 40; ++i) text += "The cache keeps keys and values of every token; ";
    return text;
  }

  RealModelOptions TextOptions(std::vector<CacheSpec> caches) const {
    RealModelOptions options;
    options.caches = std::move(caches);
    options.texts = {{"text.txt", Text()}};
    options.context = 200;
    options.max_contexts = 2;
    return options;
  }

  // By hand, token by token: what the first 200 tokens cost when one layer's are as the cache has
  // them.
  double KlOfLayer(const CacheSpec& spec, size_t layer, std::span<const int64_t> tokens) const {
    QuantizedSequenceOptions options;
    options.cache = spec.options;
    options.only_layer = layer;
    Result<DecoderSequence> sequence = DecoderSequence::Quantized(*decoder_, options);
    EXPECT_TRUE(sequence) << sequence.error().message;
    DecoderSequence exact = DecoderSequence::Exact(*decoder_);
    LogitErrors errors(1);
    DecoderStep step;
    DecoderStep exact_step;
    for (size_t t = 0; t < 199; ++t) {
      EXPECT_TRUE(sequence->Step(tokens.subspan(t, 1), step));
      EXPECT_TRUE(exact.Step(tokens.subspan(t, 1), exact_step));
      errors.Add(exact_step.logits, step.logits, static_cast<size_t>(tokens[t + 1]));
    }
    return errors.kl_mean();
  }

  // By hand: how attention logits with each layer's packed keys correlate with the exact ones.
  std::vector<LayerErrors> Correlations(const CacheSpec& spec,
                                        std::span<const int64_t> tokens) const {
    LayerDamage damage(decoder_->config());
    QuantizedSequenceOptions options;
    options.cache = spec.options;
    options.on_packed = [&](size_t layer, const HeadsView& exact_keys, const HeadsView&,
                            const HeadsOutput& keys, const HeadsOutput&) {
      std::vector<float> rows;
      for (size_t t = 0; t < keys.tokens; ++t) {
        for (size_t head = 0; head < keys.heads; ++head) {
          rows.insert(rows.end(), keys.Row(t, head), keys.Row(t, head) + keys.dim);
        }
      }
      damage.AddKeys(layer, spec.options.sinks, exact_keys,
                     HeadsView::TokenMajor(rows.data(), keys.tokens, keys.heads, keys.dim));
    };
    Result<DecoderSequence> sequence = DecoderSequence::Quantized(*decoder_, options);
    EXPECT_TRUE(sequence) << sequence.error().message;
    DecoderStep step;
    for (size_t t = 0; t < 199; ++t) {
      EXPECT_TRUE(sequence->Step(tokens.subspan(t, 1), step));
    }
    DecoderSequence exact = DecoderSequence::Exact(*decoder_);
    EXPECT_TRUE(exact.Step(tokens.first(200), step, /*queries=*/true));
    for (size_t l = 0; l < 2; ++l) damage.EndText(l, step.queries[l]);
    RealModelRow row;
    row.layers = {{.layer = 0}, {.layer = 1}};
    damage.Describe(row);
    return row.layers;
  }

  const OnnxDecoder& decoder() const { return *decoder_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }

 private:
  TinyBundle bundle_;
  std::optional<OnnxDecoder> decoder_;
  std::optional<Tokenizer> tokenizer_;
};

TEST_F(RealModelTest, ATextsPerplexityIsThatOfItsLogits) {
  RealModelOptions options = TextOptions({});
  options.mode = RealModelMode::kExact;
  options.context = 60;
  const auto result = Run(options);
  ASSERT_TRUE(result) << result.error().message;
  ASSERT_EQ(result->real_model_rows.size(), 1u);
  const RealModelRow& row = result->real_model_rows[0];
  // By hand, token by token, context by context.
  const std::vector<int64_t> all = *tokenizer().Encode(Text());
  double sum = 0.0;
  for (const size_t first : {0, 60}) {
    const auto tokens = std::span(all).subspan(first, 60);
    DecoderSequence sequence = DecoderSequence::Exact(decoder());
    DecoderStep step;
    for (size_t t = 0; t + 1 < tokens.size(); ++t) {
      ASSERT_TRUE(sequence.Step(tokens.subspan(t, 1), step));
      double total = 0.0;
      for (const float logit : step.logits) total += std::exp(static_cast<double>(logit));
      sum += std::log(total) - step.logits[static_cast<size_t>(tokens[t + 1])];
    }
  }
  EXPECT_EQ(row.method, "exact");
  EXPECT_EQ(row.predictions, 2u * 59);
  EXPECT_NEAR(*row.perplexity, std::exp(sum / 118.0), 1e-3 * *row.perplexity);
  EXPECT_EQ(row.kv_bytes, row.kv_bytes_f32);
  EXPECT_EQ(row.kv_bytes_f32, 4.0 * 2 * 2 * 2 * 16 * 60);
}

TEST_F(RealModelTest, AnUnquantizedCacheCostsNothingAndMoreBitsCostLess) {
  const auto result =
      Run(TextOptions({Unquantized(), Spec(8, 0, 0), Spec(4, 0, 0), Spec(2, 0, 0)}));
  ASSERT_TRUE(result) << result.error().message;
  const auto& rows = result->real_model_rows;
  ASSERT_EQ(rows.size(), 5u);
  EXPECT_EQ(rows[0].method, "exact");
  EXPECT_NEAR(*rows[1].kl_mean, 0.0, 1e-8);
  EXPECT_EQ(*rows[1].top1_agreement, 1.0);
  EXPECT_NEAR(*rows[1].perplexity, *rows[0].perplexity, 1e-4 * *rows[0].perplexity);
  double kl = 1e-7;
  for (size_t r = 2; r < 5; ++r) {
    EXPECT_GT(*rows[r].kl_mean, 3.0 * kl) << r;
    kl = *rows[r].kl_mean;
    EXPECT_EQ(rows[r].predictions, 2u * 199);
    EXPECT_EQ(rows[r].packed_tokens, 199u);
    EXPECT_EQ(rows[r].samples, 2u);
    EXPECT_EQ(rows[r].workload, "real-model");
    EXPECT_EQ(rows[r].protocol, "teacher-forced");
    EXPECT_EQ(rows[r].perplexity_exact, rows[0].perplexity_exact);
    ASSERT_EQ(rows[r].layers.size(), 2u);
  }
  EXPECT_GT(*rows[3].key_nmse, 0.0035);
  EXPECT_LT(*rows[3].key_nmse, 0.006);
  // 4 bits of 16 coordinates and an f16 scale, keys and values, two heads and layers.
  EXPECT_DOUBLE_EQ(rows[3].kv_bytes, 199.0 * 2 * 2 * 2 * 10);
}

TEST_F(RealModelTest, LayersSideBySideGiveTheSame) {
  const RealModelOptions options = TextOptions({Spec(4, 4, 0, KeyMapKind::kDiagonal)});
  const auto expected = Run(options);
  ASSERT_TRUE(expected) << expected.error().message;
  RunContext run;
  run.parallel_for = [](size_t tasks, const std::function<void(size_t)>& body) {
    for (size_t i = tasks; i > 0; --i) body(i - 1);
  };
  BenchmarkResult result;
  ASSERT_TRUE(RunRealModel(options, decoder(), tokenizer(), run, result));
  EXPECT_EQ(result.real_model_rows[1].kl_mean, expected->real_model_rows[1].kl_mean);
}

TEST_F(RealModelTest, MapsKnownBeforehandPackFromTheFirstToken) {
  CacheSpec waits = Spec(4, 4, 0, KeyMapKind::kDiagonal);
  waits.key_map_tokens = 0;
  const auto result =
      Run(TextOptions({Spec(4, 4, 0, KeyMapKind::kDiagonal), waits, Spec(4, 4, 64)}));
  ASSERT_TRUE(result) << result.error().message;
  const auto& rows = result->real_model_rows;
  EXPECT_EQ(rows[1].key_map, "diagonal");
  EXPECT_TRUE(rows[1].page_frames);
  EXPECT_TRUE(rows[1].queries);
  EXPECT_FALSE(rows[1].waits_for_map);
  EXPECT_EQ(rows[1].packed_tokens, 195u);
  EXPECT_TRUE(rows[2].waits_for_map);
  EXPECT_LT(*rows[2].kl_mean, *rows[1].kl_mean);  // its beginning was exact
  EXPECT_EQ(rows[3].packed_tokens, 128u);
  EXPECT_EQ(rows[3].exact_tokens, 71u);
}

// RoPE: the exact run stays as it was, and page frames follow the positions.
TEST_F(RealModelTest, ShiftedPositionsCostTheSame) {
  RealModelOptions options = TextOptions({Spec(4, 4, 0, KeyMapKind::kDiagonal)});
  const auto here = Run(options);
  options.first_position = 170;
  const auto there = Run(options);
  ASSERT_TRUE(here) << here.error().message;
  ASSERT_TRUE(there) << there.error().message;
  EXPECT_EQ(there->real_model_rows[1].first_position, 170u);
  EXPECT_NEAR(*there->real_model_rows[0].perplexity, *here->real_model_rows[0].perplexity,
              1e-3 * *here->real_model_rows[0].perplexity);
  EXPECT_NEAR(*there->real_model_rows[1].kl_mean, *here->real_model_rows[1].kl_mean,
              0.2 * *here->real_model_rows[1].kl_mean);
}

TEST_F(RealModelTest, EachLayersShareOfTheDamage) {
  RealModelOptions options = TextOptions({Spec(8, 4, 0), Spec(2, 4, 0)});
  options.max_contexts = 1;
  const auto plain = Run(options);
  options.layer_damage = true;
  const auto result = Run(options);
  ASSERT_TRUE(plain && result) << result.error().message;
  const std::vector<int64_t> tokens = *tokenizer().Encode(Text());
  for (size_t r = 1; r < 3; ++r) {
    const RealModelRow& row = result->real_model_rows[r];
    EXPECT_EQ(row.kl_mean, plain->real_model_rows[r].kl_mean);
    EXPECT_EQ(row.key_nmse, plain->real_model_rows[r].key_nmse);
    EXPECT_FALSE(plain->real_model_rows[r].layers[0].kl_mean);
    EXPECT_FALSE(plain->real_model_rows[r].worst_layer_logit_correlation);
    ASSERT_EQ(row.layers.size(), 2u);
    EXPECT_NEAR(*row.layers[0].kl_share + *row.layers[1].kl_share, 1.0, 1e-12);
    const std::vector<LayerErrors> by_hand = Correlations(options.caches[r - 1], tokens);
    for (size_t l = 0; l < 2; ++l) {
      EXPECT_NEAR(*row.layers[l].kl_mean, KlOfLayer(options.caches[r - 1], l, tokens),
                  1e-3 * *row.kl_mean);
      EXPECT_LT(*row.layers[l].kl_mean, *row.kl_mean);
      EXPECT_NEAR(*row.layers[l].logit_correlation, *by_hand[l].logit_correlation, 1e-7);
      EXPECT_LT(*row.layers[l].logit_correlation, r == 1 ? 0.99999 : 0.98);
      EXPECT_GT(*row.layers[l].logit_correlation, r == 1 ? 0.9995 : 0.8);
      EXPECT_GE(*row.layers[l].logit_correlation, *row.worst_layer_logit_correlation);
    }
  }
}

TEST_F(RealModelTest, PlainFormatsRunTheSameWay) {
  std::vector<CacheSpec> caches = {Spec(4, 4, 64)};
  for (const CacheSpec& baseline : BaselinesBeside(caches)) caches.push_back(baseline);
  const auto result = Run(TextOptions(caches));
  ASSERT_TRUE(result) << result.error().message;
  const auto find = [&](const std::string& method) {
    return *std::ranges::find(result->real_model_rows, method, &RealModelRow::method);
  };
  EXPECT_EQ(find("int8").packed_tokens, 128u);
  EXPECT_LT(*find("int8").kl_mean, *find("q4_0").kl_mean / 10);
  EXPECT_GT(*find("int8").kl_mean, 0.0);
  EXPECT_EQ(find("q4_0-hadamard").key_bits, 4);
  // 128 tokens of int8 with an f16 scale, 71 of f32.
  EXPECT_DOUBLE_EQ(find("int8").kv_bytes, 2.0 * 2 * 2 * (128 * 18 + 71 * 64));
}

TEST_F(RealModelTest, PromptsAreContinuedAndFollowed) {
  RealModelOptions options;
  options.caches = {Unquantized(), Spec(1, 0, 0)};
  options.prompts = {"The cache keeps", "Tokens, tokens"};
  options.generation.max_new_tokens = 9;
  options.generation.stop_on_eos = false;
  const auto result = Run(options);
  ASSERT_TRUE(result) << result.error().message;
  const auto& rows = result->real_model_rows;
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0].generated_tokens, 18u);
  EXPECT_EQ(*rows[1].token_match_rate, 1.0);
  EXPECT_EQ(*rows[1].diverged_share, 0.0);
  EXPECT_FALSE(rows[1].mean_first_divergence);
  EXPECT_EQ(rows[1].predictions, 2u * 8);  // the first token comes out of the prefill
  EXPECT_NEAR(*rows[1].kl_mean, 0.0, 1e-8);
  EXPECT_LT(*rows[2].token_match_rate, 1.0);
  EXPECT_GT(*rows[2].diverged_share, 0.0);
  EXPECT_GE(*rows[2].mean_first_divergence, 2.0);
  EXPECT_GT(*rows[2].kl_mean, 0.01);
  EXPECT_GT(*rows[2].decode_tokens_per_second, 0.0);
  EXPECT_EQ(rows[2].exact_decode_tokens_per_second, rows[0].decode_tokens_per_second);
  EXPECT_FALSE(rows[0].decode_time_ratio);
  EXPECT_DOUBLE_EQ(*rows[2].decode_time_ratio * *rows[2].decode_tokens_per_second,
                   *rows[0].decode_tokens_per_second);
  EXPECT_EQ(rows[2].protocol, "prompts");
  options.mode = RealModelMode::kQuantized;
  const auto alone = Run(options);
  ASSERT_TRUE(alone) << alone.error().message;
  ASSERT_EQ(alone->real_model_rows.size(), 2u);
  EXPECT_FALSE(alone->real_model_rows[0].kl_mean);
  EXPECT_FALSE(alone->real_model_rows[0].token_match_rate);
}

TEST(GenerationTimesTest, TheShortestOfEachStepIsKept) {
  Generation before;
  before.prefill_seconds = 2.0;
  before.step_seconds = {3.0, 1.0, 5.0};
  Generation now = before;
  now.prefill_seconds = 1.0;
  now.step_seconds = {2.0, 4.0, 5.0};
  KeepShortestTimes(before, now);
  EXPECT_EQ(now.prefill_seconds, 1.0);
  EXPECT_EQ(now.step_seconds, (std::vector<double>{2.0, 1.0, 5.0}));
  KeepShortestTimes(now, before);
  EXPECT_EQ(before.prefill_seconds, 1.0);
}

TEST_F(RealModelTest, RepeatsStartAgain) {
  size_t starts = 0;
  const auto start = [&]() -> Result<DecoderSequence> {
    ++starts;
    return DecoderSequence::Exact(decoder());
  };
  const std::vector<int64_t> prompt = *tokenizer().Encode("The cache keeps");
  GenerationOptions options;
  options.max_new_tokens = 5;
  options.stop_on_eos = false;
  std::optional<DecoderSequence> last;
  const auto once = GenerateRepeatedly(1, start, prompt, options, last);
  ASSERT_TRUE(once) << once.error().message;
  const auto written = GenerateRepeatedly(3, start, prompt, options, last);
  ASSERT_TRUE(written) << written.error().message;
  EXPECT_EQ(starts, 4u);
  EXPECT_EQ(written->tokens, once->tokens);
  EXPECT_EQ(written->step_seconds.size(), 4u);
  EXPECT_EQ(last->tokens(), prompt.size() + 4);
}

TEST_F(RealModelTest, Refusals) {
  RealModelOptions options = TextOptions({});
  EXPECT_TRUE(FailsWith(Run(options), ErrorCode::kInvalidArgument, "no caches"));
  options.caches = {Spec(4, 0, 0)};
  options.repeats = 0;
  EXPECT_TRUE(FailsWith(Run(options), ErrorCode::kInvalidArgument, "repeats must be 1"));
  options.repeats = 1;
  options.context = 1;
  EXPECT_TRUE(FailsWith(Run(options), ErrorCode::kInvalidArgument, "context must be 2"));
  options.context = 5000;
  EXPECT_TRUE(FailsWith(Run(options), ErrorCode::kInvalidArgument, "'text.txt' has"));
  options.context = 385;  // positions
  EXPECT_TRUE(FailsWith(Run(options), ErrorCode::kInvalidArgument, "384"));
  options.texts.clear();
  EXPECT_TRUE(FailsWith(Run(options), ErrorCode::kInvalidArgument, "neither prompts nor texts"));
  options.prompts = {""};
  EXPECT_TRUE(FailsWith(Run(options), ErrorCode::kInvalidArgument, "prompt 1 has no tokens"));
  options.prompts = {"a"};
  options.caches[0].options.format.keys.bits = 9;
  EXPECT_TRUE(FailsWith(Run(options), ErrorCode::kInvalidArgument, "balanced K9V4"));
}

}  // namespace
}  // namespace turboquant::eval
