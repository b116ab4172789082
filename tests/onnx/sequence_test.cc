#include "turboquant/onnx/sequence.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "src/base/failure.h"
#include "src/base/random.h"
#include "tests/onnx/tiny_bundle.h"
#include "tests/support/expect_error.h"

namespace turboquant {
namespace {

using test::FailsWith;
using test::TinyBundle;

constexpr size_t kLayers = 2;
constexpr size_t kHeads = 2;
constexpr size_t kDim = 16;

class DecoderSequenceTest : public test::OnnxTest {
 protected:
  void SetUp() override {
    OnnxTest::SetUp();
    if (IsSkipped()) return;
    Load("plain");
  }

  void Load(const char* graph) {
    bundle_.emplace(graph);
    Result<OnnxDecoder> decoder = bundle_->Load(runtime());
    ASSERT_TRUE(decoder) << decoder.error().message;
    decoder_.emplace(*std::move(decoder));
  }

  DecoderSequence Quantized(const KvCacheOptions& cache) {
    QuantizedSequenceOptions options;
    options.cache = cache;
    Result<DecoderSequence> sequence = DecoderSequence::Quantized(*decoder_, options);
    EXPECT_TRUE(sequence) << sequence.error().message;
    return *std::move(sequence);
  }

  static KvCacheOptions Policy(size_t sinks, size_t window, KeyMapKind map) {
    KvCacheOptions options;
    options.sinks = sinks;
    options.window = window;
    options.key_map = map;
    return options;
  }

  static std::vector<int64_t> Tokens(size_t count) {
    RandomBits random(5, {});
    std::vector<int64_t> tokens(count);
    for (int64_t& token : tokens) token = static_cast<int64_t>(random.NextUniform() * 300);
    return tokens;
  }

  // Runs all tokens in steps of what `count` says, and returns all logits.
  template <class Count>
  static std::vector<float> Run(DecoderSequence& sequence, std::span<const int64_t> tokens,
                                Count count) {
    std::vector<float> logits;
    DecoderStep step;
    while (!tokens.empty()) {
      const size_t now = std::min(tokens.size(), count());
      const auto ran = sequence.Step(tokens.first(now), step);
      EXPECT_TRUE(ran) << ran.error().message;
      if (!ran) break;
      logits.insert(logits.end(), step.logits.begin(), step.logits.end());
      tokens = tokens.subspan(now);
    }
    return logits;
  }

  static double WorstDifference(const std::vector<float>& a, const std::vector<float>& b) {
    EXPECT_EQ(a.size(), b.size());
    double worst = 0.0;
    for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
      worst = std::max(worst, std::abs(static_cast<double>(a[i]) - b[i]));
    }
    return worst;
  }

  const OnnxDecoder& decoder() const { return *decoder_; }

