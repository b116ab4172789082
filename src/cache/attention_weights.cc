#include "src/cache/attention_weights.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstdint>

#include "src/math/float_product.h"

namespace turboquant {
namespace {

constexpr size_t kBlock = 32;  // queries at a time: their rows stay in the second cache
constexpr size_t kLanes = 8;   // partial results that take turns, for vectors of any width

// exp(x) for x <= 0 to 2e-7, 0 below -87: a Taylor polynomial on [-ln 2 / 2, ln 2 / 2] times a
// power of two. Plain arithmetic, which a compiler turns into vectors and no libm changes.
float Exp(float x) {
  constexpr float kLog2E = 1.44269504f;
  constexpr float kLn2High = 0.693359375f;  // few bits: its multiples are exact
  constexpr float kLn2Low = -2.12194440e-4f;
  constexpr float kRound = 12582912.0f;  // 1.5 · 2^23: adding it rounds to an integer
  const bool zero = x < -87.0f;
  const float bounded = zero ? -87.0f : x;
  const float shifted = bounded * kLog2E + kRound;
  const float power = shifted - kRound;
  const float r = (bounded - power * kLn2High) - power * kLn2Low;
  float sum = 1.0f / 720.0f;
  sum = sum * r + 1.0f / 120.0f;
  sum = sum * r + 1.0f / 24.0f;
  sum = sum * r + 1.0f / 6.0f;
  sum = sum * r + 0.5f;
  sum = sum * r + 1.0f;
  sum = sum * r + 1.0f;
  const uint32_t exponent = (std::bit_cast<uint32_t>(shifted) + 127u) << 23;
  return zero ? 0.0f : sum * std::bit_cast<float>(exponent);
}

float Largest(std::span<const float> row) {
  std::array<float, kLanes> lanes;
  lanes.fill(row[0]);
  const size_t whole = row.size() / kLanes * kLanes;
  for (size_t j = 0; j < whole; j += kLanes) {
    for (size_t l = 0; l < kLanes; ++l) lanes[l] = lanes[l] < row[j + l] ? row[j + l] : lanes[l];
  }
  for (size_t j = whole; j < row.size(); ++j) lanes[j - whole] = std::max(lanes[j - whole], row[j]);
  return *std::max_element(lanes.begin(), lanes.end());
}

float Total(const std::array<float, kLanes>& sums) {
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

float Sum(std::span<const float> row) {
  std::array<float, kLanes> sums{};
  const size_t whole = row.size() / kLanes * kLanes;
  for (size_t j = 0; j < whole; j += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += row[j + lane];
  }
  for (size_t j = whole; j < row.size(); ++j) sums[j - whole] += row[j];
  return Total(sums);
}

float SumOfSquares(std::span<const float> row) {
  std::array<float, kLanes> sums{};
  const size_t whole = row.size() / kLanes * kLanes;
  for (size_t j = 0; j < whole; j += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += row[j + lane] * row[j + lane];
  }
  for (size_t j = whole; j < row.size(); ++j) sums[j - whole] += row[j] * row[j];
  return Total(sums);
}

void Softmax(float scale, std::span<float> row) {
  const float largest = Largest(row) * scale;
  for (float& x : row) x = Exp(x * scale - largest);
  const float inverse = 1.0f / Sum(row);
  for (float& x : row) x *= inverse;
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

void AttentionWeights::ForQueries(
    MatrixView<const float> queries, std::span<const size_t> positions,
    const std::function<void(size_t query, std::span<const float> weights)>& visit) const {
  assert(queries.rows == positions.size() && queries.cols == dim_);
  std::vector<float> weights(kBlock * tokens_);
  std::vector<float> products(kBlock * tokens_);
  std::vector<float> outputs(kBlock * dim_);
  for (size_t first = 0; first < queries.rows; first += kBlock) {
    const size_t count = std::min(kBlock, queries.rows - first);
    const size_t seen = positions[first + count - 1] + 1;
    const MatrixView<float> p(weights.data(), count, seen, tokens_);
    const MatrixView<float> dots(products.data(), count, seen, tokens_);
    const MatrixView<float> o(outputs.data(), count, dim_);
    MultiplyFloats({queries.Row(first), queries.stride, 1},
                   {keys_transposed_.data(), dim_, seen, tokens_}, p);
    for (size_t i = 0; i < count; ++i) {
      const size_t own = positions[first + i] + 1;
      Softmax(scale_, {p.Row(i), own});
      std::fill(p.Row(i) + own, p.Row(i) + seen, 0.0f);
    }
    MultiplyFloats({p.data, p.stride, 1}, {values_.data(), seen, dim_}, o);
    MultiplyFloats({o.data, o.stride, 1}, {values_transposed_.data(), dim_, seen, tokens_}, dots);
    for (size_t i = 0; i < count; ++i) {
      float* row = p.Row(i);
      const float square = SumOfSquares(o.RowSpan(i));
      for (size_t j = 0; j < seen; ++j) {
        const float distance = (value_squares_[j] + square) - 2.0f * dots.Row(i)[j];
        row[j] = row[j] * row[j] * (distance < 0.0f ? 0.0f : distance);
      }
      const size_t own = positions[first + i];
      std::fill_n(row, std::min(sinks_, own), 0.0f);
      row[own] = 0.0f;
      visit(first + i, {row, own + 1});
    }
  }
}

}  // namespace turboquant
