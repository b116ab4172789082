// What the packed tokens of each layer alone do to a decoder.
#ifndef TURBOQUANT_SRC_ONNX_LAYER_DAMAGE_H_
#define TURBOQUANT_SRC_ONNX_LAYER_DAMAGE_H_

#include <cstddef>
#include <vector>

#include "src/eval/logit_errors.h"
#include "src/eval/metrics.h"
#include "src/eval/real_model_row.h"
#include "turboquant/heads_view.h"
#include "turboquant/onnx/bundle.h"

namespace turboquant::eval {

// Sums of one cache over texts. The configuration must outlive it.
class LayerDamage {
 public:
  explicit LayerDamage(const DecoderConfig& config);

  // Keys of a layer's next packed tokens before and after, [tokens × kv_heads × head_dim],
  // token-major; `sinks` exact tokens stand in front of the first. Calls for different layers may
  // run side by side.
  void AddKeys(size_t layer, size_t sinks, const HeadsView& exact, const HeadsView& packed);

  // The text is over: adds how attention logits of the layer's queries, [query_heads × tokens ×
  // head_dim], correlate over the keys added before each of them, and forgets the keys. Without
  // queries only the latter. Of long texts at most 64 query tokens, evenly spread. As AddKeys.
  void EndText(size_t layer, const std::vector<float>& queries);

  // Predictions of a run in which only this layer's packed tokens were seen.
  void AddErrors(size_t layer, const LogitErrors& errors);

  // Fills in what the row's layers have of it, and the worst correlation.
  void Describe(RealModelRow& row) const;

 private:
  struct Layer {
    size_t sinks = 0;
    std::vector<float> exact_keys;
    std::vector<float> packed_keys;
    Mean correlation;  // of each query's logits
    Mean kl;
  };

  const DecoderConfig* config_;
  std::vector<Layer> layers_;
};

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_ONNX_LAYER_DAMAGE_H_
