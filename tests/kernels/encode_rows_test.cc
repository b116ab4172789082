// encode_rows on every backend of this CPU against its definition in reference.cc: bit for bit.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "src/kernels/kernels.h"
#include "src/kernels/line_layout.h"
#include "tests/kernels/kernel_rows.h"
#include "tests/kernels/kernel_tables.h"
#include "tests/kernels/test_book.h"

namespace turboquant::kernels {
namespace {

class EncodeRowsTest : public testing::TestWithParam<const KernelTable*> {
 protected:
  const KernelTable& table() const { return *GetParam(); }
};

TEST_P(EncodeRowsTest, EqualsReference) {
  int symmetric_seen = 0;
  int cells_seen = 0;
  int signed_cells_seen = 0;
  for (const size_t dim : kDims) {
    for (int bits = 1; bits <= 8; ++bits) {
      for (const int candidates : {1, kCandidates}) {
        if (dim > 300 && candidates > 1 && bits > 4) continue;  // the reference would take minutes
        for (const bool values : {false, true}) {
          const int rounds = static_cast<int>((dim + static_cast<size_t>(bits)) % 3);
          const auto masks = RandomMasks(3 * MasksPerRound(dim), 11);
          const TestBook book(dim, bits, candidates, bits % 2 == 0 || dim % 2 == 0, masks, rounds);
          symmetric_seen += book.encode.symmetric;
          cells_seen += book.encode.cells != nullptr;
          signed_cells_seen += book.encode.signed_cells != nullptr;
          const size_t rows = dim > 1000 ? 3 : 6;
          const size_t first_lane = dim % 13;
          std::vector<float> input = Normal(rows * (dim + 3), 3);
          input[dim + 3] = 40.0f;  // peaks beyond the grid, on both sides of it
          input[dim + 4] = -40.0f;
          std::vector<float> gains(rows, 4096.0f);
          gains[rows - 2] = 0.0f;
          gains[0] = 3.7f;
          for (size_t r = 1; r < rows; ++r)
            gains[r] = gains[r] * (r == 2 ? 0.9f : 1.1f) * (gains[r] != 0);
          for (int round = 0; round < rounds; ++round) {
            if (std::has_single_bit(dim)) {
              for (float& gain : gains) gain /= std::sqrt(static_cast<float>(dim));
            }
          }
          const size_t blocks_bytes =
              2 * (values ? ValueBlockBytes(dim, bits) : KeyBlockBytes(dim, bits));
          std::vector<uint8_t> actual(blocks_bytes + 1, 0), expected(blocks_bytes + 1, 0);
          std::vector<RowSums> actual_sums(rows), expected_sums(rows);
          const auto rows_into = [&](std::vector<uint8_t>& blocks) {
            std::vector<EncodeRow> encoded;
            for (size_t r = 0; r < rows; ++r) {
              encoded.push_back({&book.encode,
                                 input.data() + r * (dim + 3),
                                 gains[r],
                                 {blocks.data(), dim, bits, values},
                                 first_lane + r});
            }
            return encoded;
          };
          table().encode_rows(rows_into(actual).data(), rows, actual_sums.data());
          reference::EncodeRows(rows_into(expected).data(), rows, expected_sums.data());
          ASSERT_EQ(actual, expected) << "dim " << dim << " bits " << bits << " values " << values
                                      << " candidates " << candidates;
          for (size_t r = 0; r < rows; ++r) {
            ASSERT_EQ(actual_sums[r].grid_level, expected_sums[r].grid_level) << dim << " " << bits;
            ASSERT_EQ(actual_sums[r].level_level, expected_sums[r].level_level)
                << dim << " " << bits;
          }
        }
      }
    }
  }
  // The fast paths were really among what ran.
  EXPECT_GT(symmetric_seen, 100);
  EXPECT_GT(cells_seen, 100);
  EXPECT_GT(signed_cells_seen, 50);
}

// A book of 11 codes with a threshold at either end of what signed cells can tell apart, at either
// end of cells, and in the middle of some.
struct SignedCellsBook {
  std::vector<int16_t> thresholds = std::vector<int16_t>(256, 32767);
  std::vector<int16_t> levels = std::vector<int16_t>(256);
  std::vector<int16_t> cells = std::vector<int16_t>(2 * kCells);
  std::vector<uint8_t> grid_codes = std::vector<uint8_t>(kGridCodes);
  EncodePlan plan;

