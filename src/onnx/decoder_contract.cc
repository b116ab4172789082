#include "src/onnx/decoder_contract.h"

#include <array>
#include <charconv>
#include <utility>

#include "src/base/failure.h"
#include "src/base/try.h"

namespace turboquant {
namespace {

constexpr std::array<std::string_view, 6> kElementNames = {"float32", "float16", "int64",
                                                           "int32",   "bool",    "another type"};
constexpr int64_t kAny = -1;

// A name from a file in a message.
std::string Short(std::string_view name) {
  std::string text(name.substr(0, 80));
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20) c = '?';
  }
  return text;
}

std::string ShapeText(std::span<const int64_t> shape) {
  std::string text = "[";
  for (const int64_t size : shape) {
    if (text.size() > 1) text += ", ";
    text += size < 0 ? "any" : std::to_string(size);
  }
  return text + "]";
}

template <class... Parts>
std::unexpected<Error> Wrong(const OnnxTensor& tensor, const Parts&... parts) {
  return Fail(ErrorCode::kModel, Short(tensor.name), " ", parts...);
}

Result<void> CheckElement(const OnnxTensor& tensor, OnnxElement wanted) {
  if (tensor.element == wanted) return {};
  return Wrong(tensor, "must be of ", OnnxElementName(wanted), ", is of ",
               OnnxElementName(tensor.element));
}

Result<void> CheckFloat(const OnnxTensor& tensor) {
  if (tensor.element == OnnxElement::kF32 || tensor.element == OnnxElement::kF16) return {};
  return Wrong(tensor, "must be of float32 or float16, is of ", OnnxElementName(tensor.element));
}

Result<void> CheckRank(const OnnxTensor& tensor, size_t rank) {
  if (tensor.shape.size() == rank) return {};
  return Wrong(tensor, "must have ", rank, " dimensions, is ", ShapeText(tensor.shape));
}

// Sizes that the graph fixes must be the wanted ones; kAny wants a size left open.
Result<void> CheckShape(const OnnxTensor& tensor, std::span<const int64_t> wanted,
                        std::string_view names) {
  TQ_CHECK(CheckRank(tensor, wanted.size()));
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (tensor.shape[i] < 0 || tensor.shape[i] == wanted[i]) continue;
    return Wrong(tensor, "must be ", names, " = ", ShapeText(wanted), ", is ",
                 ShapeText(tensor.shape));
  }
  return {};
}

// The one sequence of a step: graphs may fix a batch of 1.
Result<void> CheckTokens(const OnnxTensor& tensor, std::string_view names) {
  TQ_CHECK(CheckElement(tensor, OnnxElement::kI64));
  constexpr std::array<int64_t, 2> kShape = {1, kAny};
  return CheckShape(tensor, kShape, names);
}

enum class Side { kKey, kValue, kQuery };

struct LayerTensor {
  size_t layer = 0;
  Side side = Side::kKey;
};

// The layer of "<prefix><number><rest>", and the rest.
std::optional<std::pair<size_t, std::string_view>> LayerOf(std::string_view name,
                                                           std::string_view prefix) {
  if (!name.starts_with(prefix)) return std::nullopt;
  name.remove_prefix(prefix.size());
  size_t layer = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), layer);
  if (error != std::errc() || end == name.data()) return std::nullopt;
  return std::pair{layer, name.substr(static_cast<size_t>(end - name.data()))};
}

std::optional<LayerTensor> KeyOrValue(std::string_view name, std::string_view prefix) {
  const auto layer = LayerOf(name, prefix);
  if (!layer) return std::nullopt;
  for (const std::string_view end : {".key", "_key", ".decoder.key"}) {
    if (layer->second == end) return LayerTensor{layer->first, Side::kKey};
  }
  for (const std::string_view end : {".value", "_value", ".decoder.value"}) {
    if (layer->second == end) return LayerTensor{layer->first, Side::kValue};
  }
  return std::nullopt;
}

// Collects the tensors of a graph into a contract.
class Matcher {
 public:
  explicit Matcher(const DecoderConfig& config) : config_(config) {
    contract_.layers.resize(config.layers);
  }

  Result<void> AddInput(const OnnxTensor& tensor);
  Result<void> AddOutput(const OnnxTensor& tensor);
  Result<DecoderContract> Finish();

