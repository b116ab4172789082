#include "turboquant/decoder_cache.h"

#include <algorithm>
#include <string>
#include <utility>

#include "src/base/failure.h"
#include "src/base/try.h"

namespace turboquant {
namespace {

constexpr size_t kMaxLayers = 4096;

Result<void> CheckOptions(const DecoderCacheOptions& options) {
  if (options.layers < 1 || options.layers > kMaxLayers) {
    return Fail(ErrorCode::kInvalidArgument, "layers must be 1 to ", kMaxLayers, ", got ",
                options.layers);
  }
  for (size_t i = 0; i < options.overrides.size(); ++i) {
    const size_t layer = options.overrides[i].layer;
    if (layer >= options.layers) {
      return Fail(ErrorCode::kInvalidArgument, "overrides[", i, "] is of layer ", layer,
                  ", there are ", options.layers);
    }
    for (size_t j = 0; j < i; ++j) {
      if (options.overrides[j].layer == layer) {
        return Fail(ErrorCode::kInvalidArgument, "overrides[", j, "] and overrides[", i,
                    "] are both of layer ", layer);
      }
    }
  }
  return {};
}

void Override(const KvLayerOverride& change, KvCacheOptions& options) {
  if (change.keys) options.format.keys = *change.keys;
  if (change.values) options.format.values = *change.values;
  if (change.window) options.window = *change.window;
  if (change.key_map) options.key_map = *change.key_map;
  if (change.rope) options.rope = *change.rope;
  if (change.known_key_map) options.known_key_map = change.known_key_map;
}

void Add(const KvCacheStats& layer, KvCacheStats& sum) {
  sum.packed_tokens += layer.packed_tokens;
  sum.exact_tokens += layer.exact_tokens;
  sum.code_bytes += layer.code_bytes;
  sum.scale_bytes += layer.scale_bytes;
  sum.exact_bytes += layer.exact_bytes;
  sum.scratch_bytes += layer.scratch_bytes;
  sum.quantizer_bytes += layer.quantizer_bytes;
  sum.other_bytes += layer.other_bytes;
  sum.total_bytes += layer.total_bytes;
  sum.f16_bytes += layer.f16_bytes;
  sum.f32_bytes += layer.f32_bytes;
  sum.key_map_ready = sum.key_map_ready && layer.key_map_ready;
}

}  // namespace

Result<DecoderCache> DecoderCache::Create(const DecoderCacheOptions& options) {
  TQ_CHECK(CheckOptions(options));
  std::vector<KvCache> caches;
  caches.reserve(options.layers);
  for (size_t layer = 0; layer < options.layers; ++layer) {
    KvCacheOptions layer_options = options.layer;
    layer_options.format.layer = static_cast<uint32_t>(layer);
    for (const KvLayerOverride& change : options.overrides) {
      if (change.layer == layer) Override(change, layer_options);
    }
    Result<KvCache> cache = KvCache::Create(layer_options);
    if (!cache) {
      return Fail(cache.error().code, "layer ", layer, ": ", cache.error().message);
    }
    caches.push_back(*std::move(cache));
  }
  return DecoderCache(std::move(caches));
}

size_t DecoderCache::size() const {
  size_t tokens = caches_.front().size();
  for (const KvCache& cache : caches_) tokens = std::min(tokens, cache.size());
  return tokens;
}

Result<void> DecoderCache::Truncate(size_t n) {
  if (n > size()) {
    return Fail(ErrorCode::kInvalidArgument, "cannot keep ", n, " tokens of ", size());
  }
  for (KvCache& cache : caches_) TQ_CHECK(cache.Truncate(n));
  return {};
}

void DecoderCache::Clear() {
  for (KvCache& cache : caches_) cache.Clear();
}

DecoderCache DecoderCache::Fork() {
  std::vector<KvCache> forks;
  forks.reserve(caches_.size());
  for (KvCache& cache : caches_) forks.push_back(cache.Fork());
  return DecoderCache(std::move(forks));
}

KvCacheStats DecoderCache::Stats() const {
  KvCacheStats sum = {};
  sum.tokens = size();
  sum.key_map_ready = true;
  for (const KvCache& cache : caches_) Add(cache.Stats(), sum);
  const size_t list_bytes = caches_.capacity() * sizeof(KvCache);
  sum.other_bytes += list_bytes;
  sum.total_bytes += list_bytes;
  return sum;
}

}  // namespace turboquant