  explicit SignedCellsBook(size_t dim) {
    const int16_t at[] = {-16384, -9217, -8192, -1025, -1, 0, 1024, 3071, 5000, 16383};
    std::copy(std::begin(at), std::end(at), thresholds.begin());
    const int16_t level[] = {-127, -90, -60, -41, -20, -3, 5, 24, 62, 99, 127};
    std::copy(std::begin(level), std::end(level), levels.begin());
    plan = {{dim, 0, nullptr}, 4,     1,       11,      thresholds.data(),
            levels.data(),     false, nullptr, nullptr, nullptr};
    if (MakeGridCodes(plan, grid_codes.data())) plan.grid_codes = grid_codes.data();
  }
};

TEST_P(EncodeRowsTest, SignedCellsEqualReference) {
  for (const size_t dim : {64u, 80u, 128u}) {
    SignedCellsBook book(dim);
    ASSERT_TRUE(MakeSignedCells(book.plan, book.cells.data()));
    book.plan.signed_cells = book.cells.data();
    std::vector<float> input;  // both sides of every threshold, and of the grid's ends
    for (int i = 0; i < 10; ++i) {
      for (int side = -1; side <= 1; ++side)
        input.push_back(static_cast<float>(book.thresholds[i] + side));
    }
    for (const float end : {32766.0f, 32767.0f, 32768.0f, 99999.0f}) {
      input.push_back(end);
      input.push_back(-end);
    }
    const size_t rows = 4;
    for (size_t i = 0; input.size() < rows * dim; ++i)
      input.push_back(input[i] + static_cast<float>(i % 7));
    for (const bool values : {false, true}) {
      std::vector<uint8_t> actual(ValueBlockBytes(dim, 4)), expected(actual);
      std::vector<RowSums> actual_sums(rows), expected_sums(rows);
      const auto rows_into = [&](std::vector<uint8_t>& blocks) {
        std::vector<EncodeRow> encoded;
        for (size_t r = 0; r < rows; ++r) {
          encoded.push_back(
              {&book.plan, input.data() + r * dim, 1.0f, {blocks.data(), dim, 4, values}, r});
        }
        return encoded;
      };
      table().encode_rows(rows_into(actual).data(), rows, actual_sums.data());
      reference::EncodeRows(rows_into(expected).data(), rows, expected_sums.data());
      ASSERT_EQ(actual, expected) << dim << " " << values;
      for (size_t r = 0; r < rows; ++r) {
        ASSERT_EQ(actual_sums[r].grid_level, expected_sums[r].grid_level) << dim << " row " << r;
        ASSERT_EQ(actual_sums[r].level_level, expected_sums[r].level_level) << dim << " row " << r;
      }
    }
  }
}

TEST(SignedCellsTest, AreRefusedWhereTheyCannotTell) {
  std::vector<int16_t> cells(2 * kCells);
  SignedCellsBook two_in_a_cell(64);
  two_in_a_cell.thresholds[6] = 1022;  // with 0
  EXPECT_FALSE(MakeSignedCells(two_in_a_cell.plan, cells.data()));
  SignedCellsBook beyond(64);
  beyond.thresholds[9] = 16384;
  EXPECT_FALSE(MakeSignedCells(beyond.plan, cells.data()));
  SignedCellsBook below(64);
  below.thresholds[0] = -16385;
  EXPECT_FALSE(MakeSignedCells(below.plan, cells.data()));
  SignedCellsBook wide(64);
  wide.levels[10] = 128;  // int32 sums of 256 coordinates hold int8 levels
  EXPECT_FALSE(MakeSignedCells(wide.plan, cells.data()));
  SignedCellsBook searched(64);
  searched.plan.candidates = kCandidates;
  EXPECT_FALSE(MakeSignedCells(searched.plan, cells.data()));
}

// Rows as a cache appends them, each with a rotation and a place of its own, among others that
// follow each other; of all widths in one call.
TEST_P(EncodeRowsTest, OfManyKindsEqualsReference) {
  constexpr size_t kRows = 80;
  struct Place {
    std::unique_ptr<TestBook> book;
    bool values;
    size_t next_lane;
    std::vector<uint8_t> actual, expected;
  };
  for (const size_t dim : {20u, 32u, 64u, 80u, 112u, 128u, 192u, 256u, 300u}) {
    const size_t words = MasksPerRound(dim);
    const auto masks = RandomMasks(14 * words, 12);
    std::mt19937 generator(static_cast<uint32_t>(dim));
    std::vector<Place> places;
    for (const int bits : {4, 4, 4, 3, 2, 6, 6}) {
      for (const bool values : {false, true}) {
        const int candidates = places.size() % 4 == 3 ? kCandidates : 1;
        auto book = std::make_unique<TestBook>(dim, bits, candidates, places.size() < 12, masks, 1);
        book->encode.rotation.sign_masks += places.size() * words;
        const std::vector<uint8_t> zeros(ValueBlockBytes(dim, 8) * 3 + KeyBlockBytes(dim, 8) * 12);
        places.push_back({std::move(book), values, places.size() / 2, zeros, zeros});
      }
    }
    const std::vector<float> input = Normal(kRows * dim, 4);
    std::vector<EncodeRow> actual, expected;
    size_t at = 0;
    for (size_t r = 0; r < kRows; ++r) {
      if (r < 6) {
        at = 2 * r % 6;  // neighbouring lanes of places of one kind
      } else if (r < 10) {
        at = r % 2 == 0 ? 10 : 12;  // two books of 6 bits
      } else if (generator() % 3 != 0) {
        at = generator() % places.size();
      }
      Place& place = places[at];
      const float gain = generator() % 8 == 0 ? 0.0f : 3500.0f / std::sqrt(static_cast<float>(dim));
      const EncodePlan& plan = place.book->encode;
      const size_t lane = place.next_lane;
      place.next_lane += 1 + (generator() % 4 == 0);
      const float* row = input.data() + r * dim;
      actual.push_back(
          {&plan, row, gain, {place.actual.data(), dim, plan.bits, place.values}, lane});
      expected.push_back(
          {&plan, row, gain, {place.expected.data(), dim, plan.bits, place.values}, lane});
    }
    std::vector<RowSums> actual_sums(kRows, {-1, -1}), expected_sums(kRows);
    table().encode_rows(actual.data(), kRows, actual_sums.data());
    reference::EncodeRows(expected.data(), kRows, expected_sums.data());
    for (size_t i = 0; i < places.size(); ++i) {
      ASSERT_EQ(places[i].actual, places[i].expected) << "dim " << dim << " place " << i;
    }
    for (size_t r = 0; r < kRows; ++r) {
      ASSERT_EQ(actual_sums[r].grid_level, expected_sums[r].grid_level) << dim << " row " << r;
      ASSERT_EQ(actual_sums[r].level_level, expected_sums[r].level_level) << dim << " row " << r;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, EncodeRowsTest, testing::ValuesIn(TestedTables()),
                         [](const auto& tested) { return TableName(*tested.param); });

}  // namespace
}  // namespace turboquant::kernels
