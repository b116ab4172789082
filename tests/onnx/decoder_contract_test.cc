#include "src/onnx/decoder_contract.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/support/expect_error.h"

namespace turboquant {
namespace {

using test::FailsWith;

struct Graph {
  std::vector<OnnxTensor> inputs;
  std::vector<OnnxTensor> outputs;

  OnnxTensor& Input(const std::string& name) { return Named(inputs, name); }
  OnnxTensor& Output(const std::string& name) { return Named(outputs, name); }
  static OnnxTensor& Named(std::vector<OnnxTensor>& tensors, const std::string& name) {
    for (OnnxTensor& tensor : tensors) {
      if (tensor.name == name) return tensor;
    }
    ADD_FAILURE() << "no " << name;
    return tensors.front();
  }
};

DecoderConfig Config() {
  DecoderConfig config;
  config.layers = 2;
  config.query_heads = 4;
  config.kv_heads = 2;
  config.head_dim = 8;
  config.vocabulary = 50;
  return config;
}

Graph Whole() {
  Graph graph;
  graph.inputs = {{"input_ids", OnnxElement::kI64, {-1, -1}},
                  {"attention_mask", OnnxElement::kI64, {-1, -1}},
                  {"position_ids", OnnxElement::kI64, {-1, -1}}};
  graph.outputs = {{"logits", OnnxElement::kF32, {-1, -1, 50}},
                   {"hidden", OnnxElement::kF32, {-1}}};
  for (const std::string layer : {"0", "1"}) {
    for (const std::string side : {"key", "value"}) {
      graph.inputs.push_back(
          {"past_key_values." + layer + "." + side, OnnxElement::kF32, {-1, 2, -1, 8}});
      graph.outputs.push_back({"present." + layer + "." + side, OnnxElement::kF32, {-1, 2, -1, 8}});
    }
    graph.outputs.push_back({"query." + layer, OnnxElement::kF32, {-1, 4, -1, 8}});
  }
  return graph;
}

Result<DecoderContract> Match(const Graph& graph) {
  return MatchContract(graph.inputs, graph.outputs, Config());
}

TEST(DecoderContractTest, MatchesAWholeGraph) {
  const auto contract = Match(Whole());
  ASSERT_TRUE(contract) << contract.error().message;
  EXPECT_TRUE(contract->attention_mask);
  EXPECT_TRUE(contract->position_ids);
  EXPECT_FALSE(contract->token_type_ids);
  EXPECT_TRUE(contract->queries);
  EXPECT_EQ(contract->vocabulary, 50u);
  EXPECT_EQ(contract->layers[1].past_value, "past_key_values.1.value");
  EXPECT_EQ(contract->layers[0].present_key, "present.0.key");
  EXPECT_EQ(contract->layers[1].query, "query.1");
}

TEST(DecoderContractTest, OptionalInputsAndOtherSpellings) {
  Graph graph = Whole();
  graph.inputs.push_back({"cache_position", OnnxElement::kI64, {-1}});
  graph.inputs.push_back({"token_type_ids", OnnxElement::kI64, {1, -1}});
  graph.inputs.push_back({"use_cache_branch", OnnxElement::kBool, {1}});
  std::erase_if(graph.outputs, [](const OnnxTensor& t) { return t.name.starts_with("query"); });
  graph.Input("past_key_values.0.key").name = "past_key_values.0.decoder.key";
  graph.Output("present.1.value").name = "present_key_values.1_value";
  for (OnnxTensor& tensor : graph.inputs) {
    if (tensor.name.starts_with("past")) tensor.element = OnnxElement::kF16;
  }
  for (OnnxTensor& tensor : graph.outputs) tensor.element = OnnxElement::kF16;
  const auto contract = Match(graph);
  ASSERT_TRUE(contract) << contract.error().message;
  EXPECT_TRUE(contract->token_type_ids);
  EXPECT_EQ(contract->cache_position, 1u);
  EXPECT_EQ(contract->use_cache_branch, 1u);
  EXPECT_FALSE(contract->queries);
  EXPECT_EQ(contract->past_element, OnnxElement::kF16);
  EXPECT_EQ(contract->logits_element, OnnxElement::kF16);
  EXPECT_EQ(contract->layers[0].past_key, "past_key_values.0.decoder.key");
  graph.Input("use_cache_branch").shape = {};
  graph.Input("cache_position").shape = {-1, -1};
  const auto scalars = Match(graph);
  ASSERT_TRUE(scalars) << scalars.error().message;
  EXPECT_EQ(scalars->use_cache_branch, 0u);
  EXPECT_EQ(scalars->cache_position, 2u);
}

TEST(DecoderContractTest, AFreeVocabularyIsTheConfigs) {
  Graph graph = Whole();
  graph.Output("logits").shape[2] = -1;
  const auto contract = Match(graph);
  ASSERT_TRUE(contract) << contract.error().message;
  EXPECT_EQ(contract->vocabulary, 50u);
  DecoderConfig config = Config();
  config.vocabulary.reset();
  EXPECT_TRUE(FailsWith(MatchContract(graph.inputs, graph.outputs, config), ErrorCode::kModel,
                        "logits must have a vocabulary"));
}

TEST(DecoderContractTest, RefusalsNameTheTensor) {
  using Change = std::function<void(Graph&)>;
  const auto erase = [](std::vector<OnnxTensor>& tensors, std::string name) {
    std::erase_if(tensors, [&](const OnnxTensor& tensor) { return tensor.name == name; });
  };
  const std::pair<Change, const char*> cases[] = {
      {[&](Graph& g) { erase(g.inputs, "input_ids"); }, "no input input_ids"},
      {[&](Graph& g) { erase(g.outputs, "logits"); }, "no output logits"},
      {[&](Graph& g) { erase(g.inputs, "past_key_values.1.key"); },
       "no input past_key_values.1.key"},
      {[&](Graph& g) { erase(g.inputs, "past_key_values.0.value"); },
       "no input past_key_values.0.value"},
      {[&](Graph& g) { erase(g.outputs, "present.0.key"); }, "no output present.0.key"},
      {[&](Graph& g) { erase(g.outputs, "present.1.value"); }, "no output present.1.value"},
      {[&](Graph& g) { erase(g.outputs, "query.0"); }, "query.# of 1 layers of 2"},
      {[](Graph& g) { g.inputs.push_back({"pixels", OnnxElement::kF32, {-1}}); },
       "pixels is an input"},
      {[](Graph& g) { g.inputs.push_back(g.Input("past_key_values.1.key")); },
       "are both the past of layer 1"},
      {[](Graph& g) { g.Input("past_key_values.1.key").name = "past_key_values.2.key"; },
       "past_key_values.2.key is of layer 2, config.json has 2 layers"},
      {[](Graph& g) { g.outputs.push_back({"present.2.key", OnnxElement::kF32, {-1, 2, -1, 8}}); },
       "present.2.key is of layer 2"},
      {[](Graph& g) { g.outputs.push_back({"query.2", OnnxElement::kF32, {-1, 4, -1, 8}}); },
       "query.2 is of layer 2"},
      {[](Graph& g) { g.Input("input_ids").element = OnnxElement::kI32; },
       "input_ids must be of int64, is of int32"},
      {[](Graph& g) { g.Input("input_ids").shape = {-1}; },
       "input_ids must have 2 dimensions, is [any]"},
      {[](Graph& g) { g.Input("input_ids").shape = {2, -1}; }, "input_ids must be [batch, tokens]"},
      {[](Graph& g) { g.Input("position_ids").element = OnnxElement::kF32; },
       "position_ids must be of int64"},
      {[](Graph& g) { g.Input("attention_mask").shape = {-1, 1, -1, -1}; },
       "attention_mask must have 2 dimensions"},
      {[](Graph& g) { g.inputs.push_back({"cache_position", OnnxElement::kI64, {}}); },
       "cache_position must have 1 dimensions"},
      {[](Graph& g) { g.inputs.push_back({"use_cache_branch", OnnxElement::kI64, {1}}); },
       "use_cache_branch must be of bool"},
      {[](Graph& g) { g.inputs.push_back({"use_cache_branch", OnnxElement::kBool, {2}}); },
       "use_cache_branch must be one bool"},
      {[](Graph& g) { g.Input("past_key_values.0.key").element = OnnxElement::kOther; },
       "past_key_values.0.key must be of float32 or float16, is of another type"},
      {[](Graph& g) { g.Output("present.0.key").element = OnnxElement::kF16; },
       "present.0.key is of float16, the others are of float32"},
      {[](Graph& g) { g.Input("past_key_values.0.key").shape = {-1, -1, 8}; },
       "past_key_values.0.key must have 4 dimensions"},
      {[](Graph& g) { g.Input("past_key_values.0.key").shape = {-1, -1, 2, 8}; },
       "past_key_values.0.key must be [batch, kv_heads, tokens, head_dim] = [1, 2, any, 8]"},
      {[](Graph& g) { g.Input("past_key_values.0.key").shape[1] = 4; }, "is [any, 4, any, 8]"},
      {[](Graph& g) { g.Input("past_key_values.0.value").shape[3] = 16; }, "is [any, 2, any, 16]"},
      {[](Graph& g) { g.Input("past_key_values.0.value").shape[2] = 16; }, "is [any, 2, 16, 8]"},
      {[](Graph& g) { g.Output("present.1.value").shape[1] = 3; }, "present.1.value must be"},
      {[](Graph& g) { g.Output("query.0").name = "query.1"; }, "query.1 is there twice"},
      {[](Graph& g) { g.Output("query.0").shape[1] = 2; }, "query.0 must be"},
      {[](Graph& g) { g.Output("query.0").element = OnnxElement::kI64; }, "query.0 must be of"},
      {[](Graph& g) { g.Output("query.1").element = OnnxElement::kF16; }, "query.1 is of float16"},
      {[](Graph& g) { g.Output("logits").shape = {-1, 50}; }, "logits must have 3 dimensions"},
      {[](Graph& g) { g.Output("logits").element = OnnxElement::kI64; }, "logits must be of"},
      {[](Graph& g) { g.Output("logits").shape[0] = 2; }, "logits must be [batch"},
      {[](Graph& g) { g.Output("logits").shape[2] = 51; },
       "logits has a vocabulary of 51, config.json's vocab_size is 50"}};
  for (const auto& [change, culprit] : cases) {
    Graph graph = Whole();
    change(graph);
    EXPECT_TRUE(FailsWith(Match(graph), ErrorCode::kModel, culprit));
  }
}

}  // namespace
}  // namespace turboquant
