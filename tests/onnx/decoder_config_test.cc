#include "src/onnx/decoder_config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numbers>
#include <string>

#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"

namespace turboquant {
namespace {

using nlohmann::json;
using test::FailsWith;

json Llama() {
  return json::parse(R"({"_name_or_path": "tiny", "model_type": "llama", "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 64, "vocab_size": 100,
    "rope_theta": 10000.0, "bos_token_id": 1, "eos_token_id": 2})");
}

Result<DecoderConfig> Parse(const json& config, const std::string& generation = "") {
  return ParseDecoderConfig(config.dump(), generation, "folder");
}

json With(const char* name, const json& value) {
  json config = Llama();
  config[name] = value;
  return config;
}

json Without(const char* name) {
  json config = Llama();
  config.erase(name);
  return config;
}

TEST(DecoderConfigTest, ReadsALlama) {
  const Result<DecoderConfig> config = Parse(Llama());
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->model, "tiny");
  EXPECT_EQ(config->layers, 3u);
  EXPECT_EQ(config->query_heads, 4u);
  EXPECT_EQ(config->kv_heads, 2u);
  EXPECT_EQ(config->head_dim, 16u);
  EXPECT_EQ(config->vocabulary, 100u);
  EXPECT_EQ(config->bos_token, 1);
  EXPECT_EQ(config->eos_tokens, std::vector<int64_t>{2});
  ASSERT_EQ(config->rope.size(), 3u);
  EXPECT_EQ(config->rope[2], RopeParameters::FromTheta(10000.0, 16));
  EXPECT_EQ(config->rope_note, "");
}

TEST(DecoderConfigTest, ReadsGpt2sNamesAndDefaults) {
  const Result<DecoderConfig> config = ParseDecoderConfig(
      R"({"model_type": "gpt2", "n_layer": 2, "n_head": 3, "n_embd": 24})", "", "folder");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->model, "folder");
  EXPECT_EQ(config->kv_heads, 3u);
  EXPECT_EQ(config->head_dim, 8u);
  EXPECT_EQ(config->vocabulary, std::nullopt);
  EXPECT_EQ(config->bos_token, std::nullopt);
  EXPECT_TRUE(config->eos_tokens.empty());
  EXPECT_TRUE(config->rope.empty());
  EXPECT_NE(config->rope_note.find("rope_theta"), std::string::npos);
}

TEST(DecoderConfigTest, TokensOfBothFilesCount) {
  const Result<DecoderConfig> config =
      Parse(Llama(), R"({"bos_token_id": 5, "eos_token_id": [7, 2, 6]})");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->bos_token, 5);
  EXPECT_EQ(config->eos_tokens, (std::vector<int64_t>{2, 6, 7}));
}

TEST(DecoderConfigTest, LinearScalingSlowsEveryFrequency) {
  const auto config = Parse(With("rope_scaling", {{"type", "linear"}, {"factor", 4.0}}));
  ASSERT_TRUE(config) << config.error().message;
  const RopeParameters plain = RopeParameters::FromTheta(10000.0, 16);
  for (size_t i = 0; i < 8; ++i) {
    EXPECT_DOUBLE_EQ(config->rope[0].inverse_frequencies[i], plain.inverse_frequencies[i] / 4.0);
  }
}

// The three cases of transformers' _compute_llama3_parameters, one frequency in each.
TEST(DecoderConfigTest, Llama3ScalingSlowsLongWavelengthsOnly) {
  const auto config = Parse(With("rope_scaling", {{"rope_type", "llama3"},
                                                  {"factor", 8.0},
                                                  {"low_freq_factor", 1.0},
                                                  {"high_freq_factor", 4.0},
                                                  {"original_max_position_embeddings", 128}}));
  ASSERT_TRUE(config) << config.error().message;
  const RopeParameters plain = RopeParameters::FromTheta(10000.0, 16);
  const auto turns = [&](size_t i) {
    return 128.0 * plain.inverse_frequencies[i] / (2.0 * std::numbers::pi);
  };
  ASSERT_GT(turns(0), 4.0);
  EXPECT_DOUBLE_EQ(config->rope[0].inverse_frequencies[0], plain.inverse_frequencies[0]);
  ASSERT_LT(turns(7), 1.0);
  EXPECT_DOUBLE_EQ(config->rope[0].inverse_frequencies[7], plain.inverse_frequencies[7] / 8.0);
  ASSERT_GT(turns(2), 1.0);
  ASSERT_LT(turns(2), 4.0);
  const double smooth = (turns(2) - 1.0) / 3.0;
  EXPECT_NEAR(config->rope[0].inverse_frequencies[2],
              plain.inverse_frequencies[2] * ((1.0 - smooth) / 8.0 + smooth), 1e-15);
}

