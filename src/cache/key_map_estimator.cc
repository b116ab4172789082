#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

#include "src/base/checked.h"
#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/cache/attention_weights.h"
#include "src/cache/check_heads.h"
#include "src/cache/page_frame.h"
#include "src/cache/weighted_moment.h"
#include "src/math/balanced_map.h"
#include "src/quantizers/direction.h"
#include "src/quantizers/row_reader.h"
#include "turboquant/key_map.h"
#include "turboquant/kv_format.h"

namespace turboquant {
namespace {

constexpr size_t kMostQueries = 256;  // of a query head
// Of the weights of codes towards equal ones: statistics of a few hundred tokens are no more than
// that for those to come.
constexpr double kQueryWeightShrinkage = 0.1;

// [tokens × heads × dim], all finite.
Result<void> CheckRows(std::string_view name, const HeadsView& rows, size_t tokens, size_t heads,
                       size_t dim, std::string_view pattern = "keys") {
  TQ_CHECK(CheckHeads(name, rows, heads, dim));
  if (rows.tokens != tokens) {
    return Fail(ErrorCode::kDimensionMismatch, name, " have ", rows.tokens, " tokens, ", pattern,
                " have ", tokens);
  }
  return CheckNumbers(name, rows, {}, FastestKernels(), {});
}

// Rows of one head at the given tokens as floats, [tokens × dim].
std::vector<float> ReadHead(const HeadsView& view, size_t head, std::span<const size_t> tokens) {
  const RowsView rows = view.Head(head);
  std::vector<float> numbers(tokens.size() * view.dim);
  for (size_t i = 0; i < tokens.size(); ++i) ReadRow(rows, tokens[i], &numbers[i * view.dim]);
  return numbers;
}

// Four partial sums that take turns, for vectors.
double Sum(std::span<const float> numbers) {
  std::array<double, 4> sums{};
  const size_t whole = numbers.size() / 4 * 4;
  for (size_t i = 0; i < whole; i += 4) {
    for (size_t lane = 0; lane < 4; ++lane) sums[lane] += numbers[i + lane];
  }
  for (size_t i = whole; i < numbers.size(); ++i) sums[i - whole] += numbers[i];
  return (sums[0] + sums[2]) + (sums[1] + sums[3]);
}

// At most `most` of `count` rows from the first to the last, evenly spaced.
std::vector<size_t> Spread(size_t count, size_t most) {
  std::vector<size_t> chosen(std::min(count, most));
  for (size_t i = 1; i < chosen.size(); ++i) chosen[i] = i * (count - 1) / (chosen.size() - 1);
  return chosen;
}

Result<void> CheckQueryTokens(std::span<const size_t> query_tokens, size_t tokens) {
  for (size_t i = 0; i < query_tokens.size(); ++i) {
    if (query_tokens[i] >= tokens) {
      return Fail(ErrorCode::kInvalidArgument, "query_tokens[", i, "] is ", query_tokens[i],
                  ", there are ", tokens, " tokens");
    }
    if (i > 0 && query_tokens[i] < query_tokens[i - 1]) {
      return Fail(ErrorCode::kInvalidArgument, "query_tokens must ascend: [", i, "] is ",
                  query_tokens[i], " after ", query_tokens[i - 1]);
    }
  }
  return {};
}

// The tokens of one KV head (more than the sinks) and what its map is made of.
class HeadStatistics {
 public:
  HeadStatistics(const KeyMapOptions& options, std::vector<float> keys, std::vector<float> values)
      : options_(options),
        dim_(options.head_dim),
        tokens_(keys.size() / dim_),
        keys_(std::move(keys)),
        values_(std::move(values)),
        key_moment_(dim_, options.kind == KeyMapKind::kFull),
        query_moment_(dim_, options.kind == KeyMapKind::kFull) {
    const size_t pages = CeilDivide(tokens_ - options.sinks, kPageTokens);
    turns_.resize(pages, std::vector<float>(options.rope.rotary_dim()));
    for (size_t page = 0; page < pages; ++page) {
      MakeTurns(options.rope, options.first_position + FirstToken(page), turns_[page]);
    }
    framed_keys_.assign(keys_.begin() + static_cast<std::ptrdiff_t>(options.sinks * dim_),
                        keys_.end());
    for (size_t page = 0; page < pages; ++page) {
      const std::span<float> rows = std::span(framed_keys_).subspan(page * kPageTokens * dim_);
      IntoFrame(page, rows.first(std::min(rows.size(), kPageTokens * dim_)));
    }
  }

