// A KvCache that is filled with the tokens of one recorded head as a decoder would fill it.
#ifndef TURBOQUANT_SRC_EVAL_HEAD_CACHE_H_
#define TURBOQUANT_SRC_EVAL_HEAD_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "src/eval/attention_errors.h"
#include "src/eval/cache_spec.h"
#include "turboquant/backend.h"
#include "turboquant/error.h"
#include "turboquant/kv_cache.h"
#include "turboquant/parallel_for.h"

namespace turboquant::eval {

// How the rows of a head came about, and what decides about random numbers and kernels.
struct HeadOrigin {
  std::optional<RopeParameters> rope = {};  // unset: undeclared; without frequencies: none yet
  uint64_t first_position = 0;
  uint32_t layer = 0;
  uint64_t seed = 42;
  Backend backend = Backend::kAuto;
};

class HeadCache {
 public:
  // The rows of the case must outlive the cache. Makes the key map, if it is to be known before the
  // first token is packed. Errors: those of KvCache::Create and KeyMapEstimator.
  [[nodiscard]] static Result<HeadCache> Create(const CacheSpec& spec, const HeadOrigin& origin,
                                                const AttentionCase& attention_case);

  // Appends until the cache holds the first `tokens`, not fewer than it holds. What is packed, and
  // how, is the same as if tokens had come one by one. Errors: those of KvCache::Append.
  [[nodiscard]] Result<void> FillTo(size_t tokens, const ParallelFor& parallel_for);

  // Whether the cache's beginning is exact until the map is made from it.
  bool waits_for_map() const { return map_at_ != 0; }

  const KvCache& cache() const { return *cache_; }

 private:
  HeadCache(const CacheSpec& spec, const HeadOrigin& origin, const AttentionCase& attention_case);
  [[nodiscard]] Result<void> MakeCache(size_t map_tokens);
  [[nodiscard]] Result<void> Append(size_t tokens, const ParallelFor& parallel_for);

  KvCacheOptions options_;
  AttentionCase case_;
  // The queries in order of their tokens: an estimator takes those that were recorded, whether or
  // not every token's were.
  std::vector<size_t> query_tokens_;
  std::vector<float> queries_;
  size_t map_at_ = 0;  // tokens at which the map is made; 0: it is known, or there is none
  std::optional<KvCache> cache_;
};

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_HEAD_CACHE_H_
