// What quantized keys and values do to attention, query by query, with causal masking.
#ifndef TURBOQUANT_SRC_EVAL_ATTENTION_ERRORS_H_
#define TURBOQUANT_SRC_EVAL_ATTENTION_ERRORS_H_

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "src/eval/metrics.h"
#include "turboquant/matrix_view.h"

namespace turboquant::eval {

// One head: keys and values [tokens × dim], queries [queries × dim] and, for each, the position of
// the last key it sees (inclusive: the query at p sees keys 0..p). logit = logit_scale · score.
struct AttentionCase {
  MatrixView<const float> keys;
  MatrixView<const float> values;
  MatrixView<const float> queries;
  std::span<const size_t> positions;
  double logit_scale = 1.0;
};

// Scores and outputs without quantization, computed once and compared with many methods. Refers to
// the rows of its case.
class ExactAttention {
 public:
  explicit ExactAttention(const AttentionCase& attention_case);

  const AttentionCase& attention_case() const { return case_; }
  // Inner products with the keys query q sees.
  std::span<const double> Scores(size_t q) const {
    return {scores_.data() + q * case_.keys.rows, case_.positions[q] + 1};
  }
  std::span<const double> Output(size_t q) const {
    return {outputs_.data() + q * case_.values.cols, case_.values.cols};
  }
  double KeyNorm(size_t t) const { return key_norms_[t]; }
  double QueryNorm(size_t q) const { return query_norms_[q]; }

 private:
  AttentionCase case_;
  std::vector<double> scores_;
  std::vector<double> outputs_;
  std::vector<double> key_norms_;
  std::vector<double> query_norms_;
};

// What one method made of a case.
struct QuantizedCase {
  MatrixView<const float> keys;    // decoded
  MatrixView<const float> values;  // decoded
  MatrixView<const float> scores;  // [queries × tokens], estimated on encoded keys
};

// Errors of the queries and tokens at positions [first, last].
struct PositionErrors {
  size_t first = 0;
  size_t last = 0;
  Mean softmax_kl;
  Mean output_error;   // |error|² of the attention output
  Mean output_energy;  // |exact output|²
  Mean key_relative;   // |k - k̃|² / |k|²
};

struct AttentionErrors {
  RowErrors keys;
  RowErrors values;
  InnerProductErrors scores;
  Mean logit_squared;
  Mean logit_correlation;  // of each query that sees two keys or more
  Mean softmax_kl;
  std::array<Mean, 3> recall;   // at kRecallDepths
  Mean output_squared;          // per coordinate
  double output_error = 0.0;    // Σ |error|²
  double output_energy = 0.0;   // Σ |exact output|²
  double output_worst = 0.0;    // largest |error| of a coordinate
  double output_largest = 0.0;  // largest |exact coordinate|
  std::vector<PositionErrors> by_position;
};

// Positions 0-15, 16-31, 32-63, 64-127, ... up to tokens - 1.
std::vector<PositionErrors> PositionBins(size_t tokens);

// Adds the errors of query q: `scores` estimate the inner products with the keys it sees, `output`
// is what its attention gave.
void AddQueryErrors(const ExactAttention& exact, size_t q, std::span<const double> scores,
                    std::span<const double> output, AttentionErrors& errors);

// Adds the errors of one case; by_position is filled when it holds bins that cover the tokens.
void AddAttentionErrors(const ExactAttention& exact, const QuantizedCase& quantized,
                        AttentionErrors& errors);

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_ATTENTION_ERRORS_H_
