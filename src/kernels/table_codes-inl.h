// Nearest codes of any codebook by a table over cells of the grid: what AVX2 and NEON use where
// their compares would be too many (5 to 8 bits, custom codebooks); included once per target.
#if defined(TURBOQUANT_SRC_KERNELS_TABLE_CODES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TURBOQUANT_SRC_KERNELS_TABLE_CODES_INL_H_
#undef TURBOQUANT_SRC_KERNELS_TABLE_CODES_INL_H_
#else
#define TURBOQUANT_SRC_KERNELS_TABLE_CODES_INL_H_
#endif

#include <algorithm>
#include <cstring>

#include "src/kernels/kernels.h"
#include "src/kernels/line_layout.h"
#include "src/kernels/scratch.h"
#include "src/kernels/simd-inl.h"

#if TURBOQUANT_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace turboquant::kernels::HWY_NAMESPACE {

// The row as a candidate sees it, in whole vectors: (z·q + 2^13) >> 14, saturated. With q = 2^14 +
// p that is z + (z·2p + 2^14) >> 15, the rounding product of fixed-point numbers.
inline void PreScale(int candidate, const int16_t* grid, size_t dim, int16_t* scaled) {
  const DI16 d;
  const VI16 excess = hn::Set(d, static_cast<int16_t>(2 * (kCandidateQ14[candidate] - 16384)));
  for (size_t j = 0; j < dim; j += kShorts) {
    const VI16 z = hn::LoadU(d, grid + j);
    hn::StoreU(hn::SaturatedAdd(z, hn::MulFixedPoint15(z, excess)), d, scaled + j);
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

// Levels, and codes if kStore, of a pre-scaled row. Coordinate by coordinate, since gathers are no
// faster than loads, but stored four at a time: sums read whole vectors of levels, and would wait
// for each store that put one together.
template <bool kStore>
inline void LookUpCodes(const EncodePlan& plan, const int16_t* scaled, int16_t* levels,
                        uint8_t* codes) {
  const uint8_t* code_of = plan.grid_codes + 32768;
  const size_t dim = plan.rotation.dim;
  size_t j = 0;
  for (; j + 4 <= dim; j += 4) {
    uint64_t four_levels = 0;
    uint32_t four_codes = 0;
    for (size_t i = 0; i < 4; ++i) {
      const uint32_t code = code_of[scaled[j + i]];
      four_levels |= uint64_t{static_cast<uint16_t>(plan.levels[code])} << (16 * i);
      four_codes |= code << (8 * i);
    }
    std::memcpy(levels + j, &four_levels, sizeof(four_levels));
    if constexpr (kStore) std::memcpy(codes + j, &four_codes, sizeof(four_codes));
  }
  for (; j < dim; ++j) {
    const uint8_t code = code_of[scaled[j]];
    levels[j] = plan.levels[code];
    if constexpr (kStore) codes[j] = code;
  }
}

// The winning candidate's codes and sums; see reference::SearchCodes. codes: RoundUp(dim, 32)
// bytes, which get zeros behind dim.
inline RowSums TableSearchCodes(const EncodePlan& plan, const int16_t* grid, uint8_t* codes) {
  const size_t dim = plan.rotation.dim;
  const size_t padded = RoundUp(dim, 32);
  std::fill(codes + dim, codes + padded, uint8_t{0});
  if (plan.grid_codes == nullptr) return reference::SearchCodes(plan, grid, codes);
  Scratch<int16_t> levels(padded);
  std::fill(levels.data() + dim, levels.data() + padded, int16_t{0});
  Scratch<int16_t> scaled(padded);
  int best = plan.candidates == 1 ? kPlainCandidate : 0;
  double best_cosine = -1.0;
  for (int k = 0; plan.candidates > 1 && k < plan.candidates; ++k) {
    PreScale(k, grid, dim, scaled.data());
    LookUpCodes<false>(plan, scaled.data(), levels.data(), codes);
    const double cosine = SquaredCosine(SumLevels(grid, levels.data(), dim));
    best = cosine > best_cosine ? k : best;
    best_cosine = std::max(best_cosine, cosine);
  }
  PreScale(best, grid, dim, scaled.data());
  LookUpCodes<true>(plan, scaled.data(), levels.data(), codes);
  return SumLevels(grid, levels.data(), dim);
}

}  // namespace turboquant::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // TURBOQUANT_SIMD_TARGET

#endif  // per-target include guard