TEST(DecoderConfigTest, PartialRotaryFactorTurnsSomeCoordinates) {
  const auto config = Parse(With("partial_rotary_factor", 0.5));
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->rope[0].rotary_dim(), 8u);
}

TEST(DecoderConfigTest, RopeThatFramesDoNotKnowIsNoted) {
  for (const char* type : {"yarn", "dynamic", "longrope"}) {
    const auto config = Parse(With("rope_scaling", {{"rope_type", type}, {"factor", 2.0}}));
    ASSERT_TRUE(config) << config.error().message;
    EXPECT_TRUE(config->rope.empty());
    EXPECT_NE(config->rope_note.find(type), std::string::npos) << config->rope_note;
  }
  const auto config = Parse(With("model_type", "gptj"));
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_TRUE(config->rope.empty());
}

TEST(DecoderConfigTest, LocalLayersTurnWithTheirOwnTheta) {
  json gemma = With("rope_local_base_freq", 100.0);
  gemma["sliding_window_pattern"] = 2;
  const auto config = Parse(gemma);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->rope[0], RopeParameters::FromTheta(100.0, 16));
  EXPECT_EQ(config->rope[1], RopeParameters::FromTheta(10000.0, 16));
  gemma["layer_types"] = {"full_attention", "full_attention", "sliding_attention"};
  const auto typed = Parse(gemma);
  ASSERT_TRUE(typed) << typed.error().message;
  EXPECT_EQ(typed->rope[0], RopeParameters::FromTheta(10000.0, 16));
  EXPECT_EQ(typed->rope[2], RopeParameters::FromTheta(100.0, 16));
}

TEST(DecoderConfigTest, RefusalsNameFileAndField) {
  const std::pair<json, const char*> cases[] = {
      {Without("num_hidden_layers"), "config.json has no num_hidden_layers"},
      {Without("num_attention_heads"), "config.json has no num_attention_heads"},
      {Without("hidden_size"), "config.json has no hidden_size"},
      {With("num_hidden_layers", 0), "num_hidden_layers must be 1 to 4096, got 0"},
      {With("num_hidden_layers", -1), "num_hidden_layers must be 1 to 4096, got -1"},
      {With("num_hidden_layers", 2.5), "num_hidden_layers must be 1 to 4096, got 2.5"},
      {With("num_hidden_layers", "3"), "num_hidden_layers"},
      {With("n_layer", 4), "n_layer is 4, num_hidden_layers is 3"},
      {With("num_key_value_heads", 3), "num_attention_heads 4 is no multiple"},
      {With("hidden_size", 66), "hidden_size 66"},
      {With("head_dim", 1), "head_dim must be 2 to 1024, got 1"},
      {With("head_dim", 15), "even head_dim, got 15"},
      {With("vocab_size", 0), "vocab_size must be 1"},
      {With("eos_token_id", "</s>"), "eos_token_id must be a token id"},
      {With("eos_token_id", {1, -2}), "eos_token_id must be a token id or a list of them, got -2"},
      {With("eos_token_id", 100), "eos_token_id 100 is not below vocab_size 100"},
      {With("bos_token_id", 100), "bos_token_id 100"},
      {With("bos_token_id", {1, 2}), "bos_token_id must be one token id, got 2"},
      {With("rope_theta", 0), "rope_theta must be a number above 0, got 0"},
      {With("rope_theta", "big"), "rope_theta must be a number above 0"},
      {With("rope_scaling", 4), "rope_scaling must be an object, got 4"},
      {With("rope_scaling", {{"type", "linear"}}), "rope_scaling has no factor"},
      {With("rope_scaling", {{"type", 3}}), "type must be a string, got 3"},
      {With("partial_rotary_factor", 1.5), "partial_rotary_factor 1.5"},
      {With("partial_rotary_factor", 0.2), "partial_rotary_factor 0.2"},
      {With("rope_local_base_freq", 100.0), "sliding_window_pattern"},
      {With("_name_or_path", 3), "_name_or_path must be a string, got 3"},
      {json::array(), "config.json is not a JSON object"}};
  for (const auto& [config, culprit] : cases) {
    EXPECT_TRUE(FailsWith(Parse(config), ErrorCode::kModel, culprit));
  }
  json gemma = With("rope_local_base_freq", 100.0);
  gemma["layer_types"] = {"full_attention"};
  EXPECT_TRUE(FailsWith(Parse(gemma), ErrorCode::kModel, "layer_types has 1 entries for 3"));
  json llama3 = With("rope_scaling", {{"type", "llama3"},
                                      {"factor", 8},
                                      {"low_freq_factor", 4},
                                      {"high_freq_factor", 4},
                                      {"original_max_position_embeddings", 8}});
  EXPECT_TRUE(FailsWith(Parse(llama3), ErrorCode::kModel, "high_freq_factor must be above 4"));
  EXPECT_TRUE(FailsWith(ParseDecoderConfig("{", "", ""), ErrorCode::kModel, "config.json"));
  EXPECT_TRUE(FailsWith(Parse(Llama(), "[]"), ErrorCode::kModel, "generation_config.json"));
  EXPECT_TRUE(FailsWith(Parse(Llama(), R"({"eos_token_id": true})"), ErrorCode::kModel,
                        "generation_config.json: eos_token_id"));
  const std::string nested(100000, '[');
  EXPECT_TRUE(FailsWith(ParseDecoderConfig(R"({"rope_scaling": )" + nested, "", ""),
                        ErrorCode::kModel, "nested deeper than 16"));
}

