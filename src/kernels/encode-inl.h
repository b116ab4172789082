// encode_rows and dequantize; included once per target.
#if defined(TURBOQUANT_SRC_KERNELS_ENCODE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TURBOQUANT_SRC_KERNELS_ENCODE_INL_H_
#undef TURBOQUANT_SRC_KERNELS_ENCODE_INL_H_
#else
#define TURBOQUANT_SRC_KERNELS_ENCODE_INL_H_
#endif

#include <algorithm>
#include <cstring>

#include "src/kernels/codes-inl.h"
#include "src/kernels/kernels.h"
#include "src/kernels/line_layout.h"
#include "src/kernels/rotate-inl.h"
#include "src/kernels/scratch.h"
#include "src/kernels/simd-inl.h"
#include "src/kernels/table_codes-inl.h"
#include "src/kernels/with_bits.h"

#if TURBOQUANT_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace turboquant::kernels::HWY_NAMESPACE {

// Rotated coordinates to the grid; reads and writes whole vectors, zero behind dim.
inline void ToGrid(float* coordinates, size_t dim, float gain, int16_t* grid) {
  const DF d;
  const DI32 di;
  // |y·gain| <= 4096·sqrt(dim) < 2^22, so adding 1.5·2^23 rounds to the nearest even integer and
  // leaves it in the low mantissa bits.
  const VF magic = hn::Set(d, 0x1.8p23f);
  const VI32 magic_bits = hn::BitCast(di, magic);
  const VI16 lowest = hn::Set(DI16(), -kGridMax);
  std::fill(coordinates + dim, coordinates + RoundUp(dim, 32), 0.0f);
  const auto round = [&](const float* x) HWY_ATTR {
    const VF shifted = hn::Add(hn::Mul(hn::LoadU(d, x), hn::Set(d, gain)), magic);
    return hn::Sub(hn::BitCast(di, shifted), magic_bits);
  };
  for (size_t j = 0; j < RoundUp(dim, 32); j += kShorts) {
    const VI16 z = NarrowOrdered(round(coordinates + j), round(coordinates + j + kFloats));
    hn::StoreU(hn::Max(z, lowest), DI16(), grid + j);
  }
}

// A symmetric codebook of up to 4 bits: the magnitude's cell is the number of thresholds below it.
template <int kBits>
struct MagnitudeCells {
  static constexpr size_t kHalf = size_t{1} << (kBits - 1);
  VI16 thresholds[kHalf > 1 ? kHalf - 1 : 1];

  HWY_INLINE MagnitudeCells(const EncodePlan& plan, int candidate) {
    const int16_t* positive = plan.thresholds + candidate * 256 + kHalf;
    for (size_t i = 0; i + 1 < kHalf; ++i) thresholds[i] = hn::Set(DI16(), positive[i]);
  }

  // Cell + 0x8000: the high byte makes a table lookup give 0 there.
  HWY_INLINE VI16 operator()(VI16 magnitude) const {
    VI16 cell = hn::Set(DI16(), static_cast<int16_t>(-0x8000));
    for (size_t i = 0; i + 1 < kHalf; ++i) {
      cell = hn::Sub(cell, hn::VecFromMask(DI16(), hn::Gt(magnitude, thresholds[i])));
    }
    return cell;
  }
};

template <int kBits>
HWY_INLINE VU8 MagnitudeLevels(const EncodePlan& plan) {
  constexpr size_t kHalf = size_t{1} << (kBits - 1);
  // By way of two words, not of bytes in memory: a vector load of fresh byte stores would stall.
  uint64_t packed = 0;
  for (size_t i = 0; i < kHalf; ++i) {
    packed |= static_cast<uint64_t>(static_cast<uint8_t>(plan.levels[kHalf + i])) << (8 * i);
  }
  return hn::BitCast(DU8(), hn::Set(hn::Repartition<uint64_t, DU8>(), packed));
}

// Sums of one candidate, and its codes if kStore. int32 sums hold 2048 coordinates.
template <int kBits, bool kStore>
HWY_INLINE RowSums Candidate(const EncodePlan& plan, VU8 levels, int candidate, const int16_t* grid,
                             uint8_t* codes) {
  const DI16 d;
  const DI32 di;
  const MagnitudeCells<kBits> cells(plan, candidate);
  const VU8 half = hn::Set(DU8(), static_cast<uint8_t>(cells.kHalf));
  const VI16 marker = hn::Set(d, static_cast<int16_t>(-0x8000));
  const VI16 one = hn::Set(d, 1);
  const size_t dim = plan.rotation.dim;
  RowSums total = {0, 0};
  for (size_t first = 0; first < dim; first += kMaxInt32Dim) {
    const size_t last = std::min(dim, first + kMaxInt32Dim);
    VI32 sums[4] = {hn::Zero(di), hn::Zero(di), hn::Zero(di), hn::Zero(di)};
    for (size_t j = first; j < last; j += 2 * kShorts) {
      VI16 cell[2], not_positive[2];
      for (size_t v = 0; v < 2; ++v) {
        const size_t at = j + v * kShorts;
        const VI16 z = hn::LoadU(d, grid + at);
        const VI16 magnitude = hn::Abs(z);
        const VI16 marked = cells(magnitude);
        VI16 level = hn::BitCast(d, hn::TableLookupBytesOr0(levels, hn::BitCast(DU8(), marked)));
        if (HWY_UNLIKELY(at + kShorts > last))
          level = hn::IfThenElseZero(hn::FirstN(d, last - std::min(at, last)), level);
        sums[0] = hn::ReorderWidenMulAccumulate(di, magnitude, level, sums[0], sums[1]);
        sums[2] = hn::ReorderWidenMulAccumulate(di, level, level, sums[2], sums[3]);
        cell[v] = hn::Xor(marked, marker);
        not_positive[v] = hn::VecFromMask(d, hn::Gt(one, z));
      }
      if constexpr (kStore) {
        // Above zero half + cell, else half - 1 - cell = half + ~cell.
        const VU8 flip = NarrowBytes(not_positive[0], not_positive[1]);
        hn::StoreU(hn::Add(half, hn::Xor(NarrowBytes(cell[0], cell[1]), flip)), DU8(), codes + j);
      }
    }
    total.grid_level += hn::GetLane(hn::SumOfLanes(di, hn::Add(sums[0], sums[1])));
    total.level_level += hn::GetLane(hn::SumOfLanes(di, hn::Add(sums[2], sums[3])));
  }
  if constexpr (kStore) std::fill(codes + dim, codes + RoundUp(dim, 32), uint8_t{0});
  return total;
}

