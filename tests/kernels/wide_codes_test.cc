// Codes of 5 to 8 bits on every backend against reference.cc where it is hardest: grid values on
// and beside every threshold, crowded ones and those at the grid's ends, sums of extremes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "src/kernels/kernels.h"
#include "src/kernels/line_layout.h"
#include "tests/kernels/kernel_tables.h"

namespace turboquant::kernels {
namespace {

// A codebook given by its levels and the thresholds between them, for all candidates.
struct WideBook {
  std::vector<int16_t> levels = std::vector<int16_t>(256);
  std::vector<int16_t> thresholds;
  std::vector<uint8_t> grid_codes = std::vector<uint8_t>(kGridCodes);
  EncodePlan encode{};

  WideBook(size_t dim, int bits, int candidates, const std::vector<int>& book_levels,
           const std::vector<int>& book_thresholds) {
    std::ranges::copy(book_levels, levels.begin());
    thresholds.assign(256 * static_cast<size_t>(candidates), 32767);
    for (int k = 0; k < candidates; ++k) {
      for (size_t i = 0; i < book_thresholds.size(); ++i) {
        thresholds[static_cast<size_t>(k) * 256 + i] =
            ScaledThreshold(book_thresholds[i], candidates == 1 ? 16384 : kCandidateQ14[k]);
      }
    }
    encode.rotation = {dim, 0, nullptr};
    encode.bits = bits;
    encode.candidates = candidates;
    encode.codes = static_cast<int>(book_levels.size());
    encode.thresholds = thresholds.data();
    encode.levels = levels.data();
    if (MakeGridCodes(encode, grid_codes.data())) encode.grid_codes = grid_codes.data();
  }
};

// `codes` levels from -largest to largest, and thresholds in the middle, `spread` grid steps apart.
struct Shape {
  int codes;
  int largest;
  int spread;
};

std::vector<int> LevelsOf(const Shape& shape) {
  std::vector<int> levels;
  for (int i = 0; i < shape.codes; ++i) {
    levels.push_back(-shape.largest + 2 * shape.largest * i / (shape.codes - 1));
  }
  return levels;
}

std::vector<int> ThresholdsOf(const Shape& shape) {
  std::vector<int> thresholds;
  for (int i = 0; i + 1 < shape.codes; ++i) {
    thresholds.push_back(std::clamp((i - shape.codes / 2) * shape.spread + 1, -32768, 32767));
  }
  return thresholds;
}

// Rows of grid values, which a gain of 1 without a rotation leaves as they are: each threshold and
// its neighbours in turn, then what is random, then the largest alone and the smallest alone.
std::vector<float> GridRows(const WideBook& book, size_t rows) {
  const size_t dim = book.encode.rotation.dim;
  std::mt19937 generator(3);
  std::vector<float> grid(rows * dim);
  for (size_t i = 0; i < grid.size(); ++i) {
    const int threshold = book.thresholds[i / 3 % 256];
    const int z = i < 3 * 256 ? threshold + static_cast<int>(i % 3) - 1
                              : static_cast<int>(generator() % 65535) - 32767;
    grid[i] = static_cast<float>(std::clamp(z, -kGridMax, kGridMax));
  }
  std::fill_n(grid.end() - static_cast<std::ptrdiff_t>(2 * dim), dim, 40000.0f);
  std::fill_n(grid.end() - static_cast<std::ptrdiff_t>(dim), dim, -40000.0f);
  return grid;
}

class WideCodesTest : public testing::TestWithParam<const KernelTable*> {
 protected:
  void ExpectReference(const WideBook& book, const std::string& name) {
    const size_t dim = book.encode.rotation.dim;
    const int bits = book.encode.bits;
    const size_t rows = std::min<size_t>(60, 4 + CeilDivide(3 * 256, dim));
    const std::vector<float> input = GridRows(book, rows);
    for (const bool values : {false, true}) {
      const size_t bytes = values ? 2 * ValueBlockBytes(dim, bits) : 5 * KeyBlockBytes(dim, bits);
      std::vector<uint8_t> actual(bytes), expected(bytes);
      std::vector<RowSums> actual_sums(rows), expected_sums(rows);
      const auto rows_into = [&](std::vector<uint8_t>& blocks) {
        std::vector<EncodeRow> encoded;
        for (size_t r = 0; r < rows; ++r) {
          encoded.push_back({&book.encode,
                             input.data() + r * dim,
                             1.0f,
                             {blocks.data(), dim, bits, values},
                             3 + r});
        }
        return encoded;
      };
      GetParam()->encode_rows(rows_into(actual).data(), rows, actual_sums.data());
      reference::EncodeRows(rows_into(expected).data(), rows, expected_sums.data());
      ASSERT_EQ(actual, expected) << name << " values " << values;
      for (size_t r = 0; r < rows; ++r) {
        ASSERT_EQ(actual_sums[r].grid_level, expected_sums[r].grid_level) << name << " row " << r;
        ASSERT_EQ(actual_sums[r].level_level, expected_sums[r].level_level) << name << " row " << r;
      }
    }
  }
};

TEST_P(WideCodesTest, CodesAndSumsEqualReferenceOnEveryThreshold) {
  size_t at_the_end = 0;
  for (int bits = 5; bits <= 8; ++bits) {
    const int full = 1 << bits;
    // Evenly wide, crowded, more crowded, beyond the grid on both sides, and the uniform codebook's
    // 255 levels.
    for (const Shape& shape :
         {Shape{full, kMaxLevel, 65536 / full}, Shape{full, kMaxLevel, 53}, Shape{full, 1000, 4},
          Shape{full, kMaxLevel, 2048}, Shape{full - 1, full / 2 - 1, 128}}) {
      for (const size_t dim : {32u, 50u, 64u, 80u, 128u, 256u, 300u, 2100u}) {
        for (const int candidates : {1, kCandidates}) {
          if (dim > 300 && candidates > 1) continue;
          const WideBook book(dim, bits, candidates, LevelsOf(shape), ThresholdsOf(shape));
          at_the_end += book.encode.grid_codes == nullptr ? 1 : 0;
          ExpectReference(book, "bits " + std::to_string(bits) + " spread " +
                                    std::to_string(shape.spread) + " dim " + std::to_string(dim) +
                                    " candidates " + std::to_string(candidates));
          if (HasFatalFailure()) return;
        }
      }
    }
  }
  EXPECT_GT(at_the_end, 0u);  // a threshold that only pre-scaled values pass
}

INSTANTIATE_TEST_SUITE_P(Backends, WideCodesTest, testing::ValuesIn(TestedTables()),
                         [](const auto& tested) { return TableName(*tested.param); });

}  // namespace
}  // namespace turboquant::kernels
