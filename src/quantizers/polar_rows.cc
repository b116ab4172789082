#include <limits>

#include "src/base/failure.h"
#include "src/quantizers/stored_numbers.h"
#include "turboquant/polar_quantizer.h"

namespace turboquant {

float PolarRows::RadiusOf(size_t i, size_t block) const {
  if (i >= size_ || block >= radii_per_row_) return std::numeric_limits<float>::quiet_NaN();
  return WithNumbers(radius_type_, radii_f16_, radii_f32_, [&](const auto& radii) {
    return NumberAt(radii[i * radii_per_row_ + block]);
  });
}

Result<void> PolarRows::Append(const PolarRows& other) {
  if (other.quantizer_fingerprint_ != quantizer_fingerprint_) {
    return Fail(ErrorCode::kInvalidArgument,
                "the rows to append were written by another quantizer (other dim, form, "
                "level_bits, seed, rotation or stream)");
  }
  if (other.radius_type_ != radius_type_) {
    return Fail(ErrorCode::kInvalidArgument, "the rows to append have radii of another type");
  }
  AppendAll(packed_, other.packed_);
  AppendAll(radii_f16_, other.radii_f16_);
  AppendAll(radii_f32_, other.radii_f32_);
  size_ += other.size_;
  return {};
}

Result<void> PolarRows::RemoveFront(size_t n) {
  if (n > size_) {
    return Fail(ErrorCode::kInvalidArgument, "cannot remove ", n, " rows from ", size_);
  }
  EraseFront(packed_, n * row_bytes_);
  WithNumbers(radius_type_, radii_f16_, radii_f32_,
              [&](auto& radii) { EraseFront(radii, n * radii_per_row_); });
  size_ -= n;
  return {};
}

Result<void> PolarRows::Truncate(size_t n) {
  if (n > size_) {
    return Fail(ErrorCode::kInvalidArgument, "cannot keep ", n, " rows of ", size_);
  }
  packed_.resize(n * row_bytes_);
  WithNumbers(radius_type_, radii_f16_, radii_f32_,
              [&](auto& radii) { radii.resize(n * radii_per_row_); });
  size_ = n;
  return {};
}

size_t PolarRows::HeldBytes() const {
  return packed_.capacity() + radii_f16_.capacity() * sizeof(uint16_t) +
         radii_f32_.capacity() * sizeof(float);
}

}  // namespace turboquant
