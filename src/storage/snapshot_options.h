// The options of a cache as the metadata of a snapshot has them.
#ifndef TURBOQUANT_SRC_STORAGE_SNAPSHOT_OPTIONS_H_
#define TURBOQUANT_SRC_STORAGE_SNAPSHOT_OPTIONS_H_

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/cache/kv_state.h"
#include "turboquant/error.h"
#include "turboquant/safetensors.h"

namespace turboquant {

// Names and texts of a cache's options, but for frequencies and the numbers of a known key map,
// which are tensors; in the order in which differences are told, so that what decides which other
// options there are comes first.
using OptionTexts = std::vector<std::pair<std::string, std::string>>;
OptionTexts TextsOf(const KvCache::State& state);

// Metadata of one cache, whose names all begin with `prefix`.
class SnapshotMetadata {
 public:
  SnapshotMetadata(const StringMap& metadata, std::string prefix)
      : metadata_(metadata), prefix_(std::move(prefix)) {}

  const std::string& prefix() const { return prefix_; }
  // " in layers.3", or nothing: for messages.
  std::string InWhat() const {
    return prefix_.empty() ? "" : " in " + prefix_.substr(0, prefix_.size() - 1);
  }
  bool Has(std::string_view name) const { return metadata_.contains(Full(name)); }
  const std::string& Text(std::string_view name) const { return metadata_.at(Full(name)); }
  uint64_t Number(std::string_view name) const;
  bool Flag(std::string_view name) const { return Text(name) == "true"; }

  // All that a cache has, options and state, is there and makes sense by itself; adds the full
  // names to `expected`. Errors: kCorruptData naming the option.
  [[nodiscard]] Result<void> Check(std::set<std::string>& expected) const;

  // The rest is for metadata that passed Check.

  // All but frequencies, known key map and backend.
  KvCacheOptions Options() const;

  // The first of `expected` that the metadata has otherwise, as "option 'x' is 'a' in the snapshot,
  // 'b' was expected". Errors: `code`.
  [[nodiscard]] Result<void> Compare(const OptionTexts& expected, ErrorCode code) const;

 private:
  std::string Full(std::string_view name) const { return prefix_ + std::string(name); }
  KvSideOptions Side(std::string_view side) const;

  const StringMap& metadata_;
  std::string prefix_;
};

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_STORAGE_SNAPSHOT_OPTIONS_H_
