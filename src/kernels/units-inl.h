// Codes of whole units of rows into and out of blocks; included once per target. A unit is 8 quads,
// whatever the tiling: vectors of quads come from a transpose of rows, and lines from quads by
// shifts alone. Budget on AVX2 at d = 128, per row: 8 loads, 8 shuffles, 4 to 8 shifts and ors, 2
// stores.
#if defined(TURBOQUANT_SRC_KERNELS_UNITS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TURBOQUANT_SRC_KERNELS_UNITS_INL_H_
#undef TURBOQUANT_SRC_KERNELS_UNITS_INL_H_
#else
#define TURBOQUANT_SRC_KERNELS_UNITS_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "src/kernels/line_layout.h"
#include "src/kernels/simd-inl.h"

#if TURBOQUANT_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace turboquant::kernels::HWY_NAMESPACE {

using DU32 = hn::Repartition<uint32_t, DF>;
using VU32 = hn::Vec<DU32>;

// A unit is 8 quads: with b bits b lines, whose bytes are those of the quads at other shifts.
inline constexpr size_t kUnitQuads = 8;
inline constexpr size_t kUnitCodes = 4 * kUnitQuads;       // coordinates of a key unit
inline constexpr size_t kUnitRows = 4 * kUnitQuads;        // rows of a value unit
inline constexpr size_t kKeyRows = 4 * kVectorBlocks;      // rows of a key unit: 4 a block
inline constexpr size_t kValueCodes = 16 * kVectorBlocks;  // coordinates of a value unit

HWY_INLINE VU32 AndBytes(VU32 v, unsigned mask) {
  return hn::And(v, hn::Set(DU32(), mask * 0x01010101u));
}

// 4 × 4 lanes in each block, rows to columns; its own inverse.
HWY_INLINE void Transpose(VU32* v) {
  const DU32 d;
  const hn::Repartition<uint64_t, DF> d64;
  const auto low01 = hn::BitCast(d64, hn::InterleaveLower(d, v[0], v[1]));
  const auto low23 = hn::BitCast(d64, hn::InterleaveLower(d, v[2], v[3]));
  const auto high01 = hn::BitCast(d64, hn::InterleaveUpper(d, v[0], v[1]));
  const auto high23 = hn::BitCast(d64, hn::InterleaveUpper(d, v[2], v[3]));
  v[0] = hn::BitCast(d, hn::InterleaveLower(d64, low01, low23));
  v[1] = hn::BitCast(d, hn::InterleaveUpper(d64, low01, low23));
  v[2] = hn::BitCast(d, hn::InterleaveLower(d64, high01, high23));
  v[3] = hn::BitCast(d, hn::InterleaveUpper(d64, high01, high23));
}

// 4 × 4 bytes in each block; its own inverse.
HWY_INLINE VU32 TransposeBytes(VU32 v) {
  alignas(16) static constexpr uint8_t kOrder[16] = {0, 4, 8,  12, 1, 5, 9,  13,
                                                     2, 6, 10, 14, 3, 7, 11, 15};
  const VU8 order = hn::LoadDup128(DU8(), kOrder);
  return hn::BitCast(DU32(), hn::TableLookupBytes(hn::BitCast(DU8(), v), order));
}

// Pairs of quads into one at a shift of kWidth, until bytes are full; and the reverse, with the
// neighbours' bits above the width left in.
template <int kWidth, size_t kCount>
HWY_INLINE void Fold(VU32* q) {
  if constexpr (kWidth < 8) {
    for (size_t i = 0; i < kCount / 2; ++i) {
      q[i] = hn::Or(q[2 * i], hn::ShiftLeft<kWidth>(q[2 * i + 1]));
    }
    Fold<2 * kWidth, kCount / 2>(q);
  }
}

template <int kWidth, size_t kCount>
HWY_INLINE void Unfold(VU32* q) {
  if constexpr (kWidth < 8) {
    Unfold<2 * kWidth, kCount / 2>(q);
    for (size_t i = kCount / 2; i-- > 0;) {
      q[2 * i + 1] = hn::ShiftRight<kWidth>(q[i]);
      q[2 * i] = q[i];
    }
  }
}

