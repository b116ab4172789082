// The tile unit of AMX in plain C++, written from the instruction set reference: what the tests run
// src/kernels/amx.cc on where the CPU has none. Where hardware would fault, it prints why and
// aborts.
#ifndef TURBOQUANT_TESTS_KERNELS_TILE_UNIT_H_
#define TURBOQUANT_TESTS_KERNELS_TILE_UNIT_H_

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "src/kernels/amx_tile_shapes.h"

namespace turboquant::kernels {

class TileUnit {
 public:
  // Trivial to construct, so that a signal handler may be the first to use it.
  static TileUnit& OfThisThread() {
    static thread_local TileUnit unit;
    return unit;
  }

  void Configure(const TileShapes& shapes) {
    Demand(shapes.palette == 1 && shapes.start_row == 0, "palette 1 from row 0");
    for (const uint8_t byte : shapes.reserved) Demand(byte == 0, "reserved bytes are zero");
    for (int t = 0; t < 16; ++t) {
      Demand(t < kTiles || (shapes.rows[t] == 0 && shapes.row_bytes[t] == 0), "8 tiles");
      Demand(shapes.rows[t] <= kTileRows && shapes.row_bytes[t] <= kTileRowBytes, "1 KB a tile");
      Demand((shapes.rows[t] == 0) == (shapes.row_bytes[t] == 0), "rows and their bytes");
    }
    std::memset(tiles_, 0, sizeof(tiles_));
    for (int t = 0; t < kTiles; ++t) {
      tiles_[t].rows = shapes.rows[t];
      tiles_[t].row_bytes = shapes.row_bytes[t];
    }
    in_use_ = true;
  }

  void Release() {
    std::memset(tiles_, 0, sizeof(tiles_));
    in_use_ = false;
  }

  void Zero(int t) { std::memset(Named(t).bytes, 0, sizeof(Tile)); }

  void Load(int t, const void* rows, size_t stride) {
    Zero(t);
    for (size_t r = 0; r < tiles_[t].rows; ++r) {
      std::memcpy(tiles_[t].bytes[r], static_cast<const char*>(rows) + r * stride,
                  tiles_[t].row_bytes);
    }
  }

  void Store(int t, void* rows, size_t stride) {
    Register& tile = Named(t);
    for (size_t r = 0; r < tile.rows; ++r)
      std::memcpy(static_cast<char*>(rows) + r * stride, tile.bytes[r], tile.row_bytes);
  }

  void AddProduct(int sums, int a, int b, bool signed_a, bool signed_b) {
    Demand(sums != a && sums != b && a != b, "three tiles");
    const Register& left = Named(a);
    const Register& right = Named(b);
    Register& to = Named(sums);
    Demand(to.rows == left.rows && left.row_bytes == 4 * right.rows &&
               to.row_bytes == right.row_bytes && right.row_bytes % 4 == 0,
           "shapes of a product");
    for (size_t r = 0; r < to.rows; ++r) AddRow(left, right, r, signed_a, signed_b, to);
    ++products_;
  }

  bool in_use() const { return in_use_; }
  size_t products() const { return products_; }

 private:
  static constexpr int kTiles = 8;

  struct Register {
    uint8_t bytes[kTileRows][kTileRowBytes];
    size_t rows;
    size_t row_bytes;
  };

  static void Demand(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "tile unit: violated: %s\n", what);
    std::abort();
  }

  Register& Named(int t) {
    Demand(in_use_ && t >= 0 && t < kTiles && tiles_[t].rows != 0, "a configured tile");
    return tiles_[t];
  }

  static int Number(uint8_t byte, bool is_signed) {
    return is_signed ? static_cast<int8_t>(byte) : byte;
  }

  static void AddRow(const Register& a, const Register& b, size_t r, bool signed_a, bool signed_b,
                     Register& to) {
    uint32_t sums[kTileRowBytes / 4];  // they wrap
    std::memcpy(sums, to.bytes[r], sizeof(sums));
    for (size_t k = 0; k < b.rows; ++k) {
      for (size_t lane = 0; lane < b.row_bytes / 4; ++lane) {
        for (size_t i = 0; i < 4; ++i) {
          sums[lane] += static_cast<uint32_t>(Number(a.bytes[r][4 * k + i], signed_a) *
                                              Number(b.bytes[k][4 * lane + i], signed_b));
        }
      }
    }
    std::memcpy(to.bytes[r], sums, sizeof(sums));
  }

  Register tiles_[kTiles];
  bool in_use_;
  size_t products_;
};

}  // namespace turboquant::kernels

#endif  // TURBOQUANT_TESTS_KERNELS_TILE_UNIT_H_
