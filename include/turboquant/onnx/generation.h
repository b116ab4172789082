// Text by a decoder, token by token.
#ifndef TURBOQUANT_ONNX_GENERATION_H_
#define TURBOQUANT_ONNX_GENERATION_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "turboquant/error.h"
#include "turboquant/onnx/sequence.h"

namespace turboquant {

struct SamplingOptions {
  double temperature = 0.0;  // 0: the most likely token, always
  size_t top_k = 0;          // draw from so many likeliest; 0: from all
  double top_p = 1.0;        // and of these from the fewest that have this share of the weight
  uint64_t seed = 42;
};

struct GenerationOptions {
  size_t max_new_tokens = 16;
  bool stop_on_eos = true;  // behind any of the configuration's end-of-text tokens
  SamplingOptions sampling = {};
  bool keep_logits = false;
  size_t prefill_tokens = 512;  // of one step
  // Told of every token as soon as there is one.
  std::function<void(int64_t token)> on_token = {};
};

struct Generation {
  std::vector<int64_t> tokens;  // new ones; an end-of-text token is the last
  bool ended = false;           // by an end-of-text token
  std::vector<float> logits;    // [tokens × vocabulary] that each was chosen from, if kept
  // Times include quantization. The first token comes out of the prefill; every other one is a
  // decode step.
  double prefill_seconds = 0.0;
  double decode_seconds = 0.0;
  std::vector<double> step_seconds;  // of the decode steps
};

// Reads the prompt and writes up to max_new_tokens. The sequence then holds the prompt and all new
// tokens but the last. A prompt is read in steps of prefill_tokens, whose tokens see each other
// exact. Errors: kInvalidArgument for an empty prompt, no token to write, sampling options; those
// of DecoderSequence::Step; kModel for logits that are not finite.
[[nodiscard]] Result<Generation> Generate(DecoderSequence& sequence,
                                          std::span<const int64_t> prompt,
                                          const GenerationOptions& options);

}  // namespace turboquant

#endif  // TURBOQUANT_ONNX_GENERATION_H_
