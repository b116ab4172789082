// Attention as it is defined, in double, over what a cache gives back: what its kernels are held
// against.
#ifndef TURBOQUANT_SRC_EVAL_DECODED_ATTENTION_H_
#define TURBOQUANT_SRC_EVAL_DECODED_ATTENTION_H_

#include <cstddef>
#include <span>

#include "turboquant/error.h"
#include "turboquant/heads_view.h"
#include "turboquant/kv_cache.h"

namespace turboquant::eval {

// Largest |outputs - attention| of the given query heads of one query token that sees all tokens
// of the cache, over the largest |attention| of those heads; logits are scores / sqrt(head_dim).
// queries and outputs are [query_heads × head_dim]. Errors: those of KvCache::Reconstruct.
[[nodiscard]] Result<double> MaxErrorOverDecoded(const KvCache& cache,
                                                 std::span<const float> queries,
                                                 std::span<const float> outputs, size_t query_heads,
                                                 std::span<const size_t> checked_heads);

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_DECODED_ATTENTION_H_
