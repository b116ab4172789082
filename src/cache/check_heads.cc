#include "src/cache/check_heads.h"

#include <cmath>
#include <utility>
#include <vector>

#include "src/base/failure.h"
#include "src/base/half.h"
#include "src/base/try.h"
#include "src/cache/kv_state.h"
#include "src/quantizers/row_reader.h"
#include "src/quantizers/run_tasks.h"

namespace turboquant {
namespace {

Result<void> CheckStrides(std::string_view name, size_t tokens, size_t heads, size_t dim,
                          size_t token_stride, size_t head_stride) {
  if ((tokens > 1 && token_stride < dim) || (heads > 1 && head_stride < dim)) {
    return Fail(ErrorCode::kInvalidArgument, name, " have token_stride ", token_stride,
                " and head_stride ", head_stride, ", less than the ", dim, " elements of a row");
  }
  return {};
}

std::unexpected<Error> NotFinite(std::string_view name, size_t token, size_t head, const float* row,
                                 size_t dim) {
  size_t column = 0;
  while (column + 1 < dim && std::isfinite(row[column])) ++column;
  return Fail(ErrorCode::kNonFinite, name, "[", token, "][", head, "] is ",
              std::isnan(row[column]) ? "NaN" : "infinite", " at column ", column);
}

Result<void> CheckRow(std::string_view name, size_t token, size_t head, const float* row,
                      size_t dim, const RowLimits& limits, double norm2) {
  if (!std::isfinite(norm2)) return NotFinite(name, token, head, row, dim);
  if (token >= limits.first_packed && norm2 > kMaxNorm * kMaxNorm) {
    return Fail(ErrorCode::kInvalidArgument, name, "[", token, "][", head, "] has norm ",
                std::sqrt(norm2), ", more than the ", kMaxNorm, " that can be packed");
  }
  for (size_t j = 0; j < dim && limits.f16; ++j) {
    if ((F32ToF16(row[j]).bits & 0x7C00u) == 0x7C00u) {
      return Fail(ErrorCode::kInvalidArgument, name, "[", token, "][", head, "] is ",
                  static_cast<double>(row[j]), " at column ", j,
                  ", more than an f16 holds (65504)");
    }
  }
  return {};
}

}  // namespace

Result<void> CheckHeads(std::string_view name, const HeadsView& rows, size_t heads, size_t dim) {
  if (rows.heads != heads || rows.dim != dim) {
    return Fail(ErrorCode::kDimensionMismatch, name, " have ", rows.heads, " heads of dim ",
                rows.dim, ", expected ", heads, " of ", dim);
  }
  if (rows.tokens == 0) return {};
  if (rows.data == nullptr) {
    return Fail(ErrorCode::kInvalidArgument, name, " have ", rows.tokens, " tokens and no data");
  }
  return CheckStrides(name, rows.tokens, heads, dim, rows.token_stride, rows.head_stride);
}

Result<void> CheckOutput(std::string_view name, const HeadsOutput& rows, size_t tokens,
                         size_t heads, size_t dim) {
  if (rows.tokens != tokens || rows.heads != heads || rows.dim != dim) {
    return Fail(ErrorCode::kDimensionMismatch, name, " have ", rows.tokens, " tokens of ",
                rows.heads, " heads of dim ", rows.dim, ", expected ", tokens, " of ", heads,
                " of ", dim);
  }
  if (tokens == 0) return {};
  if (rows.data == nullptr) {
    return Fail(ErrorCode::kInvalidArgument, name, " have ", tokens, " tokens and no data");
  }
  return CheckStrides(name, tokens, heads, dim, rows.token_stride, rows.head_stride);
}

Result<void> CheckNumbers(std::string_view name, const HeadsView& rows, const RowLimits& limits,
                          const kernels::KernelTable& table, const ParallelFor& parallel_for,
                          double* norms_squared) {
  FirstFailure failure;
  RunTasks(parallel_for, rows.heads, [&](size_t head) {
    const RowsView head_rows = rows.Head(head);
    std::vector<float> converted(rows.type == RowType::kF32 ? 0 : rows.dim);
    for (size_t t = 0; t < rows.tokens; ++t) {
      const float* row = converted.data();
      if (rows.type == RowType::kF32) {
        row = static_cast<const float*>(head_rows.data()) + t * head_rows.stride();
      } else {
        ReadRow(head_rows, t, converted.data());
      }
      const double norm2 = table.norm_squared(row, rows.dim);
      if (norms_squared != nullptr) norms_squared[head * rows.tokens + t] = norm2;
      if (auto checked = CheckRow(name, t, head, row, rows.dim, limits, norm2); !checked) {
        return failure.Report(head, std::move(checked).error());
      }
    }
  });
  return std::move(failure).Take();
}

}  // namespace turboquant
