// Non-owning views of rows that belong to (token, head): keys, values, queries, outputs.
#ifndef TURBOQUANT_HEADS_VIEW_H_
#define TURBOQUANT_HEADS_VIEW_H_

#include <cstddef>

#include "turboquant/matrix_view.h"

namespace turboquant {

// tokens × heads rows of dim elements of one of the accepted types; row (t, h) begins
// t · token_stride + h · head_stride elements behind data.
struct HeadsView {
  const void* data = nullptr;
  RowType type = RowType::kF32;
  size_t tokens = 0;
  size_t heads = 0;
  size_t dim = 0;
  size_t token_stride = 0;
  size_t head_stride = 0;

  // [tokens × heads × dim], as projections leave them.
  template <class T>
  static constexpr HeadsView TokenMajor(const T* data, size_t tokens, size_t heads, size_t dim) {
    return {data, TypeOf(data), tokens, heads, dim, heads * dim, dim};
  }

  // [heads × tokens × dim], as most model graphs hold them.
  template <class T>
  static constexpr HeadsView HeadMajor(const T* data, size_t tokens, size_t heads, size_t dim) {
    return {data, TypeOf(data), tokens, heads, dim, dim, tokens * dim};
  }

  // The rows of one head, one a token.
  constexpr RowsView Head(size_t head) const {
    const size_t bytes = head * head_stride * (type == RowType::kF32 ? 4 : 2);
    const void* first = static_cast<const unsigned char*>(data) + bytes;
    switch (type) {
      case RowType::kF16:
        return MatrixView<const Float16>(static_cast<const Float16*>(first), tokens, dim,
                                         token_stride);
      case RowType::kBF16:
        return MatrixView<const BFloat16>(static_cast<const BFloat16*>(first), tokens, dim,
                                          token_stride);
      case RowType::kF32:
        break;
    }
    return MatrixView<const float>(static_cast<const float*>(first), tokens, dim, token_stride);
  }

  // Tokens [first, first + count).
  constexpr HeadsView Slice(size_t first, size_t count) const {
    HeadsView slice = *this;
    const size_t bytes = first * token_stride * (type == RowType::kF32 ? 4 : 2);
    slice.data = static_cast<const unsigned char*>(data) + bytes;
    slice.tokens = count;
    return slice;
  }

 private:
  static constexpr RowType TypeOf(const float*) { return RowType::kF32; }
  static constexpr RowType TypeOf(const Float16*) { return RowType::kF16; }
  static constexpr RowType TypeOf(const BFloat16*) { return RowType::kBF16; }
};

// The same for float rows that a call writes.
struct HeadsOutput {
  float* data = nullptr;
  size_t tokens = 0;
  size_t heads = 0;
  size_t dim = 0;
  size_t token_stride = 0;
  size_t head_stride = 0;

  static constexpr HeadsOutput TokenMajor(float* data, size_t tokens, size_t heads, size_t dim) {
    return {data, tokens, heads, dim, heads * dim, dim};
  }
  static constexpr HeadsOutput HeadMajor(float* data, size_t tokens, size_t heads, size_t dim) {
    return {data, tokens, heads, dim, dim, tokens * dim};
  }
  constexpr float* Row(size_t token, size_t head) const {
    return data + token * token_stride + head * head_stride;
  }
};

}  // namespace turboquant

#endif  // TURBOQUANT_HEADS_VIEW_H_
