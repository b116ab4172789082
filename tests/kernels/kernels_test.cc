// Every kernel on every backend of this CPU against its definition in reference.cc: bit for bit.
#include "src/kernels/kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "src/base/half.h"
#include "src/kernels/line_layout.h"
#include "tests/kernels/kernel_rows.h"
#include "tests/kernels/kernel_tables.h"
#include "tests/kernels/test_book.h"

namespace turboquant::kernels {
namespace {

class KernelsTest : public testing::TestWithParam<const KernelTable*> {
 protected:
  const KernelTable& table() const { return *GetParam(); }
};

TEST_P(KernelsTest, NormsSquaredEqualReference) {
  for (const size_t dim : kDims) {
    for (const size_t count : {0, 1, 3, 4, 9}) {
      const size_t stride = dim + count % 2;
      std::vector<float> rows = Normal(count * stride + 1, 1);
      rows.back() = std::nanf("");  // must not be read into the sum
      std::vector<double> actual(count + 1, -7.0), expected(count + 1, -7.0);
      table().norms_squared({rows.data(), stride}, count, dim, actual.data());
      reference::NormsSquared({rows.data(), stride}, count, dim, expected.data());
      ASSERT_EQ(actual, expected) << dim << " " << count;
      if (count == 0) continue;
      rows[(count / 2) * stride + dim / 2] = INFINITY;
      table().norms_squared({rows.data(), stride}, count, dim, actual.data());
      for (size_t r = 0; r < count; ++r)
        EXPECT_EQ(std::isfinite(actual[r]), r != count / 2) << dim << " " << count;
    }
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
