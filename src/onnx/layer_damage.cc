#include "src/onnx/layer_damage.h"

#include <algorithm>
#include <cassert>
#include <span>

namespace turboquant::eval {
namespace {

constexpr size_t kQueryTokens = 64;

}  // namespace

LayerDamage::LayerDamage(const DecoderConfig& config) : config_(&config), layers_(config.layers) {}

void LayerDamage::AddKeys(size_t layer, size_t sinks, const HeadsView& exact,
                          const HeadsView& packed) {
  Layer& sums = layers_[layer];
  sums.sinks = sinks;
  const size_t count = exact.tokens * exact.heads * exact.dim;
  const auto append = [&](const HeadsView& rows, std::vector<float>& to) {
    assert(rows.token_stride == rows.heads * rows.dim);
    const auto* first = static_cast<const float*>(rows.data);
    to.insert(to.end(), first, first + count);
  };
  append(exact, sums.exact_keys);
  append(packed, sums.packed_keys);
}

void LayerDamage::EndText(size_t layer, const std::vector<float>& queries) {
  Layer& sums = layers_[layer];
  const size_t dim = config_->head_dim;
  const size_t tokens = queries.size() / (config_->query_heads * dim);
  const size_t packed = sums.exact_keys.size() / (config_->kv_heads * dim);
  const size_t stride = std::max<size_t>(1, tokens / kQueryTokens);
  // A query sees the packed keys of earlier tokens; one key has no correlation.
  for (size_t t = sums.sinks + 2; t < tokens; t += stride) {
    const size_t visible = std::min(packed, t - sums.sinks);
    if (visible < 2) break;
    for (size_t head = 0; head < config_->query_heads; ++head) {
      const auto query = std::span(queries).subspan((head * tokens + t) * dim, dim);
      const size_t kv_head = head / (config_->query_heads / config_->kv_heads);
      Correlation correlation;
      for (size_t k = 0; k < visible; ++k) {
        const size_t first = (k * config_->kv_heads + kv_head) * dim;
        correlation.Add(Dot(query, std::span(sums.exact_keys).subspan(first, dim)),
                        Dot(query, std::span(sums.packed_keys).subspan(first, dim)));
      }
      sums.correlation.Add(correlation.Value());
    }
  }
  sums.exact_keys.clear();
  sums.packed_keys.clear();
}

void LayerDamage::AddErrors(size_t layer, const LogitErrors& errors) {
  layers_[layer].kl.AddSum(errors.kl_mean() * static_cast<double>(errors.count()), errors.count());
}

void LayerDamage::Describe(RealModelRow& row) const {
  double total = 0.0;
  for (const Layer& sums : layers_) total += sums.kl.Value();
  for (LayerErrors& layer : row.layers) {
    const Layer& sums = layers_[layer.layer];
    if (sums.kl.count() > 0) {
      layer.kl_mean = sums.kl.Value();
      if (total > 0.0) layer.kl_share = *layer.kl_mean / total;
    }
    if (sums.correlation.count() == 0) continue;
    layer.logit_correlation = sums.correlation.Value();
    row.worst_layer_logit_correlation =
        std::min(row.worst_layer_logit_correlation.value_or(1.0), *layer.logit_correlation);
  }
}

}  // namespace turboquant::eval
