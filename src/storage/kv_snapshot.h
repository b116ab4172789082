// The one door to the state of caches for those who save and restore it.
#ifndef TURBOQUANT_SRC_STORAGE_KV_SNAPSHOT_H_
#define TURBOQUANT_SRC_STORAGE_KV_SNAPSHOT_H_

#include <utility>
#include <vector>

#include "src/cache/kv_state.h"
#include "turboquant/decoder_cache.h"
#include "turboquant/kv_cache.h"

namespace turboquant {

class KvSnapshot {
 public:
  static const KvCache::State& StateOf(const KvCache& cache) { return *cache.state_; }
  static KvCache::State& StateOf(KvCache& cache) { return *cache.state_; }
  static DecoderCache MakeDecoder(std::vector<KvCache> layers) {
    return DecoderCache(std::move(layers));
  }
};

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_STORAGE_KV_SNAPSHOT_H_
