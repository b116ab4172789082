#include "src/cache/check_heads.h"

#include <algorithm>
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

constexpr size_t kCheckRows = 16;  // whose norms are summed together

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
  // One token of all heads in one go, several of a head.
  const bool all_heads = rows.tokens == 1 && rows.type == RowType::kF32;
  const size_t task_rows = all_heads ? rows.heads : rows.tokens;
  FirstFailure failure;
  RunTasks(parallel_for, all_heads ? 1 : rows.heads, [&](size_t task) {
    std::vector<float> converted(rows.type == RowType::kF32 ? 0 : rows.dim);
    const RowsView head_rows = rows.Head(task);
    double norms[kCheckRows];
    for (size_t first = 0, count = 0; first < task_rows; first += count) {
      kernels::QueryRows<const float> floats = {converted.data(), rows.dim};
      if (rows.type == RowType::kF32) {
        count = std::min(kCheckRows, task_rows - first);
        const size_t stride = all_heads ? rows.head_stride : head_rows.stride();
        floats = {static_cast<const float*>(head_rows.data()) + first * stride, stride};
      } else {
        count = 1;
        ReadRow(head_rows, first, converted.data());
      }
      table.norms_squared(floats, count, rows.dim, norms);
      if (norms_squared != nullptr) {
        std::copy_n(norms, count, norms_squared + task * rows.tokens + first);
      }
      for (size_t r = 0; r < count; ++r) {
        const size_t token = all_heads ? 0 : first + r;
        const size_t head = all_heads ? first + r : task;
        auto checked = CheckRow(name, token, head, floats.data + r * floats.stride, rows.dim,
                                limits, norms[r]);
        if (!checked) return failure.Report(task, std::move(checked).error());
      }
    }
  });
  return std::move(failure).Take();
}

}  // namespace turboquant
