// Where a code lies in a block of packed lines.
//
// A line is 64 bytes: 16 lanes of 4 bytes. A quad is the 4 codes of one lane that share a bit
// position: byte 4·lane + i of a line holds code i of the quad. Codes of b bits are split into runs
// whose widths divide a byte evenly, except 3, which packs 8 quads into three lines without a gap:
//   b = 1, 2, 4, 8   one run
//   b = 3            one run of line triples
//   b = 5, 6, 7      a 4-bit run of the low bits, then a run of the 1, 2 or 3 high bits
// Keys:   a block is 16 rows;  lane = row % 16, quad = coordinate / 4, i = coordinate % 4.
// Values: a block is 64 rows;  coordinates in groups of 16: lane = coordinate % 16,
//         quad = (row % 64) / 4, i = row % 4.
// The bytes follow from these formulas alone, whatever CPU writes them.
#ifndef TURBOQUANT_SRC_KERNELS_LINE_LAYOUT_H_
#define TURBOQUANT_SRC_KERNELS_LINE_LAYOUT_H_

#include <cstddef>
#include <cstdint>

#include "src/base/checked.h"

namespace turboquant::kernels {

inline constexpr size_t kLineBytes = 64;
inline constexpr size_t kLanes = 16;
inline constexpr size_t kKeyBlockRows = 16;
inline constexpr size_t kValueBlockRows = 64;

// Lines that `quads` quads of a run of 1, 2, 3, 4 or 8 bits fill.
constexpr size_t RunLines(size_t run_bits, size_t quads) {
  return run_bits == 3 ? 3 * CeilDivide(quads, 8) : CeilDivide(quads, 8 / run_bits);
}

// Width of the first run of b-bit codes; the second, if any, has the remaining bits.
constexpr size_t FirstRunBits(size_t bits) { return bits > 4 && bits < 8 ? 4 : bits; }

constexpr size_t CodeLines(size_t bits, size_t quads) {
  const size_t first = FirstRunBits(bits);
  return RunLines(first, quads) + (bits == first ? 0 : RunLines(bits - first, quads));
}

constexpr size_t KeyBlockBytes(size_t dim, size_t bits) {
  return kLineBytes * CodeLines(bits, CeilDivide(dim, 4));
}

constexpr size_t ValueGroupBytes(size_t bits) { return kLineBytes * CodeLines(bits, 16); }

constexpr size_t ValueBlockBytes(size_t dim, size_t bits) {
  return CeilDivide(dim, kLanes) * ValueGroupBytes(bits);
}

// A key's coordinates, padded as its query digits are: whole units of every run width.
constexpr size_t PaddedDim(size_t dim) { return RoundUp(dim, 32); }

// Rows of canonical streams: those that fill their last byte are one long row.
struct StreamRows {
  size_t rows;
  size_t dim;
  size_t row_bytes;

