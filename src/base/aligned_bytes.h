// Zeroed memory at a multiple of 64, as the kernels read it.
#ifndef TURBOQUANT_SRC_BASE_ALIGNED_BYTES_H_
#define TURBOQUANT_SRC_BASE_ALIGNED_BYTES_H_

#include <cstddef>
#include <cstring>
#include <new>
#include <utility>

namespace turboquant {

class AlignedBytes {
 public:
  static constexpr std::align_val_t kAlignment{64};

  AlignedBytes() = default;
  explicit AlignedBytes(size_t size) : size_(size) {
    if (size == 0) return;
    data_ = static_cast<std::byte*>(::operator new(size, kAlignment));
    std::memset(data_, 0, size);
  }
  AlignedBytes(const AlignedBytes& other) : AlignedBytes(other.size_) {
    if (size_ != 0) std::memcpy(data_, other.data_, size_);
  }
  AlignedBytes(AlignedBytes&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  AlignedBytes& operator=(AlignedBytes other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~AlignedBytes() {
    if (data_ != nullptr) ::operator delete(data_, size_, kAlignment);
  }

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_BASE_ALIGNED_BYTES_H_
