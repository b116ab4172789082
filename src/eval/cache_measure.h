// Runs one cache on attention cases and reports a benchmark row.
#ifndef TURBOQUANT_SRC_EVAL_CACHE_MEASURE_H_
#define TURBOQUANT_SRC_EVAL_CACHE_MEASURE_H_

#include <span>
#include <string>
#include <vector>

#include "src/eval/attention_errors.h"
#include "src/eval/cache_row.h"
#include "src/eval/cache_spec.h"
#include "src/eval/head_cache.h"
#include "src/eval/measure.h"
#include "turboquant/error.h"

namespace turboquant::eval {

// Accumulates one cache over the samples of a head. The protocol is a decoder's: in ascending order
// of the queries' positions, tokens up to and including a query's own are appended, then it
// attends.
class CacheMeasurement {
 public:
  CacheMeasurement(const CacheSpec& spec, std::vector<PositionErrors> bins);

  const CacheSpec& spec() const { return spec_; }

  // Errors: those of the cache or the baseline.
  [[nodiscard]] Result<void> Add(const ExactAttention& exact, const HeadOrigin& origin,
                                 const RunContext& run);

  // Everything measured so far, with the fields a workload owns (workload, source, ...) left empty.
  CacheRow Row() const;

 private:
  [[nodiscard]] Result<void> AddCache(const ExactAttention& exact, HeadCache& head,
                                      const RunContext& run);
  [[nodiscard]] Result<void> AddBaseline(const ExactAttention& exact, HeadCache& head,
                                         const HeadOrigin& origin, const RunContext& run);
  void NoteSizes(const KvCache& cache, double bytes_per_token);

  CacheSpec spec_;
  AttentionErrors errors_;
  CacheRow row_;  // sizes; the rest comes from errors_
};

// Adds one case to every measurement. `label` goes in front of the cache in progress reports;
// errors have the cache's name in front.
[[nodiscard]] Result<void> AddToAll(const ExactAttention& exact, const HeadOrigin& origin,
                                    const RunContext& run, const std::string& label,
                                    std::span<CacheMeasurement> measurements);

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_CACHE_MEASURE_H_