void Write(const test::TemporaryFolder& folder, const char* name, const std::string& text) {
  std::ofstream(folder / name) << text;
}

TEST(DecoderBundleTest, PrefersAMergedDecoder) {
  const test::TemporaryFolder folder;
  Write(folder, "config.json", Without("_name_or_path").dump());
  Write(folder, "tokenizer.json", "{}");
  Write(folder, "model.onnx", "x");
  Write(folder, "decoder_model_merged.onnx", "x");
  const auto bundle = DecoderBundle::Open(folder / "");
  ASSERT_TRUE(bundle) << bundle.error().message;
  EXPECT_EQ(bundle->decoder().filename(), "decoder_model_merged.onnx");
  EXPECT_EQ(bundle->tokenizer().filename(), "tokenizer.json");
  EXPECT_NE((folder / "").find(bundle->config().model), std::string::npos);
  EXPECT_FALSE(bundle->config().model.empty());
}

TEST(DecoderBundleTest, MissingFilesAreNamed) {
  const test::TemporaryFolder folder;
  EXPECT_TRUE(FailsWith(DecoderBundle::Open(folder / "none"), ErrorCode::kModel, "none"));
  EXPECT_TRUE(FailsWith(DecoderBundle::Open(folder / ""), ErrorCode::kModel, "model.onnx"));
  Write(folder, "model.onnx", "x");
  EXPECT_TRUE(FailsWith(DecoderBundle::Open(folder / ""), ErrorCode::kModel, "tokenizer.json"));
  Write(folder, "tokenizer.json", "{}");
  EXPECT_TRUE(FailsWith(DecoderBundle::Open(folder / ""), ErrorCode::kModel, "config.json"));
  Write(folder, "config.json", Llama().dump());
  EXPECT_TRUE(DecoderBundle::Open(folder / ""));
  Write(folder, "generation_config.json", "");
  EXPECT_TRUE(FailsWith(DecoderBundle::Open(folder / ""), ErrorCode::kModel,
                        "generation_config.json is not a JSON object"));
  Write(folder, "config.json", std::string((1 << 20) + 1, ' '));
  EXPECT_TRUE(FailsWith(DecoderBundle::Open(folder / ""), ErrorCode::kModel, "1048577 bytes"));
}

}  // namespace
}  // namespace turboquant
