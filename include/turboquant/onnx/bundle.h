// A decoder bundle: one folder with an ONNX decoder, its tokenizer and its configuration.
#ifndef TURBOQUANT_ONNX_BUNDLE_H_
#define TURBOQUANT_ONNX_BUNDLE_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "turboquant/error.h"
#include "turboquant/key_map.h"

namespace turboquant {

// What config.json and generation_config.json say. Aliases of GPT-2 (n_layer, n_head, n_embd) are
// read; a number given twice must be the same.
struct DecoderConfig {
  std::string model;       // _name_or_path, else the folder's name
  std::string model_type;  // "llama"; empty: not said
  size_t layers = 0;       // 1 to 4096
  size_t query_heads = 0;  // 1 to 1024, a multiple of kv_heads
  size_t kv_heads = 0;
  size_t head_dim = 0;  // 2 to 1024: head_dim, else hidden_size / query_heads
  std::optional<size_t> vocabulary = {};
  std::optional<size_t> max_positions = {};
  std::optional<int64_t> bos_token = {};  // generation_config.json wins
  std::vector<int64_t> eos_tokens = {};   // of both files, ascending
  // Of each layer; empty where keys are not rotated, or in a way that page frames do not know. Then
  // rope_note says why.
  std::vector<RopeParameters> rope = {};
  std::string rope_note = {};
};

// Immutable.
class DecoderBundle {
 public:
  // Reads the configuration and finds the files: the decoder is the first there is of
  // decoder_model_merged.onnx, decoder_with_past_model.onnx, decoder_model.onnx, model.onnx.
  // Errors: kModel naming file and field.
  [[nodiscard]] static Result<DecoderBundle> Open(const std::filesystem::path& folder);

  const DecoderConfig& config() const { return config_; }
  const std::filesystem::path& decoder() const { return decoder_; }
  const std::filesystem::path& tokenizer() const { return tokenizer_; }

 private:
  DecoderBundle() = default;

  DecoderConfig config_;
  std::filesystem::path decoder_;
  std::filesystem::path tokenizer_;
};

}  // namespace turboquant

#endif  // TURBOQUANT_ONNX_BUNDLE_H_