 private:
  Result<void> AddLayer(const OnnxTensor& tensor, const LayerTensor& found, bool past);
  Result<void> AddQuery(const OnnxTensor& tensor, size_t layer);
  Result<void> AddLogits(const OnnxTensor& tensor);
  Result<bool> AddOptional(const OnnxTensor& tensor);

  const DecoderConfig& config_;
  DecoderContract contract_;
  bool input_ids_ = false;
  bool logits_ = false;
  std::optional<OnnxElement> element_;
  size_t query_layers_ = 0;
};

Result<void> Matcher::AddLayer(const OnnxTensor& tensor, const LayerTensor& found, bool past) {
  if (found.layer >= config_.layers) {
    return Wrong(tensor, "is of layer ", found.layer, ", config.json has ", config_.layers,
                 " layers");
  }
  TQ_CHECK(CheckFloat(tensor));
  const std::array<int64_t, 4> shape = {1, static_cast<int64_t>(config_.kv_heads), kAny,
                                        static_cast<int64_t>(config_.head_dim)};
  TQ_CHECK(CheckShape(tensor, shape, "[batch, kv_heads, tokens, head_dim]"));
  if (element_ && *element_ != tensor.element) {
    return Wrong(tensor, "is of ", OnnxElementName(tensor.element), ", the others are of ",
                 OnnxElementName(*element_));
  }
  element_ = tensor.element;
  DecoderLayerNames& names = contract_.layers[found.layer];
  const bool key = found.side == Side::kKey;
  std::string& name = past ? (key ? names.past_key : names.past_value)
                           : (key ? names.present_key : names.present_value);
  if (!name.empty()) {
    return Wrong(tensor, "and ", Short(name), " are both the ", past ? "past" : "present",
                 " of layer ", found.layer);
  }
  name = tensor.name;
  return {};
}

// Recognises the inputs that a graph may have or lack; false for another name.
Result<bool> Matcher::AddOptional(const OnnxTensor& tensor) {
  const std::string& name = tensor.name;
  if (name == "attention_mask" || name == "position_ids" || name == "token_type_ids") {
    TQ_CHECK(CheckTokens(tensor, "[batch, tokens]"));
    contract_.attention_mask |= name == "attention_mask";
    contract_.position_ids |= name == "position_ids";
    contract_.token_type_ids |= name == "token_type_ids";
    return true;
  }
  if (name == "cache_position") {
    if (tensor.shape.size() == 2) {
      TQ_CHECK(CheckTokens(tensor, "[batch, tokens]"));
    } else {
      constexpr std::array<int64_t, 1> kShape = {kAny};
      TQ_CHECK(CheckElement(tensor, OnnxElement::kI64));
      TQ_CHECK(CheckShape(tensor, kShape, "[tokens]"));
    }
    contract_.cache_position = tensor.shape.size();
    return true;
  }
  if (name == "use_cache_branch") {
    TQ_CHECK(CheckElement(tensor, OnnxElement::kBool));
    if (!tensor.shape.empty()) {
      constexpr std::array<int64_t, 1> kShape = {1};
      TQ_CHECK(CheckShape(tensor, kShape, "one bool"));
    }
    contract_.use_cache_branch = tensor.shape.size();
    return true;
  }
  return false;
}

Result<void> Matcher::AddInput(const OnnxTensor& tensor) {
  if (tensor.name == "input_ids") {
    input_ids_ = true;
    return CheckTokens(tensor, "[batch, tokens]");
  }
  if (const auto past = KeyOrValue(tensor.name, "past_key_values.")) {
    return AddLayer(tensor, *past, /*past=*/true);
  }
  TQ_TRY(const bool known, AddOptional(tensor));
  if (known) return {};
  return Wrong(tensor, "is an input that no decoder of this contract has");
}