  // The mean of the keys in their pages' frames. It isn't weighted: it shall serve all tokens.
  std::vector<float> Center() const {
    std::vector<double> sums(dim_);
    for (size_t i = 0; i < framed_keys_.size(); ++i) sums[i % dim_] += framed_keys_[i];
    std::vector<float> center(dim_);
    for (size_t j = 0; j < dim_; ++j) {
      center[j] = static_cast<float>(sums[j] / static_cast<double>(tokens_ - options_.sinks));
    }
    return center;
  }

  // The map [dim], or [dim × dim], from the rows [chosen × dim] of each query head of the group,
  // asked at the chosen tokens. nullopt if logits overflow.
  std::optional<std::vector<double>> Map(std::span<const size_t> chosen,
                                         const std::vector<std::vector<float>>& query_heads) {
    if (!AddQueries(chosen, query_heads)) return std::nullopt;
    AddKeys();
    const bool full = options_.kind == KeyMapKind::kFull;
    const double traces = key_moment_.Trace() * query_moment_.Trace();
    if (!std::isfinite(traces)) return std::nullopt;
    if (traces == 0.0) return Identity(full);
    observed_.assign(query_moment_.sums().begin(), query_moment_.sums().end());
    key_moment_.Shrink(options_.shrinkage);
    query_moment_.Shrink(options_.shrinkage);
    return full ? BalancedMap(dim_, key_moment_.sums(), query_moment_.sums())
                : BalancedScales(key_moment_.sums(), query_moment_.sums());
  }

  // KeyMap::query_weights under the scales of Map: of queries that were not shrunk for the map.
  std::vector<double> QueryWeights(std::span<const double> scales) const {
    std::vector<double> weights(dim_, 1.0);
    if (observed_.empty()) return weights;
    double sum = 0.0;
    for (size_t j = 0; j < dim_; ++j) {
      weights[j] = observed_[j] / (scales[j] * scales[j]);
      sum += weights[j];
    }
    const double mean = sum / static_cast<double>(dim_);
    for (double& weight : weights)
      weight = (weight / mean + kQueryWeightShrinkage) / (1.0 + kQueryWeightShrinkage);
    return weights;
  }

 private:
  size_t FirstToken(size_t page) const { return options_.sinks + page * kPageTokens; }

  // Rows into the frame of the page.
  void IntoFrame(size_t page, std::span<float> rows) const {
    for (size_t i = 0; i < rows.size(); i += dim_) {
      TurnBack(turns_[page], options_.rope.pairing, &rows[i]);
    }
  }

