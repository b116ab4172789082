// Weighted second moments of rows: full matrices, or only their diagonals.
#ifndef TURBOQUANT_SRC_CACHE_WEIGHTED_MOMENT_H_
#define TURBOQUANT_SRC_CACHE_WEIGHTED_MOMENT_H_

#include <cstddef>
#include <span>
#include <vector>

#include "turboquant/matrix_view.h"

namespace turboquant {

class WeightedMoment {
 public:
  WeightedMoment(size_t dim, bool full) : dim_(dim), full_(full), sums_(full ? dim * dim : dim) {}

  // Adds the sum of weights[i] · row_i row_iᵀ; rows [weights × dim]. The products of one call are
  // summed in float, calls in double.
  void Add(MatrixView<const float> rows, std::span<const double> weights);

  // Adds shrinkage · trace / dim to the diagonal.
  void Shrink(double shrinkage);

  double Trace() const;
  std::span<const double> sums() const { return sums_; }  // [dim × dim], or [dim]

 private:
  size_t dim_;
  bool full_;
  std::vector<double> sums_;
};

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_CACHE_WEIGHTED_MOMENT_H_
