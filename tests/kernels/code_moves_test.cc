// Codes on their way between lanes, rows of bytes and canonical streams.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "src/kernels/kernels.h"
#include "src/kernels/line_layout.h"
#include "tests/kernels/kernel_tables.h"

namespace turboquant::kernels {
namespace {

class CodeMovesTest : public testing::TestWithParam<const KernelTable*> {};

// From the first lane, so that whole units of every width are among the moves, and from the middle
// of one; the last block of either tiling is partial.
TEST_P(CodeMovesTest, MovesOfCodesEqualReferenceAndRoundTrip) {
  std::mt19937 generator(5);
  for (const size_t dim : kDims) {
    if (dim > 600) continue;
    for (int bits = 1; bits <= 8; ++bits) {
      const size_t rows = 70;
      std::vector<uint8_t> codes(rows * dim);
      for (uint8_t& code : codes) code = static_cast<uint8_t>(generator() & ((1u << bits) - 1));
      for (const size_t first_lane : {0u, 5u, 8u, 32u}) {
        for (const bool values : {false, true}) {
          const size_t bytes =
              values ? 2 * ValueBlockBytes(dim, bits) : 7 * KeyBlockBytes(dim, bits);
          // A guard behind the blocks and behind the codes, of which neither is a multiple of 64.
          std::vector<uint8_t> actual(bytes + 1, 0), expected(bytes + 1, 0);
          std::vector<uint8_t> back(codes.size() + 1, 0xEE);
          actual.back() = expected.back() = 0xEE;
          GetParam()->pack_codes({actual.data(), dim, bits, values}, first_lane, rows,
                                 codes.data());
          reference::PackCodes({expected.data(), dim, bits, values}, first_lane, rows,
                               codes.data());
          ASSERT_EQ(actual, expected) << dim << " " << bits << " " << values << " " << first_lane;
          GetParam()->unpack_codes({actual.data(), dim, bits, values}, first_lane, rows,
                                   back.data());
          ASSERT_EQ(back.back(), 0xEE);
          back.pop_back();
          ASSERT_EQ(back, codes) << dim << " " << bits << " " << values << " " << first_lane;
        }
      }
    }
  }
}

TEST_P(CodeMovesTest, StreamsEqualReferenceAndRoundTripAtEveryLength) {
  std::mt19937 generator(6);
  for (int bits = 1; bits <= 8; ++bits) {
    for (size_t dim = 0; dim <= 300; ++dim) {
      const size_t rows = 1 + dim % 3;
      std::vector<uint8_t> codes(rows * dim);
      for (uint8_t& code : codes) code = static_cast<uint8_t>(generator() & ((1u << bits) - 1));
      const size_t bytes = rows * CeilDivide(dim * bits, 8);
      std::vector<uint8_t> actual(bytes + 1, 0xAA), expected(bytes + 1, 0xAA),
          back(rows * dim + 1, 0xEE);
      GetParam()->pack_stream(codes.data(), bits, rows, dim, actual.data());
      reference::PackStream(codes.data(), bits, rows, dim, expected.data());
      ASSERT_EQ(actual, expected) << bits << " " << dim;
      GetParam()->unpack_stream(actual.data(), bits, rows, dim, back.data());
      ASSERT_EQ(back.back(), 0xEE);
      back.pop_back();
      ASSERT_EQ(back, codes) << bits << " " << dim;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, CodeMovesTest, testing::ValuesIn(TestedTables()),
                         [](const auto& tested) { return TableName(*tested.param); });

}  // namespace
}  // namespace turboquant::kernels
