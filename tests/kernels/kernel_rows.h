// Random rows and signs for kernel tests, and what their results are compared by.
#ifndef TURBOQUANT_TESTS_KERNELS_KERNEL_ROWS_H_
#define TURBOQUANT_TESTS_KERNELS_KERNEL_ROWS_H_

#include <gtest/gtest.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace turboquant::kernels {

inline std::vector<float> Normal(size_t count, unsigned seed, float deviation = 1.0f) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> values(count);
  for (float& x : values) x = normal(generator);
  return values;
}

inline std::vector<uint32_t> RandomMasks(size_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<uint32_t> masks(count);
  for (uint32_t& mask : masks) mask = generator() & 0x80000000u;
  return masks;
}

// Sign masks of one rotation round.
inline size_t MasksPerRound(size_t dim) {
  const size_t p = std::bit_floor(dim);
  return p == dim ? dim : dim + p;
}

// The same bits, NaN and signed zeros included.
inline void ExpectSameBits(const std::vector<float>& actual, const std::vector<float>& expected,
                           const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(actual[i]), std::bit_cast<uint32_t>(expected[i]))
        << what << " at " << i << ": " << actual[i] << " and " << expected[i];
  }
}

}  // namespace turboquant::kernels

#endif  // TURBOQUANT_TESTS_KERNELS_KERNEL_ROWS_H_
