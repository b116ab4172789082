// Codes into and out of blocks, a unit of 8 quads at a time where whole quads of rows are there,
// and row by row elsewhere; included once per target.
#if defined(TURBOQUANT_SRC_KERNELS_CODES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TURBOQUANT_SRC_KERNELS_CODES_INL_H_
#undef TURBOQUANT_SRC_KERNELS_CODES_INL_H_
#else
#define TURBOQUANT_SRC_KERNELS_CODES_INL_H_
#endif

#include <algorithm>
#include <cstring>

#include "src/kernels/kernels.h"
#include "src/kernels/line_layout.h"
#include "src/kernels/pack_row.h"
#include "src/kernels/scratch.h"
#include "src/kernels/simd-inl.h"
#include "src/kernels/units-inl.h"
#include "src/kernels/with_bits.h"

#if TURBOQUANT_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace turboquant::kernels::HWY_NAMESPACE {

// ORs 16 codes, one per lane, into a line at a bit position of each 32-bit lane.
HWY_INLINE void OrLine(const uint8_t* codes, const ValuePiece& piece, uint8_t* line) {
  const hn::Rebind<uint8_t, DU32> d8;
  for (size_t lane = 0; lane < kLanes; lane += kFloats) {
    VU32 word = hn::PromoteTo(DU32(), hn::LoadU(d8, codes + lane));
    word = hn::And(hn::ShiftRightSame(word, piece.right), hn::Set(DU32(), piece.mask));
    uint32_t* words = reinterpret_cast<uint32_t*>(line) + lane;
    hn::StoreU(hn::Or(hn::LoadU(DU32(), words), hn::ShiftLeftSame(word, piece.left)), DU32(),
               words);
  }
}

// The reverse, ORed to the codes.
HWY_INLINE void TakeLine(const uint8_t* line, const ValuePiece& piece, uint8_t* codes) {
  const hn::Rebind<uint8_t, DU32> d8;
  for (size_t lane = 0; lane < kLanes; lane += kFloats) {
    VU32 word = hn::LoadU(DU32(), reinterpret_cast<const uint32_t*>(line) + lane);
    word = hn::And(hn::ShiftRightSame(word, piece.left), hn::Set(DU32(), piece.mask));
    const auto code = hn::U8FromU32(hn::ShiftLeftSame(word, piece.right));
    hn::StoreU(hn::Or(hn::LoadU(d8, codes + lane), code), d8, codes + lane);
  }
}

// codes: RoundUp(dim, 32) bytes, zero behind dim.
template <int kBits>
inline void PackRow(const PackedBlocks& into, size_t lane, const uint8_t* codes) {
  if (!into.values) {
    return PackKeyRow<kBits>(codes, into.dim,
                             into.blocks + lane / kKeyBlockRows * KeyBlockBytes(into.dim, kBits) +
                                 4 * (lane % kKeyBlockRows));
  }
  const ValuePieces pieces = PiecesOfValueRow(kBits, lane % kValueBlockRows);
  uint8_t* group = into.blocks + lane / kValueBlockRows * ValueBlockBytes(into.dim, kBits);
  for (size_t j = 0; j < into.dim; j += kLanes, group += ValueGroupBytes(kBits)) {
    for (size_t p = 0; p < pieces.count; ++p) {
      OrLine(codes + j, pieces.piece[p], group + pieces.piece[p].offset);
    }
  }
}

template <int kBits>
inline void UnpackRow(const PackedBlocks& from, size_t lane, uint8_t* codes) {
  std::memset(codes, 0, RoundUp(from.dim, 32));
  if (!from.values) {
    return UnpackKeyRow<kBits>(from.blocks + lane / kKeyBlockRows * KeyBlockBytes(from.dim, kBits) +
                                   4 * (lane % kKeyBlockRows),
                               from.dim, codes);
  }
  const ValuePieces pieces = PiecesOfValueRow(kBits, lane % kValueBlockRows);
  const uint8_t* group = from.blocks + lane / kValueBlockRows * ValueBlockBytes(from.dim, kBits);
  for (size_t j = 0; j < from.dim; j += kLanes, group += ValueGroupBytes(kBits)) {
    for (size_t p = 0; p < pieces.count; ++p) {
      TakeLine(group + pieces.piece[p].offset, pieces.piece[p], codes + j);
    }
  }
}

// Rows of whole units that start at `lane`, 0 or as many as a unit of this tiling has.
inline size_t UnitRowsAt(const PackedBlocks& packed, size_t lane, size_t rows_left) {
  const size_t unit_rows = packed.values ? kUnitRows : kKeyRows;
  return lane % unit_rows == 0 && rows_left >= unit_rows ? unit_rows : 0;
}

template <int kBits>
inline void PackCodesFixed(const PackedBlocks& into, size_t first_lane, size_t count,
                           const uint8_t* codes) {
  const size_t dim = into.dim;
  Scratch<uint8_t> padded(RoundUp(dim, 32));
  std::fill(padded.data() + dim, padded.data() + RoundUp(dim, 32), uint8_t{0});
  for (size_t r = 0; r < count;) {
    const size_t lane = first_lane + r;
    const uint8_t* row = codes + r * dim;
    if (const size_t rows = UnitRowsAt(into, lane, count - r); rows > 0) {
      if (into.values) {
        PackValueRows<kBits>(row, dim, lane % kValueBlockRows / kUnitRows,
                             into.blocks + lane / kValueBlockRows * ValueBlockBytes(dim, kBits));
      } else {
        PackKeyRows<kBits>(row, dim,
                           into.blocks + lane / kKeyBlockRows * KeyBlockBytes(dim, kBits) +
                               4 * (lane % kKeyBlockRows));
      }
      r += rows;
      continue;
    }
    std::copy_n(row, dim, padded.data());
    PackRow<kBits>(into, lane, padded.data());
    ++r;
  }
}

template <int kBits>
inline void UnpackCodesFixed(const PackedBlocks& from, size_t first_lane, size_t count,
                             uint8_t* codes) {
  const size_t dim = from.dim;
  Scratch<uint8_t> padded(RoundUp(dim, 32));
  for (size_t r = 0; r < count;) {
    const size_t lane = first_lane + r;
    uint8_t* row = codes + r * dim;
    if (const size_t rows = UnitRowsAt(from, lane, count - r); rows > 0) {
      if (from.values) {
        UnpackValueRows<kBits>(from.blocks + lane / kValueBlockRows * ValueBlockBytes(dim, kBits),
                               lane % kValueBlockRows / kUnitRows, dim, row);
      } else {
        UnpackKeyRows<kBits>(from.blocks + lane / kKeyBlockRows * KeyBlockBytes(dim, kBits) +
                                 4 * (lane % kKeyBlockRows),
                             dim, row);
      }
      r += rows;
      continue;
    }
    UnpackRow<kBits>(from, lane, padded.data());
    std::copy_n(padded.data(), dim, row);
    ++r;
  }
}

inline void PackCodes(const PackedBlocks& into, size_t first_lane, size_t count,
                      const uint8_t* codes) {
  WithBits(into.bits,
           [&]<int kBits>() HWY_ATTR { PackCodesFixed<kBits>(into, first_lane, count, codes); });
}

inline void UnpackCodes(const PackedBlocks& from, size_t first_lane, size_t count, uint8_t* codes) {
  WithBits(from.bits,
           [&]<int kBits>() HWY_ATTR { UnpackCodesFixed<kBits>(from, first_lane, count, codes); });
}

}  // namespace turboquant::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // TURBOQUANT_SIMD_TARGET

#endif  // per-target include guard