// The codes of 8 quads, nothing but a run's bits in them, to the lines of the run; q is used up.
template <int kRun>
HWY_INLINE void ComposeRun(VU32* q, VU32* lines) {
  if constexpr (kRun == 3) {
    const VU32 high =
        hn::Or(AndBytes(hn::ShiftLeft<4>(q[6]), 0x40), AndBytes(hn::ShiftLeft<5>(q[7]), 0x80));
    lines[0] = AndBytes(hn::ShiftLeft<6>(q[6]), 0xC0);
    lines[1] = AndBytes(hn::ShiftLeft<6>(q[7]), 0xC0);
    lines[2] = high;
    for (size_t l = 0; l < 3; ++l) {
      lines[l] = hn::Or(lines[l], hn::Or(q[2 * l], hn::ShiftLeft<3>(q[2 * l + 1])));
    }
  } else {
    Fold<kRun, kUnitQuads>(q);
    std::copy_n(q, kRun, lines);
  }
}

// The reverse.
template <int kRun>
HWY_INLINE void TakeRun(const VU32* lines, VU32* q) {
  if constexpr (kRun == 3) {
    for (size_t l = 0; l < 3; ++l) {
      q[2 * l] = AndBytes(lines[l], 7);
      q[2 * l + 1] = AndBytes(hn::ShiftRight<3>(lines[l]), 7);
    }
    q[6] =
        hn::Or(AndBytes(hn::ShiftRight<6>(lines[0]), 3), AndBytes(hn::ShiftRight<4>(lines[2]), 4));
    q[7] =
        hn::Or(AndBytes(hn::ShiftRight<6>(lines[1]), 3), AndBytes(hn::ShiftRight<5>(lines[2]), 4));
  } else {
    std::copy_n(lines, kRun, q);
    Unfold<kRun, kUnitQuads>(q);
    if constexpr (kRun < 8) {
      for (size_t k = 0; k < kUnitQuads; ++k) q[k] = AndBytes(q[k], (1u << kRun) - 1);
    }
  }
}

// Lines of a unit: those of the first run, then those of the second.
template <int kBits>
struct Unit {
  static constexpr int kFirst = static_cast<int>(FirstRunBits(kBits));
  static constexpr int kSecond = kBits - kFirst;

  static HWY_INLINE void Compose(VU32* quads, VU32* lines) {
    if constexpr (kSecond > 0) {
      VU32 high[kUnitQuads];
      for (size_t k = 0; k < kUnitQuads; ++k) {
        high[k] = AndBytes(hn::ShiftRight<kFirst>(quads[k]), (1u << kSecond) - 1);
        quads[k] = AndBytes(quads[k], (1u << kFirst) - 1);
      }
      ComposeRun<kSecond>(high, lines + kFirst);
    }
    ComposeRun<kFirst>(quads, lines);
  }

  static HWY_INLINE void Take(const VU32* lines, VU32* quads) {
    TakeRun<kFirst>(lines, quads);
    if constexpr (kSecond > 0) {
      VU32 high[kUnitQuads];
      TakeRun<kSecond>(lines + kFirst, high);
      for (size_t k = 0; k < kUnitQuads; ++k) {
        quads[k] = hn::Or(quads[k], hn::ShiftLeft<kFirst>(high[k]));
      }
    }
  }

  // Where line l of unit `unit` lies in lines that hold `quads` quads.
  static HWY_INLINE size_t Offset(size_t l, size_t unit, size_t quads) {
    const size_t line =
        l < kFirst ? unit * kFirst + l : RunLines(kFirst, quads) + unit * kSecond + (l - kFirst);
    return line * kLineBytes;
  }
  // Lines of the last unit that its quads do not reach are not there.
  static HWY_INLINE bool Exists(size_t l, size_t quads_in_unit) {
    return l < kFirst ? l < RunLines(kFirst, quads_in_unit)
                      : l - kFirst < RunLines(kSecond == 0 ? 1 : kSecond, quads_in_unit);
  }
};

