#include "turboquant/onnx/generation.h"

#include <algorithm>
#include <chrono>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/onnx/sampler.h"

namespace turboquant {
namespace {

class Stopwatch {
 public:
  double Seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// Leaves the last step's logits in `step`.
Result<void> Prefill(DecoderSequence& sequence, std::span<const int64_t> prompt, size_t tokens,
                     DecoderStep& step) {
  for (size_t first = 0; first < prompt.size(); first += tokens) {
    const size_t count = std::min(tokens, prompt.size() - first);
    TQ_CHECK(sequence.Step(prompt.subspan(first, count), step));
  }
  return {};
}

}  // namespace

Result<Generation> Generate(DecoderSequence& sequence, std::span<const int64_t> prompt,
                            const GenerationOptions& options) {
  if (prompt.empty()) return Fail(ErrorCode::kInvalidArgument, "the prompt has no tokens");
  if (options.max_new_tokens == 0 || options.prefill_tokens == 0) {
    return Fail(ErrorCode::kInvalidArgument,
                "max_new_tokens and prefill_tokens must be above 0, got ", options.max_new_tokens,
                " and ", options.prefill_tokens);
  }
  TQ_TRY(Sampler sampler, Sampler::Create(options.sampling));
  const std::vector<int64_t>& eos = sequence.decoder().config().eos_tokens;
  Generation generation;
  DecoderStep step;
  const Stopwatch prefill;
  TQ_CHECK(Prefill(sequence, prompt, options.prefill_tokens, step));
  while (true) {
    const auto logits = std::span(step.logits).last(sequence.decoder().vocabulary());
    TQ_TRY(const int64_t token, sampler.Choose(logits));
    if (generation.tokens.empty()) generation.prefill_seconds = prefill.Seconds();
    generation.tokens.push_back(token);
    if (options.keep_logits) {
      generation.logits.insert(generation.logits.end(), logits.begin(), logits.end());
    }
    if (options.on_token) options.on_token(token);
    generation.ended = options.stop_on_eos && std::ranges::binary_search(eos, token);
    if (generation.ended || generation.tokens.size() == options.max_new_tokens) return generation;
    const Stopwatch one_step;
    TQ_CHECK(sequence.Step({&token, 1}, step));
    generation.step_seconds.push_back(one_step.Seconds());
    generation.decode_seconds += generation.step_seconds.back();
  }
}

}  // namespace turboquant
