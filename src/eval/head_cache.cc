#include "src/eval/head_cache.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <utility>

#include "src/base/failure.h"
#include "src/base/try.h"

namespace turboquant::eval {
namespace {

// Tokens behind the sinks at which a cache makes its own map (kv_cache.h).
constexpr size_t kOwnMapTokens = 128;

HeadsView RowsOf(MatrixView<const float> rows, size_t first, size_t count) {
  HeadsView view = HeadsView::TokenMajor(rows.Row(first), count, 1, rows.cols);
  view.token_stride = rows.stride;
  return view;
}

}  // namespace

HeadCache::HeadCache(const CacheSpec& spec, const HeadOrigin& origin,
                     const AttentionCase& attention_case)
    : options_(spec.options), case_(attention_case) {
  options_.format.head_dim = case_.keys.cols;
  options_.format.kv_heads = 1;
  options_.format.layer = origin.layer;
  options_.format.seed = origin.seed;
  options_.format.backend = origin.backend;
  options_.rope = origin.rope;
  options_.first_position = origin.first_position;
  options_.query_heads = case_.queries.rows == 0 ? 0 : 1;
  std::vector<size_t> order(case_.positions.size());
  std::iota(order.begin(), order.end(), size_t{0});
  // Queries of one position stay in their order. Not stable_sort: clang refuses the deprecated
  // get_temporary_buffer in libstdc++ 12's.
  std::ranges::sort(order, {}, [&](size_t q) { return std::pair(case_.positions[q], q); });
  for (const size_t q : order) {
    query_tokens_.push_back(case_.positions[q]);
    const std::span<const float> row = case_.queries.RowSpan(q);
    queries_.insert(queries_.end(), row.begin(), row.end());
  }
}

Result<HeadCache> HeadCache::Create(const CacheSpec& spec, const HeadOrigin& origin,
                                    const AttentionCase& attention_case) {
  HeadCache head(spec, origin, attention_case);
  TQ_TRY(head.cache_, KvCache::Create(head.options_));
  const size_t sinks = head.options_.sinks;
  if (head.cache_->Stats().key_map_ready) return head;  // none is wanted
  if (spec.key_map_tokens == 0) {
    head.map_at_ = sinks + kOwnMapTokens;
    return head;
  }
  const size_t tokens =
      std::min(std::max(spec.key_map_tokens, sinks + 2), attention_case.keys.rows);
  // With fewer, hardly a token is behind the sinks.
  if (tokens >= sinks + 2) TQ_CHECK(head.MakeCache(tokens));
  return head;
}

Result<void> HeadCache::FillTo(size_t tokens, const ParallelFor& parallel_for) {
  if (map_at_ != 0 && tokens >= map_at_) {
    // A cache observes the queries of all tokens; of a recording they may be few. So the one that
    // waits is replaced by one that knows what it would have found.
    TQ_CHECK(MakeCache(std::exchange(map_at_, 0)));
  }
  return Append(tokens, parallel_for);
}

Result<void> HeadCache::Append(size_t tokens, const ParallelFor& parallel_for) {
  const size_t first = cache_->size();
  if (tokens <= first) return {};
  return cache_->Append(RowsOf(case_.keys, first, tokens - first),
                        RowsOf(case_.values, first, tokens - first), parallel_for);
}

Result<void> HeadCache::MakeCache(size_t map_tokens) {
  KeyMapOptions map_options;
  map_options.kind = options_.key_map;
  map_options.kv_heads = 1;
  map_options.query_heads = 1;
  map_options.head_dim = case_.keys.cols;
  if (options_.rope) map_options.rope = *options_.rope;
  map_options.sinks = options_.sinks;
  map_options.first_position = options_.first_position;
  map_options.shrinkage = options_.key_map_shrinkage;
  map_options.query_weights = options_.key_map == KeyMapKind::kDiagonal;
  map_options.attention_scale = static_cast<float>(case_.logit_scale);
  TQ_TRY(const KeyMapEstimator estimator, KeyMapEstimator::Create(map_options));
  const size_t queries = static_cast<size_t>(std::ranges::lower_bound(query_tokens_, map_tokens) -
                                             query_tokens_.begin());
  HeadsView query_rows;
  if (queries > 0) {
    query_rows = HeadsView::TokenMajor(queries_.data(), queries, 1, case_.keys.cols);
  }
  TQ_TRY(KeyMap map,
         estimator.Estimate(RowsOf(case_.keys, 0, map_tokens), RowsOf(case_.values, 0, map_tokens),
                            query_rows, std::span(query_tokens_).first(queries)));
  options_.known_key_map = std::make_shared<const KeyMap>(std::move(map));
  TQ_TRY(cache_, KvCache::Create(options_));
  return {};
}

}  // namespace turboquant::eval
