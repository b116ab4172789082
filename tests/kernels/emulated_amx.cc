// src/kernels/amx.cc against emulated instructions, as EmulatedAmxKernels().
#include "tests/kernels/kernel_tables.h"

#if __has_include(<simde/x86/avx512.h>)

#include "tests/kernels/avx512_emulation.h"
#include "tests/kernels/tile_unit.h"

// The names of src/kernels/amx_tiles.h.
namespace turboquant::kernels {
namespace {

void ConfigureTiles(const TileShapes& shapes) { TileUnit::OfThisThread().Configure(shapes); }
void ReleaseTiles() { TileUnit::OfThisThread().Release(); }

template <int kTile>
void ZeroTile() {
  TileUnit::OfThisThread().Zero(kTile);
}

template <int kTile>
void LoadTile(const void* rows, size_t stride) {
  TileUnit::OfThisThread().Load(kTile, rows, stride);
}

template <int kTile>
void StoreTile(void* rows, size_t stride) {
  TileUnit::OfThisThread().Store(kTile, rows, stride);
}

template <int kSums, int kDigits, int kLevels, bool kSignedLevels>
void AddProduct() {
  TileUnit::OfThisThread().AddProduct(kSums, kDigits, kLevels, /*signed_a=*/true, kSignedLevels);
}

}  // namespace
}  // namespace turboquant::kernels

#define TURBOQUANT_EMULATE_AVX512
#include "src/kernels/amx.cc"  // NOLINT(bugprone-suspicious-include)

#else

namespace turboquant::kernels {

const KernelTable* EmulatedAmxKernels() { return nullptr; }

}  // namespace turboquant::kernels

#endif
