// std::shared_ptr whose one allocation is known to the byte, for objects that report what they
// hold.
#ifndef TURBOQUANT_SRC_BASE_COUNTED_SHARED_H_
#define TURBOQUANT_SRC_BASE_COUNTED_SHARED_H_

#include <cstddef>
#include <memory>
#include <utility>

namespace turboquant {

// Adds what it allocates to *bytes, which must live until the first allocation only.
template <class T>
struct CountingAllocator {
  using value_type = T;

  explicit CountingAllocator(size_t* bytes_in) : bytes(bytes_in) {}
  template <class U>
  CountingAllocator(const CountingAllocator<U>& other)  // NOLINT(google-explicit-constructor)
      : bytes(other.bytes) {}

  T* allocate(size_t n) {
    *bytes += n * sizeof(T);
    return std::allocator<T>().allocate(n);
  }
  void deallocate(T* p, size_t n) { std::allocator<T>().deallocate(p, n); }
  bool operator==(const CountingAllocator&) const { return true; }

  size_t* bytes;
};

// As std::make_shared; adds the bytes of the object and of its counts to `bytes`.
template <class T, class... Args>
std::shared_ptr<T> MakeCountedShared(size_t& bytes, Args&&... args) {
  return std::allocate_shared<T>(CountingAllocator<T>(&bytes), std::forward<Args>(args)...);
}

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_BASE_COUNTED_SHARED_H_
