// What ldtilecfg reads, and a tile as it lies in memory.
#ifndef TURBOQUANT_SRC_KERNELS_AMX_TILE_SHAPES_H_
#define TURBOQUANT_SRC_KERNELS_AMX_TILE_SHAPES_H_

#include <cstddef>
#include <cstdint>

namespace turboquant::kernels {

inline constexpr size_t kTileRows = 16;
inline constexpr size_t kTileRowBytes = 64;

struct alignas(64) Tile {
  uint8_t row[kTileRows][kTileRowBytes];
};

struct alignas(64) TileShapes {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};  // of tiles 0 to 7; zero behind them
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileShapes) == 64);

}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_AMX_TILE_SHAPES_H_
