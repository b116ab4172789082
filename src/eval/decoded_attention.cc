#include "src/eval/decoded_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "src/base/try.h"
#include "src/eval/metrics.h"

namespace turboquant::eval {
namespace {

// Softmax-weighted sum of values, token by token.
class RunningAttention {
 public:
  explicit RunningAttention(size_t dim) : sums_(dim) {}

  void Add(double logit, std::span<const float> value) {
    if (logit > largest_) {
      const double shrink = std::exp(largest_ - logit);
      weight_ *= shrink;
      for (double& sum : sums_) sum *= shrink;
      largest_ = logit;
    }
    const double weight = std::exp(logit - largest_);
    weight_ += weight;
    for (size_t j = 0; j < sums_.size(); ++j) sums_[j] += weight * value[j];
  }

  double Output(size_t j) const { return sums_[j] / weight_; }

 private:
  double largest_ = -std::numeric_limits<double>::infinity();
  double weight_ = 0.0;
  std::vector<double> sums_;
};

}  // namespace

Result<double> MaxErrorOverDecoded(const KvCache& cache, std::span<const float> queries,
                                   std::span<const float> outputs, size_t query_heads,
                                   std::span<const size_t> checked_heads) {
  constexpr size_t kChunk = 256;  // tokens decoded at a time
  const size_t dim = cache.options().format.head_dim;
  const size_t kv_heads = cache.options().format.kv_heads;
  const double scale = 1.0 / std::sqrt(static_cast<double>(dim));
  std::vector<float> keys(kChunk * kv_heads * dim);
  std::vector<float> values(keys.size());
  std::vector<RunningAttention> exact(checked_heads.size(), RunningAttention(dim));
  for (size_t first = 0; first < cache.size(); first += kChunk) {
    const size_t count = std::min(kChunk, cache.size() - first);
    TQ_CHECK(cache.Reconstruct(first, count,
                               HeadsOutput::TokenMajor(keys.data(), count, kv_heads, dim),
                               HeadsOutput::TokenMajor(values.data(), count, kv_heads, dim)));
    for (size_t i = 0; i < checked_heads.size(); ++i) {
      const size_t kv_head = checked_heads[i] / (query_heads / kv_heads);
      const std::span<const float> query = queries.subspan(checked_heads[i] * dim, dim);
      for (size_t t = 0; t < count; ++t) {
        const size_t at = (t * kv_heads + kv_head) * dim;
        exact[i].Add(scale * Dot(query, {keys.data() + at, dim}), {values.data() + at, dim});
      }
    }
  }
  double worst = 0.0;
  double largest = 0.0;
  for (size_t i = 0; i < checked_heads.size(); ++i) {
    for (size_t j = 0; j < dim; ++j) {
      const double output = exact[i].Output(j);
      worst = std::max(worst, std::abs(outputs[checked_heads[i] * dim + j] - output));
      largest = std::max(largest, std::abs(output));
    }
  }
  return largest > 0.0 ? worst / largest : worst;
}

}  // namespace turboquant::eval
