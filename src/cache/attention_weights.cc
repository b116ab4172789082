#include "src/cache/attention_weights.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <numbers>

#include "src/base/checked.h"
#include "src/kernels/attention.h"
#include "src/math/float_product.h"
#include "src/quantizers/direction.h"

namespace turboquant {
namespace {

constexpr size_t kBlock = 32;    // queries at a time: their rows stay in the second cache
constexpr size_t kPadding = 16;  // of a row of scores, for the softmax kernel

float SumOfSquares(std::span<const float> row) {
  return static_cast<float>(kernels::NormSquared(FastestKernels(), row.data(), row.size()));
}

// row[0, count) become the softmax of factor · row; row has room for padding. False if that
// overflows.
bool Softmax(float factor, float* row, size_t count) {
  bool finite = true;
  for (size_t j = 0; j < count; ++j) {
    row[j] *= factor;
    finite &= std::abs(row[j]) <= std::numeric_limits<float>::max();
  }
  if (!finite) return false;
  kernels::SoftmaxState state = {-std::numeric_limits<float>::infinity(), 0.0f};
  const kernels::TokenRange all = {0, count};
  const float offset = 0.0f;
  float keep = 1.0f;
  FastestKernels().attention->softmax({row, count}, 1, &all, &offset, &state, &keep);
  const float inverse = 1.0f / state.sum;
  for (size_t j = 0; j < count; ++j) row[j] *= inverse;
  return true;
}

std::vector<float> Transpose(MatrixView<const float> matrix) {
  std::vector<float> transposed(matrix.rows * matrix.cols);
  for (size_t i = 0; i < matrix.rows; ++i) {
    for (size_t j = 0; j < matrix.cols; ++j) transposed[j * matrix.rows + i] = matrix.Row(i)[j];
  }
  return transposed;
}

}  // namespace

AttentionWeights::AttentionWeights(MatrixView<const float> keys, MatrixView<const float> values,
                                   size_t sinks, float scale)
    : tokens_(keys.rows),
      dim_(keys.cols),
      sinks_(sinks),
      scale_(scale),
      keys_transposed_(Transpose(keys)),
      values_transposed_(Transpose(values)) {
  assert(values.rows == tokens_ && values.cols == dim_ && scale >= 0.0f);
  for (size_t j = 0; j < tokens_; ++j) {
    values_.insert(values_.end(), values.Row(j), values.Row(j) + dim_);
    value_squares_.push_back(SumOfSquares(values.RowSpan(j)));
  }
}

bool AttentionWeights::ForQueries(
    MatrixView<const float> queries, std::span<const size_t> positions,
    const std::function<void(size_t query, std::span<const float> weights)>& visit) const {
  assert(queries.rows == positions.size() && queries.cols == dim_);
  const float factor = scale_ * std::numbers::log2e_v<float>;  // the kernel's units
  const size_t stride = RoundUp(tokens_, kPadding);
  std::vector<float> weights(kBlock * stride);
  std::vector<float> products(kBlock * stride);
  std::vector<float> outputs(kBlock * dim_);
  for (size_t first = 0; first < queries.rows; first += kBlock) {
    const size_t count = std::min(kBlock, queries.rows - first);
    const size_t seen = positions[first + count - 1] + 1;
    const MatrixView<float> p(weights.data(), count, seen, stride);
    const MatrixView<float> dots(products.data(), count, seen, stride);
    const MatrixView<float> o(outputs.data(), count, dim_);
    MultiplyFloats({queries.Row(first), queries.stride, 1},
                   {keys_transposed_.data(), dim_, seen, tokens_}, p);
    for (size_t i = 0; i < count; ++i) {
      const size_t own = positions[first + i] + 1;
      if (!Softmax(factor, p.Row(i), own)) return false;
      std::fill(p.Row(i) + own, p.Row(i) + seen, 0.0f);
    }
    MultiplyFloats({p.data, p.stride, 1}, {values_.data(), seen, dim_}, o);
    MultiplyFloats({o.data, o.stride, 1}, {values_transposed_.data(), dim_, seen, tokens_}, dots);
    for (size_t i = 0; i < count; ++i) {
      const size_t own = positions[first + i];
      Weigh(o.RowSpan(i), dots.Row(i), {p.Row(i), own + 1});
      visit(first + i, {p.Row(i), own + 1});
    }
  }
  return true;
}

void AttentionWeights::Weigh(std::span<const float> output, const float* dots,
                             std::span<float> row) const {
  const float square = SumOfSquares(output);
  for (size_t j = 0; j < row.size(); ++j) {
    const float distance = (value_squares_[j] + square) - 2.0f * dots[j];
    row[j] = row[j] * row[j] * (distance < 0.0f ? 0.0f : distance);
  }
  std::fill_n(row.begin(), std::min(sinks_, row.size()), 0.0f);
  row.back() = 0.0f;
}

}  // namespace turboquant
