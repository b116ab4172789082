// An attention call, checked and resolved: what its tiles share.
#ifndef TURBOQUANT_SRC_CACHE_ATTEND_PLAN_H_
#define TURBOQUANT_SRC_CACHE_ATTEND_PLAN_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/base/checked.h"
#include "src/cache/kv_parts.h"
#include "src/kernels/kernels.h"
#include "turboquant/attention.h"

namespace turboquant {

// A run of at most 256 tokens with consecutive positions: lanes [begin, end) of a page, or tokens
// of sinks or window.
struct AttendBlock {
  const KvExactTokens* exact;  // null for a page
  const KvPage* page;
  size_t begin;      // first lane (0 for exact tokens)
  size_t end;        // past the last lane
  size_t first_row;  // exact tokens: row of lane 0
  size_t token;      // index in the view of lane 0 (may lie before it, masked by begin)
  int64_t position;  // of lane 0
};

// Blocks [first, last) whose sums are of one kind: a fixed part of the tokens, whatever the
// threads.
struct AttendSpan {
  size_t first;
  size_t last;
  bool packed;
};

// Blocks of a span: 2048 tokens.
inline constexpr size_t kSpanBlocks = 8;

struct AttendPlan {
  const KvView* view;
  const AttendOptions* options;
  const KvFormat::Parts* parts;
  const kernels::KernelTable* kernels;
  size_t head_dim;
  size_t group;  // query heads of a KV head
  size_t query_tokens;
  int64_t query_position;  // of the first query token
  float unit;              // what queries are multiplied by: logit scale, times log2(e) in Attend
  float natural_per_unit;  // a logit in the unit of the scores times this is in natural units
  bool bends_logits;       // soft-cap, slopes or bias
  std::vector<float> queries;  // times unit, [kv_heads × query_tokens × group × head_dim]
  std::vector<AttendBlock> blocks;
  std::vector<AttendSpan> spans;

  // Lanes of a block that the query token sees.
  using Range = kernels::TokenRange;
  Range Visible(const AttendBlock& block, size_t query_token) const {
    int64_t begin = static_cast<int64_t>(block.begin);
    int64_t end = static_cast<int64_t>(block.end);
    const int64_t own_lane = query_position + static_cast<int64_t>(query_token) - block.position;
    if (options->causal) end = std::min(end, own_lane + 1);
    if (options->sliding_window != 0) {
      const int64_t reach =
          static_cast<int64_t>(std::min<size_t>(options->sliding_window, size_t{1} << 62));
      begin = std::max(begin, own_lane + 1 - reach);
    }
    if (begin >= end) return {0, 0};
    return {static_cast<size_t>(begin), static_cast<size_t>(end)};
  }
};

// Checks everything a caller can get wrong and reads the queries. Logits are in `unit_per_scale`
// per natural unit. Errors: as Attend.
[[nodiscard]] Result<AttendPlan> MakeAttendPlan(const HeadsView& queries, const KvView& view,
                                                const AttendOptions& options,
                                                double unit_per_scale);

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_CACHE_ATTEND_PLAN_H_
