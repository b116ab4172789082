// How far quantized rows, scores and attention are from the exact ones. All sums in double.
#ifndef TURBOQUANT_SRC_EVAL_METRICS_H_
#define TURBOQUANT_SRC_EVAL_METRICS_H_

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "turboquant/matrix_view.h"

namespace turboquant::eval {

// Mean over what was added, in one pass.
class Mean {
 public:
  void Add(double value) { AddSum(value, 1); }
  void AddSum(double sum, size_t count) {
    sum_ += sum;
    count_ += count;
  }
  size_t count() const { return count_; }
  double sum() const { return sum_; }
  double Value() const { return count_ == 0 ? 0.0 : sum_ / static_cast<double>(count_); }
  double Root() const;  // square root of Value()

 private:
  double sum_ = 0.0;
  size_t count_ = 0;
};

// Euclidean norm and inner product.
double Norm(std::span<const float> row);
double Dot(std::span<const float> a, std::span<const float> b);

// |x - y|².
double SquaredError(std::span<const float> exact, std::span<const float> decoded);

// Errors of decoded rows.
struct RowErrors {
  Mean relative;        // |x - x̃|² / |x|² of each row that is not zero: its mean is the NMSE
  Mean per_coordinate;  // (x_j - x̃_j)² of each coordinate
};
// Both [n × dim].
void AddRowErrors(MatrixView<const float> exact, MatrixView<const float> decoded,
                  RowErrors& errors);

// Errors of estimated inner products, in units of |q||x|, so that they mean the same for rows of
// any norm.
class InnerProductErrors {
 public:
  // One pair; norm_product = |q||x| > 0.
  void Add(double exact, double estimate, double norm_product);

  // Regression slope of estimate on exact, through the origin, minus one: 0 for an unbiased
  // estimator, -D for one that shrinks by 1 - D.
  double Bias() const;
  double Rmse() const;
  // Mean squared error that remains when the bias is divided out.
  double Variance() const;

 private:
  size_t count_ = 0;
  double exact_exact_ = 0.0;
  double exact_estimate_ = 0.0;
  double squared_error_ = 0.0;
};

// softmax(logits) in place, with the largest subtracted first. Empty stays empty.
void Softmax(std::span<double> logits);

// KL(softmax(exact) || softmax(estimate)) in nats; >= 0 up to rounding. Equal, non-zero lengths.
double SoftmaxKl(std::span<const double> exact_logits, std::span<const double> estimated_logits);

// The positions of the k largest, larger first; of equal values the earlier position first.
// k is cut to scores.size().
std::vector<size_t> TopK(std::span<const double> scores, size_t k);

inline constexpr std::array<size_t, 3> kRecallDepths = {1, 5, 10};

// Share of the exact top k that the estimated top k holds, for each of kRecallDepths (cut to the
// number of scores).
std::array<double, 3> RecallAtDepths(std::span<const double> exact,
                                     std::span<const double> estimate);

// Pearson's correlation, accumulated; 0 when either side does not vary.
class Correlation {
 public:
  void Add(double x, double y);
  double Value() const;

 private:
  double count_ = 0.0;
  double mean_x_ = 0.0;
  double mean_y_ = 0.0;
  double xx_ = 0.0;
  double yy_ = 0.0;
  double xy_ = 0.0;
};

// Σ weights_t · values_t over the first weights.size() rows of values [>= weights × dim].
void WeightedSum(std::span<const double> weights, MatrixView<const float> values,
                 std::span<double> output);

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_METRICS_H_