  bool AddQueries(std::span<const size_t> chosen,
                  const std::vector<std::vector<float>>& query_heads) {
    const float scale = options_.attention_scale > 0.0f
                            ? options_.attention_scale
                            : static_cast<float>(1.0 / std::sqrt(static_cast<double>(dim_)));
    const AttentionWeights attention({keys_.data(), tokens_, dim_}, {values_.data(), tokens_, dim_},
                                     options_.sinks, scale);
    key_weights_.assign(tokens_, 0.0);
    const size_t pages = turns_.size();
    std::vector<double> page_weights(pages * chosen.size());  // [pages × chosen]
    const auto visit = [&](size_t query, std::span<const float> weights) {
      for (size_t j = 0; j < weights.size(); ++j) key_weights_[j] += weights[j];
      for (size_t page = 0; page < pages; ++page) {
        const size_t begin = std::min(FirstToken(page), weights.size());
        const size_t end = std::min(FirstToken(page) + kPageTokens, weights.size());
        page_weights[page * chosen.size() + query] = Sum(weights.subspan(begin, end - begin));
      }
    };
    for (const std::vector<float>& queries : query_heads) {
      if (!attention.ForQueries({queries.data(), chosen.size(), dim_}, chosen, visit)) return false;
      for (size_t page = 0; page < pages; ++page) {
        AddPage(page, chosen, queries,
                std::span(page_weights).subspan(page * chosen.size(), chosen.size()));
      }
    }
    return true;
  }

  // The queries that may see the page, in its frame.
  void AddPage(size_t page, std::span<const size_t> chosen, std::span<const float> queries,
               std::span<const double> weights) {
    const auto first = static_cast<size_t>(
        std::lower_bound(chosen.begin(), chosen.end(), FirstToken(page)) - chosen.begin());
    const std::span<const float> later = queries.subspan(first * dim_);
    std::vector<float> framed(later.begin(), later.end());
    IntoFrame(page, framed);
    query_moment_.Add({framed.data(), chosen.size() - first, dim_}, weights.subspan(first));
  }

  void AddKeys() {
    const std::vector<float> center = Center();
    std::vector<float> centered = framed_keys_;
    for (size_t i = 0; i < centered.size(); ++i) centered[i] -= center[i % dim_];
    key_moment_.Add({centered.data(), tokens_ - options_.sinks, dim_},
                    std::span(key_weights_).subspan(options_.sinks));
  }

  std::vector<double> Identity(bool full) const {
    std::vector<double> map(full ? dim_ * dim_ : dim_);
    for (size_t i = 0; i < map.size(); i += full ? dim_ + 1 : 1) map[i] = 1.0;
    return map;
  }

