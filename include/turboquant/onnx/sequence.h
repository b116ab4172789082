// A sequence that a decoder reads and writes, with its past exact or quantized.
#ifndef TURBOQUANT_ONNX_SEQUENCE_H_
#define TURBOQUANT_ONNX_SEQUENCE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "turboquant/decoder_cache.h"
#include "turboquant/error.h"
#include "turboquant/heads_view.h"
#include "turboquant/onnx/decoder.h"
#include "turboquant/parallel_for.h"

namespace turboquant {

// Puts other rows in place of keys and values [tokens × kv_heads × head_dim] of one layer.
using RowsCodec =
    std::function<Result<void>(size_t layer, const HeadsOutput& keys, const HeadsOutput& values)>;

struct QuantizedSequenceOptions {
  // What the decoder decides (head_dim, kv_heads, query_heads, rope, layer) is filled in;
  // max_tokens must be 0: graphs see the whole past.
  KvCacheOptions cache = {};
  // Of every layer, known before the first token; empty: as cache.key_map says.
  std::vector<std::shared_ptr<const KeyMap>> key_maps = {};
  // Stands in for packing: what becomes of the tokens that are not exact. For comparisons with
  // other formats.
  RowsCodec codec = {};
  // Told of each packed run of tokens: rows as they were, and as they are. For measurements.
  std::function<void(size_t layer, const HeadsView& exact_keys, const HeadsView& exact_values,
                     const HeadsOutput& keys, const HeadsOutput& values)>
      on_packed = {};
  // Only of this layer does the graph see tokens as the cache holds them; those of the others stay
  // exact. For measurements.
  std::optional<size_t> only_layer = {};
  ParallelFor parallel_for = {};  // over layers
};

// Bytes of keys and values.
struct KvUsage {
  size_t tokens = 0;
  size_t bytes = 0;      // of the cache, or of an exact past's tokens
  size_t f16_bytes = 0;  // of the same tokens as f16, and as f32
  size_t f32_bytes = 0;
  size_t held_bytes = 0;  // all that is allocated: caches, and float pasts for the graph
};

// In quantized mode the past lives in a DecoderCache; the graph, which knows floats only, is shown
// the same past as floats, of which only the tokens that were packed since the last step are
// rebuilt. So this mode shows what quantization does to a model; it saves no memory.
class DecoderSequence {
 public:
  // The decoder must outlive the sequence.
  static DecoderSequence Exact(const OnnxDecoder& decoder, uint64_t first_position = 0);

  // Positions begin at options.cache.first_position. Errors: those of DecoderCache::Create;
  // kInvalidArgument for max_tokens, or key maps that are not one for each layer.
  [[nodiscard]] static Result<DecoderSequence> Quantized(const OnnxDecoder& decoder,
                                                         const QuantizedSequenceOptions& options);

  const OnnxDecoder& decoder() const { return *decoder_; }
  const DecoderPast& past() const { return past_; }
  const DecoderCache* cache() const { return cache_ ? &*cache_ : nullptr; }
  size_t tokens() const { return past_.tokens(); }

  // Tokens that one step may have so that each of them sees what it would see in steps of one:
  // until the next tokens are packed, or the key map is made. An exact past has no limit.
  size_t StepTokens() const;

  // Runs tokens behind the past and adds theirs. Tokens of one step see each other exact. An error
  // ends the sequence: later calls fail. Errors: those of OnnxDecoder::Step and KvCache::Append,
  // the latter with the layer.
  [[nodiscard]] Result<void> Step(std::span<const int64_t> tokens, DecoderStep& step,
                                  bool queries = false);

  KvUsage Usage() const;

 private:
  DecoderSequence(const OnnxDecoder& decoder, uint64_t first_position)
      : decoder_(&decoder), past_(decoder.EmptyPast()), first_position_(first_position) {}
  [[nodiscard]] Result<void> AddToLayer(size_t layer, size_t count, const DecoderStep& step);
  [[nodiscard]] Result<void> ShowPacked(size_t layer, size_t first, size_t count);
  bool WaitsForMap() const;

  const OnnxDecoder* decoder_;
  DecoderPast past_;
  uint64_t first_position_;
  std::optional<DecoderCache> cache_;
  QuantizedSequenceOptions options_;
  bool ended_ = false;
};

}  // namespace turboquant

#endif  // TURBOQUANT_ONNX_SEQUENCE_H_
