// Products with dense matrices; included once per target. Vectors lie across the lanes, so that
// each sum is made in the order of the columns.
#if defined(TURBOQUANT_SRC_KERNELS_DENSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TURBOQUANT_SRC_KERNELS_DENSE_INL_H_
#undef TURBOQUANT_SRC_KERNELS_DENSE_INL_H_
#else
#define TURBOQUANT_SRC_KERNELS_DENSE_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <vector>

#include "src/kernels/kernels.h"
#include "src/kernels/simd-inl.h"

#if TURBOQUANT_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace turboquant::kernels::HWY_NAMESPACE {

using DD = hn::ScalableTag<double>;
using VD = hn::Vec<DD>;

inline constexpr size_t kDoubles = kFloats / 2;           // lanes of a double vector
inline constexpr size_t kDenseVectors = 2 * kDoubles;     // side by side
inline constexpr size_t kDenseRows = 4;                   // of the matrix, together
inline constexpr size_t kDenseChunk = 8 * kDenseVectors;  // vectors that are in memory as doubles

// sums[row][vector] of kDenseRows rows, block [dim × kDenseRows], and kDenseVectors vectors,
// columns [dim × kDenseVectors].
HWY_INLINE void MultiplyBlock(const double* block, const double* columns, size_t dim,
                              double (*sums)[kDenseVectors]) {
  const DD d;
  VD low[kDenseRows];
  VD high[kDenseRows];
  for (size_t i = 0; i < kDenseRows; ++i) low[i] = high[i] = hn::Zero(d);
  for (size_t j = 0; j < dim; ++j) {
    const VD x = hn::LoadU(d, columns + j * kDenseVectors);
    const VD y = hn::LoadU(d, columns + j * kDenseVectors + kDoubles);
    for (size_t i = 0; i < kDenseRows; ++i) {
      // A product of floats is exact in double, so fused or not is the same.
      const VD entry = hn::Set(d, block[j * kDenseRows + i]);
      low[i] = hn::MulAdd(entry, x, low[i]);
      high[i] = hn::MulAdd(entry, y, high[i]);
    }
  }
  for (size_t i = 0; i < kDenseRows; ++i) {
    hn::StoreU(low[i], d, sums[i]);
    hn::StoreU(high[i], d, sums[i] + kDoubles);
  }
}

// Rows [first, first + kRows) for one vector; several side by side fill the waits of one another's
// additions.
template <size_t kRows>
HWY_INLINE void MultiplyRowsOnce(const DenseMatrix& matrix, size_t first, const float* vector,
                                 double* out) {
  const float* row = matrix.data + first * matrix.row_stride;
  double sums[kRows] = {};
  for (size_t j = 0; j < matrix.dim; ++j) {
    const double x = static_cast<double>(vector[j]);
    for (size_t i = 0; i < kRows; ++i) {
      const float entry = row[i * matrix.row_stride + j * matrix.column_stride];
      sums[i] += static_cast<double>(entry) * x;
    }
  }
  std::copy_n(sums, kRows, out + first);
}

// The same of four vectors of rows where entries of a column follow each other.
HWY_INLINE void MultiplyColumnsOnce(const DenseMatrix& matrix, size_t first, const float* vector,
                                    double* out) {
  const DD d;
  const hn::Rebind<float, DD> narrow;
  VD sums[4];
  for (VD& sum : sums) sum = hn::Zero(d);
  for (size_t j = 0; j < matrix.dim; ++j) {
    const VD x = hn::Set(d, static_cast<double>(vector[j]));
    const float* column = matrix.data + j * matrix.column_stride + first;
    for (size_t i = 0; i < 4; ++i) {
      const VD entries = hn::PromoteTo(d, hn::LoadU(narrow, column + i * kDoubles));
      sums[i] = hn::MulAdd(entries, x, sums[i]);
    }
  }
  for (size_t i = 0; i < 4; ++i) hn::StoreU(sums[i], d, out + first + i * kDoubles);
}

// Fewer vectors than make up for the conversion of blocks.
inline void MultiplyFew(const DenseMatrix& matrix, const QueryRows<const float>& vectors,
                        size_t count, const QueryRows<double>& sums) {
  constexpr size_t kRows = 8;
  for (size_t v = 0; v < count; ++v) {
    const float* vector = vectors.data + v * vectors.stride;
    double* out = sums.data + v * sums.stride;
    size_t i = 0;
    for (; matrix.row_stride == 1 && i + 4 * kDoubles <= matrix.rows; i += 4 * kDoubles) {
      MultiplyColumnsOnce(matrix, i, vector, out);
    }
    for (; i + kRows <= matrix.rows; i += kRows) {
      MultiplyRowsOnce<kRows>(matrix, i, vector, out);
    }
    for (; i < matrix.rows; ++i) MultiplyRowsOnce<1>(matrix, i, vector, out);
  }
}

inline void MultiplyDense(const DenseMatrix& matrix, const QueryRows<const float>& vectors,
                          size_t count, const QueryRows<double>& sums) {
  const size_t few = matrix.row_stride == 1 ? 2 * kDenseVectors : kDenseVectors / 2;
  if (count < few) return MultiplyFew(matrix, vectors, count, sums);
  const size_t dim = matrix.dim;
  std::vector<double> block(dim * kDenseRows);
  std::vector<double> columns(dim * RoundUp(std::min(count, kDenseChunk), kDenseVectors));
  for (size_t chunk = 0; chunk < count; chunk += kDenseChunk) {
    const size_t chunk_count = std::min(kDenseChunk, count - chunk);
    // Vector v to lane v % kDenseVectors of its group; what is left of the last group is of no use.
    for (size_t v = 0; v < chunk_count; ++v) {
      const float* vector = vectors.data + (chunk + v) * vectors.stride;
      double* lane = columns.data() + v / kDenseVectors * kDenseVectors * dim + v % kDenseVectors;
      for (size_t j = 0; j < dim; ++j) lane[j * kDenseVectors] = static_cast<double>(vector[j]);
    }
    for (size_t first = 0; first < matrix.rows; first += kDenseRows) {
      const size_t rows = std::min(kDenseRows, matrix.rows - first);
      for (size_t i = 0; i < rows; ++i) {
        const float* row = matrix.data + (first + i) * matrix.row_stride;
        for (size_t j = 0; j < dim; ++j) {
          block[j * kDenseRows + i] = static_cast<double>(row[j * matrix.column_stride]);
        }
      }
      for (size_t group = 0; group < chunk_count; group += kDenseVectors) {
        double block_sums[kDenseRows][kDenseVectors];
        MultiplyBlock(block.data(), columns.data() + group * dim, dim, block_sums);
        for (size_t v = group; v < std::min(chunk_count, group + kDenseVectors); ++v) {
          double* out = sums.data + (chunk + v) * sums.stride + first;
          for (size_t i = 0; i < rows; ++i) out[i] = block_sums[i][v - group];
        }
      }
    }
  }
}

}  // namespace turboquant::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // TURBOQUANT_SIMD_TARGET

#endif  // per-target include guard
