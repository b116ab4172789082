#include <algorithm>
#include <cstring>
#include <limits>

#include "src/base/aligned_bytes.h"
#include "src/base/failure.h"
#include "src/base/half.h"
#include "src/kernels/kernels.h"
#include "src/kernels/line_layout.h"
#include "src/quantizers/stored_numbers.h"
#include "turboquant/mse_quantizer.h"

namespace turboquant {
namespace {

constexpr size_t kChunkRows = 64;  // moved through a buffer of codes at once

kernels::PackedBlocks View(const MseRows& rows, const uint8_t* blocks) {
  return {const_cast<uint8_t*>(blocks), rows.dim(), rows.bits(), rows.tiling() == Tiling::kValues};
}

}  // namespace

void* MseRows::AllocateBytes(size_t size) { return AllocateAligned(size); }

void MseRows::FreeBytes(void* bytes, size_t size) noexcept {
  FreeAligned(static_cast<std::byte*>(bytes), size);
}

size_t MseRows::BlockBytes() const {
  const size_t bits = static_cast<size_t>(bits_);
  return tiling_ == Tiling::kKeys ? kernels::KeyBlockBytes(dim_, bits)
                                  : kernels::ValueBlockBytes(dim_, bits);
}

void MseRows::Resize(size_t rows) {
  const size_t lanes = RoundUp(front_ + rows, BlockRows());
  blocks_.resize(lanes / BlockRows() * BlockBytes());
  WithNumbers(scale_type_, scales_f16_, scales_f32_, [&](auto& scales) { scales.resize(lanes); });
  size_ = rows;
}

Result<void> MseRows::Codes(size_t i, std::span<uint8_t> codes) const {
  if (i >= size_) {
    return Fail(ErrorCode::kInvalidArgument, "row ", i, " was asked for, there are ", size_);
  }
  if (codes.size() != dim_) {
    return Fail(ErrorCode::kDimensionMismatch, "codes have room for ", codes.size(), ", a row has ",
                dim_);
  }
  kernels_->unpack_codes(View(*this, blocks_.data()), front_ + i, 1, codes.data());
  return {};
}

float MseRows::ScaleOf(size_t i) const {
  if (i >= size_) return std::numeric_limits<float>::quiet_NaN();
  return WithNumbers(scale_type_, scales_f16_, scales_f32_,
                     [&](const auto& scales) { return NumberAt(scales[front_ + i]); });
}

Result<void> MseRows::Append(const MseRows& other) {
  if (other.quantizer_fingerprint_ != quantizer_fingerprint_) {
    return Fail(ErrorCode::kInvalidArgument,
                "the rows to append were written by another quantizer (other dim, bits, seed, "
                "rotation, stream or codebook)");
  }
  if (other.scale_type_ != scale_type_) {
    return Fail(ErrorCode::kInvalidArgument, "the rows to append have scales of another type");
  }
  const size_t old_size = size_;
  const size_t added = other.size_;  // before *this grows: other may be *this
  Resize(old_size + added);
  std::vector<uint8_t> codes(kChunkRows * dim_);
  for (size_t done = 0; done < added; done += kChunkRows) {
    const size_t count = std::min(kChunkRows, added - done);
    kernels_->unpack_codes(View(other, other.blocks_.data()), other.front_ + done, count,
                           codes.data());
    kernels_->pack_codes(View(*this, blocks_.data()), front_ + old_size + done, count,
                         codes.data());
  }
  for (size_t r = 0; r < added; ++r) {
    if (scale_type_ == ScaleType::kF16) {
      scales_f16_[front_ + old_size + r] = other.scales_f16_[other.front_ + r];
    } else {
      scales_f32_[front_ + old_size + r] = other.scales_f32_[other.front_ + r];
    }
  }
  return {};
}

Result<void> MseRows::RemoveFront(size_t n) {
  if (n > size_) {
    return Fail(ErrorCode::kInvalidArgument, "cannot remove ", n, " rows from ", size_);
  }
  const size_t gone = (front_ + n) / BlockRows();
  blocks_.erase(blocks_.begin(), blocks_.begin() + static_cast<ptrdiff_t>(gone * BlockBytes()));
  WithNumbers(scale_type_, scales_f16_, scales_f32_,
              [&](auto& scales) { EraseFront(scales, gone * BlockRows()); });
  front_ = (front_ + n) % BlockRows();
  size_ -= n;
  if (size_ == 0) {
    front_ = 0;
    Resize(0);
  }
  return {};
}

Result<void> MseRows::Truncate(size_t n) {
  if (n > size_) {
    return Fail(ErrorCode::kInvalidArgument, "cannot keep ", n, " rows of ", size_);
  }
  // Keep the codes of the last block's rows that stay, and write it anew: freed lanes become zero.
  const size_t block = (front_ + n) / BlockRows();
  const size_t first_lane = std::max(front_, block * BlockRows());
  const size_t kept = front_ + n - first_lane;
  std::vector<uint8_t> codes(kept * dim_);
  kernels_->unpack_codes(View(*this, blocks_.data()), first_lane, kept, codes.data());
  Resize(n);
  if (block * BlockBytes() < blocks_.size()) {
    std::fill(blocks_.begin() + static_cast<ptrdiff_t>(block * BlockBytes()), blocks_.end(),
              uint8_t{0});
    kernels_->pack_codes(View(*this, blocks_.data()), first_lane, kept, codes.data());
  }
  WithNumbers(scale_type_, scales_f16_, scales_f32_, [&](auto& scales) {
    std::fill(scales.begin() + static_cast<ptrdiff_t>(front_ + n), scales.end(), 0);
  });
  return {};
}

Result<void> MseRows::ExportCanonical(std::span<uint8_t> packed) const {
  if (packed.size() != size_ * CanonicalRowBytes()) {
    return Fail(ErrorCode::kDimensionMismatch, "packed has ", packed.size(), " bytes, ", size_,
                " rows need ", size_ * CanonicalRowBytes());
  }
  std::vector<uint8_t> codes(std::min(kChunkRows, size_) * dim_);
  for (size_t first = 0; first < size_;) {
    // From one multiple of 64 lanes to the next: whole blocks of both tilings.
    const size_t lane = front_ + first;
    const size_t count = std::min(kChunkRows - lane % kChunkRows, size_ - first);
    kernels_->unpack_codes(View(*this, blocks_.data()), lane, count, codes.data());
    kernels_->pack_stream(codes.data(), bits_, count, dim_,
                          packed.data() + first * CanonicalRowBytes());
    first += count;
  }
  return {};
}

size_t MseRows::HeldBytes() const {
  return blocks_.capacity() + scales_f16_.capacity() * sizeof(uint16_t) +
         scales_f32_.capacity() * sizeof(float);
}

}  // namespace turboquant
