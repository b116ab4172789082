#include "tests/cache/naive_cache.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "src/base/half.h"

namespace turboquant::test {
namespace {

// Relative squared error of a row's decoded form that no sound packing exceeds.
double ErrorLimit(const KvSideOptions& side) {
  if (side.method == KvMethod::kF32) return 1e-10;
  if (side.method == KvMethod::kF16) return 1e-6;
  if (side.method == KvMethod::kProd) return side.bits <= 2 ? 3.0 : 0.6;
  const double mean[] = {0.0, 0.57, 0.133, 0.036, 0.0096, 0.0026, 0.0008, 0.0003, 0.0002};
  return 4.0 * mean[side.bits];
}

template <class... Parts>
std::string Text(const Parts&... parts) {
  std::string text;
  const auto add = [&](const auto& part) {
    if constexpr (std::is_arithmetic_v<std::decay_t<decltype(part)>>) {
      text += std::to_string(part);
    } else {
      text += part;
    }
  };
  (add(parts), ...);
  return text;
}

}  // namespace

NaiveCache::NaiveCache(const KvCacheOptions& options) : options_(options) { Clear(); }

void NaiveCache::Clear() {
  has_map_ = options_.known_key_map != nullptr;
  tokens_.clear();
  sinks_ = packed_ = end_lane_ = 0;
  evicted_ = 0;
}

bool NaiveCache::WantsMap() const {
  if (options_.key_map == KeyMapKind::kNone) return false;
  return options_.known_key_map || options_.rope || options_.key_map == KeyMapKind::kCenter;
}

// Whether as many tokens as it takes to pack are ever visible.
bool NaiveCache::Packs() const {
  if (options_.max_tokens == 0) return true;
  size_t needed = options_.window == 0 ? 1 : options_.window + 64;
  if (WantsMap() && !options_.known_key_map) needed = std::max<size_t>(needed, 128);
  return options_.max_tokens - options_.sinks >= needed;
}

uint64_t NaiveCache::next_position() const {
  if (tokens_.size() > sinks_) return tokens_.back().position + 1;
  return options_.first_position + sinks_ + evicted_;
}

void NaiveCache::Append(std::span<const Token> tokens) {
  for (const Token& token : tokens) {
    Token kept = token;
    if (options_.exact_type == RowType::kF16) {
      for (float& x : kept) x = F16ToF32(F32ToF16(x));
    }
    tokens_.push_back({next_position(), std::make_shared<const Token>(std::move(kept)), nullptr});
    if (sinks_ < options_.sinks) ++sinks_;
  }
  PackAndEvict();
}

void NaiveCache::PackAndEvict() {
  const size_t waiting = tokens_.size() - sinks_ - packed_;
  if (Packs() && WantsMap() && waiting >= 128) has_map_ = true;
  if (Packs() && (has_map_ || !WantsMap())) {
    size_t end = end_lane_ + waiting;
    if (options_.window != 0) {
      end = waiting < options_.window ? 0 : (end - options_.window) / 64 * 64;
    }
    if (end > end_lane_) {
      packed_ += end - end_lane_;
      end_lane_ = end;
    }
  }
  const size_t limit = options_.max_tokens == 0 ? SIZE_MAX : options_.max_tokens;
  const size_t excess = tokens_.size() - std::min(tokens_.size(), limit);
  const auto oldest = tokens_.begin() + static_cast<ptrdiff_t>(sinks_);
  tokens_.erase(oldest, oldest + static_cast<ptrdiff_t>(excess));
  packed_ -= std::min(packed_, excess);
  evicted_ += excess;
  if (packed_ == 0) end_lane_ = 0;
}

void NaiveCache::Truncate(size_t n) {
  const size_t packed = std::min(packed_, n - std::min(n, sinks_));
  end_lane_ -= packed_ - packed;
  packed_ = packed;
  if (packed_ == 0) end_lane_ = 0;
  if (n < sinks_) evicted_ = 0;
  sinks_ = std::min(n, sinks_);
  tokens_.resize(n);
}

Complaint NaiveCache::CompareShape(const KvCache& cache) const {
  const KvView view = cache.view();
  const size_t window = tokens_.size() - sinks_ - packed_;
  struct Number {
    const char* name;
    uint64_t actual;
    uint64_t expected;
  };
  const size_t first_lane = (end_lane_ - packed_) % kPageTokens;
  const KvCacheStats stats = cache.Stats();
  for (const Number& number : std::initializer_list<Number>{
           {"size", cache.size(), tokens_.size()},
           {"next_position", cache.next_position(), next_position()},
           {"sinks", view.sinks.count, sinks_},
           {"packed_tokens", view.packed_tokens, packed_},
           {"window", view.window.count, window},
           {"first_lane", view.first_lane, packed_ == 0 ? 0 : first_lane},
           {"pages", view.pages.size(), packed_ == 0 ? 0 : (first_lane + packed_ + 255) / 256},
           {"first_position", view.first_position, options_.first_position},
           {"packed_position", view.packed_position, next_position() - (tokens_.size() - sinks_)},
           {"key map", cache.key_map() != nullptr, has_map_},
           {"stats.tokens", stats.tokens, tokens_.size()},
           {"stats.packed_tokens", stats.packed_tokens, packed_},
           {"stats.exact_tokens", stats.exact_tokens, sinks_ + window},
       }) {
    if (number.actual != number.expected)
      return Text(number.name, " is ", number.actual, ", expected ", number.expected);
  }
  return {};
}

Complaint NaiveCache::CompareToken(size_t token, const Token& shown, PackingErrors& errors) {
  Entry& entry = tokens_[token];
  const bool packed = IsPacked(token);
  if (!packed || entry.packed != nullptr) {
    if (shown == *(packed ? entry.packed : entry.exact)) return {};
    return Text(packed ? "packed" : "exact", " token ", token, " at position ", entry.position,
                " is not what it was");
  }
  for (size_t r = 0; r < 2 * heads(); ++r) {
    const bool values = r >= heads();
    const std::span<const float> came = std::span(*entry.exact).subspan(r * dim(), dim());
    const std::span<const float> row = std::span(shown).subspan(r * dim(), dim());
    const double error = SquaredDistance(came, row) / Dot(came, came);
    // The map stretches errors of keys.
    const double limit = ErrorLimit(values ? options_.format.values : options_.format.keys) *
                         (!values && has_map_ ? 4.0 : 1.0);
    if (!(error <= limit)) {
      return Text("token ", token, " at position ", entry.position, ", row ", r,
                  " is packed with a relative squared error of ", error);
    }
    if (values) errors.Add(error);
  }
  entry.packed = std::make_shared<const Token>(shown);
  return {};
}

Complaint NaiveCache::CompareTokens(const KvCache& cache, size_t first, size_t count,
                                    PackingErrors& errors) {
  const size_t side = heads() * dim();
  Token all(2 * side * count);
  // Keys and values of a token side by side.
  HeadsOutput keys = HeadsOutput::TokenMajor(all.data(), count, heads(), dim());
  keys.token_stride = 2 * side;
  HeadsOutput values = keys;
  values.data += side;
  if (const auto done = cache.Reconstruct(first, count, keys, values); !done)
    return done.error().message;
  for (size_t t = 0; t < count; ++t) {
    const auto begin = all.begin() + static_cast<ptrdiff_t>(2 * side * t);
    const Token shown(begin, begin + static_cast<ptrdiff_t>(2 * side));
    if (Complaint complaint = CompareToken(first + t, shown, errors)) return complaint;
  }
  return {};
}

std::vector<double> NaiveCache::AttendInDouble(std::span<const float> query, size_t head,
                                               uint64_t position,
                                               const AttendOptions& options) const {
  std::vector<double> logits(tokens_.size(), -std::numeric_limits<double>::infinity());
  double largest = -std::numeric_limits<double>::infinity();
  const auto row = [&](size_t t, bool values) {
    const Token& token = *(IsPacked(t) ? tokens_[t].packed : tokens_[t].exact);
    return std::span(token).subspan(((values ? heads() : 0) + head) * dim(), dim());
  };
  for (size_t t = 0; t < tokens_.size(); ++t) {
    if (options.causal && tokens_[t].position > position) continue;
    if (options.sliding_window != 0 && tokens_[t].position + options.sliding_window <= position)
      continue;
    logits[t] = Dot(query, row(t, false)) / std::sqrt(static_cast<double>(dim()));
    largest = std::max(largest, logits[t]);
  }
  std::vector<double> output(dim() + 1, 0.0);
  double sum = 0.0;
  for (size_t t = 0; t < tokens_.size(); ++t) {
    if (std::isinf(logits[t])) continue;
    const double weight = std::exp(logits[t] - largest);
    sum += weight;
    const std::span<const float> value = row(t, true);
    for (size_t j = 0; j < dim(); ++j) output[j] += weight * static_cast<double>(value[j]);
  }
  for (size_t j = 0; j < dim() && sum != 0.0; ++j) output[j] /= sum;
  output.back() = sum == 0.0 ? largest : largest + std::log(sum);
  return output;
}

Complaint NaiveCache::CompareAttention(const KvCache& cache, const Rows& queries,
                                       size_t query_tokens, uint64_t position,
                                       const AttendOptions& asked) const {
  const size_t query_heads = queries.rows / query_tokens;
  std::vector<float> outputs(queries.rows * dim());
  std::vector<float> log_sum_exp(queries.rows);
  AttendOptions options = asked;
  options.log_sum_exp = log_sum_exp;
  const auto done = cache.Attend(
      HeadsView::TokenMajor(queries.values.data(), query_tokens, query_heads, dim()), options,
      HeadsOutput::TokenMajor(outputs.data(), query_tokens, query_heads, dim()));
  if (!done) return done.error().message;
  for (size_t r = 0; r < queries.rows; ++r) {
    const std::vector<double> expected = AttendInDouble(
        queries[r], r % query_heads / (query_heads / heads()), position + r / query_heads, options);
    for (size_t j = 0; j < dim(); ++j) {
      const double x = static_cast<double>(outputs[r * dim() + j]);
      if (!(std::fabs(x - expected[j]) <= 4e-3)) {
        return Text("output ", r, " is ", x, " at column ", j, ", expected ", expected[j]);
      }
    }
    const double lse = static_cast<double>(log_sum_exp[r]);
    if (lse != expected.back() && !(std::fabs(lse - expected.back()) <= 4e-3))
      return Text("log-sum-exp ", r, " is ", lse, ", expected ", expected.back());
  }
  return {};
}

}  // namespace turboquant::test
