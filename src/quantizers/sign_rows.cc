#include <algorithm>
#include <limits>

#include "src/base/failure.h"
#include "src/quantizers/stored_numbers.h"
#include "turboquant/qjl.h"

namespace turboquant {

float SignRows::NormOf(size_t i) const {
  if (i >= size_) return std::numeric_limits<float>::quiet_NaN();
  return WithNumbers(norm_type_, norms_f16_, norms_f32_,
                     [&](const auto& norms) { return NumberAt(norms[i]); });
}

Result<void> SignRows::Append(const SignRows& other) {
  if (other.sketch_fingerprint_ != sketch_fingerprint_) {
    return Fail(ErrorCode::kInvalidArgument,
                "the rows to append were written by another sketch (other dim, sketch_rows, kind, "
                "seed or stream)");
  }
  if (other.norm_type_ != norm_type_) {
    return Fail(ErrorCode::kInvalidArgument, "the rows to append have norms of another type");
  }
  AppendAll(signs_, other.signs_);
  AppendAll(norms_f16_, other.norms_f16_);
  AppendAll(norms_f32_, other.norms_f32_);
  size_ += other.size_;
  return {};
}

Result<void> SignRows::RemoveFront(size_t n) {
  if (n > size_) {
    return Fail(ErrorCode::kInvalidArgument, "cannot remove ", n, " rows from ", size_);
  }
  EraseFront(signs_, n * RowBytes());
  WithNumbers(norm_type_, norms_f16_, norms_f32_, [&](auto& norms) { EraseFront(norms, n); });
  size_ -= n;
  return {};
}

Result<void> SignRows::Truncate(size_t n) {
  if (n > size_) {
    return Fail(ErrorCode::kInvalidArgument, "cannot keep ", n, " rows of ", size_);
  }
  signs_.resize(n * RowBytes());
  WithNumbers(norm_type_, norms_f16_, norms_f32_, [&](auto& norms) { norms.resize(n); });
  size_ = n;
  return {};
}

size_t SignRows::HeldBytes() const {
  return signs_.capacity() + norms_f16_.capacity() * sizeof(uint16_t) +
         norms_f32_.capacity() * sizeof(float);
}

}  // namespace turboquant
