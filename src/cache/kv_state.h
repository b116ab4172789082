// What a KvCache consists of.
#ifndef TURBOQUANT_SRC_CACHE_KV_STATE_H_
#define TURBOQUANT_SRC_CACHE_KV_STATE_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "src/cache/exact_tokens.h"
#include "src/cache/kv_pages.h"
#include "src/cache/kv_parts.h"
#include "turboquant/kv_cache.h"

namespace turboquant {

// Tokens behind the sinks from which a key map is estimated: at least, and at most.
inline constexpr size_t kKeyMapMinTokens = 128;
inline constexpr size_t kKeyMapMaxTokens = 512;
// Window tokens are packed in whole blocks of so many.
inline constexpr size_t kPackTokens = 64;
// Largest norm of a row that is packed: a quarter of f16's range, as an unbiased scale is the norm
// by the cosine between row and codes (0.8 at 1 bit, worse for rows that rotate to few
// coordinates).
inline constexpr double kMaxNorm = 16384.0;

// Queries that ObserveQueries was given, of the first tokens on; only while a key map is awaited.
struct ObservedQueries {
  std::vector<float> rows;  // [tokens × query_heads × head_dim]
  size_t tokens = 0;
};

// Whether query_weighted_codes are asked for, or are where that is not said.
bool WeighsCodes(const KvCacheOptions& options);

struct KvCache::State {
  State(const KvCacheOptions& options_in, KvFormat format_in);

  KvCacheOptions options;
  KvFormat format;
  std::shared_ptr<const KeyMap> key_map;  // known or estimated; null while there is none
  size_t key_map_bytes = 0;               // of an estimated one
  std::vector<uint16_t> key_channels;     // [kv_heads × head_dim], once a token of a side with
  std::vector<uint16_t> value_channels;   // outlier channels is packed
  ExactTokens sinks;
  ExactTokens window;
  PackedPages pages;
  uint64_t evicted = 0;  // tokens behind the sinks
  ObservedQueries observed;

  const KvFormat::Parts& parts() const { return format.parts(); }

  // Visible tokens behind the sinks, at most.
  size_t Limit() const {
    return options.max_tokens == 0 ? std::numeric_limits<size_t>::max()
                                   : options.max_tokens - options.sinks;
  }
  // Whether so many tokens are ever visible that some are packed.
  bool Packs() const;
  bool UsesMap() const;
  bool AwaitsMap() const { return UsesMap() && key_map == nullptr; }
  // Null: pages share one frame.
  const RopeParameters* Frames() const;
  PageKind PagesToMake() const { return {format.PageBytes(), Frames(), options.page_pool}; }

  size_t size() const { return sinks.count() + pages.tokens() + window.count(); }
  uint64_t packed_position() const { return options.first_position + sinks.count() + evicted; }
  uint64_t next_position() const { return packed_position() + pages.tokens() + window.count(); }
};

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_CACHE_KV_STATE_H_
