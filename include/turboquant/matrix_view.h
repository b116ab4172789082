// Non-owning views of rows that someone else holds.
#ifndef TURBOQUANT_MATRIX_VIEW_H_
#define TURBOQUANT_MATRIX_VIEW_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace turboquant {

// Storage-only 16-bit floats: IEEE binary16, and the upper half of a binary32.
struct Float16 {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

// rows × cols elements; row r begins at data + r * stride (stride counts elements, >= cols).
// A view never owns; the elements must outlive the call it is passed to.
template <class T>
struct MatrixView {
  T* data = nullptr;
  size_t rows = 0;
  size_t cols = 0;
  size_t stride = 0;

  constexpr MatrixView() = default;
  constexpr MatrixView(T* data_in, size_t rows_in, size_t cols_in)
      : data(data_in), rows(rows_in), cols(cols_in), stride(cols_in) {}
  constexpr MatrixView(T* data_in, size_t rows_in, size_t cols_in, size_t stride_in)
      : data(data_in), rows(rows_in), cols(cols_in), stride(stride_in) {}

  constexpr T* Row(size_t r) const { return data + r * stride; }
  constexpr std::span<T> RowSpan(size_t r) const { return {Row(r), cols}; }
  constexpr MatrixView Slice(size_t first, size_t count) const {
    return {data + first * stride, count, cols, stride};
  }
  // A view that may write is also one that may read.
  constexpr operator MatrixView<const T>() const  // NOLINT(google-explicit-constructor)
    requires(!std::is_const_v<T>)
  {
    return {data, rows, cols, stride};
  }
};

enum class RowType { kF32, kF16, kBF16 };

// Rows to encode, of any of the three accepted element types. Converts implicitly from a
// MatrixView, so that callers pass the view they have.
class RowsView {
 public:
  constexpr RowsView(MatrixView<const float> v)  // NOLINT(google-explicit-constructor)
      : data_(v.data), type_(RowType::kF32), rows_(v.rows), cols_(v.cols), stride_(v.stride) {}
  constexpr RowsView(MatrixView<float> v)  // NOLINT(google-explicit-constructor)
      : RowsView(MatrixView<const float>(v)) {}
  constexpr RowsView(MatrixView<const Float16> v)  // NOLINT(google-explicit-constructor)
      : data_(v.data), type_(RowType::kF16), rows_(v.rows), cols_(v.cols), stride_(v.stride) {}
  constexpr RowsView(MatrixView<const BFloat16> v)  // NOLINT(google-explicit-constructor)
      : data_(v.data), type_(RowType::kBF16), rows_(v.rows), cols_(v.cols), stride_(v.stride) {}

  constexpr const void* data() const { return data_; }
  constexpr RowType type() const { return type_; }
  constexpr size_t rows() const { return rows_; }
  constexpr size_t cols() const { return cols_; }
  constexpr size_t stride() const { return stride_; }  // elements

  // Rows [first, first + count).
  constexpr RowsView Slice(size_t first, size_t count) const {
    RowsView slice = *this;
    const size_t element_bytes = type_ == RowType::kF32 ? 4 : 2;
    slice.data_ = static_cast<const unsigned char*>(data_) + first * stride_ * element_bytes;
    slice.rows_ = count;
    return slice;
  }

 private:
  const void* data_;
  RowType type_;
  size_t rows_;
  size_t cols_;
  size_t stride_;
};

}  // namespace turboquant

#endif  // TURBOQUANT_MATRIX_VIEW_H_
