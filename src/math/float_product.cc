#include "src/math/float_product.h"

#include <algorithm>
#include <cassert>

namespace turboquant {
namespace {

constexpr size_t kRows = 4;       // of the output at a time,
constexpr size_t kDepth = 4;      // with so many rows of the right factor: 16 factors in registers
constexpr size_t kColumns = 512;  // of both, which so stay in the first cache

// out[i][j] += factors[i][0] · right[0][j] + ... in that order. No sum runs along the columns,
// which is what lets a compiler turn them into vectors.
template <size_t kCount, size_t kTerms>
void AddProducts(const float (&factors)[kRows][kDepth], const float* __restrict right,
                 size_t right_stride, size_t cols, float* __restrict out, size_t out_stride) {
  for (size_t j = 0; j < cols; ++j) {
    float column[kTerms];
    for (size_t k = 0; k < kTerms; ++k) column[k] = right[k * right_stride + j];
    for (size_t i = 0; i < kCount; ++i) {
      float sum = out[i * out_stride + j];
      for (size_t k = 0; k < kTerms; ++k) sum += factors[i][k] * column[k];
      out[i * out_stride + j] = sum;
    }
  }
}

template <size_t kCount>
void MultiplyRows(const StridedMatrix& left, MatrixView<const float> right, float* out,
                  size_t out_stride) {
  for (size_t i = 0; i < kCount; ++i) std::fill_n(out + i * out_stride, right.cols, 0.0f);
  float factors[kRows][kDepth];
  const auto load = [&](size_t first, size_t terms) {
    for (size_t i = 0; i < kCount; ++i) {
      for (size_t k = 0; k < terms; ++k) {
        factors[i][k] = left.data[i * left.row_stride + (first + k) * left.column_stride];
      }
    }
  };
  size_t k = 0;
  for (; k + kDepth <= right.rows; k += kDepth) {
    load(k, kDepth);
    AddProducts<kCount, kDepth>(factors, right.Row(k), right.stride, right.cols, out, out_stride);
  }
  for (; k < right.rows; ++k) {
    load(k, 1);
    AddProducts<kCount, 1>(factors, right.Row(k), right.stride, right.cols, out, out_stride);
  }
}

}  // namespace

void MultiplyFloats(const StridedMatrix& left, MatrixView<const float> right,
                    MatrixView<float> out) {
  assert(out.cols == right.cols);
  for (size_t first = 0; first < right.cols; first += kColumns) {
    MatrixView<const float> columns = right;
    columns.data += first;
    columns.cols = std::min(kColumns, right.cols - first);
    StridedMatrix rows = left;
    size_t i = 0;
    for (; i + kRows <= out.rows; i += kRows, rows.data += kRows * rows.row_stride) {
      MultiplyRows<kRows>(rows, columns, out.Row(i) + first, out.stride);
    }
    for (; i < out.rows; ++i, rows.data += rows.row_stride) {
      MultiplyRows<1>(rows, columns, out.Row(i) + first, out.stride);
    }
  }
}

}  // namespace turboquant
