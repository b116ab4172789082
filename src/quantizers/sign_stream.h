// Streams of signs, and signed sums over them.
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

// sums[16 g + n]: projections of group g with the signs of nibble n. Zeros stand behind the last.
inline void FillNibbleSums(std::span<const float> projected, float* sums) {
  const size_t groups = 2 * CeilDivide(projected.size(), 8);
  for (size_t group = 0; group < groups; ++group) {
    for (unsigned nibble = 0; nibble < 16; ++nibble) {
      double sum = 0.0;
      for (size_t k = 0; k < 4 && 4 * group + k < projected.size(); ++k) {
        const double z = static_cast<double>(projected[4 * group + k]);
        sum += nibble >> k & 1 ? -z : z;
      }
      sums[16 * group + nibble] = static_cast<float>(sum);
    }
  }
}

// The signed sum of a whole row: one table look-up for every four signs.
inline double SumOfNibbles(std::span<const uint8_t> signs, const float* sums) {
  double low = 0.0;
  double high = 0.0;
  for (const uint8_t byte : signs) {
    low += static_cast<double>(sums[byte & 15]);
    high += static_cast<double>(sums[16 + (byte >> 4)]);
    sums += 32;
  }
  return low + high;
}

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_QUANTIZERS_SIGN_STREAM_H_
