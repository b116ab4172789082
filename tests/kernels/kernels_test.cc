// Every kernel on every backend of this CPU against its definition in reference.cc: bit for bit.
#include "src/kernels/kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "src/base/half.h"
#include "src/kernels/line_layout.h"
#include "tests/kernels/kernel_tables.h"

namespace turboquant::kernels {
namespace {

std::vector<float> Normal(size_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& x : values) x = normal(generator);
  return values;
}

std::vector<uint32_t> RandomMasks(size_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<uint32_t> masks(count);
  for (uint32_t& mask : masks) mask = generator() & 0x80000000u;
  return masks;
}

size_t MasksPerRound(size_t dim) {
  const size_t p = std::bit_floor(dim);
  return p == dim ? dim : dim + p;
}

// A symmetric int8 codebook of the shape the product ships, or an arbitrary one.
struct TestBook {
  std::vector<int16_t> levels = std::vector<int16_t>(256);
  std::vector<int16_t> thresholds;
  std::vector<int16_t> cells;
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
              nullptr};
    if (magnitudes) {
      cells.resize(candidates * 2 * kCells);
      if (MakeCells(encode, cells.data())) encode.cells = cells.data();
    }
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

class KernelsTest : public testing::TestWithParam<const KernelTable*> {
 protected:
  const KernelTable& table() const { return *GetParam(); }
};

TEST_P(KernelsTest, NormSquaredEqualsReference) {
  for (const size_t dim : kDims) {
    std::vector<float> row = Normal(dim + 1, 1);
    row.back() = std::nanf("");  // must not be read into the sum
    EXPECT_EQ(table().norm_squared(row.data(), dim), reference::NormSquared(row.data(), dim))
        << dim;
    row[dim / 2] = INFINITY;
    EXPECT_FALSE(std::isfinite(table().norm_squared(row.data(), dim))) << dim;
  }
}

TEST_P(KernelsTest, RotateAndInverseEqualReference) {
  for (const size_t dim : kDims) {
    for (int rounds = 0; rounds <= 3; ++rounds) {
      const auto masks = RandomMasks(rounds * MasksPerRound(dim), 7);
      const RotationPlan plan = {dim, rounds, masks.data()};
      std::vector<float> actual = Normal(dim + 1, 2);
      actual[dim] = 12345.0f;  // a guard
      std::vector<float> expected = actual;
      table().rotate(plan, actual.data());
      reference::Rotate(plan, expected.data());
      ASSERT_EQ(0, std::memcmp(actual.data(), expected.data(), actual.size() * 4))
          << dim << " " << rounds;
      table().rotate_inverse(plan, actual.data());
      reference::RotateInverse(plan, expected.data());
      ASSERT_EQ(0, std::memcmp(actual.data(), expected.data(), actual.size() * 4))
          << dim << " " << rounds;
    }
  }
}

TEST_P(KernelsTest, EncodeRowsEqualsReference) {
  int symmetric_seen = 0;
  int cells_seen = 0;
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
}

// Rows as a cache appends them, each with a rotation and a place of its own, among others that
// follow each other; of all widths in one call.
TEST_P(KernelsTest, EncodeRowsOfManyKindsEqualsReference) {
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

TEST_P(KernelsTest, DequantizeEqualsReference) {
  std::mt19937 generator(10);
  for (const size_t dim : kDims) {
    for (int bits = 1; bits <= 8; ++bits) {
      const TestBook book(dim, bits, 1, dim % 2 == 0, {}, 0);
      std::vector<uint8_t> codes(dim);
      for (uint8_t& code : codes) code = static_cast<uint8_t>(generator() & ((1u << bits) - 1));
      std::vector<float> actual(dim + 1, -7.0f), expected = actual;
      table().dequantize(book.score, codes.data(), 0.37f, actual.data());
      reference::Dequantize(book.score, codes.data(), 0.37f, expected.data());
      ASSERT_EQ(actual, expected) << dim << " " << bits;
    }
  }
}

// From the first lane, so that whole units of every width are among the moves, and from the middle
// of one; the last block of either tiling is partial.
TEST_P(KernelsTest, MultiplyDenseEqualsReference) {
  for (const size_t dim : {1u, 2u, 7u, 64u, 129u}) {
    for (const size_t rows : {1u, 3u, 4u, 6u, 65u}) {
      for (const size_t count : {0u, 1u, 2u, 7u, 9u, 65u}) {
        const bool transposed = (dim + rows + count) % 2 != 0;
        const std::vector<float> entries = Normal(rows * dim, 5);
        const DenseMatrix matrix = {entries.data(), rows, dim, transposed ? 1 : dim,
                                    transposed ? rows : 1};
        const std::vector<float> vectors = Normal(count * (dim + 2), 6);
        std::vector<double> actual(count * (rows + 1), -7.0), expected(actual);
        table().multiply_dense(matrix, {vectors.data(), dim + 2}, count, {actual.data(), rows + 1});
        reference::MultiplyDense(matrix, {vectors.data(), dim + 2}, count,
                                 {expected.data(), rows + 1});
        ASSERT_EQ(actual, expected) << dim << " " << rows << " " << count << " " << transposed;
      }
    }
  }
}

struct Digits {
  std::vector<int8_t> high, low;
  std::vector<float> factors;
  QueryDigits View(size_t dim, size_t queries, bool two) const {
    return {high.data(), two ? low.data() : nullptr, PaddedDim(dim), queries, factors.data()};
  }
};

Digits RandomDigits(size_t dim, size_t queries, bool extreme) {
  std::mt19937 generator(9);
  Digits digits;
  const size_t stride = PaddedDim(dim);
  digits.high.resize(queries * stride);
  digits.low.resize(queries * stride);
  digits.factors = Normal(queries, 4);
  for (size_t q = 0; q < queries; ++q) {
    for (size_t j = 0; j < dim; ++j) {
      digits.high[q * stride + j] =
          static_cast<int8_t>(extreme ? (q % 2 ? -63 : 63) : int(generator() % 127) - 63);
      digits.low[q * stride + j] =
          static_cast<int8_t>(extreme ? (q % 2 ? -64 : 63) : int(generator() % 128) - 64);
    }
  }
  return digits;
}

TEST_P(KernelsTest, ScoreKeysEqualsReference) {
  std::mt19937 generator(8);
  for (const size_t dim : kDims) {
    if (dim > 2100) continue;
    for (int bits = 1; bits <= 8; ++bits) {
      if (dim > 300 && bits > 4) continue;
      const TestBook book(dim, bits, 1, true, {}, 0);
      const size_t blocks = dim > 300 ? 2 : 3;
      std::vector<uint8_t> packed(blocks * KeyBlockBytes(dim, bits));
      for (uint8_t& byte : packed) byte = static_cast<uint8_t>(generator());
      std::vector<uint16_t> f16(16 * blocks);
      for (uint16_t& scale : f16)
        scale = F32ToF16(static_cast<float>(generator() % 100) * 0.37f).bits;
      std::vector<float> f32 = Normal(16 * blocks, 12);
      const size_t stride = 16 * blocks + 5;
      const ReadAhead ahead = {packed.data(), packed.size()};  // a hint, whatever it is
      for (const size_t queries : {1, 2, 3, 4, 5, 8, 11}) {
        const Digits digits = RandomDigits(dim, queries, false);
        for (const bool two : {false, true}) {
          for (const bool half : {false, true}) {
            const RowScales scales = {half ? f16.data() : nullptr, half ? nullptr : f32.data()};
            std::vector<float> actual(queries * stride, -1.0f), expected = actual;
            table().score_keys(book.score, {packed.data(), blocks, ahead}, scales,
                               digits.View(dim, queries, two), actual.data(), stride);
            reference::ScoreKeys(book.score, {packed.data(), blocks}, scales,
                                 digits.View(dim, queries, two), expected.data(), stride);
            ASSERT_EQ(actual, expected)
                << dim << " bits " << bits << " queries " << queries << " " << two;
          }
        }
      }
    }
  }
}

// Acceptance row 24b: every operand at its extreme; int32 must hold to dim 2048, int64 beyond.
TEST_P(KernelsTest, ScoreKeysDoesNotOverflowAtTheExtremes) {
  for (const size_t dim : {1536u, 2048u, 2080u, 4096u}) {
    for (const int bits : {1, 2, 3, 4, 8}) {
      std::vector<int16_t> levels(256);
      for (int i = 0; i < (1 << bits); ++i) {
        levels[i] =
            static_cast<int16_t>(bits == 8 ? i - 127 : (i < (1 << (bits - 1)) ? -127 : 127));
      }
      const ScorePlan plan = {dim, bits, bits == 8 ? 255 : 1 << bits, levels.data(), true};
      for (const bool top : {false, true}) {
        std::vector<uint8_t> codes(16 * dim, static_cast<uint8_t>(top ? plan.codes - 1 : 0));
        std::vector<uint8_t> packed(KeyBlockBytes(dim, bits), 0);
        reference::PackCodes({packed.data(), dim, bits, false}, 0, 16, codes.data());
        const Digits digits = RandomDigits(dim, 3, true);
        std::vector<float> ones(16, 1.0f), actual(3 * 16);
        Digits unit = digits;
        unit.factors.assign(3, 1.0f);
        table().score_keys(plan, {packed.data(), 1}, {nullptr, ones.data()},
                           unit.View(dim, 3, true), actual.data(), 16);
        const double level = levels[top ? plan.codes - 1 : 0];
        for (size_t q = 0; q < 3; ++q) {
          const double digit = q % 2 ? -63.0 * 128 - 64 : 8127.0;
          EXPECT_EQ(actual[q * 16], static_cast<float>(level * digit * static_cast<double>(dim)))
              << dim << " bits " << bits;
        }
      }
    }
  }
}

TEST(KernelTablesTest, Avx512KernelsAreAmongThem) {
  if (EmulatedAvx512Kernels() == nullptr) GTEST_SKIP() << "SIMDe headers were not found";
  EXPECT_EQ(EmulatedAvx512Kernels()->backend, Backend::kAvx512);
}

// Also on CPUs that have SVE, for which there are no kernels of their own.
TEST(KernelTablesTest, NeonKernelsAreThereOnEvery64BitArm) {
#ifdef __aarch64__
  EXPECT_NE(FindKernels(Backend::kNeon), nullptr);
#else
  EXPECT_EQ(FindKernels(Backend::kNeon), nullptr);
#endif
}

TEST_P(KernelsTest, SumWhereSetEqualsReference) {
  std::mt19937 generator(17);
  for (const size_t row_bytes : {1, 2, 3, 4, 7, 16, 17, 32, 65, 256}) {
    for (const size_t rows : {1, 2, 15, 16, 17, 40}) {
      std::vector<uint8_t> signs(rows * row_bytes);  // ends where it ends, for asan
      for (uint8_t& byte : signs) byte = static_cast<uint8_t>(generator());
      for (const size_t queries : {1, 3, 4, 9}) {
        const size_t stride = 16 * ((row_bytes + 1) / 2) + 3;
        std::vector<float> numbers = Normal(queries * stride, 18);
        std::vector<float> actual(queries * (rows + 2), 77.0f);
        std::vector<float> expected = actual;
        const SignRowsView view = {signs.data(), row_bytes, rows};
        table().sum_where_set(view, {numbers.data(), stride}, queries, {actual.data(), rows + 2});
        reference::SumWhereSet(view, {numbers.data(), stride}, queries,
                               {expected.data(), rows + 2});
        ASSERT_EQ(0, std::memcmp(actual.data(), expected.data(), actual.size() * sizeof(float)))
            << row_bytes << " " << rows << " " << queries;
        ASSERT_EQ(actual[rows], 77.0f);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, KernelsTest, testing::ValuesIn(TestedTables()),
                         [](const auto& tested) { return TableName(*tested.param); });

}  // namespace
}  // namespace turboquant::kernels
