// Memory at a multiple of 64, as the kernels read it.
#ifndef TURBOQUANT_SRC_BASE_ALIGNED_BYTES_H_
#define TURBOQUANT_SRC_BASE_ALIGNED_BYTES_H_

#include <cstddef>
#include <cstring>
#include <new>
#include <utility>

namespace turboquant {

// What Linux backs by one page, instead of 512, where it is asked to and has one: a look-up of an
// address, and a first touch, cost as much for all of it as for a page of 4 KB.
inline constexpr size_t kHugePageBytes = size_t{1} << 21;

// Uninitialised memory at a multiple of 64. From 4 MB on it begins at a multiple of kHugePageBytes,
// and every one that it fills is asked for; what is left behind them lies in small pages.
std::byte* AllocateAligned(size_t size);
void FreeAligned(std::byte* bytes, size_t size) noexcept;

// Zeroed memory from AllocateAligned.
class AlignedBytes {
 public:
  AlignedBytes() = default;
  explicit AlignedBytes(size_t size) : size_(size) {
    if (size == 0) return;
    data_ = AllocateAligned(size);
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
    if (data_ != nullptr) FreeAligned(data_, size_);
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
