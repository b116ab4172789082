// What the inputs and outputs of an ONNX decoder must be, and which of them a graph has.
#ifndef TURBOQUANT_SRC_ONNX_DECODER_CONTRACT_H_
#define TURBOQUANT_SRC_ONNX_DECODER_CONTRACT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "turboquant/error.h"
#include "turboquant/onnx/bundle.h"

namespace turboquant {

enum class OnnxElement { kF32, kF16, kI64, kI32, kBool, kOther };
std::string_view OnnxElementName(OnnxElement element);

// An input or output as the graph declares it.
struct OnnxTensor {
  std::string name;
  OnnxElement element = OnnxElement::kOther;
  std::vector<int64_t> shape;  // -1: any size
};

// Names of one layer's tensors.
struct DecoderLayerNames {
  std::string past_key;
  std::string past_value;
  std::string present_key;
  std::string present_value;
  std::string query;  // empty: the graph does not give its queries
};

struct DecoderContract {
  // Optional inputs.
  bool attention_mask = false;             // [batch, past + tokens] of 1
  bool position_ids = false;               // [batch, tokens]
  bool token_type_ids = false;             // [batch, tokens] of 0
  std::optional<size_t> cache_position;    // its rank: [tokens] or [batch, tokens]
  std::optional<size_t> use_cache_branch;  // its rank: a bool, or one in a list
  std::vector<DecoderLayerNames> layers;
  OnnxElement past_element = OnnxElement::kF32;  // of pasts and presents: kF32 or kF16
  OnnxElement logits_element = OnnxElement::kF32;
  OnnxElement query_element = OnnxElement::kF32;
  bool queries = false;  // every layer gives its queries
  size_t vocabulary = 0;
};

// Inputs: input_ids [batch, tokens], past_key_values.{i}.key|value [batch, kv_heads, past,
// head_dim], and the optional ones. Outputs: logits [batch, tokens, vocabulary], present.{i}.key|
// value, optional query.{i} [batch, query_heads, tokens, head_dim]; others are left alone. Names
// may also end in _key or .decoder.key, and begin with present_key_values. Errors: kModel naming
// the tensor and what is wrong with it.
[[nodiscard]] Result<DecoderContract> MatchContract(std::span<const OnnxTensor> inputs,
                                                    std::span<const OnnxTensor> outputs,
                                                    const DecoderConfig& config);

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_ONNX_DECODER_CONTRACT_H_
