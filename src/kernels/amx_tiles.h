// Tiles of AMX: 8 registers of up to 16 rows of 64 bytes, and the few instructions on them. Written
// as assembly, because the intrinsics of g++ 12 say less than they do: _tile_loadconfig declares 8
// of the 64 bytes it reads, _tile_loadd none, so the compiler drops the stores before them.
// Private to amx.cc. Where that is compiled against an emulation, these names are the emulation's.
#ifndef TURBOQUANT_SRC_KERNELS_AMX_TILES_H_
#define TURBOQUANT_SRC_KERNELS_AMX_TILES_H_

#include "src/kernels/amx_tile_shapes.h"

#ifndef TURBOQUANT_EMULATE_AVX512

namespace turboquant::kernels {
namespace {

// With ReleaseTiles 47 ns, measured by the prototypes.
TQ_INLINE void ConfigureTiles(const TileShapes& shapes) {
  __asm__ volatile("ldtilecfg %0" ::"m"(shapes));
}

// Back to the state of a thread that never used tiles: nothing is left to save at a context switch.
TQ_INLINE void ReleaseTiles() { __asm__ volatile("tilerelease" ::: "memory"); }

template <int kTile>
TQ_INLINE void ZeroTile() {
  __asm__ volatile("tilezero %%tmm%c0" ::"i"(kTile));
}

// Rows of the tile from `rows`, `stride` bytes apart.
template <int kTile>
TQ_INLINE void LoadTile(const void* rows, size_t stride) {
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(rows), "r"(stride), "i"(kTile) : "memory");
}

template <int kTile>
TQ_INLINE void StoreTile(void* rows, size_t stride) {
  __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(rows), "r"(stride), "i"(kTile)
                   : "memory");
}

// sums[row][lane] += sum over quads k and i < 4 of digits[row][4k + i] · levels[k][4·lane + i]:
// int32 that wraps. Digits are signed; those of weights, 0 to 127, are the same either way. 16
// cycles, however many rows the digits have.
template <int kSums, int kDigits, int kLevels, bool kSignedLevels>
TQ_INLINE void AddProduct() {
  if constexpr (kSignedLevels) {
    __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kDigits),
                     "i"(kLevels));
  } else {
    __asm__ volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kDigits),
                     "i"(kLevels));
  }
}

}  // namespace
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_EMULATE_AVX512

#endif  // TURBOQUANT_SRC_KERNELS_AMX_TILES_H_
