// Encoded rows as values that tests compare.
#ifndef TURBOQUANT_TESTS_SUPPORT_ENCODED_ROWS_H_
#define TURBOQUANT_TESTS_SUPPORT_ENCODED_ROWS_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "turboquant/mse_quantizer.h"

namespace turboquant::test {

inline MseQuantizer MakeMse(const MseOptions& options) {
  auto quantizer = MseQuantizer::Create(options);
  EXPECT_TRUE(quantizer) << quantizer.error().message;
  return *std::move(quantizer);
}

// Canonical bytes of all rows.
inline std::vector<uint8_t> Canonical(const MseRows& rows) {
  std::vector<uint8_t> packed(rows.size() * rows.CanonicalRowBytes());
  EXPECT_TRUE(rows.ExportCanonical(packed));
  return packed;
}

inline std::vector<float> Scales(const MseRows& rows) {
  std::vector<float> scales;
  for (size_t r = 0; r < rows.size(); ++r) scales.push_back(rows.ScaleOf(r));
  return scales;
}

// The bits of floats: 0 and -0 differ, equal NaNs do not.
inline std::vector<uint32_t> Bits(const std::vector<float>& values) {
  std::vector<uint32_t> bits;
  for (const float value : values) bits.push_back(std::bit_cast<uint32_t>(value));
  return bits;
}

// All that files hold of rows.
struct Snapshot {
  std::vector<uint8_t> packed;
  std::vector<uint32_t> scale_bits;

  explicit Snapshot(const MseRows& rows)
      : packed(Canonical(rows)), scale_bits(Bits(Scales(rows))) {}
  bool operator==(const Snapshot&) const = default;
};

// The bit stream of architecture.md written bit by bit: code j in bits [j bits, (j+1) bits).
inline std::vector<uint8_t> PackBitByBit(const std::vector<uint8_t>& codes, int bits) {
  std::vector<uint8_t> packed((codes.size() * static_cast<size_t>(bits) + 7) / 8);
  size_t at = 0;
  for (const uint8_t code : codes) {
    for (int bit = 0; bit < bits; ++bit, ++at) {
      const unsigned value = (unsigned{code} >> bit & 1u) << (at % 8);
      packed[at / 8] = static_cast<uint8_t>(packed[at / 8] | value);
    }
  }
  return packed;
}

}  // namespace turboquant::test

#endif  // TURBOQUANT_TESTS_SUPPORT_ENCODED_ROWS_H_