 private:
  std::optional<TinyBundle> bundle_;
  std::optional<OnnxDecoder> decoder_;
};

const auto kOne = [] { return size_t{1}; };

TEST_F(DecoderSequenceTest, AnUnquantizedCacheChangesNothing) {
  const std::vector<int64_t> tokens = Tokens(40);
  DecoderSequence exact = DecoderSequence::Exact(decoder());
  const std::vector<float> expected = Run(exact, tokens, kOne);
  KvCacheOptions unquantized = Policy(0, 0, KeyMapKind::kNone);
  unquantized.format.keys.method = unquantized.format.values.method = KvMethod::kF32;
  DecoderSequence sequence = Quantized(unquantized);
  EXPECT_EQ(Run(sequence, tokens, kOne), expected);
  KvCacheOptions coarse = Policy(0, 0, KeyMapKind::kNone);
  DecoderSequence quantized = Quantized(coarse);
  EXPECT_GT(WorstDifference(Run(quantized, tokens, kOne), expected), 0.01);
}

TEST_F(DecoderSequenceTest, PositionsBeginWhereTold) {
  const std::vector<int64_t> tokens = Tokens(8);
  DecoderSequence here = DecoderSequence::Exact(decoder());
  DecoderSequence there = DecoderSequence::Exact(decoder(), 170);
  KvCacheOptions unquantized = Policy(0, 0, KeyMapKind::kNone);
  unquantized.format.keys.method = unquantized.format.values.method = KvMethod::kF32;
  unquantized.first_position = 170;
  DecoderSequence cached = Quantized(unquantized);
  EXPECT_LT(WorstDifference(Run(here, tokens, kOne), Run(there, tokens, kOne)), 1e-3);
  Run(cached, tokens, kOne);
  const auto key = [](const DecoderSequence& sequence) {
    return static_cast<const float*>(sequence.past().keys(0).data)[0];
  };
  EXPECT_GT(std::abs(key(here) - key(there)), 1e-2);
  EXPECT_EQ(key(cached), key(there));
  EXPECT_EQ(cached.cache()->layer(0).next_position(), 178u);
}

// What the graph sees is what the cache holds, though only what was packed is rebuilt.
TEST_F(DecoderSequenceTest, EveryStepShowsTheWholeCache) {
  const std::vector<int64_t> tokens = Tokens(230);
  const KvCacheOptions policies[] = {Policy(4, 64, KeyMapKind::kDiagonal),
                                     Policy(0, 0, KeyMapKind::kNone),
                                     Policy(2, 0, KeyMapKind::kDiagonal)};
  for (const KvCacheOptions& policy : policies) {
    DecoderSequence sequence = Quantized(policy);
    DecoderStep step;
    for (size_t t = 0; t < tokens.size(); ++t) {
      ASSERT_TRUE(sequence.Step(std::span(tokens).subspan(t, 1), step));
      if (t % 7 != 0 && t + 1 < tokens.size()) continue;
      for (size_t l = 0; l < kLayers; ++l) {
        const size_t count = t + 1;
        std::vector<float> keys(count * kHeads * kDim);
        std::vector<float> values(keys.size());
        ASSERT_TRUE(sequence.cache()->layer(l).Reconstruct(
            0, count, HeadsOutput::HeadMajor(keys.data(), count, kHeads, kDim),
            HeadsOutput::HeadMajor(values.data(), count, kHeads, kDim)));
        const auto* shown = static_cast<const float*>(sequence.past().keys(l).data);
        EXPECT_TRUE(std::equal(keys.begin(), keys.end(), shown)) << t << " layer " << l;
        shown = static_cast<const float*>(sequence.past().values(l).data);
        EXPECT_TRUE(std::equal(values.begin(), values.end(), shown)) << t << " layer " << l;
      }
    }
    EXPECT_GT(sequence.cache()->layer(1).view().packed_tokens, 0u);
    EXPECT_EQ(sequence.cache()->layer(1).key_map() != nullptr, policy.key_map != KeyMapKind::kNone);
  }
}

TEST_F(DecoderSequenceTest, LongStepsGiveWhatSingleOnesDo) {
  const std::vector<int64_t> tokens = Tokens(350);
  for (const KeyMapKind map : {KeyMapKind::kNone, KeyMapKind::kDiagonal}) {
    for (const size_t window : {64, 100}) {
      DecoderSequence single = Quantized(Policy(4, window, map));
      DecoderSequence chunked = Quantized(Policy(4, window, map));
      const std::vector<float> expected = Run(single, tokens, kOne);
      size_t steps = 0;
      const std::vector<float> logits = Run(chunked, tokens, [&] {
        ++steps;
        return chunked.StepTokens();
      });
      EXPECT_LT(WorstDifference(logits, expected), 2e-3);
      EXPECT_LE(steps, 6u);
      const KvView a = single.cache()->layer(1).view();
      const KvView b = chunked.cache()->layer(1).view();
      EXPECT_EQ(a.packed_tokens, b.packed_tokens);
    }
  }
  EXPECT_EQ(Quantized(Policy(4, 64, KeyMapKind::kNone)).StepTokens(), 4u + 64 + 64);
  EXPECT_EQ(Quantized(Policy(0, 0, KeyMapKind::kNone)).StepTokens(), 1u);
  EXPECT_EQ(Quantized(Policy(3, 0, KeyMapKind::kNone)).StepTokens(), 4u);
  EXPECT_EQ(Quantized(Policy(4, 0, KeyMapKind::kCenter)).StepTokens(), 4u + 128);
}

TEST_F(DecoderSequenceTest, QueriesReachTheCachesUntilTheyHaveTheirMap) {
  DecoderSequence sequence = Quantized(Policy(4, 64, KeyMapKind::kDiagonal));
  const std::vector<int64_t> tokens = Tokens(140);
  DecoderStep step;
  ASSERT_TRUE(sequence.Step(std::span(tokens).first(131), step));
  EXPECT_EQ(step.queries.size(), kLayers);
  EXPECT_EQ(sequence.cache()->layer(0).key_map(), nullptr);
  ASSERT_TRUE(sequence.Step(std::span(tokens).subspan(131, 1), step));
  ASSERT_NE(sequence.cache()->layer(0).key_map(), nullptr);
  EXPECT_EQ(sequence.cache()->layer(0).key_map()->kind(), KeyMapKind::kDiagonal);
  ASSERT_TRUE(sequence.Step(std::span(tokens).subspan(132, 1), step));
  EXPECT_TRUE(step.queries.empty());
}

TEST_F(DecoderSequenceTest, HalfPastsAreQuantizedToo) {
  Load("optional");
  DecoderSequence sequence = Quantized(Policy(0, 0, KeyMapKind::kNone));
  const std::vector<int64_t> tokens = Tokens(30);
  const std::vector<float> logits = Run(sequence, tokens, kOne);
  EXPECT_TRUE(std::ranges::all_of(logits, [](float x) { return std::isfinite(x); }));
  EXPECT_EQ(sequence.cache()->layer(0).view().packed_tokens, 30u);
  EXPECT_EQ(sequence.past().keys(0).type, RowType::kF16);
  EXPECT_EQ(sequence.Usage().f16_bytes, 2u * 2 * kLayers * kHeads * kDim * 30);
}

TEST_F(DecoderSequenceTest, ACodecStandsInForPacking) {
  QuantizedSequenceOptions options;
  options.cache = Policy(2, 0, KeyMapKind::kNone);
  size_t rows = 0;
  options.codec = [&](size_t, const HeadsOutput& keys, const HeadsOutput& values) {
    rows += keys.tokens;
    for (size_t t = 0; t < keys.tokens; ++t) {
      std::fill_n(keys.Row(t, 0), kDim, 1.0f);
      std::fill_n(values.Row(t, 1), kDim, 2.0f);
    }
    return Result<void>();
  };
  size_t told = 0;
  options.on_packed = [&](size_t, const HeadsView& exact_keys, const HeadsView&,
                          const HeadsOutput& keys, const HeadsOutput&) {
    told += exact_keys.tokens;
    EXPECT_NE(static_cast<const float*>(exact_keys.data)[0], 1.0f);
    EXPECT_EQ(*keys.Row(0, 0), 1.0f);
    EXPECT_EQ(*keys.Row(0, 1), static_cast<const float*>(exact_keys.data)[kDim]);
  };
  auto sequence = DecoderSequence::Quantized(decoder(), options);
  ASSERT_TRUE(sequence) << sequence.error().message;
  const std::vector<int64_t> tokens = Tokens(10);
  Run(*sequence, tokens, kOne);
  EXPECT_EQ(rows, kLayers * 8);
  EXPECT_EQ(told, kLayers * 8);
  const auto* keys = static_cast<const float*>(sequence->past().keys(1).data);
  EXPECT_NE(keys[1 * kDim], 1.0f);  // a sink
  EXPECT_EQ(keys[2 * kDim], 1.0f);
}

TEST_F(DecoderSequenceTest, OneLayerAloneIsQuantized) {
  const auto values = [](const HeadsView& view) {
    std::vector<float> all;
    for (size_t t = 0; t < view.tokens; ++t) {
      for (size_t head = 0; head < view.heads; ++head) {
        const auto* row =
            static_cast<const float*>(view.data) + t * view.token_stride + head * view.head_stride;
        all.insert(all.end(), row, row + view.dim);
      }
    }
    return all;
  };
  QuantizedSequenceOptions options;
  options.cache = Policy(3, 0, KeyMapKind::kNone);
  options.only_layer = 1;
  Result<DecoderSequence> sequence = DecoderSequence::Quantized(decoder(), options);
  ASSERT_TRUE(sequence) << sequence.error().message;
  DecoderSequence exact = DecoderSequence::Exact(decoder());
  const std::vector<int64_t> tokens = Tokens(40);
  DecoderStep step;
  ASSERT_TRUE(sequence->Step(tokens, step));
  ASSERT_TRUE(exact.Step(tokens, step));
  EXPECT_EQ(values(sequence->past().keys(0)), values(exact.past().keys(0)));
  EXPECT_EQ(values(sequence->past().values(0)), values(exact.past().values(0)));
  EXPECT_NE(values(sequence->past().keys(1)), values(exact.past().keys(1)));
  EXPECT_NE(values(sequence->past().values(1)), values(exact.past().values(1)));
  options.only_layer = 2;
  EXPECT_TRUE(FailsWith(DecoderSequence::Quantized(decoder(), options), ErrorCode::kInvalidArgument,
                        "only_layer must be below 2, got 2"));
}

TEST_F(DecoderSequenceTest, AnErrorEndsTheSequence) {
  QuantizedSequenceOptions options;
  options.cache = Policy(0, 0, KeyMapKind::kNone);
  options.codec = [&](size_t layer, const HeadsOutput&, const HeadsOutput&) -> Result<void> {
    if (layer == 1) return Fail(ErrorCode::kNonFinite, "no good");
    return {};
  };
  auto sequence = DecoderSequence::Quantized(decoder(), options);
  ASSERT_TRUE(sequence) << sequence.error().message;
  DecoderStep step;
  const std::vector<int64_t> tokens = {1};
  EXPECT_TRUE(FailsWith(sequence->Step(tokens, step), ErrorCode::kNonFinite, "layer 1: no good"));
  EXPECT_TRUE(FailsWith(sequence->Step(tokens, step), ErrorCode::kInvalidArgument, "ended"));
}

TEST_F(DecoderSequenceTest, OptionsThatDoNotFitAreRefused) {
  QuantizedSequenceOptions options;
  options.cache.max_tokens = 500;
  EXPECT_TRUE(FailsWith(DecoderSequence::Quantized(decoder(), options), ErrorCode::kInvalidArgument,
                        "max_tokens"));
  options.cache.max_tokens = 0;
  options.key_maps.resize(3);
  EXPECT_TRUE(FailsWith(DecoderSequence::Quantized(decoder(), options), ErrorCode::kInvalidArgument,
                        "key maps of 3 layers"));
}

TEST_F(DecoderSequenceTest, UsageCountsCachesAndFloatPasts) {
  const std::vector<int64_t> tokens = Tokens(300);
  DecoderSequence exact = DecoderSequence::Exact(decoder());
  DecoderSequence quantized = Quantized(Policy(4, 64, KeyMapKind::kNone));
  Run(exact, tokens, kOne);
  Run(quantized, tokens, kOne);
  const size_t f32 = 4u * 2 * kLayers * kHeads * kDim * 300;
  EXPECT_EQ(exact.Usage().bytes, f32);
  EXPECT_GE(exact.Usage().held_bytes, 2 * f32 - 4u * 2 * kLayers * kHeads * kDim);
  const KvUsage usage = quantized.Usage();
  EXPECT_EQ(usage.tokens, 300u);
  EXPECT_EQ(usage.f32_bytes, f32);
  EXPECT_EQ(usage.bytes, quantized.cache()->Stats().total_bytes);
  EXPECT_GE(usage.held_bytes, exact.Usage().held_bytes + usage.bytes);
}

}  // namespace
}  // namespace turboquant
