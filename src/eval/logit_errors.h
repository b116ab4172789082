// How far a model's logits are from those of the same model with an exact cache.
#ifndef TURBOQUANT_SRC_EVAL_LOGIT_ERRORS_H_
#define TURBOQUANT_SRC_EVAL_LOGIT_ERRORS_H_

#include <cstddef>
#include <span>
#include <vector>

#include "src/eval/metrics.h"

namespace turboquant::eval {

// Logits of one prediction, all that others need of them.
struct Prediction {
  double cross_entropy = 0.0;  // -log p(target), nats
  size_t best = 0;             // of equal logits the first
};
// `logits` is not empty; target < logits.size().
Prediction Predict(std::span<const float> logits, size_t target);

// Sums over predictions. All in double, nats.
class LogitErrors {
 public:
  explicit LogitErrors(size_t top_k) : top_k_(top_k) {}

  // One prediction: `target` is the token that came next in the exact text. Equal, non-zero sizes.
  void Add(std::span<const float> exact, std::span<const float> estimate, size_t target);

  // The same predictions, in the order of the calls.
  void Merge(const LogitErrors& other);

  size_t count() const { return kl_.size(); }
  double kl_mean() const;
  double KlQuantile(double share) const;  // by nearest rank; 0 without predictions
  double cross_entropy_exact() const { return cross_entropy_exact_.Value(); }
  double cross_entropy() const { return cross_entropy_.Value(); }
  double top1_agreement() const { return top1_.Value(); }
  double top_k_agreement() const { return top_k_overlap_.Value(); }
  double rmse() const { return squared_error_.Root(); }
  double max_error() const { return max_error_; }

 private:
  size_t top_k_;
  std::vector<double> kl_;
  Mean cross_entropy_exact_;
  Mean cross_entropy_;
  Mean top1_;
  Mean top_k_overlap_;
  Mean squared_error_;
  double max_error_ = 0.0;
};

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_LOGIT_ERRORS_H_
