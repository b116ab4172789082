#include "src/eval/logit_errors.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numeric>

namespace turboquant::eval {
namespace {

double LogSumExp(std::span<const float> logits) {
  const double largest = *std::ranges::max_element(logits);
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return largest + std::log(sum);
}

size_t Best(std::span<const float> logits) {
  return static_cast<size_t>(std::ranges::max_element(logits) - logits.begin());
}

// Ids of the k largest, ascending; of equal logits the smaller id.
std::vector<size_t> TopIds(std::span<const float> logits, size_t k) {
  std::vector<size_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), size_t{0});
  k = std::min(k, ids.size());
  std::ranges::nth_element(
      ids, ids.begin() + static_cast<std::ptrdiff_t>(k) - 1,
      [&](size_t a, size_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  ids.resize(k);
  std::ranges::sort(ids);
  return ids;
}

double Overlap(const std::vector<size_t>& a, const std::vector<size_t>& b) {
  std::vector<size_t> common;
  std::ranges::set_intersection(a, b, std::back_inserter(common));
  return static_cast<double>(common.size()) / static_cast<double>(a.size());
}

}  // namespace

Prediction Predict(std::span<const float> logits, size_t target) {
  assert(target < logits.size());
  return {LogSumExp(logits) - logits[target], Best(logits)};
}

void LogitErrors::Add(std::span<const float> exact, std::span<const float> estimate,
                      size_t target) {
  assert(exact.size() == estimate.size() && target < exact.size());
  const double exact_total = LogSumExp(exact);
  const double total = LogSumExp(estimate);
  double divergence = 0.0;
  double squared = 0.0;
  for (size_t id = 0; id < exact.size(); ++id) {
    const double difference = static_cast<double>(exact[id]) - estimate[id];
    const double log_ratio = difference - (exact_total - total);
    divergence += std::exp(exact[id] - exact_total) * log_ratio;
    squared += difference * difference;
    max_error_ = std::max(max_error_, std::abs(difference));
  }
  kl_.push_back(divergence);
  squared_error_.AddSum(squared, exact.size());
  cross_entropy_exact_.Add(exact_total - exact[target]);
  cross_entropy_.Add(total - estimate[target]);
  top1_.Add(Best(exact) == Best(estimate) ? 1.0 : 0.0);
  if (top_k_ > 0) top_k_overlap_.Add(Overlap(TopIds(exact, top_k_), TopIds(estimate, top_k_)));
}

void LogitErrors::Merge(const LogitErrors& other) {
  kl_.insert(kl_.end(), other.kl_.begin(), other.kl_.end());
  const auto add = [](Mean& mean, const Mean& more) { mean.AddSum(more.sum(), more.count()); };
  add(cross_entropy_exact_, other.cross_entropy_exact_);
  add(cross_entropy_, other.cross_entropy_);
  add(top1_, other.top1_);
  add(top_k_overlap_, other.top_k_overlap_);
  add(squared_error_, other.squared_error_);
  max_error_ = std::max(max_error_, other.max_error_);
}

double LogitErrors::kl_mean() const {
  if (kl_.empty()) return 0.0;
  return std::accumulate(kl_.begin(), kl_.end(), 0.0) / static_cast<double>(kl_.size());
}

double LogitErrors::KlQuantile(double share) const {
  if (kl_.empty()) return 0.0;
  std::vector<double> sorted = kl_;
  std::ranges::sort(sorted);
  const double rank = std::ceil(share * static_cast<double>(sorted.size()));
  const size_t place = rank < 1.0 ? 0 : static_cast<size_t>(rank) - 1;
  return sorted[std::min(place, sorted.size() - 1)];
}

}  // namespace turboquant::eval
