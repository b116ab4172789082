// Benchmark on a decoder: what quantized caches do to perplexity, texts and speed.
#ifndef TURBOQUANT_SRC_ONNX_REAL_MODEL_WORKLOAD_H_
#define TURBOQUANT_SRC_ONNX_REAL_MODEL_WORKLOAD_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "src/eval/cache_spec.h"
#include "src/eval/measure.h"
#include "src/eval/result_row.h"
#include "turboquant/backend.h"
#include "turboquant/error.h"
#include "turboquant/onnx/decoder.h"
#include "turboquant/onnx/generation.h"
#include "turboquant/onnx/tokenizer.h"

namespace turboquant::eval {

enum class RealModelMode {
  kExact,      // the decoder as it is
  kQuantized,  // the caches alone
  kCompare,    // both, and how far they are apart
};

// A text whose contexts are read token by token.
struct RealModelText {
  std::string name;  // of its file
  std::string text;
};

struct RealModelOptions {
  RealModelMode mode = RealModelMode::kCompare;
  std::vector<CacheSpec> caches;
  std::vector<std::string> prompts;
  std::string prompt_prefix;  // around every prompt: a chat template
  std::string prompt_suffix;
  GenerationOptions generation = {};
  std::vector<RealModelText> texts;
  size_t context = 512;     // tokens of one context, 2 or more
  size_t max_contexts = 0;  // of each text, from its beginning; 0: all that are whole
  size_t top_k = 5;
  bool layer_damage = false;  // of texts, layer by layer; as many more runs as there are layers
  int repeats = 1;            // of each prompt; of every step the shortest time is kept
  uint64_t first_position = 0;
  uint64_t seed = 42;
  Backend backend = Backend::kAuto;
};

// Rows for the prompts, then for each text: the exact run's, and one of each cache. Errors:
// kInvalidArgument for neither prompts nor texts, compare or quantized without caches, a text
// shorter than a context; kModel for a tokenizer of another vocabulary; those of the decoder and
// the caches, with the cache's name.
[[nodiscard]] Result<void> RunRealModel(const RealModelOptions& options, const OnnxDecoder& decoder,
                                        const Tokenizer& tokenizer, const RunContext& run,
                                        BenchmarkResult& result);

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_ONNX_REAL_MODEL_WORKLOAD_H_
