// Elements of tensors that need not be aligned.
#ifndef TURBOQUANT_SRC_STORAGE_TENSOR_ELEMENTS_H_
#define TURBOQUANT_SRC_STORAGE_TENSOR_ELEMENTS_H_

#include <bit>
#include <cassert>
#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "src/base/checked.h"
#include "turboquant/safetensors.h"

namespace turboquant {

static_assert(std::endian::native == std::endian::little, "files are little-endian");

// Element i of `bytes` taken as an array of T.
template <class T>
T LoadElement(std::span<const std::byte> bytes, size_t i) {
  assert((i + 1) * sizeof(T) <= bytes.size());
  T element;
  std::memcpy(&element, bytes.data() + i * sizeof(T), sizeof(T));
  return element;
}

// All of them, copied to where they are aligned.
template <class T>
std::vector<T> ElementsOf(std::span<const std::byte> bytes) {
  std::vector<T> elements(bytes.size() / sizeof(T));
  if (!elements.empty()) std::memcpy(elements.data(), bytes.data(), elements.size() * sizeof(T));
  return elements;
}

// Product of the axes, nullopt if it overflows. A zero axis does not excuse the others.
inline std::optional<size_t> ElementCount(std::span<const size_t> shape) {
  size_t count = 1;
  bool empty = false;
  for (const size_t axis : shape) {
    if (axis == 0) {
      empty = true;
      continue;
    }
    const std::optional<size_t> product = CheckedMultiply(count, axis);
    if (!product) return std::nullopt;
    count = *product;
  }
  return empty ? 0 : count;
}

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_STORAGE_TENSOR_ELEMENTS_H_