  constexpr StreamRows(int bits, size_t rows_in, size_t dim_in) : rows(rows_in), dim(dim_in) {
    const size_t width = static_cast<size_t>(bits);
    if (dim * width % 8 == 0) {
      dim *= rows;
      rows = 1;
    }
    row_bytes = CeilDivide(dim * width, 8);
  }
};

// The bits of one value row's codes in every group's lines: (code >> right & mask) << left in each
// 32-bit lane of the line at `offset`.
struct ValuePiece {
  size_t offset;
  unsigned mask;
  int right;
  int left;
};

struct ValuePieces {
  ValuePiece piece[3];
  size_t count;
};

namespace layout_internal {

// Of row `row` in one run.
constexpr ValuePieces PiecesInRun(int bits, size_t row) {
  const size_t quad = row / 4;
  const int byte = 8 * static_cast<int>(row % 4);
  if (bits != 3) {
    const size_t per_line = 8 / static_cast<size_t>(bits);
    const int left = byte + bits * static_cast<int>(quad % per_line);
    return {{{quad / per_line * kLineBytes, (1u << bits) - 1, 0, left}, {}}, 1};
  }
  const size_t triple = quad / 8 * 3 * kLineBytes;
  const size_t k = quad % 8;
  const int position = static_cast<int>(k);
  if (k < 6) {
    return {{{triple + k / 2 * kLineBytes, 7, 0, byte + 3 * (position % 2)}, {}}, 1};
  }
  return {{{triple + (k - 6) * kLineBytes, 3, 0, byte + 6},
           {triple + 2 * kLineBytes, 1, 2, byte + position}},
          2};
}

inline unsigned GetRunCode(const uint8_t* run, size_t run_bits, size_t quad, size_t byte) {
  if (run_bits != 3) {
    const size_t per_line = 8 / run_bits;
    const unsigned cell = run[quad / per_line * kLineBytes + byte];
    return (cell >> (run_bits * (quad % per_line))) & ((1u << run_bits) - 1);
  }
  const uint8_t* triple = run + quad / 8 * 3 * kLineBytes + byte;
  const size_t k = quad % 8;
  if (k < 6) return (triple[k / 2 * kLineBytes] >> (3 * (k % 2))) & 7u;
  const unsigned low = triple[(k - 6) * kLineBytes] >> 6;
  const unsigned high = (triple[2 * kLineBytes] >> k) & 1u;
  return low | high << 2;
}

inline void OrRunCode(uint8_t* run, size_t run_bits, size_t quad, size_t byte, unsigned code) {
  const auto merge = [](uint8_t& cell, unsigned bits) { cell = static_cast<uint8_t>(cell | bits); };
  if (run_bits != 3) {
    const size_t per_line = 8 / run_bits;
    merge(run[quad / per_line * kLineBytes + byte], code << (run_bits * (quad % per_line)));
    return;
  }
  uint8_t* triple = run + quad / 8 * 3 * kLineBytes + byte;
  const size_t k = quad % 8;
  if (k < 6) {
    merge(triple[k / 2 * kLineBytes], code << (3 * (k % 2)));
    return;
  }
  merge(triple[(k - 6) * kLineBytes], (code & 3u) << 6);
  merge(triple[2 * kLineBytes], (code >> 2) << k);
}

}  // namespace layout_internal

// Of row `row` of a block.
constexpr ValuePieces PiecesOfValueRow(int bits, size_t row) {
  const int first = static_cast<int>(FirstRunBits(static_cast<size_t>(bits)));
  ValuePieces pieces = layout_internal::PiecesInRun(first, row);
  if (bits == first) return pieces;
  const ValuePieces second = layout_internal::PiecesInRun(bits - first, row);
  for (size_t p = 0; p < second.count; ++p) {
    ValuePiece piece = second.piece[p];
    piece.offset += kLineBytes * RunLines(static_cast<size_t>(first), kValueBlockRows / 4);
    piece.right += first;
    pieces.piece[pieces.count++] = piece;
  }
  return pieces;
}

// Code at (quad, byte of the line) of lines that hold `quads` quads of b-bit codes.
inline unsigned GetCode(const uint8_t* lines, size_t bits, size_t quads, size_t quad, size_t byte) {
  const size_t first = FirstRunBits(bits);
  unsigned code = layout_internal::GetRunCode(lines, first, quad, byte);
  if (bits != first) {
    const uint8_t* second = lines + kLineBytes * RunLines(first, quads);
    code |= layout_internal::GetRunCode(second, bits - first, quad, byte) << first;
  }
  return code;
}

// Sets a code whose bits are zero so far.
inline void OrCode(uint8_t* lines, size_t bits, size_t quads, size_t quad, size_t byte,
                   unsigned code) {
  const size_t first = FirstRunBits(bits);
  layout_internal::OrRunCode(lines, first, quad, byte, code & ((1u << first) - 1));
  if (bits != first) {
    uint8_t* second = lines + kLineBytes * RunLines(first, quads);
    layout_internal::OrRunCode(second, bits - first, quad, byte, code >> first);
  }
}

}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_LINE_LAYOUT_H_
