// Nearest codes of any codebook by a table over cells of the grid; what SIMD targets use where
// their compares would be too many (5 to 8 bits, custom codebooks). The same codes and sums as
// reference::NearestCodes.
#ifndef TURBOQUANT_SRC_KERNELS_TABLE_CODES_H_
#define TURBOQUANT_SRC_KERNELS_TABLE_CODES_H_

#include <cstddef>
#include <cstdint>

#include "src/kernels/kernels.h"

namespace turboquant::kernels {

// A cell of 64 grid steps knows the code of its lower end; the thresholds above it are walked. They
// end in 32767, which no grid value exceeds.
inline RowSums TableNearestCodes(const EncodePlan& plan, int candidate, const int16_t* grid,
                                 uint8_t* codes) {
  const int16_t* thresholds = plan.thresholds + candidate * 256;
  const uint8_t* first_code = plan.first_codes + candidate * kFirstCodes;
  RowSums sums = {0, 0};
  for (size_t j = 0; j < plan.rotation.dim; ++j) {
    const int z = grid[j];
    int code = first_code[(z + 32768) >> kFirstCodeShift];
    while (z > thresholds[code]) ++code;
    const int level = plan.levels[code];
    codes[j] = static_cast<uint8_t>(code);
    sums.grid_level += z * level;  // below 2^28
    sums.level_level += level * level;
  }
  return sums;
}

// The winning candidate's codes and sums; see reference::SearchCodes.
inline RowSums TableSearchCodes(const EncodePlan& plan, const int16_t* grid, uint8_t* codes) {
  if (plan.candidates == 1) return TableNearestCodes(plan, 0, grid, codes);
  int best = 0;
  double best_cosine = -1.0;
  for (int k = 0; k < plan.candidates; ++k) {
    const RowSums sums = TableNearestCodes(plan, k, grid, codes);
    const double cosine = SquaredCosine(sums);
    if (cosine > best_cosine) {
      best = k;
      best_cosine = cosine;
    }
  }
  return TableNearestCodes(plan, best, grid, codes);
}

}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_TABLE_CODES_H_
