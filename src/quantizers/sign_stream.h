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
  std::ranges::fill(signs, uint8_t{0});
  for (size_t j = 0; j < projected.size(); ++j) {
    const unsigned negative = projected[j] < 0.0f;
    signs[j / 8] = static_cast<uint8_t>(signs[j / 8] | negative << (j % 8));
  }
}

inline bool IsNegative(std::span<const uint8_t> signs, size_t j) {
  return signs[j / 8] >> (j % 8) & 1;
}

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_QUANTIZERS_SIGN_STREAM_H_
