// Codebooks for kernel tests, and the plans that encode and score by them.
#ifndef TURBOQUANT_TESTS_KERNELS_TEST_BOOK_H_
#define TURBOQUANT_TESTS_KERNELS_TEST_BOOK_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/kernels/kernels.h"

namespace turboquant::kernels {

// A symmetric int8 codebook of the shape the product ships, or an arbitrary one.
struct TestBook {
  std::vector<int16_t> levels = std::vector<int16_t>(256);
  std::vector<int16_t> thresholds;
  std::vector<int16_t> cells;
  std::vector<int16_t> signed_cells = std::vector<int16_t>(2 * kCells);
  std::vector<uint8_t> grid_codes = std::vector<uint8_t>(kGridCodes);
  EncodePlan encode{};
  ScorePlan score{};

  TestBook(size_t dim, int bits, int candidates, bool symmetric, const std::vector<uint32_t>& masks,
           int rounds) {
    const int codes = 1 << bits;
    const double step = 8.0 / codes;  // in sigma
    for (int i = 0; i < codes; ++i) {
      const double skew = symmetric ? 0.0 : 0.3 * step;
      const double centroid = (i - codes / 2 + 0.5) * step * 0.7 + skew;
      levels[i] =
          static_cast<int16_t>(std::lround(centroid * (symmetric && bits <= 4 ? 30 : 1024)));
    }
    thresholds.assign(256 * candidates, 32767);
    for (int k = 0; k < candidates; ++k) {
      for (int i = 0; i + 1 < codes; ++i) {
        const double unit = symmetric && bits <= 4 ? 30.0 : 1024.0;
        const double boundary = 0.5 * (levels[i] + levels[i + 1]) / unit * kGridPerSigma;
        // A little off the midpoint, or symmetric thresholds would meet a tie.
        const double shifted = symmetric && i != codes / 2 - 1 ? boundary * 1.0001 : boundary;
        thresholds[k * 256 + i] = ScaledThreshold(static_cast<int64_t>(std::floor(shifted)),
                                                  candidates == 1 ? 16384 : kCandidateQ14[k]);
      }
    }
    const bool magnitudes = symmetric && bits <= 4 && IsSymmetric(codes, candidates);
    encode = {{dim, rounds, masks.data()},
              bits,
              candidates,
              codes,
              thresholds.data(),
              levels.data(),
              magnitudes,
              nullptr,
              nullptr,
              nullptr};
    if (magnitudes) {
      cells.resize(candidates * 2 * kCells);
      if (MakeCells(encode, cells.data())) encode.cells = cells.data();
    }
    if (MakeSignedCells(encode, signed_cells.data())) encode.signed_cells = signed_cells.data();
    if (MakeGridCodes(encode, grid_codes.data())) encode.grid_codes = grid_codes.data();
    score = {dim, bits, codes, levels.data(), symmetric && bits <= 4};
  }

  bool IsSymmetric(int codes, int candidates) const {
    for (int k = 0; k < candidates; ++k) {
      const int16_t* t = thresholds.data() + k * 256;
      if (t[codes / 2 - 1] != 0) return false;
      for (int i = codes / 2; i + 1 < codes; ++i) {
        if (t[codes - 2 - i] != -t[i] - 1) return false;
      }
    }
    return true;
  }
};

}  // namespace turboquant::kernels

#endif  // TURBOQUANT_TESTS_KERNELS_TEST_BOOK_H_
