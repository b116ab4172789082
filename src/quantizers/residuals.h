// What the first stage of TurboQuant-Prod leaves to its sketch (paper, section 3.2).
#ifndef TURBOQUANT_SRC_QUANTIZERS_RESIDUALS_H_
#define TURBOQUANT_SRC_QUANTIZERS_RESIDUALS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "turboquant/codebook.h"
#include "turboquant/matrix_view.h"
#include "turboquant/rotation.h"

namespace turboquant {

// The centroids on the scale of a unit row.
std::vector<float> UnitCentroids(const Codebook& codebook, size_t dim);

// residuals [n × dim] = Π row / |row| - centroids of `codes` [n × dim], of n rows from `first` on,
// and norms[n] = |row|. Zero for a zero row, so that its signs are zero too. The rows have passed
// the first stage's checks.
void MakeResiduals(const RowsView& rows, size_t first, const Rotation& rotation,
                   std::span<const float> centroids, std::span<const uint8_t> codes,
                   const MatrixView<float>& residuals, std::span<double> norms);

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_QUANTIZERS_RESIDUALS_H_