// One unit of kKeyRows rows. lane: the first row's bytes in line 0 of its block.
template <int kBits>
HWY_INLINE void PackKeyUnit(const uint8_t* codes, size_t stride, size_t unit, size_t quads,
                            uint8_t* lane) {
  VU32 q[kUnitQuads];
  for (size_t half = 0; half < 2; ++half) {
    for (size_t i = 0; i < 4; ++i) {
      const uint8_t* row = codes + i * stride + 16 * half;
      q[4 * half + i] = hn::BitCast(DU32(), LoadBlocks(row, row + 4 * stride));
    }
    Transpose(q + 4 * half);
  }
  VU32 lines[kBits];
  Unit<kBits>::Compose(q, lines);
  for (size_t l = 0; l < kBits; ++l) {
    if (!Unit<kBits>::Exists(l, std::min(kUnitQuads, quads - unit * kUnitQuads))) continue;
    hn::StoreU(hn::BitCast(DU8(), lines[l]), DU8(), lane + Unit<kBits>::Offset(l, unit, quads));
  }
}

template <int kBits>
HWY_INLINE void UnpackKeyUnit(const uint8_t* lane, size_t unit, size_t quads, uint8_t* codes,
                              size_t stride) {
  VU32 lines[kBits];
  for (size_t l = 0; l < kBits; ++l) {
    const bool exists = Unit<kBits>::Exists(l, std::min(kUnitQuads, quads - unit * kUnitQuads));
    const uint8_t* line = lane + (exists ? Unit<kBits>::Offset(l, unit, quads) : 0);
    lines[l] = hn::BitCast(DU32(), hn::LoadU(DU8(), line));
  }
  VU32 q[kUnitQuads];
  Unit<kBits>::Take(lines, q);
  for (size_t half = 0; half < 2; ++half) {
    Transpose(q + 4 * half);
    for (size_t i = 0; i < 4; ++i) {
      uint8_t* row = codes + i * stride + 16 * half;
      StoreBlocks(hn::BitCast(DU8(), q[4 * half + i]), row, row + 4 * stride);
    }
  }
}

// kUnitRows rows of kValueCodes coordinates. group: their first group's lines; the second is the
// high block's, where there is one.
template <int kBits>
inline void PackValueUnit(const uint8_t* codes, size_t stride, size_t unit, bool both,
                          uint8_t* group) {
  VU32 quarters[4][kUnitQuads];  // of a line: 4 coordinates × 4 rows
  for (size_t k = 0; k < kUnitQuads; ++k) {
    VU32 rows[4];
    for (size_t i = 0; i < 4; ++i) {
      rows[i] = hn::BitCast(DU32(), hn::LoadU(DU8(), codes + (4 * k + i) * stride));
    }
    Transpose(rows);
    for (size_t v = 0; v < 4; ++v) quarters[v][k] = TransposeBytes(rows[v]);
  }
  uint8_t nowhere[16];
  for (size_t v = 0; v < 4; ++v) {
    VU32 lines[kBits];
    Unit<kBits>::Compose(quarters[v], lines);
    for (size_t l = 0; l < kBits; ++l) {
      uint8_t* line = group + Unit<kBits>::Offset(l, unit, kValueBlockRows / 4) + 16 * v;
      StoreBlocks(hn::BitCast(DU8(), lines[l]), line,
                  both ? line + ValueGroupBytes(kBits) : nowhere);
    }
  }
}

template <int kBits>
inline void UnpackValueUnit(const uint8_t* group, size_t unit, bool both, uint8_t* codes,
                            size_t stride) {
  VU32 quarters[4][kUnitQuads];
  for (size_t v = 0; v < 4; ++v) {
    VU32 lines[kBits];
    for (size_t l = 0; l < kBits; ++l) {
      const uint8_t* line = group + Unit<kBits>::Offset(l, unit, kValueBlockRows / 4) + 16 * v;
      lines[l] = hn::BitCast(DU32(), LoadBlocks(line, both ? line + ValueGroupBytes(kBits) : line));
    }
    Unit<kBits>::Take(lines, quarters[v]);
  }
  for (size_t k = 0; k < kUnitQuads; ++k) {
    VU32 rows[4];
    for (size_t v = 0; v < 4; ++v) rows[v] = TransposeBytes(quarters[v][k]);
    Transpose(rows);
    for (size_t i = 0; i < 4; ++i) {
      hn::StoreU(hn::BitCast(DU8(), rows[i]), DU8(), codes + (4 * k + i) * stride);
    }
  }
}

