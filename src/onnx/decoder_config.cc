#include "src/onnx/decoder_config.h"

#include <algorithm>
#include <optional>
#include <string>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/onnx/config_fields.h"
#include "src/onnx/rope_config.h"

namespace turboquant {
namespace {

constexpr size_t kMaxLayers = 4096;
constexpr size_t kMaxHeads = 1024;
constexpr size_t kMaxHeadDim = 1024;
constexpr size_t kMaxHidden = kMaxHeads * kMaxHeadDim;
constexpr size_t kMaxVocabulary = size_t{1} << 24;
constexpr size_t kMaxPositions = size_t{1} << 31;

Result<void> ReadHeads(const ConfigFields& fields, DecoderConfig& config) {
  TQ_TRY(config.query_heads, fields.RequiredWhole({"num_attention_heads", "n_head"}, 1, kMaxHeads));
  TQ_TRY(const std::optional<size_t> kv_heads, fields.Whole({"num_key_value_heads"}, 1, kMaxHeads));
  config.kv_heads = kv_heads.value_or(config.query_heads);
  if (config.query_heads % config.kv_heads != 0) {
    return Fail(ErrorCode::kModel, fields.where(), ": num_attention_heads ", config.query_heads,
                " is no multiple of num_key_value_heads ", config.kv_heads);
  }
  TQ_TRY(const std::optional<size_t> head_dim, fields.Whole({"head_dim"}, 2, kMaxHeadDim));
  if (head_dim) {
    config.head_dim = *head_dim;
    return {};
  }
  TQ_TRY(const size_t hidden, fields.RequiredWhole({"hidden_size", "n_embd"}, 1, kMaxHidden));
  config.head_dim = hidden / config.query_heads;
  if (hidden % config.query_heads != 0 || config.head_dim < 2 || config.head_dim > kMaxHeadDim) {
    return Fail(ErrorCode::kModel, fields.where(), ": hidden_size ", hidden, " and ",
                config.query_heads, " heads give no head_dim of 2 to ", kMaxHeadDim);
  }
  return {};
}

// Adds the end-of-text tokens of one file; its begin-of-text token replaces that of the other.
Result<void> ReadTokens(const ConfigFields& fields, DecoderConfig& config) {
  TQ_TRY(const std::vector<int64_t> bos, fields.Tokens("bos_token_id"));
  if (bos.size() > 1) {
    return Fail(ErrorCode::kModel, fields.where(), ": bos_token_id must be one token id, got ",
                bos.size());
  }
  if (!bos.empty()) config.bos_token = bos.front();
  TQ_TRY(const std::vector<int64_t> eos, fields.Tokens("eos_token_id"));
  config.eos_tokens.insert(config.eos_tokens.end(), eos.begin(), eos.end());
  std::ranges::sort(config.eos_tokens);
  const auto repeated = std::ranges::unique(config.eos_tokens);
  config.eos_tokens.erase(repeated.begin(), repeated.end());
  return {};
}

Result<void> CheckTokens(const DecoderConfig& config) {
  if (!config.vocabulary) return {};
  const auto limit = static_cast<int64_t>(*config.vocabulary);
  if (config.bos_token && *config.bos_token >= limit) {
    return Fail(ErrorCode::kModel, "config.json: bos_token_id ", *config.bos_token,
                " is not below vocab_size ", limit);
  }
  if (!config.eos_tokens.empty() && config.eos_tokens.back() >= limit) {
    return Fail(ErrorCode::kModel, "config.json: eos_token_id ", config.eos_tokens.back(),
                " is not below vocab_size ", limit);
  }
  return {};
}

}  // namespace

Result<DecoderConfig> ParseDecoderConfig(std::string_view config_text,
                                         std::string_view generation_text,
                                         std::string_view folder) {
  TQ_TRY(const ConfigFields fields, ConfigFields::Parse(config_text, "config.json"));
  DecoderConfig config;
  TQ_TRY(const std::optional<std::string> name, fields.Text("_name_or_path"));
  config.model = name && !name->empty() ? *name : std::string(folder);
  TQ_TRY(const std::optional<std::string> type, fields.Text("model_type"));
  config.model_type = type.value_or("");
  TQ_TRY(config.layers, fields.RequiredWhole({"num_hidden_layers", "n_layer"}, 1, kMaxLayers));
  TQ_CHECK(ReadHeads(fields, config));
  TQ_TRY(config.vocabulary, fields.Whole({"vocab_size"}, 1, kMaxVocabulary));
  TQ_TRY(config.max_positions,
         fields.Whole({"max_position_embeddings", "n_positions"}, 1, kMaxPositions));
  TQ_CHECK(ReadTokens(fields, config));
  TQ_CHECK(ReadRope(fields, config));
  if (!generation_text.empty()) {
    TQ_TRY(const ConfigFields generation,
           ConfigFields::Parse(generation_text, "generation_config.json"));
    TQ_CHECK(ReadTokens(generation, config));
  }
  TQ_CHECK(CheckTokens(config));
  return config;
}

}  // namespace turboquant