template <int kBits>
inline RowSums SymmetricCodes(const EncodePlan& plan, const int16_t* grid, uint8_t* codes) {
  const VU8 levels = MagnitudeLevels<kBits>(plan);
  if (plan.candidates == 1) return Candidate<kBits, true>(plan, levels, 0, grid, codes);
  double cosines[kCandidates];
  for (int k = 0; k < kCandidates; ++k) {
    cosines[k] = SquaredCosine(Candidate<kBits, false>(plan, levels, k, grid, codes));
  }
  // The first of the largest; which one it is cannot be predicted, so no branch may hang on it.
  int best = 0;
  double best_cosine = -1.0;
  for (int k = 0; k < kCandidates; ++k) {
    best = cosines[k] > best_cosine ? k : best;
    best_cosine = std::max(best_cosine, cosines[k]);
  }
  return Candidate<kBits, true>(plan, levels, best, grid, codes);
}

inline RowSums Codes(const EncodePlan& plan, const int16_t* grid, uint8_t* codes) {
  if (plan.symmetric) {
    switch (plan.bits) {
      case 1:
        return SymmetricCodes<1>(plan, grid, codes);
      case 2:
        return SymmetricCodes<2>(plan, grid, codes);
      case 3:
        return SymmetricCodes<3>(plan, grid, codes);
      case 4:
        return SymmetricCodes<4>(plan, grid, codes);
      default:
        break;
    }
  }
  return TableSearchCodes(plan, grid, codes);
}

inline void Dequantize(const ScorePlan& plan, const uint8_t* codes, float factor, float* out) {
  if (plan.codes > 16 || !plan.int8_levels) return reference::Dequantize(plan, codes, factor, out);
  const hn::FixedTag<uint8_t, 16> d8;
  const hn::FixedTag<int16_t, 8> d16;
  const DI32 di;
  const DF d;
  // 16 levels as bytes; the codebook's array holds 256.
  const hn::Half<decltype(d8)> d8_half;
  const auto low = hn::BitCast(
      d8_half, hn::DemoteTo(hn::Rebind<int8_t, decltype(d16)>(), hn::LoadU(d16, plan.levels)));
  const auto high = hn::BitCast(
      d8_half, hn::DemoteTo(hn::Rebind<int8_t, decltype(d16)>(), hn::LoadU(d16, plan.levels + 8)));
  const auto levels = hn::Combine(d8, high, low);
  const VF factors = hn::Set(d, factor);
  alignas(16) int8_t looked_up[16];
  size_t j = 0;
  for (; j + 16 <= plan.dim; j += 16) {
    hn::Store(hn::TableLookupBytes(levels, hn::LoadU(d8, codes + j)), d8,
              reinterpret_cast<uint8_t*>(looked_up));
    for (size_t i = 0; i < 16; i += kFloats) {
      const VI32 wide = hn::PromoteTo(di, hn::LoadU(hn::Rebind<int8_t, DI32>(), looked_up + i));
      hn::StoreU(hn::Mul(hn::ConvertTo(d, wide), factors), d, out + j + i);
    }
  }
  for (; j < plan.dim; ++j) out[j] = static_cast<float>(plan.levels[codes[j]]) * factor;
}

inline void EncodeRows(const EncodeRow* rows, size_t count, RowSums* sums) {
  for (size_t r = 0; r < count; ++r) {
    const EncodeRow& row = rows[r];
    sums[r] = {0, 0};
    if (row.gain == 0.0f) continue;
    const size_t dim = row.plan->rotation.dim;
    const size_t padded = RoundUp(dim, 32);
    Scratch<float> coordinates(padded);
    Scratch<int16_t> grid(padded);
    Scratch<uint8_t> codes(padded);
    RotateTo(row.plan->rotation, row.coordinates, coordinates.data());
    ToGrid(coordinates.data(), dim, row.gain, grid.data());
    sums[r] = Codes(*row.plan, grid.data(), codes.data());
    WithBits(row.into.bits,
             [&]<int kBits>() HWY_ATTR { PackRow<kBits>(row.into, row.lane, codes.data()); });
  }
}

}  // namespace turboquant::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // TURBOQUANT_SIMD_TARGET

#endif  // per-target include guard
