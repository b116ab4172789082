// The KV caches of a decoder's layers under one policy.
#ifndef TURBOQUANT_DECODER_CACHE_H_
#define TURBOQUANT_DECODER_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "turboquant/error.h"
#include "turboquant/kv_cache.h"

namespace turboquant {

// What differs in one layer; unset: as in the others.
struct KvLayerOverride {
  size_t layer = 0;
  std::optional<KvSideOptions> keys = {};
  std::optional<KvSideOptions> values = {};
  std::optional<size_t> window = {};
  std::optional<KeyMapKind> key_map = {};
  std::optional<RopeParameters> rope = {};
  std::shared_ptr<const KeyMap> known_key_map = {};  // null: as in the others
};

struct DecoderCacheOptions {
  size_t layers = 0;          // 1 to 4096
  KvCacheOptions layer = {};  // of every layer; its format.layer is ignored
  std::vector<KvLayerOverride> overrides = {};
};

// Written by one thread at a time, except that different layers may be written at the same time.
class DecoderCache {
 public:
  // Errors: kInvalidArgument naming layer and option, kUnavailable for the backend.
  [[nodiscard]] static Result<DecoderCache> Create(const DecoderCacheOptions& options);

  size_t layers() const { return caches_.size(); }
  KvCache& layer(size_t l) { return caches_[l]; }
  const KvCache& layer(size_t l) const { return caches_[l]; }

  // Tokens of the shortest layer: within a step of the decoder some layers are one step ahead.
  size_t size() const;

  // Keeps the first n visible tokens of every layer, or changes nothing. Errors: kInvalidArgument.
  [[nodiscard]] Result<void> Truncate(size_t n);

  void Clear();
  DecoderCache Fork();

  // Sums over the layers; tokens are those of size().
  KvCacheStats Stats() const;

 private:
  friend class KvSnapshot;  // src/storage: makes one of the caches of a file
  explicit DecoderCache(std::vector<KvCache> caches) : caches_(std::move(caches)) {}
  std::vector<KvCache> caches_;
};

}  // namespace turboquant

#endif  // TURBOQUANT_DECODER_CACHE_H_
