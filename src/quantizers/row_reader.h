// Rows of any accepted element type as float, and what is wrong with them.
#ifndef TURBOQUANT_SRC_QUANTIZERS_ROW_READER_H_
#define TURBOQUANT_SRC_QUANTIZERS_ROW_READER_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string_view>

#include "src/base/failure.h"
#include "src/base/half.h"
#include "turboquant/matrix_view.h"

namespace turboquant {

// Element (row, column) as float; exact.
inline float ElementAt(const RowsView& rows, size_t row, size_t column) {
  const size_t at = row * rows.stride() + column;
  switch (rows.type()) {
    case RowType::kF32:
      return static_cast<const float*>(rows.data())[at];
    case RowType::kF16:
      return F16ToF32(static_cast<const Float16*>(rows.data())[at]);
    case RowType::kBF16:
      return BF16ToF32(static_cast<const BFloat16*>(rows.data())[at]);
  }
  return 0.0f;
}

// Copies row `row` as floats to out[cols].
inline void ReadRow(const RowsView& rows, size_t row, float* out) {
  const size_t at = row * rows.stride();
  switch (rows.type()) {
    case RowType::kF32:
      std::copy_n(static_cast<const float*>(rows.data()) + at, rows.cols(), out);
      return;
    case RowType::kF16:
      std::transform(static_cast<const Float16*>(rows.data()) + at,
                     static_cast<const Float16*>(rows.data()) + at + rows.cols(), out, F16ToF32);
      return;
    case RowType::kBF16:
      std::transform(static_cast<const BFloat16*>(rows.data()) + at,
                     static_cast<const BFloat16*>(rows.data()) + at + rows.cols(), out, BF16ToF32);
      return;
  }
}

// kDimensionMismatch unless rows are [n × dim] with a stride of at least dim.
inline Result<void> CheckShape(std::string_view name, size_t cols, size_t stride, size_t rows,
                               size_t dim) {
  if (cols != dim) {
    return Fail(ErrorCode::kDimensionMismatch, name, " have ", cols,
                " columns, the quantizer has dim ", dim);
  }
  if (rows > 1 && stride < cols) {
    return Fail(ErrorCode::kInvalidArgument, name, " have stride ", stride, ", less than their ",
                cols, " columns");
  }
  return {};
}

// kNonFinite naming the first column of `row` that is NaN or infinite; call when there is one.
inline std::unexpected<Error> NonFinite(std::string_view name, const RowsView& rows, size_t row) {
  for (size_t j = 0; j < rows.cols(); ++j) {
    const float x = ElementAt(rows, row, j);
    if (!std::isfinite(x)) {
      return Fail(ErrorCode::kNonFinite, name, "[", row, "] is ",
                  std::isnan(x) ? "NaN" : "infinite", " at column ", j);
    }
  }
  return Fail(ErrorCode::kInternal, name, "[", row, "] was taken for non-finite");
}

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_QUANTIZERS_ROW_READER_H_
