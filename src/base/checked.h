// Sizes that come from outside: multiply and add without wrapping.
#ifndef TURBOQUANT_SRC_BASE_CHECKED_H_
#define TURBOQUANT_SRC_BASE_CHECKED_H_

#include <cstddef>
#include <optional>

namespace turboquant {

inline std::optional<size_t> CheckedMultiply(size_t a, size_t b) {
  size_t product;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

inline std::optional<size_t> CheckedAdd(size_t a, size_t b) {
  size_t sum;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

constexpr size_t CeilDivide(size_t a, size_t b) { return a / b + (a % b != 0); }
constexpr size_t RoundUp(size_t a, size_t multiple) { return CeilDivide(a, multiple) * multiple; }

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_BASE_CHECKED_H_
