#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "src/base/checked.h"
#include "src/base/counted_shared.h"
#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/cache/check_heads.h"
#include "src/cache/kv_state.h"
#include "src/cache/pack_tokens.h"
#include "src/kernels/scratch.h"
#include "src/quantizers/row_reader.h"
#include "turboquant/kv_cache.h"

namespace turboquant {
namespace {

// What an Append does to the tokens, decided before anything is done.
struct AppendPlan {
  size_t to_sinks;  // the first of the call
  size_t packed;    // of the pending ones, the first
  // Visible lanes afterwards, counted from lane 0 of the first page of today.
  size_t first_lane;
  size_t end_lane;
  size_t dropped;  // pending tokens behind the packed ones that are evicted at once
  size_t evicted;  // in all
};

// Lane at which packed tokens end when `pending` more are there.
size_t PackedEnd(const KvCache::State& state, size_t pending, bool packs) {
  const size_t end = state.pages.end_lane();
  const size_t window = state.options.window;
  if (!packs) return end;
  if (window == 0) return end + pending;
  if (pending < window) return end;
  return std::max(end, (end + pending - window) / kPackTokens * kPackTokens);
}

AppendPlan MakePlan(const KvCache::State& state, size_t to_sinks, size_t pending, bool packs) {
  AppendPlan plan = {};
  plan.to_sinks = to_sinks;
  plan.end_lane = PackedEnd(state, pending, packs);
  plan.packed = plan.end_lane - state.pages.end_lane();
  const size_t visible = state.pages.tokens() + pending;
  plan.evicted = visible - std::min(visible, state.Limit());
  const size_t from_pages = std::min(plan.evicted, plan.end_lane - state.pages.first_lane());
  plan.first_lane = state.pages.first_lane() + from_pages;
  plan.dropped = plan.evicted - from_pages;
  return plan;
}

// A map that the cache holds, and what it takes.
struct HeldMap {
  std::shared_ptr<const KeyMap> map;
  size_t bytes;
};

// The map of the first tokens: all sinks, and up to 512 pending ones.
Result<HeldMap> EstimateMap(const KvCache::State& state, const HeadsView& sink_keys,
                            const HeadsView& sink_values, const PendingTokens& pending) {
  const KvCacheOptions& options = state.options;
  const size_t heads = options.format.kv_heads;
  const size_t dim = options.format.head_dim;
  const size_t sinks = options.sinks;
  const size_t tokens = sinks + std::min(pending.count(), kKeyMapMaxTokens);
  const PendingTokens sink_tokens = {&state.sinks,         sink_keys, sink_values,
                                     pending.round_to_f16, {},        {}};
  std::vector<float> rows[2];
  for (const bool values : {false, true}) {
    rows[values].resize(tokens * heads * dim);
    for (size_t t = 0; t < tokens; ++t) {
      for (size_t head = 0; head < heads; ++head) {
        float* row = rows[values].data() + (t * heads + head) * dim;
        if (t < sinks) {
          sink_tokens.Read(values, t, head, row);
        } else {
          pending.Read(values, t - sinks, head, row);
        }
      }
    }
  }
  const bool observed = options.query_heads != 0 && state.observed.tokens >= tokens;
  KeyMapOptions map_options;
  map_options.kind = options.key_map;
  map_options.kv_heads = heads;
  map_options.query_heads = observed ? options.query_heads : 0;
  map_options.head_dim = dim;
  if (options.rope) map_options.rope = *options.rope;
  map_options.sinks = sinks;
  map_options.first_position = options.first_position;
  map_options.shrinkage = options.key_map_shrinkage;
  map_options.query_weights = *options.query_weighted_codes;
  TQ_TRY(const KeyMapEstimator estimator, KeyMapEstimator::Create(map_options));
  HeadsView queries;
  if (observed) {
    queries = HeadsView::TokenMajor(state.observed.rows.data(), tokens, options.query_heads, dim);
  }
  TQ_TRY(KeyMap map,
         estimator.Estimate(HeadsView::TokenMajor(rows[0].data(), tokens, heads, dim),
                            HeadsView::TokenMajor(rows[1].data(), tokens, heads, dim), queries));
  HeldMap held = {nullptr, 0};
  held.map = MakeCountedShared<KeyMap>(held.bytes, std::move(map));
  held.bytes += held.map->HeldBytes();
  return held;
}

// The pages that the plan writes to: the open one, or its copy, and new ones. Those that would be
// evicted in the same call are left out.
PageSpan MakeSpan(const KvCache::State& state, const AppendPlan& plan) {
  PageSpan span = {{}, 0, state.pages.end_lane(), plan.end_lane};
  span.first_page = std::max(span.first_lane, plan.first_lane) / kPageTokens;
  if (plan.first_lane == plan.end_lane || plan.packed == 0) return span;
  const size_t pages_end = CeilDivide(plan.end_lane, kPageTokens);
  const uint64_t lane_0 =
      state.options.first_position + state.options.sinks + state.evicted - state.pages.first_lane();
  for (size_t page = span.first_page; page < pages_end; ++page) {
    if (page < state.pages.count()) {
      span.pages.push_back(state.pages.Writable(page));
    } else {
      span.pages.push_back(PageRef::Make(state.PagesToMake(), lane_0 + page * kPageTokens));
    }
  }
  return span;
}

// Zeroes what PackTokens wrote to the open page, if that is not a copy.
void UndoPacking(const KvCache::State& state, const PageSpan& span) {
  if (span.pages.empty() || span.first_page >= state.pages.count()) return;
  std::byte* bytes = span.pages[0].bytes();
  if (bytes != state.pages.view()[span.first_page].bytes) return;
  const KvFormat::Parts& parts = state.parts();
  const size_t count = span.End(0) - span.Begin(0);
  for (size_t head = 0; head < parts.options.kv_heads; ++head, bytes += parts.head_bytes) {
    ClearTokens(parts.keys, /*values=*/false, span.Begin(0), count, bytes);
    ClearTokens(parts.values, /*values=*/true, span.Begin(0), count, bytes);
  }
}

std::unexpected<Error> Refuse(const KvCache::State& state, const AppendPlan& plan,
                              const PackFailure& failure) {
  const char* side = failure.values ? "values" : "keys";
  const size_t waiting = state.window.count();
  if (failure.token >= waiting) {
    return Fail(failure.error.code, side, "[", failure.token - waiting + plan.to_sinks, "][",
                failure.head, "] cannot be packed: ", failure.error.message);
  }
  const size_t token = state.sinks.count() + state.pages.tokens() + failure.token;
  return Fail(failure.error.code, side, " of visible token ", token, ", head ", failure.head,
              ", cannot be packed: ", failure.error.message);
}

// norms_squared: those of keys, then those of values, [heads × tokens] each.
Result<void> CheckTokens(const KvCache::State& state, const HeadsView& keys,
                         const HeadsView& values, size_t to_sinks, const ParallelFor& parallel_for,
                         double* norms_squared) {
  const auto limits = [&](const KvSide& side) {
    RowLimits row_limits;
    if (!side.exact()) row_limits.first_packed = to_sinks;
    row_limits.f16 =
        state.options.exact_type == RowType::kF16 || side.options.method == KvMethod::kF16;
    return row_limits;
  };
  const KvFormat::Parts& parts = state.parts();
  TQ_CHECK(
      CheckNumbers("keys", keys, limits(parts.keys), *parts.kernels, parallel_for, norms_squared));
  return CheckNumbers("values", values, limits(parts.values), *parts.kernels, parallel_for,
                      norms_squared + keys.heads * keys.tokens);
}

// For a side with outlier channels that are not chosen yet: by the tokens to be packed, if any.
void ChooseMissingChannels(const PackFormat& format, const PendingTokens& pending,
                           const PageSpan& span, std::vector<uint16_t> (&channels)[2]) {
  for (const bool values : {false, true}) {
    const KvSide& side = values ? format.parts->values : format.parts->keys;
    const bool chosen = side.options.outlier_channels == 0 || !channels[values].empty();
    if (chosen || span.pages.empty()) continue;
    channels[values] = ChooseChannels(format, values, pending, span);
  }
}

// All that may fail has been done: pages go to their places, exact tokens to theirs.
void Commit(KvCache::State& state, const AppendPlan& plan, PageSpan span, const HeadsView& keys,
            const HeadsView& values) {
  if (plan.to_sinks != 0) {
    state.sinks.Reserve(state.options.sinks);
    state.sinks.Append(keys.Slice(0, plan.to_sinks), values.Slice(0, plan.to_sinks));
  }
  const size_t rest = keys.tokens - plan.to_sinks;
  const size_t gone = plan.packed + plan.dropped;  // of the pending tokens
  const size_t from_window = std::min(gone, state.window.count());
  const size_t skipped = plan.to_sinks + gone - from_window;
  state.window.RemoveFront(from_window);
  state.window.Append(keys.Slice(skipped, rest - (gone - from_window)),
                      values.Slice(skipped, rest - (gone - from_window)));
  state.pages.Commit(span.first_page, std::move(span.pages), plan.first_lane, plan.end_lane);
  state.evicted += plan.evicted;
}

}  // namespace

Result<void> KvCache::Append(const HeadsView& keys, const HeadsView& values,
                             const ParallelFor& parallel_for) {
  State& state = *state_;
  const KvFormatOptions& format = state.options.format;
  TQ_CHECK(CheckHeads("keys", keys, format.kv_heads, format.head_dim));
  TQ_CHECK(CheckHeads("values", values, format.kv_heads, format.head_dim));
  if (keys.tokens != values.tokens) {
    return Fail(ErrorCode::kDimensionMismatch, "there are keys of ", keys.tokens,
                " tokens and values of ", values.tokens);
  }
  if (keys.tokens == 0) return {};
  const size_t to_sinks = std::min(keys.tokens, state.options.sinks - state.sinks.count());
  const size_t rows = keys.heads * keys.tokens;
  kernels::Scratch<double> norms(2 * rows);  // of keys, then of values
  TQ_CHECK(CheckTokens(state, keys, values, to_sinks, parallel_for, norms.data()));

  const size_t rest = keys.tokens - to_sinks;
  const bool exact_first = state.options.window != 0 || state.AwaitsMap();
  const PendingTokens pending = {&state.window,
                                 keys.Slice(to_sinks, rest),
                                 values.Slice(to_sinks, rest),
                                 exact_first && state.options.exact_type == RowType::kF16,
                                 {norms.data() + to_sinks, keys.tokens},
                                 {norms.data() + rows + to_sinks, keys.tokens}};
  HeldMap estimated = {nullptr, 0};
  if (state.AwaitsMap() && pending.count() >= kKeyMapMinTokens) {
    TQ_TRY(estimated,
           EstimateMap(state, keys.Slice(0, to_sinks), values.Slice(0, to_sinks), pending));
  }
  const bool map_missing = state.AwaitsMap() && estimated.map == nullptr;
  const AppendPlan plan = MakePlan(state, to_sinks, pending.count(), state.Packs() && !map_missing);
  PageSpan span = MakeSpan(state, plan);
  const KeyMap* map = estimated.map ? estimated.map.get() : state.key_map.get();
  PackFormat pack = {&state.parts(),
                     state.UsesMap() ? map : nullptr,
                     *state.options.query_weighted_codes,
                     state.Frames(),
                     nullptr,
                     nullptr};
  std::vector<uint16_t> channels[2] = {state.key_channels, state.value_channels};
  ChooseMissingChannels(pack, pending, span, channels);
  pack.key_channels = channels[0].empty() ? nullptr : channels[0].data();
  pack.value_channels = channels[1].empty() ? nullptr : channels[1].data();
  if (auto failure = PackTokens(pack, pending, span, parallel_for)) {
    UndoPacking(state, span);
    return Refuse(state, plan, *failure);
  }
  Commit(state, plan, std::move(span), keys, values);
  state.key_channels = std::move(channels[0]);
  state.value_channels = std::move(channels[1]);
  if (estimated.map != nullptr) {
    state.key_map = std::move(estimated.map);
    state.key_map_bytes = estimated.bytes;
    state.observed = {};
  }
  return {};
}

Result<void> KvCache::ObserveQueries(const HeadsView& queries) {
  State& state = *state_;
  if (!state.AwaitsMap()) return {};
  const size_t dim = state.options.format.head_dim;
  const size_t heads = state.options.query_heads;
  if (heads == 0) {
    return Fail(ErrorCode::kInvalidArgument, "query_heads is 0: no queries were to be observed");
  }
  TQ_CHECK(CheckHeads("queries", queries, heads, dim));
  TQ_CHECK(CheckNumbers("queries", queries, {}, *state.parts().kernels, {}));
  ObservedQueries& observed = state.observed;
  const size_t first = state.size();
  if (observed.tokens < first) {  // those of an earlier token are missing: all are of no use
    observed = {};
    return {};
  }
  const size_t end = std::min(first + queries.tokens, state.options.sinks + kKeyMapMaxTokens);
  if (end <= first) return {};
  observed.rows.resize(end * heads * dim);
  observed.tokens = end;
  for (size_t head = 0; head < heads; ++head) {
    const RowsView rows = queries.Head(head);
    for (size_t t = first; t < end; ++t) {
      ReadRow(rows, t - first, observed.rows.data() + (t * heads + head) * dim);
    }
  }
  return {};
}

}  // namespace turboquant