// Rows of a unit that ends behind dim, padded with zeros.
template <size_t kRows, size_t kCodes>
struct PaddedTail {
  uint8_t codes[kRows * kCodes];

  void Read(const uint8_t* from, size_t dim, size_t count) {
    std::memset(codes, 0, sizeof(codes));
    for (size_t r = 0; r < kRows; ++r) std::memcpy(codes + r * kCodes, from + r * dim, count);
  }
  void Write(uint8_t* to, size_t dim, size_t count) const {
    for (size_t r = 0; r < kRows; ++r) std::memcpy(to + r * dim, codes + r * kCodes, count);
  }
};

// kKeyRows rows into zero lanes from a multiple of kKeyRows on.
template <int kBits>
inline void PackKeyRows(const uint8_t* codes, size_t dim, uint8_t* lane) {
  const size_t quads = CeilDivide(dim, 4);
  size_t j = 0;
  for (; j + kUnitCodes <= dim; j += kUnitCodes) {
    PackKeyUnit<kBits>(codes + j, dim, j / kUnitCodes, quads, lane);
  }
  if (j == dim) return;
  PaddedTail<kKeyRows, kUnitCodes> tail;
  tail.Read(codes + j, dim, dim - j);
  PackKeyUnit<kBits>(tail.codes, kUnitCodes, j / kUnitCodes, quads, lane);
}

template <int kBits>
inline void UnpackKeyRows(const uint8_t* lane, size_t dim, uint8_t* codes) {
  const size_t quads = CeilDivide(dim, 4);
  size_t j = 0;
  for (; j + kUnitCodes <= dim; j += kUnitCodes) {
    UnpackKeyUnit<kBits>(lane, j / kUnitCodes, quads, codes + j, dim);
  }
  if (j == dim) return;
  PaddedTail<kKeyRows, kUnitCodes> tail;
  UnpackKeyUnit<kBits>(lane, j / kUnitCodes, quads, tail.codes, kUnitCodes);
  tail.Write(codes + j, dim, dim - j);
}

// kUnitRows rows into zero lanes: unit `unit` of a block.
template <int kBits>
inline void PackValueRows(const uint8_t* codes, size_t dim, size_t unit, uint8_t* block) {
  size_t j = 0;
  for (; j + kValueCodes <= dim; j += kValueCodes) {
    PackValueUnit<kBits>(codes + j, dim, unit, true, block + j / 16 * ValueGroupBytes(kBits));
  }
  if (j == dim) return;
  PaddedTail<kUnitRows, kValueCodes> tail;
  tail.Read(codes + j, dim, dim - j);
  PackValueUnit<kBits>(tail.codes, kValueCodes, unit, dim - j > 16,
                       block + j / 16 * ValueGroupBytes(kBits));
}

template <int kBits>
inline void UnpackValueRows(const uint8_t* block, size_t unit, size_t dim, uint8_t* codes) {
  size_t j = 0;
  for (; j + kValueCodes <= dim; j += kValueCodes) {
    UnpackValueUnit<kBits>(block + j / 16 * ValueGroupBytes(kBits), unit, true, codes + j, dim);
  }
  if (j == dim) return;
  PaddedTail<kUnitRows, kValueCodes> tail;
  UnpackValueUnit<kBits>(block + j / 16 * ValueGroupBytes(kBits), unit, dim - j > 16, tail.codes,
                         kValueCodes);
  tail.Write(codes + j, dim, dim - j);
}

}  // namespace turboquant::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // TURBOQUANT_SIMD_TARGET

#endif  // per-target include guard