  const KeyMapOptions& options_;
  size_t dim_;
  size_t tokens_;
  std::vector<float> keys_;
  std::vector<float> values_;
  std::vector<std::vector<float>> turns_;  // of each page
  std::vector<float> framed_keys_;         // of the tokens behind the sinks
  std::vector<double> key_weights_;        // [tokens]
  WeightedMoment key_moment_;
  WeightedMoment query_moment_;
  std::vector<double> observed_;  // the query moment before it was shrunk; empty: nothing learnt
};

Result<void> CheckRope(const RopeParameters& rope, size_t head_dim) {
  if (rope.rotary_dim() > head_dim) {
    return Fail(ErrorCode::kInvalidArgument, "rope turns ", rope.rotary_dim(),
                " coordinates, head_dim is ", head_dim);
  }
  for (size_t i = 0; i < rope.inverse_frequencies.size(); ++i) {
    if (!std::isfinite(rope.inverse_frequencies[i])) {
      return Fail(ErrorCode::kInvalidArgument, "inverse_frequencies[", i, "] must be finite");
    }
  }
  return {};
}

}  // namespace

Result<KeyMapEstimator> KeyMapEstimator::Create(const KeyMapOptions& options) {
  if (options.kind == KeyMapKind::kNone) {
    return Fail(ErrorCode::kInvalidArgument, "kind must be center, diagonal or full, got none");
  }
  if (options.query_weights && options.kind != KeyMapKind::kDiagonal) {
    return Fail(ErrorCode::kInvalidArgument, "query_weights belong to a diagonal key map only");
  }
  if (options.kv_heads < 1 || options.kv_heads > 1024) {
    return Fail(ErrorCode::kInvalidArgument, "kv_heads must be 1 to 1024, got ", options.kv_heads);
  }
  if (options.head_dim < 2 || options.head_dim > 1024) {
    return Fail(ErrorCode::kInvalidArgument, "head_dim must be 2 to 1024, got ", options.head_dim);
  }
  if (options.query_heads % options.kv_heads != 0) {
    return Fail(ErrorCode::kInvalidArgument, "query_heads must be a multiple of kv_heads (",
                options.kv_heads, "), got ", options.query_heads);
  }
  TQ_CHECK(CheckRope(options.rope, options.head_dim));
  if (!(options.shrinkage >= 0.0) || !std::isfinite(options.shrinkage)) {
    return Fail(ErrorCode::kInvalidArgument, "shrinkage must be finite and not negative, got ",
                options.shrinkage);
  }
  if (!(options.attention_scale >= 0.0f) || !std::isfinite(options.attention_scale)) {
    return Fail(ErrorCode::kInvalidArgument,
                "attention_scale must be finite and not negative, got ",
                static_cast<double>(options.attention_scale));
  }
  return KeyMapEstimator(options);
}

Result<KeyMap> KeyMapEstimator::Estimate(const HeadsView& keys, const HeadsView& values,
                                         const HeadsView& queries,
                                         std::span<const size_t> query_tokens) const {
  const size_t tokens = keys.tokens;
  const size_t dim = options_.head_dim;
  const bool asked = queries.data != nullptr;
  const bool mapped = asked && options_.query_heads > 0 && options_.kind != KeyMapKind::kCenter;
  TQ_CHECK(CheckRows("keys", keys, tokens, options_.kv_heads, dim));
  TQ_CHECK(CheckRows("values", values, tokens, options_.kv_heads, dim));
  if (asked && query_tokens.empty()) {
    TQ_CHECK(CheckRows("queries", queries, tokens, options_.query_heads, dim));
  } else if (asked) {
    TQ_CHECK(CheckRows("queries", queries, query_tokens.size(), options_.query_heads, dim,
                       "query_tokens"));
    TQ_CHECK(CheckQueryTokens(query_tokens, tokens));
  }
  if (tokens < 2 || tokens - 2 < options_.sinks) {
    return Fail(ErrorCode::kInvalidArgument, "a key map needs at least sinks + 2 tokens (",
                options_.sinks, " + 2), got ", tokens);
  }

  const std::vector<size_t> all = Spread(tokens, tokens);
  const std::vector<size_t> chosen = Spread(asked ? queries.tokens : 0, kMostQueries);
  std::vector<size_t> asked_at = chosen;  // tokens of the chosen queries
  for (size_t& token : asked_at) token = query_tokens.empty() ? token : query_tokens[token];
  std::vector<float> centers;
  std::vector<float> maps;
  std::vector<float> query_weights;
  const size_t group = options_.query_heads / options_.kv_heads;
  for (size_t head = 0; head < options_.kv_heads; ++head) {
    HeadStatistics statistics(options_, ReadHead(keys, head, all), ReadHead(values, head, all));
    const std::vector<float> center = statistics.Center();
    centers.insert(centers.end(), center.begin(), center.end());
    if (!mapped) continue;
    std::vector<std::vector<float>> query_heads;
    for (size_t q = head * group; q < (head + 1) * group; ++q) {
      query_heads.push_back(ReadHead(queries, q, chosen));
    }
    const std::optional<std::vector<double>> map = statistics.Map(asked_at, query_heads);
    if (!map) {
      return Fail(ErrorCode::kInvalidArgument, "keys, queries or values of KV head ", head,
                  " are too large: their attention overflows");
    }
    for (const double x : *map) maps.push_back(static_cast<float>(x));
    if (!options_.query_weights) continue;
    for (const double x : statistics.QueryWeights(*map))
      query_weights.push_back(static_cast<float>(x));
  }
  return KeyMap::FromNumbers(mapped ? options_.kind : KeyMapKind::kCenter, options_.kv_heads, dim,
                             centers, maps, query_weights);
}

}  // namespace turboquant
