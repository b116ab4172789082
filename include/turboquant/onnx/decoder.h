// A decoder bundle's model on ONNX Runtime, one sequence at a time.
#ifndef TURBOQUANT_ONNX_DECODER_H_
#define TURBOQUANT_ONNX_DECODER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "turboquant/error.h"
#include "turboquant/heads_view.h"
#include "turboquant/onnx/bundle.h"
#include "turboquant/onnx/runtime.h"

namespace turboquant {

struct OnnxDecoderOptions {
  int threads = 1;  // of the session, which has a pool of its own; 1 to 1024
};

// Keys and values that the next step sees, of every layer, as graphs hold them:
// [kv_heads × tokens × head_dim] of f32 or f16. The step's output becomes its past: nothing is
// copied but what the graph itself copies.
class DecoderPast {
 public:
  size_t layers() const { return layers_.size(); }
  size_t tokens() const { return tokens_; }
  HeadsView keys(size_t layer) const { return View(layers_[layer].present_keys); }
  HeadsView values(size_t layer) const { return View(layers_[layer].present_values); }

  // Replaces tokens [first, first + count) of one layer by what `write` leaves in the outputs,
  // which hold the present numbers when it is called. Errors: those of `write`;
  // kInvalidArgument for tokens that there are not.
  using Writer = std::function<Result<void>(const HeadsOutput& keys, const HeadsOutput& values)>;
  [[nodiscard]] Result<void> Rewrite(size_t layer, size_t first, size_t count, const Writer& write);

  size_t HeldBytes() const;

 private:
  friend class OnnxDecoder;
  // Of one layer; past and present change places in every step.
  struct Layer {
    std::vector<std::byte> present_keys;
    std::vector<std::byte> present_values;
    std::vector<std::byte> past_keys;
    std::vector<std::byte> past_values;
  };

  DecoderPast(size_t layers, size_t kv_heads, size_t head_dim, RowType type)
      : layers_(layers), kv_heads_(kv_heads), head_dim_(head_dim), type_(type) {}
  HeadsView View(const std::vector<std::byte>& rows) const;

  std::vector<Layer> layers_;
  size_t tokens_ = 0;
  size_t kv_heads_;
  size_t head_dim_;
  RowType type_;
};

// What a step gives besides the past.
struct DecoderStep {
  std::vector<float> logits;  // [tokens × vocabulary]
  // Of every layer, where asked for: [query_heads × tokens × head_dim], after RoPE.
  std::vector<std::vector<float>> queries;
};

struct DecoderStepOptions {
  uint64_t first_position = 0;  // of the past's first token
  bool queries = false;         // the bundle must give them
};

// Immutable after Load; steps of different pasts may run at the same time.
class OnnxDecoder {
 public:
  // Loads the graph and holds it to the contract (docs/onnx.md). Errors: kModel naming the file and
  // the tensor that does not fit; kInvalidArgument.
  [[nodiscard]] static Result<OnnxDecoder> Load(const OnnxRuntime& runtime,
                                                const DecoderBundle& bundle,
                                                const OnnxDecoderOptions& options = {});

  const DecoderConfig& config() const;
  size_t vocabulary() const;
  bool has_queries() const;   // outputs query.{layer}
  RowType past_type() const;  // kF32 or kF16

  DecoderPast EmptyPast() const;

  // Runs the tokens behind the past, which then holds theirs too. A failed call leaves the past as
  // it was. Errors: kInvalidArgument for no tokens, a token outside the vocabulary, positions
  // beyond those of the configuration, queries that the bundle does not give; kDimensionMismatch
  // for another decoder's past; kModel if the graph fails or its outputs are of another shape.
  [[nodiscard]] Result<void> Step(std::span<const int64_t> tokens,
                                  const DecoderStepOptions& options, DecoderPast& past,
                                  DecoderStep& step) const;

  // For the library's own use.
  struct State;

 private:
  explicit OnnxDecoder(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  std::shared_ptr<const State> state_;
};

}  // namespace turboquant

#endif  // TURBOQUANT_ONNX_DECODER_H_
