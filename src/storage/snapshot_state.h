// The state of a cache as tensors and metadata of a snapshot, and back.
#ifndef TURBOQUANT_SRC_STORAGE_SNAPSHOT_STATE_H_
#define TURBOQUANT_SRC_STORAGE_SNAPSHOT_STATE_H_

#include <set>
#include <span>
#include <string>
#include <string_view>

#include "src/cache/kv_state.h"
#include "src/storage/owned_tensors.h"
#include "src/storage/snapshot_options.h"
#include "turboquant/error.h"
#include "turboquant/safetensors.h"

namespace turboquant {

// Adds options and state of one cache; all names begin with `prefix`.
void AddCache(const KvCache::State& state, const std::string& prefix, OwnedTensors& tensors,
              StringMap& metadata);

// Tensors of a file by name, each of which is to be asked for.
class SnapshotTensors {
 public:
  explicit SnapshotTensors(const SafetensorsFile& file) : file_(file) {}

  // Errors: kCorruptData if there is no such tensor, or one of another type or shape.
  [[nodiscard]] Result<std::span<const std::byte>> Get(const std::string& name, TensorType type,
                                                       std::span<const size_t> shape);
  // [any] elements.
  [[nodiscard]] Result<std::span<const std::byte>> GetVector(const std::string& name,
                                                             TensorType type);

  // Errors: kCorruptData for a tensor that nobody asked for.
  [[nodiscard]] Result<void> CheckNoOthers() const;

 private:
  const SafetensorsFile& file_;
  std::set<std::string, std::less<>> asked_;
};

// The key map that the file holds, null if none. `metadata` has passed Check. Errors: kCorruptData.
[[nodiscard]] Result<std::shared_ptr<const KeyMap>> ReadKeyMap(const SnapshotMetadata& metadata,
                                                               SnapshotTensors& tensors);

// The frequencies of `options.rope`. Errors: kCorruptData.
[[nodiscard]] Result<void> ReadFrequencies(const SnapshotMetadata& metadata,
                                           SnapshotTensors& tensors, KvCacheOptions& options);

// Fills the state of a cache that has just been created with the options of `metadata`. `key_map`
// is what ReadKeyMap returned. Errors: kCorruptData; the state is then of no use.
[[nodiscard]] Result<void> RestoreState(const SnapshotMetadata& metadata, SnapshotTensors& tensors,
                                        const KeyMap* key_map, KvCache::State& state);

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_STORAGE_SNAPSHOT_STATE_H_
