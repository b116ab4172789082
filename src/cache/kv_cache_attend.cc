#include "turboquant/attention.h"
#include "turboquant/kv_cache.h"

namespace turboquant {

Result<void> KvCache::Attend(const HeadsView& queries, const AttendOptions& options,
                             const HeadsOutput& outputs) const {
  return turboquant::Attend(queries, view(), options, outputs);
}

Result<void> KvCache::Scores(const HeadsView& queries, MatrixView<float> scores) const {
  AttendOptions options;
  options.scale = 1.0f;
  options.causal = false;
  return AttentionLogits(queries, view(), options, scores);
}

}  // namespace turboquant
