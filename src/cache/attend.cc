#include <atomic>
#include <numbers>
#include <optional>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/cache/attend_plan.h"
#include "src/cache/attend_tile.h"
#include "src/cache/check_heads.h"
#include "src/quantizers/run_tasks.h"
#include "turboquant/attention.h"

namespace turboquant {
namespace {

// Rows of a tile when there are many query tokens: digits, scores and sums of a tile stay in L2.
constexpr size_t kTileRows = 64;

// What the spans of one tile add up to.
class TileTotal {
 public:
  TileTotal(const AttendPlan& plan, size_t rows) : plan_(plan), store_(2, rows, plan.head_dim) {
    packed_.Reset();
    exact_.Reset();
  }

  void Add(const AttendSpan& span, const PartialSums& partial) {
    const PartialSums& into = span.packed ? packed_ : exact_;
    const size_t dim = plan_.head_dim;
    for (size_t r = 0; r < partial.rows; ++r) {
      plan_.kernels->attention->merge(into.states[r], into.sums + r * dim, partial.states[r],
                                      partial.sums + r * dim, dim);
    }
  }

  void Finish(AttendTile& tile, const HeadsOutput& outputs) {
    tile.Finish(packed_, exact_, outputs);
  }

 private:
  const AttendPlan& plan_;
  PartialStore store_;
  PartialSums packed_ = store_[0];
  PartialSums exact_ = store_[1];
};

// One tile a head: the spans are shared out. Whoever ends a head's last one merges their sums, in
// order.
void AttendBySpans(const AttendPlan& plan, const HeadsOutput& outputs) {
  const size_t kv_heads = plan.parts->options.kv_heads;
  const size_t spans = plan.spans.size();
  PartialStore partials(kv_heads * spans, plan.query_tokens * plan.group, plan.head_dim);
  std::vector<std::atomic<size_t>> ended(kv_heads);
  RunTasks(plan.options->parallel_for, kv_heads * spans, [&](size_t task) {
    const size_t head = task / spans;
    AttendTile tile(plan, head, 0, plan.query_tokens);
    tile.Attend(plan.spans[task % spans], partials[task]);
    if (ended[head].fetch_add(1, std::memory_order_acq_rel) + 1 < spans) return;
    TileTotal total(plan, tile.rows());
    for (size_t span = 0; span < spans; ++span)
      total.Add(plan.spans[span], partials[head * spans + span]);
    total.Finish(tile, outputs);
  });
}

void AttendByTiles(const AttendPlan& plan, size_t tile_tokens, const HeadsOutput& outputs) {
  const size_t tiles = CeilDivide(plan.query_tokens, tile_tokens);
  RunTasks(plan.options->parallel_for, plan.parts->options.kv_heads * tiles, [&](size_t task) {
    const size_t first = task % tiles * tile_tokens;
    AttendTile tile(plan, task / tiles, first, std::min(tile_tokens, plan.query_tokens - first));
    TileTotal total(plan, tile.rows());
    PartialStore store(1, tile.rows(), plan.head_dim);
    const PartialSums partial = store[0];
    for (const AttendSpan& span : plan.spans) {
      tile.Attend(span, partial);
      total.Add(span, partial);
    }
    total.Finish(tile, outputs);
  });
}

}  // namespace

Result<void> Attend(const HeadsView& queries, const KvView& view, const AttendOptions& options,
                    const HeadsOutput& outputs) {
  TQ_TRY(const AttendPlan plan, MakeAttendPlan(queries, view, options, std::numbers::log2e));
  TQ_CHECK(CheckOutput("outputs", outputs, queries.tokens, queries.heads, queries.dim));
  if (queries.tokens == 0) return {};
  const size_t tile_tokens = std::max<size_t>(1, kTileRows / plan.group);
  // On one thread a tile's buffers and digits serve all of its spans.
  if (queries.tokens <= tile_tokens && options.parallel_for && !plan.spans.empty()) {
    AttendBySpans(plan, outputs);
  } else {
    AttendByTiles(plan, tile_tokens, outputs);
  }
  return {};
}

Result<void> AttentionLogits(const HeadsView& queries, const KvView& view,
                             const AttendOptions& options, MatrixView<float> logits) {
  TQ_TRY(const AttendPlan plan, MakeAttendPlan(queries, view, options, 1.0));
  const size_t rows = queries.tokens * queries.heads;
  if (logits.rows != rows || logits.cols != view.tokens() ||
      (rows > 1 && logits.stride < logits.cols)) {
    return Fail(ErrorCode::kDimensionMismatch, "logits are ", logits.rows, " × ", logits.cols,
                " with stride ", logits.stride, ", expected ", rows, " × ", view.tokens());
  }
  if (rows == 0 || logits.cols == 0) return {};
  if (logits.data == nullptr) return Fail(ErrorCode::kInvalidArgument, "logits have no data");
  const size_t tile_tokens = std::max<size_t>(1, kTileRows / plan.group);
  const size_t tiles = CeilDivide(queries.tokens, tile_tokens);
  RunTasks(options.parallel_for, plan.parts->options.kv_heads * tiles, [&](size_t task) {
    const size_t first = task % tiles * tile_tokens;
    AttendTile tile(plan, task / tiles, first, std::min(tile_tokens, queries.tokens - first));
    tile.Logits(logits);
  });
  return {};
}

}  // namespace turboquant
