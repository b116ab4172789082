// The next token from logits: the most likely one, or a draw.
#ifndef TURBOQUANT_SRC_ONNX_SAMPLER_H_
#define TURBOQUANT_SRC_ONNX_SAMPLER_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "src/base/random.h"
#include "turboquant/error.h"
#include "turboquant/onnx/generation.h"

namespace turboquant {

class Sampler {
 public:
  // Errors: kInvalidArgument naming the option.
  [[nodiscard]] static Result<Sampler> Create(const SamplingOptions& options);

  // Of equal logits the smallest id. One random number a draw. Errors: kModel for logits that are
  // not finite, naming the token.
  [[nodiscard]] Result<int64_t> Choose(std::span<const float> logits);

 private:
  explicit Sampler(const SamplingOptions& options);
  int64_t Draw(std::span<const float> logits);

  SamplingOptions options_;
  RandomBits random_;
};

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_ONNX_SAMPLER_H_
