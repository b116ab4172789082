#include "src/quantizers/residuals.h"

#include <cmath>

#include "src/quantizers/direction.h"

namespace turboquant {

std::vector<float> UnitCentroids(const Codebook& codebook, size_t dim) {
  const double sigma = 1.0 / std::sqrt(static_cast<double>(dim));
  std::vector<float> centroids;
  for (size_t i = 0; i < codebook.size(); ++i) {
    centroids.push_back(static_cast<float>(codebook.Centroid(i) * sigma));
  }
  return centroids;
}

void MakeResiduals(const RowsView& rows, size_t first, const Rotation& rotation,
                   std::span<const float> centroids, std::span<const uint8_t> codes,
                   const MatrixView<float>& residuals, std::span<double> norms) {
  const size_t dim = residuals.cols;
  for (size_t r = 0; r < residuals.rows; ++r) {
    norms[r] = ReadDirection("rows", rows, first + r, residuals.RowSpan(r)).value_or(0.0);
  }
  (void)rotation.Apply(residuals, residuals);  // the shapes agree
  for (size_t r = 0; r < residuals.rows; ++r) {
    if (norms[r] == 0.0) continue;
    float* residual = residuals.Row(r);
    for (size_t j = 0; j < dim; ++j) residual[j] -= centroids[codes[r * dim + j]];
  }
}

}  // namespace turboquant
