// Keys and values as the tile product sees them. Private to amx.cc.
//
// A *column* is 16 lanes: the 16 keys of a block, or 16 coordinates of values. It is summed over
// its *depth*, in *chunks* of 64 that are 16 quads, so 16 decoded lines: one tile of levels.
//   keys    column = block,      chunk c = coordinates [64c, 64c + 64)
//   values  column = group of 16 coordinates, chunk c = the 64 tokens of block c
#ifndef TURBOQUANT_SRC_KERNELS_AMX_COLUMNS_H_
#define TURBOQUANT_SRC_KERNELS_AMX_COLUMNS_H_

namespace turboquant::kernels {
namespace {

constexpr size_t kChunkDepth = 64;
constexpr size_t kChunkQuads = 16;

struct Columns {
  const uint8_t* bytes;
  size_t count;
  size_t column_bytes;
  size_t chunks;
  size_t chunk_bytes;
  size_t last_quads;  // of the last chunk, at most 16
  ReadAhead ahead;

  TQ_INLINE size_t At(size_t column, size_t chunk) const {
    return column * column_bytes + chunk * chunk_bytes;
  }
  bool WholeChunks() const { return last_quads == kChunkQuads; }
};

// dim > 0.
Columns KeyColumns(const ScorePlan& plan, const BlocksView& blocks) {
  const size_t bits = static_cast<size_t>(plan.bits);
  const size_t quads = CeilDivide(plan.dim, 4);
  return {blocks.blocks,
          blocks.count,
          KeyBlockBytes(plan.dim, bits),
          CeilDivide(quads, kChunkQuads),
          ValueGroupBytes(bits),
          (quads - 1) % kChunkQuads + 1,
          blocks.ahead};
}

Columns ValueColumns(const ScorePlan& plan, const BlocksView& blocks) {
  const size_t bits = static_cast<size_t>(plan.bits);
  return {blocks.blocks, CeilDivide(plan.dim, kLanes),    ValueGroupBytes(bits),
          blocks.count,  ValueBlockBytes(plan.dim, bits), kChunkQuads,
          blocks.ahead};
}

// Columns [first, first + count).
Columns Part(const Columns& columns, size_t first, size_t count) {
  Columns part = columns;
  const size_t skipped = first * columns.column_bytes;
  part.bytes += skipped;
  part.count = count;
  part.ahead = columns.ahead.From(skipped);
  return part;
}

}  // namespace
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_AMX_COLUMNS_H_
