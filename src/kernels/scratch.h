// Room for one row: on the stack up to 1024 elements, on the heap above.
#ifndef TURBOQUANT_SRC_KERNELS_SCRATCH_H_
#define TURBOQUANT_SRC_KERNELS_SCRATCH_H_

#include <cstddef>
#include <vector>

namespace turboquant::kernels {

template <class T>
class Scratch {
 public:
  explicit Scratch(size_t count) : heap_(count > kInline ? count : 0) {}
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* data() { return heap_.empty() ? inline_ : heap_.data(); }

 private:
  static constexpr size_t kInline = 1024;
  alignas(64) T inline_[kInline];  // not initialised
  std::vector<T> heap_;
};

}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_SCRATCH_H_
