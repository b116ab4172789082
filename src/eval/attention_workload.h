// How long attention takes on packed codes, against the length of the context.
#ifndef TURBOQUANT_SRC_EVAL_ATTENTION_WORKLOAD_H_
#define TURBOQUANT_SRC_EVAL_ATTENTION_WORKLOAD_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/eval/cache_spec.h"
#include "src/eval/measure.h"
#include "src/eval/result_row.h"
#include "turboquant/backend.h"
#include "turboquant/error.h"

namespace turboquant::eval {

struct AttentionOptions {
  std::vector<size_t> tokens = {1024, 4096, 16384, 32768};
  size_t query_heads = 32;
  size_t kv_heads = 8;
  size_t head_dim = 128;
  uint64_t seed = 42;
  Backend backend = Backend::kAuto;
  std::vector<CacheSpec> caches;
};

// kInvalidArgument for empty lists and sizes out of range.
[[nodiscard]] Result<void> CheckAttentionOptions(const AttentionOptions& options);

// Adds a row for each length and cache: one query token attends to a cache of random tokens, as a
// decoder's next step does. All tokens are packed, whatever sinks and window the caches have; key
// maps have arbitrary numbers, and page frames RoPE's rotation, since only the time they take
// counts. Errors: those of CheckAttentionOptions and of KvCache.
[[nodiscard]] Result<void> RunAttention(const AttentionOptions& options, const RunContext& run,
                                        BenchmarkResult& result);

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_ATTENTION_WORKLOAD_H_
