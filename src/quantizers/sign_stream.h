// Streams of signs.
#ifndef TURBOQUANT_SRC_QUANTIZERS_SIGN_STREAM_H_
#define TURBOQUANT_SRC_QUANTIZERS_SIGN_STREAM_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "src/base/checked.h"

namespace turboquant {

// Sign j is bit j of a little-endian stream, 1 = negative; zero counts as positive.
inline void PackSigns(std::span<const float> projected, std::span<uint8_t> signs) {
  for (size_t first = 0; first < projected.size(); first += 8) {
    const size_t count = std::min<size_t>(8, projected.size() - first);
    unsigned byte = 0;
    for (size_t k = 0; k < count; ++k) byte |= unsigned{projected[first + k] < 0.0f} << k;
    signs[first / 8] = static_cast<uint8_t>(byte);
  }
}

inline bool IsNegative(std::span<const uint8_t> signs, size_t j) {
  return signs[j / 8] >> (j % 8) & 1;
}

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_QUANTIZERS_SIGN_STREAM_H_
