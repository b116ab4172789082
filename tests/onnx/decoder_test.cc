#include "turboquant/onnx/decoder.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "src/base/half.h"
#include "tests/onnx/tiny_bundle.h"
#include "tests/support/expect_error.h"

namespace turboquant {
namespace {

using test::FailsWith;
using test::TinyBundle;

class OnnxDecoderTest : public test::OnnxTest {
 protected:
  static std::vector<int64_t> GoldenIds() { return test::TinyGolden()["ids"]; }

  // Largest error of the logits of tokens [first, ...), of which the golden file has every tenth.
  static double WorstError(const std::vector<float>& logits, size_t first, const char* golden) {
    const auto expected = test::TinyGolden()[golden].get<std::vector<std::vector<double>>>();
    const size_t vocabulary = 10 * expected[0].size();
    double worst = 0.0;
    for (size_t t = 0; t < logits.size() / vocabulary; ++t) {
      for (size_t i = 0; i < expected[0].size(); ++i) {
        worst = std::max(worst, std::abs(logits[t * vocabulary + 10 * i] - expected[first + t][i]));
      }
    }
    return worst;
  }
};

TEST_F(OnnxDecoderTest, LogitsAreNumPysHoweverTheTokensAreSplit) {
  const TinyBundle bundle;
  const auto decoder = bundle.Load(runtime());
  ASSERT_TRUE(decoder) << decoder.error().message;
  EXPECT_TRUE(decoder->has_queries());
  const std::vector<int64_t> ids = GoldenIds();
  for (const size_t split : {16, 1, 5}) {
    DecoderPast past = decoder->EmptyPast();
    for (size_t first = 0; first < ids.size(); first += split) {
      const size_t count = std::min(split, ids.size() - first);
      DecoderStep step;
      const auto ran = decoder->Step(std::span(ids).subspan(first, count), {}, past, step);
      ASSERT_TRUE(ran) << ran.error().message;
      EXPECT_EQ(past.tokens(), first + count);
      EXPECT_EQ(step.logits.size(), count * decoder->vocabulary());
      EXPECT_LT(WorstError(step.logits, first, "logits"), 1e-4) << split << " at " << first;
    }
  }
}

TEST_F(OnnxDecoderTest, HalfPastsAndEveryOptionalInput) {
  const TinyBundle bundle("optional");
  const auto decoder = bundle.Load(runtime());
  ASSERT_TRUE(decoder) << decoder.error().message;
  EXPECT_EQ(decoder->past_type(), RowType::kF16);
  const std::vector<int64_t> ids = GoldenIds();
  DecoderPast past = decoder->EmptyPast();
  DecoderStep step;
  ASSERT_TRUE(decoder->Step(std::span(ids).first(9), {}, past, step));
  EXPECT_LT(WorstError(step.logits, 0, "logits_f16"), 0.02);  // f16 logits of up to 8
  for (size_t t = 9; t < ids.size(); ++t) {
    ASSERT_TRUE(decoder->Step(std::span(ids).subspan(t, 1), {}, past, step));
    EXPECT_LT(WorstError(step.logits, t, "logits_f16"), 0.02);
  }
  EXPECT_EQ(past.keys(0).type, RowType::kF16);
}

TEST_F(OnnxDecoderTest, QueriesAndKeysAreThoseOfTheTokens) {
  const TinyBundle bundle;
  const auto decoder = bundle.Load(runtime());
  ASSERT_TRUE(decoder) << decoder.error().message;
  const std::vector<int64_t> ids = GoldenIds();
  DecoderPast past = decoder->EmptyPast();
  DecoderStep step;
  ASSERT_TRUE(decoder->Step(ids, {.queries = true}, past, step));
  ASSERT_EQ(step.queries.size(), 2u);
  EXPECT_EQ(step.queries[1].size(), 4 * ids.size() * 16);
  DecoderPast one_by_one = decoder->EmptyPast();
  DecoderStep single;
  for (size_t t = 0; t < ids.size(); ++t) {
    ASSERT_TRUE(decoder->Step(std::span(ids).subspan(t, 1), {.queries = true}, one_by_one, single));
    for (size_t head = 0; head < 4; ++head) {
      for (size_t j = 0; j < 16; ++j) {
        EXPECT_NEAR(single.queries[1][head * 16 + j],
                    step.queries[1][(head * ids.size() + t) * 16 + j], 1e-4);
      }
    }
  }
  const auto* keys = static_cast<const float*>(past.keys(1).data);
  const auto* same = static_cast<const float*>(one_by_one.keys(1).data);
  for (size_t i = 0; i < 2 * ids.size() * 16; ++i) EXPECT_NEAR(keys[i], same[i], 1e-4);
  EXPECT_GE(past.HeldBytes(), 2u * 2 * 2 * ids.size() * 16 * sizeof(float));
}

// RoPE: only differences of positions count.
TEST_F(OnnxDecoderTest, ShiftedPositionsTurnKeysAndKeepLogits) {
  const TinyBundle bundle;
  const auto decoder = bundle.Load(runtime());
  ASSERT_TRUE(decoder) << decoder.error().message;
  DecoderPast past = decoder->EmptyPast();
  DecoderPast shifted = decoder->EmptyPast();
  DecoderStep step;
  ASSERT_TRUE(decoder->Step(GoldenIds(), {.first_position = 300}, shifted, step));
  EXPECT_LT(WorstError(step.logits, 0, "logits"), 1e-4);
  ASSERT_TRUE(decoder->Step(GoldenIds(), {}, past, step));
  const auto* keys = static_cast<const float*>(past.keys(0).data);
  const auto* turned = static_cast<const float*>(shifted.keys(0).data);
  EXPECT_GT(std::abs(keys[0] - turned[0]), 1e-2);
}

TEST_F(OnnxDecoderTest, RewrittenRowsAreWhatTheNextStepSees) {
  for (const char* graph : {"plain", "optional"}) {
    const TinyBundle bundle(graph);
    const auto decoder = bundle.Load(runtime());
    ASSERT_TRUE(decoder) << decoder.error().message;
    const std::vector<int64_t> ids = GoldenIds();
    DecoderPast past = decoder->EmptyPast();
    DecoderStep step;
    ASSERT_TRUE(decoder->Step(std::span(ids).first(8), {}, past, step));
    const auto read = [&](size_t t, size_t head) {
      const RowsView row = past.keys(1).Head(head);
      return row.type() == RowType::kF32
                 ? static_cast<const float*>(row.data())[t * 16]
                 : F16ToF32(static_cast<const Float16*>(row.data())[t * 16]);
    };
    const float before = read(2, 1);
    const float beside = read(5, 1);
    const auto written = past.Rewrite(1, 2, 3, [&](const HeadsOutput& keys, const HeadsOutput&) {
      EXPECT_EQ(keys.tokens, 3u);
      EXPECT_EQ(*keys.Row(0, 1), before);
      for (size_t t = 0; t < 3; ++t) {
        for (size_t head = 0; head < 2; ++head) std::fill_n(keys.Row(t, head), 16, 2.5f);
      }
      return Result<void>();
    });
    ASSERT_TRUE(written);
    EXPECT_EQ(read(2, 1), 2.5f);
    EXPECT_EQ(read(5, 1), beside);
    ASSERT_TRUE(decoder->Step(std::span(ids).subspan(8, 1), {}, past, step));
    EXPECT_EQ(read(2, 1), 2.5f);
    EXPECT_GT(WorstError(step.logits, 8, "logits"), 0.02);
    const auto keep = [](const HeadsOutput&, const HeadsOutput&) { return Result<void>(); };
    EXPECT_TRUE(FailsWith(past.Rewrite(1, 8, 2, keep), ErrorCode::kInvalidArgument, "8 to 10"));
    EXPECT_TRUE(FailsWith(past.Rewrite(2, 0, 1, keep), ErrorCode::kInvalidArgument, "layer 2"));
  }
}

TEST_F(OnnxDecoderTest, RefusedStepsLeaveThePast) {
  const TinyBundle bundle;
  const auto decoder = bundle.Load(runtime());
  ASSERT_TRUE(decoder) << decoder.error().message;
  DecoderPast past = decoder->EmptyPast();
  DecoderStep step;
  const auto run = [&](std::vector<int64_t> tokens, uint64_t first) {
    return decoder->Step(tokens, {.first_position = first}, past, step);
  };
  ASSERT_TRUE(run({1, 2}, 0));
  EXPECT_TRUE(FailsWith(run({}, 0), ErrorCode::kInvalidArgument, "at least one token"));
  EXPECT_TRUE(FailsWith(run({0, 300}, 0), ErrorCode::kInvalidArgument, "token 1 is 300"));
  EXPECT_TRUE(FailsWith(run({-1}, 0), ErrorCode::kInvalidArgument, "token 0 is -1"));
  EXPECT_TRUE(FailsWith(run({1}, 382), ErrorCode::kInvalidArgument, "382 to 384"));
  EXPECT_TRUE(run({1}, 381));
  EXPECT_TRUE(FailsWith(run({1}, 1000), ErrorCode::kInvalidArgument, "384"));
  EXPECT_EQ(past.tokens(), 3u);
}

TEST_F(OnnxDecoderTest, BundlesThatDoNotFitAreRefused) {
  const auto load = [&](const TinyBundle& bundle) { return bundle.Load(runtime()); };
  const TinyBundle heads;
  heads.SetConfig("num_key_value_heads", 4);
  EXPECT_TRUE(FailsWith(load(heads), ErrorCode::kModel, "past_key_values.0.key must be"));
  const TinyBundle layers;
  layers.SetConfig("num_hidden_layers", 3);
  EXPECT_TRUE(FailsWith(load(layers), ErrorCode::kModel, "no input past_key_values.2.key"));
  const TinyBundle fewer;
  fewer.SetConfig("num_hidden_layers", 1);
  EXPECT_TRUE(FailsWith(load(fewer), ErrorCode::kModel, "past_key_values.1.key is of layer 1"));
  const TinyBundle vocabulary;
  vocabulary.SetConfig("vocab_size", 301);
  EXPECT_TRUE(FailsWith(load(vocabulary), ErrorCode::kModel, "logits has a vocabulary of 300"));
  const TinyBundle truncated;
  std::filesystem::resize_file(truncated / "model.onnx", 4000);
  EXPECT_TRUE(FailsWith(load(truncated), ErrorCode::kModel, "model.onnx"));
  const TinyBundle no_weights;
  std::filesystem::remove(no_weights / "weights.bin");
  EXPECT_TRUE(FailsWith(load(no_weights), ErrorCode::kModel, "model.onnx"));
}

TEST_F(OnnxDecoderTest, PresentsOfAnotherShapeAreRefusedWhenRun) {
  const TinyBundle bundle("new_only");
  const auto decoder = bundle.Load(runtime());
  ASSERT_TRUE(decoder) << decoder.error().message;  // its declaration is right
  DecoderPast past = decoder->EmptyPast();
  DecoderStep step;
  const std::vector<int64_t> ids = GoldenIds();
  ASSERT_TRUE(decoder->Step(std::span(ids).first(4), {}, past, step));
  const auto second = decoder->Step(std::span(ids).subspan(4, 1), {}, past, step);
  EXPECT_TRUE(FailsWith(second, ErrorCode::kModel, "output 'present."));
  EXPECT_EQ(past.tokens(), 4u);
}

TEST_F(OnnxDecoderTest, PastsOfAnotherDecoderAreRefused) {
  const TinyBundle bundle;
  const auto plain = bundle.Load(runtime());
  const TinyBundle other("optional");
  const auto half = other.Load(runtime());
  ASSERT_TRUE(plain && half);
  DecoderPast past = half->EmptyPast();
  DecoderStep step;
  EXPECT_TRUE(
      FailsWith(plain->Step(GoldenIds(), {}, past, step), ErrorCode::kDimensionMismatch, "f16"));
}

}  // namespace
}  // namespace turboquant
