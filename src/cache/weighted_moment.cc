#include "src/cache/weighted_moment.h"

#include <cassert>

#include "src/math/float_product.h"

namespace turboquant {

void WeightedMoment::Add(MatrixView<const float> rows, std::span<const double> weights) {
  assert(rows.rows == weights.size() && rows.cols == dim_);
  double total = 0.0;
  for (const double weight : weights) total += weight;
  if (total == 0.0) return;
  std::vector<float> weighted(rows.rows * dim_);
  for (size_t i = 0; i < rows.rows; ++i) {
    // Of the total: attention weights may be too small for float.
    const float weight = static_cast<float>(weights[i] / total);
    for (size_t j = 0; j < dim_; ++j) weighted[i * dim_ + j] = weight * rows.Row(i)[j];
  }
  std::vector<float> products(sums_.size());
  if (full_) {
    MultiplyFloats({weighted.data(), 1, dim_}, rows, {products.data(), dim_, dim_});
  } else {
    for (size_t i = 0; i < rows.rows; ++i) {
      for (size_t j = 0; j < dim_; ++j) products[j] += weighted[i * dim_ + j] * rows.Row(i)[j];
    }
  }
  for (size_t i = 0; i < sums_.size(); ++i) sums_[i] += total * products[i];
}

void WeightedMoment::Shrink(double shrinkage) {
  const double added = shrinkage * Trace() / static_cast<double>(dim_);
  for (size_t i = 0; i < sums_.size(); i += full_ ? dim_ + 1 : 1) sums_[i] += added;
}

double WeightedMoment::Trace() const {
  double trace = 0.0;
  for (size_t i = 0; i < sums_.size(); i += full_ ? dim_ + 1 : 1) trace += sums_[i];
  return trace;
}

}  // namespace turboquant
