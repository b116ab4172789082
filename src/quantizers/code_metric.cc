#include "src/quantizers/code_metric.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <limits>

namespace turboquant {
namespace {

// Few rows still move after so many.
constexpr int kMostSweeps = 32;
constexpr size_t kMostLanes = 4;  // floats of the narrowest vectors

// Sum of a_j · b_j · c_j: eight partial sums that take turns, for vectors.
double SumOfProducts(std::span<const float> a, std::span<const float> b, std::span<const float> c) {
  double sums[8] = {};
  for (size_t j = 0; j < a.size(); ++j) {
    sums[j % 8] +=
        static_cast<double>(a[j]) * static_cast<double>(b[j]) * static_cast<double>(c[j]);
  }
  return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

}  // namespace

CodeMetric::CodeMetric(const kernels::KernelTable& table, std::span<const float> query_weights)
    : kernels_(&table),
      dim_(query_weights.size()),
      lanes_(std::min(dim_, kMostLanes)),
      no_signs_(dim_, 0),
      spectrum_(query_weights.begin(), query_weights.end()),
      columns_(lanes_ * dim_),
      row_(dim_),
      centroids_(dim_),
      gradient_(dim_) {
  assert(std::has_single_bit(dim_));
  double sum = 0.0;
  for (const float weight : query_weights) sum += static_cast<double>(weight);
  for (float& weight : spectrum_) weight = static_cast<float>(static_cast<double>(weight) / sum);
  std::vector<float> first_column = spectrum_;
  Transform(first_column);
  for (size_t b = 0; b < lanes_; ++b) {
    for (size_t j = 0; j < dim_; ++j) columns_[b * dim_ + j] = first_column[j ^ b];
  }
}

void CodeMetric::Transform(std::vector<float>& x) const {
  kernels_->rotate({dim_, 1, no_signs_.data()}, x.data());
}

template <size_t kLanes>
void CodeMetric::MoveLanes(size_t i, float by) {
  const float* column = columns_.data() + i % kLanes * dim_;
  const size_t group = i / kLanes * kLanes;
  for (size_t j = 0; j < dim_; j += kLanes) {
    const float* entries = column + (j ^ group);
    for (size_t b = 0; b < kLanes; ++b) gradient_[j + b] -= by * entries[b];
  }
}

void CodeMetric::Move(size_t i, float by) {
  return lanes_ == kMostLanes ? MoveLanes<kMostLanes>(i, by) : MoveLanes<2>(i, by);
}

// The error changes by s² - 2 s g where a coordinate of gradient g moves by s: below 0 if |2 g|
// exceeds the way to the next centroid in the direction of g.
void CodeMetric::Descend(const Codebook& codebook, float scale, uint8_t* codes) {
  const size_t count = codebook.size();
  rises_.assign(count + 1, std::numeric_limits<float>::infinity());
  const float step = static_cast<float>(codebook.step());
  const auto levels = codebook.levels();
  for (size_t c = 1; c < count; ++c)
    rises_[c] = scale * (static_cast<float>(levels[c] - levels[c - 1]) * step);
  for (int sweep = 0; sweep < kMostSweeps; ++sweep) {
    bool moved = false;
    for (size_t i = 0; i < dim_; ++i) {
      const float twice = 2.0f * gradient_[i];
      const float up = rises_[codes[i] + 1u];
      const float down = rises_[codes[i]];
      if (twice > up) {
        ++codes[i];
        Move(i, up);
        moved = true;
      } else if (-twice > down) {
        --codes[i];
        Move(i, -down);
        moved = true;
      }
    }
    if (!moved) return;
  }
}

std::optional<double> CodeMetric::Shape(const Codebook& codebook, const int16_t* grid,
                                        const kernels::RowSums& sums, uint8_t* codes) {
  if (sums.grid_level <= 0) return std::nullopt;
  const std::vector<uint8_t> before(codes, codes + dim_);
  const float step = static_cast<float>(codebook.step());
  const auto levels = codebook.levels();
  const auto read_centroids = [&] {
    for (size_t j = 0; j < dim_; ++j) centroids_[j] = static_cast<float>(levels[codes[j]]) * step;
    Transform(centroids_);
  };
  for (size_t j = 0; j < dim_; ++j)
    row_[j] = static_cast<float>(grid[j]) * (1.0f / kernels::kGridPerSigma);
  Transform(row_);
  read_centroids();
  // Unbiased for the row itself, as codes were found.
  const double inner = static_cast<double>(sums.grid_level) * codebook.step();
  const float scale =
      static_cast<float>(static_cast<double>(dim_) * kernels::kGridPerSigma / inner);
  for (size_t j = 0; j < dim_; ++j) gradient_[j] = spectrum_[j] * (row_[j] - scale * centroids_[j]);
  Transform(gradient_);
  Descend(codebook, scale, codes);
  read_centroids();
  const double product = SumOfProducts(spectrum_, row_, centroids_);
  const double shaped = SumOfProducts(spectrum_, row_, row_) / product;
  if (product > 0.0 && std::isfinite(shaped)) return shaped;
  std::ranges::copy(before, codes);
  return std::nullopt;
}

}  // namespace turboquant
