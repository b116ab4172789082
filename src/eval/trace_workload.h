// Recorded keys, values and queries, with their real norms and causal attention.
#ifndef TURBOQUANT_SRC_EVAL_TRACE_WORKLOAD_H_
#define TURBOQUANT_SRC_EVAL_TRACE_WORKLOAD_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "src/eval/cache_spec.h"
#include "src/eval/measure.h"
#include "src/eval/method.h"
#include "src/eval/result_row.h"
#include "turboquant/backend.h"
#include "turboquant/error.h"

namespace turboquant::eval {

struct TraceOptions {
  std::vector<std::string> files;
  // Of each sample, spread evenly with the first and the last among them; 0 means all.
  size_t max_queries = 0;
  // Scale every key, value and query to length 1, as some other benchmarks do. The softmax is then
  // nearly flat and says little.
  bool normalize = false;
  uint64_t seed = 42;
  Backend backend = Backend::kAuto;
  std::vector<MethodSpec> methods;
  bool methods_by_default = false;  // as SyntheticOptions
  std::vector<CacheSpec> caches;
  MethodMaker maker = {};  // of the methods, instead of the CPU's
};

// Adds, for each file, layer and head, a row for each method and one for each cache. Logits are
// scores / sqrt(dim); the query at position p sees keys 0..p. Errors: those of loading a trace, of
// the methods and of the caches; kInvalidArgument for no files, or for neither methods nor caches.
[[nodiscard]] Result<void> RunTrace(const TraceOptions& options, const RunContext& run,
                                    BenchmarkResult& result);

// `count` of `available` positions, spread evenly, both ends among them (count 1: the last);
// all of them for count 0 or count >= available.
std::vector<size_t> SpreadEvenly(size_t available, size_t count);

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_TRACE_WORKLOAD_H_
