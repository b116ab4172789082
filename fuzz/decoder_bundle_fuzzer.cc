// Any bytes as config.json, generation_config.json and the tensors of a graph: refused as kModel,
// or a contract that agrees with its config. The parts are separated by zero bytes; a tensor is a
// line "i|o element sizes... name".
#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include "src/onnx/decoder_config.h"
#include "src/onnx/decoder_contract.h"

namespace {

using turboquant::DecoderConfig;
using turboquant::DecoderContract;
using turboquant::OnnxElement;
using turboquant::OnnxTensor;
using turboquant::Result;

void Require(bool holds) {
  if (!holds) __builtin_trap();
}

template <class T>
bool Refused(const Result<T>& result) {
  if (result) return false;
  Require(result.error().code == turboquant::ErrorCode::kModel && !result.error().message.empty());
  return true;
}

void RequireSound(const DecoderConfig& config) {
  Require(config.layers >= 1 && config.layers <= 4096);
  Require(config.kv_heads >= 1 && config.query_heads % config.kv_heads == 0);
  Require(config.head_dim >= 2 && config.head_dim <= 1024);
  Require(config.rope.empty() || config.rope.size() == config.layers);
  Require(config.rope.empty() == !config.rope_note.empty());
  for (const auto& rope : config.rope) Require(rope.rotary_dim() <= config.head_dim);
}

void RequireSound(const DecoderContract& contract, const DecoderConfig& config) {
  Require(contract.layers.size() == config.layers && contract.vocabulary > 0);
  Require(!config.vocabulary || *config.vocabulary == contract.vocabulary);
  for (const auto& names : contract.layers) {
    Require(!names.past_key.empty() && !names.past_value.empty());
    Require(!names.present_key.empty() && !names.present_value.empty());
    Require(names.query.empty() != contract.queries);
  }
}

OnnxTensor ReadTensor(std::istringstream& line) {
  OnnxTensor tensor;
  unsigned element = 0;
  line >> element;
  tensor.element = static_cast<OnnxElement>(element % 6);
  for (int64_t size; line >> size;) tensor.shape.push_back(size);
  line.clear();
  line >> tensor.name;
  return tensor;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  std::istringstream parts(std::string(reinterpret_cast<const char*>(bytes), size));
  std::string config_text;
  std::string generation_text;
  std::getline(parts, config_text, '\0');
  std::getline(parts, generation_text, '\0');
  const auto config = turboquant::ParseDecoderConfig(config_text, generation_text, "folder");
  if (Refused(config)) return 0;
  RequireSound(*config);
  std::vector<OnnxTensor> inputs;
  std::vector<OnnxTensor> outputs;
  for (std::string text; std::getline(parts, text);) {
    std::istringstream line(text.substr(text.empty() ? 0 : 1));
    (text.starts_with("i") ? inputs : outputs).push_back(ReadTensor(line));
  }
  const auto contract = turboquant::MatchContract(inputs, outputs, *config);
  if (Refused(contract)) return 0;
  RequireSound(*contract, *config);
  return 0;
}
