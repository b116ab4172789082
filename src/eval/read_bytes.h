// The floor under every kernel that reads memory: reading it and nothing else.
#ifndef TURBOQUANT_SRC_EVAL_READ_BYTES_H_
#define TURBOQUANT_SRC_EVAL_READ_BYTES_H_

#include <cstddef>
#include <cstdint>

namespace turboquant::eval {

// A clone for each x86-64 level, chosen at run time: the floor gets the same CPU as the kernels.
// Not under ThreadSanitizer, whose run-time library is not there yet when the loader chooses.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TQ_THREAD_SANITIZER
#endif
#elif defined(__SANITIZE_THREAD__)
#define TQ_THREAD_SANITIZER
#endif
#if defined(__x86_64__) && !defined(TQ_THREAD_SANITIZER)
#define TQ_CPU_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define TQ_CPU_CLONES
#endif

// Reads the bytes once, eight 32-byte sums at a time; what does not fill 256 is left out. `bytes`
// is a multiple of 32. The sum is returned so that the reading cannot be optimised away.
TQ_CPU_CLONES inline uint64_t ReadBytes(const uint8_t* bytes, size_t count) {
  using Vector __attribute__((vector_size(32))) = uint64_t;
  Vector sums[8] = {};
  const Vector* from = reinterpret_cast<const Vector*>(bytes);
  for (size_t i = 0; i + 8 <= count / sizeof(Vector); i += 8) {
    for (size_t k = 0; k < 8; ++k) sums[k] += from[i + k];
  }
  uint64_t total = 0;
  for (const Vector& sum : sums) total += sum[0] + sum[1] + sum[2] + sum[3];
  return total;
}

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_READ_BYTES_H_
