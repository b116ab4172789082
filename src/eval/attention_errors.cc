#include "src/eval/attention_errors.h"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace turboquant::eval {
namespace {

std::vector<double> Scaled(std::span<const double> scores, double factor) {
  std::vector<double> logits(scores.begin(), scores.end());
  for (double& logit : logits) logit *= factor;
  return logits;
}

PositionErrors* BinOf(size_t position, std::vector<PositionErrors>& bins) {
  const auto bin = std::ranges::find_if(
      bins, [&](const PositionErrors& b) { return b.first <= position && position <= b.last; });
  return bin == bins.end() ? nullptr : &*bin;
}

void AddScoreErrors(const ExactAttention& exact, size_t q, std::span<const double> estimated,
                    AttentionErrors& errors) {
  const double factor = exact.attention_case().logit_scale;
  const std::span<const double> scores = exact.Scores(q);
  Correlation correlation;
  for (size_t t = 0; t < scores.size(); ++t) {
    const double norms = exact.QueryNorm(q) * exact.KeyNorm(t);
    if (norms > 0.0) errors.scores.Add(scores[t], estimated[t], norms);
    const double difference = factor * (estimated[t] - scores[t]);
    errors.logit_squared.Add(difference * difference);
    correlation.Add(scores[t], estimated[t]);
  }
  if (scores.size() >= 2) errors.logit_correlation.Add(correlation.Value());
  const std::array<double, 3> recall = RecallAtDepths(scores, estimated);
  for (size_t i = 0; i < recall.size(); ++i) errors.recall[i].Add(recall[i]);
}

void AddOutputErrors(std::span<const double> exact, std::span<const double> output,
                     AttentionErrors& errors, PositionErrors* bin) {
  double error = 0.0;
  double energy = 0.0;
  for (size_t j = 0; j < exact.size(); ++j) {
    error += (output[j] - exact[j]) * (output[j] - exact[j]);
    energy += exact[j] * exact[j];
  }
  errors.output_squared.AddSum(error, exact.size());
  errors.output_error += error;
  errors.output_energy += energy;
  for (size_t j = 0; j < exact.size(); ++j) {
    errors.output_worst = std::max(errors.output_worst, std::abs(output[j] - exact[j]));
    errors.output_largest = std::max(errors.output_largest, std::abs(exact[j]));
  }
  if (bin != nullptr) {
    bin->output_error.Add(error);
    bin->output_energy.Add(energy);
  }
}

void AddKeyErrorsByPosition(const ExactAttention& exact, MatrixView<const float> keys,
                            std::vector<PositionErrors>& bins) {
  for (size_t t = 0; t < keys.rows; ++t) {
    const double norm = exact.KeyNorm(t);
    PositionErrors* bin = BinOf(t, bins);
    if (bin == nullptr || norm == 0.0) continue;
    const double error = SquaredError(exact.attention_case().keys.RowSpan(t), keys.RowSpan(t));
    bin->key_relative.Add(error / (norm * norm));
  }
}

}  // namespace

ExactAttention::ExactAttention(const AttentionCase& attention_case)
    : case_(attention_case),
      scores_(case_.queries.rows * case_.keys.rows),
      outputs_(case_.queries.rows * case_.values.cols) {
  assert(case_.positions.size() == case_.queries.rows);
  for (size_t t = 0; t < case_.keys.rows; ++t) key_norms_.push_back(Norm(case_.keys.RowSpan(t)));
  for (size_t q = 0; q < case_.queries.rows; ++q) {
    assert(case_.positions[q] < case_.keys.rows);
    query_norms_.push_back(Norm(case_.queries.RowSpan(q)));
    for (size_t t = 0; t <= case_.positions[q]; ++t) {
      scores_[q * case_.keys.rows + t] = Dot(case_.queries.RowSpan(q), case_.keys.RowSpan(t));
    }
    std::vector<double> weights = Scaled(Scores(q), case_.logit_scale);
    Softmax(weights);
    WeightedSum(weights, case_.values,
                std::span(outputs_).subspan(q * case_.values.cols, case_.values.cols));
  }
}

std::vector<PositionErrors> PositionBins(size_t tokens) {
  std::vector<PositionErrors> bins;
  for (size_t first = 0, end = 16; first < tokens; first = end, end *= 2) {
    PositionErrors bin;
    bin.first = first;
    bin.last = std::min(end, tokens) - 1;
    bins.push_back(bin);
  }
  return bins;
}

void AddQueryErrors(const ExactAttention& exact, size_t q, std::span<const double> scores,
                    std::span<const double> output, AttentionErrors& errors) {
  const AttentionCase& attention_case = exact.attention_case();
  assert(scores.size() == attention_case.positions[q] + 1);
  AddScoreErrors(exact, q, scores, errors);
  const double divergence = SoftmaxKl(Scaled(exact.Scores(q), attention_case.logit_scale),
                                      Scaled(scores, attention_case.logit_scale));
  errors.softmax_kl.Add(divergence);
  PositionErrors* bin = BinOf(attention_case.positions[q], errors.by_position);
  if (bin != nullptr) bin->softmax_kl.Add(divergence);
  AddOutputErrors(exact.Output(q), output, errors, bin);
}

void AddAttentionErrors(const ExactAttention& exact, const QuantizedCase& quantized,
                        AttentionErrors& errors) {
  const AttentionCase& attention_case = exact.attention_case();
  assert(quantized.scores.rows == attention_case.queries.rows);
  assert(quantized.scores.cols == attention_case.keys.rows);
  AddRowErrors(attention_case.keys, quantized.keys, errors.keys);
  AddRowErrors(attention_case.values, quantized.values, errors.values);
  AddKeyErrorsByPosition(exact, quantized.keys, errors.by_position);
  std::vector<double> output(attention_case.values.cols);
  for (size_t q = 0; q < attention_case.queries.rows; ++q) {
    const auto row = quantized.scores.RowSpan(q).first(attention_case.positions[q] + 1);
    const std::vector<double> scores(row.begin(), row.end());
    std::vector<double> weights = Scaled(scores, attention_case.logit_scale);
    Softmax(weights);
    WeightedSum(weights, quantized.values, output);
    AddQueryErrors(exact, q, scores, output, errors);
  }
}

}  // namespace turboquant::eval