Result<void> Matcher::AddQuery(const OnnxTensor& tensor, size_t layer) {
  if (layer >= config_.layers) {
    return Wrong(tensor, "is of layer ", layer, ", config.json has ", config_.layers, " layers");
  }
  TQ_CHECK(CheckFloat(tensor));
  const std::array<int64_t, 4> shape = {1, static_cast<int64_t>(config_.query_heads), kAny,
                                        static_cast<int64_t>(config_.head_dim)};
  TQ_CHECK(CheckShape(tensor, shape, "[batch, query_heads, tokens, head_dim]"));
  if (query_layers_ > 0 && contract_.query_element != tensor.element) {
    return Wrong(tensor, "is of ", OnnxElementName(tensor.element), ", other queries are of ",
                 OnnxElementName(contract_.query_element));
  }
  if (!contract_.layers[layer].query.empty()) return Wrong(tensor, "is there twice");
  contract_.query_element = tensor.element;
  contract_.layers[layer].query = tensor.name;
  ++query_layers_;
  return {};
}

Result<void> Matcher::AddLogits(const OnnxTensor& tensor) {
  TQ_CHECK(CheckFloat(tensor));
  TQ_CHECK(CheckRank(tensor, 3));
  constexpr int64_t kMaxVocabulary = int64_t{1} << 24;
  const int64_t declared = tensor.shape[2];
  const auto configured = static_cast<int64_t>(config_.vocabulary.value_or(0));
  const int64_t vocabulary = declared < 0 ? configured : declared;
  if (vocabulary < 1 || vocabulary > kMaxVocabulary) {
    return Wrong(tensor, "must have a vocabulary of 1 to ", kMaxVocabulary, ", has ", vocabulary);
  }
  if (configured != 0 && configured != vocabulary) {
    return Wrong(tensor, "has a vocabulary of ", vocabulary, ", config.json's vocab_size is ",
                 configured);
  }
  const std::array<int64_t, 3> shape = {1, kAny, vocabulary};
  TQ_CHECK(CheckShape(tensor, shape, "[batch, tokens, vocabulary]"));
  contract_.logits_element = tensor.element;
  contract_.vocabulary = static_cast<size_t>(vocabulary);
  logits_ = true;
  return {};
}

Result<void> Matcher::AddOutput(const OnnxTensor& tensor) {
  if (tensor.name == "logits") return AddLogits(tensor);
  for (const std::string_view prefix : {"present.", "present_key_values."}) {
    if (const auto present = KeyOrValue(tensor.name, prefix)) {
      return AddLayer(tensor, *present, /*past=*/false);
    }
  }
  if (const auto query = LayerOf(tensor.name, "query."); query && query->second.empty()) {
    return AddQuery(tensor, query->first);
  }
  return {};
}

Result<DecoderContract> Matcher::Finish() {
  if (!input_ids_) return Fail(ErrorCode::kModel, "there is no input input_ids");
  if (!logits_) return Fail(ErrorCode::kModel, "there is no output logits");
  for (size_t l = 0; l < contract_.layers.size(); ++l) {
    const DecoderLayerNames& names = contract_.layers[l];
    const std::pair<const std::string*, std::string_view> wanted[] = {
        {&names.past_key, "input past_key_values.#.key"},
        {&names.past_value, "input past_key_values.#.value"},
        {&names.present_key, "output present.#.key"},
        {&names.present_value, "output present.#.value"}};
    for (const auto& [name, what] : wanted) {
      if (!name->empty()) continue;
      std::string missing(what);
      missing.replace(missing.find('#'), 1, std::to_string(l));
      return Fail(ErrorCode::kModel, "there is no ", missing, ", config.json has ", config_.layers,
                  " layers");
    }
  }
  if (query_layers_ != 0 && query_layers_ != config_.layers) {
    return Fail(ErrorCode::kModel, "there are outputs query.# of ", query_layers_, " layers of ",
                config_.layers);
  }
  contract_.queries = query_layers_ != 0;
  contract_.past_element = *element_;
  return std::move(contract_);
}

}  // namespace

std::string_view OnnxElementName(OnnxElement element) {
  return kElementNames[static_cast<size_t>(element)];
}

Result<DecoderContract> MatchContract(std::span<const OnnxTensor> inputs,
                                      std::span<const OnnxTensor> outputs,
                                      const DecoderConfig& config) {
  Matcher matcher(config);
  for (const OnnxTensor& input : inputs) TQ_CHECK(matcher.AddInput(input));
  for (const OnnxTensor& output : outputs) TQ_CHECK(matcher.AddOutput(output));
  return matcher.Finish();
}

}  // namespace turboquant
