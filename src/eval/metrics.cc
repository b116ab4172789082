#include "src/eval/metrics.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numeric>

namespace turboquant::eval {

double Mean::Root() const { return std::sqrt(Value()); }

double Dot(std::span<const float> a, std::span<const float> b) {
  assert(a.size() == b.size());
  double sum = 0.0;
  for (size_t j = 0; j < a.size(); ++j) sum += static_cast<double>(a[j]) * b[j];
  return sum;
}

double Norm(std::span<const float> row) { return std::sqrt(Dot(row, row)); }

double SquaredError(std::span<const float> exact, std::span<const float> decoded) {
  assert(exact.size() == decoded.size());
  double sum = 0.0;
  for (size_t j = 0; j < exact.size(); ++j) {
    const double difference = static_cast<double>(exact[j]) - decoded[j];
    sum += difference * difference;
  }
  return sum;
}

void AddRowErrors(MatrixView<const float> exact, MatrixView<const float> decoded,
                  RowErrors& errors) {
  assert(exact.rows == decoded.rows && exact.cols == decoded.cols);
  for (size_t r = 0; r < exact.rows; ++r) {
    const double error = SquaredError(exact.RowSpan(r), decoded.RowSpan(r));
    const double squared_norm = Dot(exact.RowSpan(r), exact.RowSpan(r));
    if (squared_norm > 0.0) errors.relative.Add(error / squared_norm);
    errors.per_coordinate.AddSum(error, exact.cols);
  }
}

void InnerProductErrors::Add(double exact, double estimate, double norm_product) {
  const double x = exact / norm_product;
  const double y = estimate / norm_product;
  ++count_;
  exact_exact_ += x * x;
  exact_estimate_ += x * y;
  squared_error_ += (y - x) * (y - x);
}

double InnerProductErrors::Bias() const {
  return exact_exact_ == 0.0 ? 0.0 : exact_estimate_ / exact_exact_ - 1.0;
}

double InnerProductErrors::Rmse() const {
  return count_ == 0 ? 0.0 : std::sqrt(squared_error_ / static_cast<double>(count_));
}

double InnerProductErrors::Variance() const {
  if (count_ == 0) return 0.0;
  // Σ(y - x)² = Σ(y - (1+b)x)² + b²Σx², because b is the regression's.
  const double bias = Bias();
  return std::max(0.0, squared_error_ - bias * bias * exact_exact_) / static_cast<double>(count_);
}

void Softmax(std::span<double> logits) {
  if (logits.empty()) return;
  const double largest = *std::ranges::max_element(logits);
  double sum = 0.0;
  for (double& logit : logits) sum += logit = std::exp(logit - largest);
  for (double& weight : logits) weight /= sum;
}

namespace {

double LogSumExp(std::span<const double> logits) {
  const double largest = *std::ranges::max_element(logits);
  double sum = 0.0;
  for (const double logit : logits) sum += std::exp(logit - largest);
  return largest + std::log(sum);
}

}  // namespace

double SoftmaxKl(std::span<const double> exact_logits, std::span<const double> estimated_logits) {
  assert(exact_logits.size() == estimated_logits.size() && !exact_logits.empty());
  const double exact_total = LogSumExp(exact_logits);
  const double estimated_total = LogSumExp(estimated_logits);
  double divergence = 0.0;
  for (size_t t = 0; t < exact_logits.size(); ++t) {
    const double log_weight = exact_logits[t] - exact_total;
    divergence += std::exp(log_weight) * (log_weight - (estimated_logits[t] - estimated_total));
  }
  return divergence;
}

std::vector<size_t> TopK(std::span<const double> scores, size_t k) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  k = std::min(k, order.size());
  std::ranges::partial_sort(
      order, order.begin() + static_cast<std::ptrdiff_t>(k),
      [&](size_t a, size_t b) { return scores[a] != scores[b] ? scores[a] > scores[b] : a < b; });
  order.resize(k);
  return order;
}

std::array<double, 3> RecallAtDepths(std::span<const double> exact,
                                     std::span<const double> estimate) {
  assert(exact.size() == estimate.size() && !exact.empty());
  const std::vector<size_t> exact_top = TopK(exact, kRecallDepths.back());
  const std::vector<size_t> estimated_top = TopK(estimate, kRecallDepths.back());
  std::array<double, 3> recall{};
  for (size_t i = 0; i < kRecallDepths.size(); ++i) {
    const size_t depth = std::min(kRecallDepths[i], exact.size());
    const auto wanted = std::span(exact_top).first(depth);
    const auto found = std::span(estimated_top).first(depth);
    const auto hits = std::ranges::count_if(found, [&](size_t position) {
      return std::ranges::find(wanted, position) != wanted.end();
    });
    recall[i] = static_cast<double>(hits) / static_cast<double>(depth);
  }
  return recall;
}

void Correlation::Add(double x, double y) {
  count_ += 1.0;
  const double from_old_mean_x = x - mean_x_;
  mean_x_ += from_old_mean_x / count_;
  xx_ += from_old_mean_x * (x - mean_x_);
  const double from_old_mean_y = y - mean_y_;
  mean_y_ += from_old_mean_y / count_;
  yy_ += from_old_mean_y * (y - mean_y_);
  xy_ += from_old_mean_x * (y - mean_y_);
}

double Correlation::Value() const {
  const double scale = std::sqrt(xx_) * std::sqrt(yy_);
  return scale == 0.0 ? 0.0 : xy_ / scale;
}

void WeightedSum(std::span<const double> weights, MatrixView<const float> values,
                 std::span<double> output) {
  assert(values.rows >= weights.size() && values.cols == output.size());
  std::ranges::fill(output, 0.0);
  for (size_t t = 0; t < weights.size(); ++t) {
    const std::span<const float> value = values.RowSpan(t);
    for (size_t j = 0; j < output.size(); ++j) output[j] += weights[t] * value[j];
  }
}

}  // namespace turboquant::eval
