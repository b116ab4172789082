// Flags of the commands that run a decoder.
#ifndef TURBOQUANT_SRC_CLI_REAL_MODEL_FLAGS_H_
#define TURBOQUANT_SRC_CLI_REAL_MODEL_FLAGS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace turboquant::cli {

// Of `benchmark --workload real-model` and `generate`.
struct ModelFlags {
  std::string folder;       // --real-model-dir, --model
  std::string onnxruntime;  // the library or its folder; else $TURBOQUANT_ONNXRUNTIME
  std::vector<std::string> prompts;
  std::string prompts_file;  // one prompt a line
  std::optional<size_t> max_prompts;
  std::string prompt_prefix;  // \n is a line break
  std::string prompt_suffix;
  std::optional<size_t> max_new_tokens;
  bool ignore_eos = false;
};

// Of the benchmark only.
struct RealModelFlags {
  ModelFlags model;
  std::string mode;                          // empty: compare
  std::vector<std::string> builtin_prompts;  // by name; "all"
  std::optional<size_t> top_k;
  std::vector<std::string> texts;
  std::optional<size_t> context;
  std::optional<size_t> max_contexts;
  std::optional<uint64_t> first_position;
  bool baselines = false;
  bool layer_damage = false;
  bool sweep = false;
  std::optional<double> min_token_match;  // gates of a sweep, as the next two
  std::optional<double> min_top_k_agreement;
  std::optional<double> max_kl;
  std::string output_dir;  // of a sweep
};

}  // namespace turboquant::cli

#endif  // TURBOQUANT_SRC_CLI_REAL_MODEL_FLAGS_H_
