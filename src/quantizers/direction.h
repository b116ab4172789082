// A row as norm and direction: what is rotated never overflows and never loses bits to its length.
#ifndef TURBOQUANT_SRC_QUANTIZERS_DIRECTION_H_
#define TURBOQUANT_SRC_QUANTIZERS_DIRECTION_H_

#include <cmath>
#include <cstddef>
#include <span>
#include <string_view>

#include "src/base/failure.h"
#include "src/kernels/kernels.h"
#include "src/quantizers/row_reader.h"
#include "turboquant/backend.h"
#include "turboquant/matrix_view.h"

namespace turboquant {

// The kernels of this CPU, for objects that have no backend of their own: all targets give the same
// bits.
inline const kernels::KernelTable& FastestKernels() {
  static const kernels::KernelTable* const table =
      kernels::FindKernels(ResolveBackend(Backend::kAuto).value_or(Backend::kScalar));
  return *table;
}

// direction[dim] = row / norm, each coordinate rounded once; zeros for a zero row. Returns the
// norm. Errors: kNonFinite naming row and column.
inline Result<double> ReadDirection(std::string_view name, const RowsView& rows, size_t row,
                                    std::span<float> direction) {
  ReadRow(rows, row, direction.data());
  const double norm2 = kernels::NormSquared(FastestKernels(), direction.data(), direction.size());
  if (!std::isfinite(norm2)) return NonFinite(name, rows, row);
  if (norm2 == 0.0) return 0.0;
  const double norm = std::sqrt(norm2);
  for (float& x : direction) x = static_cast<float>(static_cast<double>(x) / norm);
  return norm;
}

// kDimensionMismatch unless `scores` is [queries × rows].
inline Result<void> CheckScores(const MatrixView<float>& scores, size_t queries, size_t rows) {
  if (scores.rows == queries && scores.cols == rows && (queries < 2 || scores.stride >= rows)) {
    return {};
  }
  return Fail(ErrorCode::kDimensionMismatch, "scores are ", scores.rows, " × ", scores.cols,
              " with stride ", scores.stride, ", expected ", queries, " × ", rows);
}

// kDimensionMismatch unless `out` is [rows × dim].
inline Result<void> CheckDecoded(const MatrixView<float>& out, size_t rows, size_t dim) {
  if (auto shape = CheckShape("out", out.cols, out.stride, out.rows, dim); !shape) return shape;
  if (out.rows == rows) return {};
  return Fail(ErrorCode::kDimensionMismatch, "out has ", out.rows, " rows, there are ", rows,
              " to decode");
}

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_QUANTIZERS_DIRECTION_H_
