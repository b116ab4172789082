// Nearest codes of any codebook by a table over cells of the grid: what AVX2 and NEON use where
// their compares would be too many (5 to 8 bits, custom codebooks); included once per target.
#if defined(TURBOQUANT_SRC_KERNELS_TABLE_CODES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TURBOQUANT_SRC_KERNELS_TABLE_CODES_INL_H_
#undef TURBOQUANT_SRC_KERNELS_TABLE_CODES_INL_H_
#else
#define TURBOQUANT_SRC_KERNELS_TABLE_CODES_INL_H_
#endif

#include <algorithm>

#include "src/kernels/kernels.h"
#include "src/kernels/line_layout.h"
#include "src/kernels/scratch.h"
#include "src/kernels/simd-inl.h"

#if TURBOQUANT_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace turboquant::kernels::HWY_NAMESPACE {

// Codes of one candidate and their levels. A cell of 64 grid steps knows the code of its lower end;
// the thresholds in it, at most kSteps, are passed without a branch, since none could be predicted.
// kSteps 0: any number, by a loop. Coordinate by coordinate: gathers are no faster than loads.
template <int kSteps>
inline void LookUpCodes(const EncodePlan& plan, int candidate, const int16_t* grid, int16_t* levels,
                        uint8_t* codes) {
  const int16_t* thresholds = plan.thresholds + candidate * 256;
  const uint8_t* first_codes = plan.first_codes + candidate * kFirstCodes;
  for (size_t j = 0; j < plan.rotation.dim; ++j) {
    const int z = grid[j];
    unsigned code = first_codes[(z + 32768) >> kFirstCodeShift];
    if constexpr (kSteps == 0) {
      while (z > thresholds[code]) ++code;
    } else {
      for (int step = 0; step < kSteps; ++step) code += z > thresholds[code] ? 1u : 0u;
    }
    codes[j] = static_cast<uint8_t>(code);
    levels[j] = plan.levels[code];
  }
}

// grid and levels: whole vectors, levels zero behind dim.
inline RowSums SumLevels(const int16_t* grid, const int16_t* levels, size_t dim) {
  const DI16 d;
  const DI32 di;
  const hn::Half<DI32> half;
  const hn::Repartition<int64_t, DI32> di64;
  const auto widen = [&](VI32 v) HWY_ATTR {
    return hn::Add(hn::PromoteTo(di64, hn::LowerHalf(half, v)),
                   hn::PromoteTo(di64, hn::UpperHalf(half, v)));
  };
  auto grid_level = hn::Zero(di64);
  auto level_level = hn::Zero(di64);
  // Levels are within kMaxLevel = 2^13, so that int32 holds four sums of two products: 8 · 32767 ·
  // 2^13 < 2^31.
  for (size_t first = 0; first < dim; first += 4 * kShorts) {
    VI32 sums[4] = {hn::Zero(di), hn::Zero(di), hn::Zero(di), hn::Zero(di)};
    for (size_t j = first; j < std::min(dim, first + 4 * kShorts); j += kShorts) {
      const VI16 level = hn::LoadU(d, levels + j);
      sums[0] = hn::ReorderWidenMulAccumulate(di, hn::LoadU(d, grid + j), level, sums[0], sums[1]);
      sums[2] = hn::ReorderWidenMulAccumulate(di, level, level, sums[2], sums[3]);
    }
    grid_level = hn::Add(grid_level, widen(hn::Add(sums[0], sums[1])));
    level_level = hn::Add(level_level, widen(hn::Add(sums[2], sums[3])));
  }
  return {hn::GetLane(hn::SumOfLanes(di64, grid_level)),
          hn::GetLane(hn::SumOfLanes(di64, level_level))};
}

inline RowSums TableNearestCodes(const EncodePlan& plan, int candidate, const int16_t* grid,
                                 int16_t* levels, uint8_t* codes) {
  switch (plan.cell_thresholds) {
    case 0:
    case 1:
      LookUpCodes<1>(plan, candidate, grid, levels, codes);
      break;
    case 2:
      LookUpCodes<2>(plan, candidate, grid, levels, codes);
      break;
    default:
      LookUpCodes<0>(plan, candidate, grid, levels, codes);
  }
  return SumLevels(grid, levels, plan.rotation.dim);
}

// The winning candidate's codes and sums; see reference::SearchCodes. codes: RoundUp(dim, 32)
// bytes, which get zeros behind dim.
inline RowSums TableSearchCodes(const EncodePlan& plan, const int16_t* grid, uint8_t* codes) {
  const size_t dim = plan.rotation.dim;
  const size_t padded = RoundUp(dim, 32);
  Scratch<int16_t> levels(padded);
  std::fill(levels.data() + dim, levels.data() + padded, int16_t{0});
  std::fill(codes + dim, codes + padded, uint8_t{0});
  if (plan.candidates == 1) return TableNearestCodes(plan, 0, grid, levels.data(), codes);
  int best = 0;
  double best_cosine = -1.0;
  for (int k = 0; k < plan.candidates; ++k) {
    const double cosine = SquaredCosine(TableNearestCodes(plan, k, grid, levels.data(), codes));
    best = cosine > best_cosine ? k : best;
    best_cosine = std::max(best_cosine, cosine);
  }
  return TableNearestCodes(plan, best, grid, levels.data(), codes);
}

}  // namespace turboquant::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // TURBOQUANT_SIMD_TARGET

#endif  // per-target include guard
