// What is AMX's own: why it cannot be used, when tiles are, and that nothing is left of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "src/base/half.h"
#include "src/kernels/amx_support.h"
#include "src/kernels/kernels.h"
#include "src/kernels/line_layout.h"
#include "tests/kernels/kernel_tables.h"
#include "tests/kernels/tile_unit.h"
#include "turboquant/backend.h"

namespace turboquant::kernels {
namespace {

constexpr AmxFacts kAllThere = {.x86_64 = true,
                                .avx512 = true,
                                .amx_tile = true,
                                .amx_int8 = true,
                                .xcr0 = 0x602e7,
                                .is_linux = true,
                                .permission_error = 0};

TEST(AmxSupportTest, NothingIsInTheWayWhereAllFactsHold) { EXPECT_EQ(AmxObstacle(kAllThere), ""); }

TEST(AmxSupportTest, EveryFactThatFailsIsNamed) {
  struct Row {
    std::string reason;
    void (*change)(AmxFacts&);
  };
  const std::vector<Row> rows = {
      {"this build is not for x86-64", [](AmxFacts& f) { f.x86_64 = false; }},
      {"lacks AVX-512 with VNNI and VBMI", [](AmxFacts& f) { f.avx512 = false; }},
      {"lacks amx-tile (CPUID leaf 7, EDX bit 24)", [](AmxFacts& f) { f.amx_tile = false; }},
      {"lacks amx-int8 (CPUID leaf 7, EDX bit 25)", [](AmxFacts& f) { f.amx_int8 = false; }},
      {"XCR0 is 0x2e7, bits 17 and 18 (0x60000)", [](AmxFacts& f) { f.xcr0 = 0x2e7; }},
      {"XCR0 is 0x202e7,", [](AmxFacts& f) { f.xcr0 = 0x202e7; }},  // its shapes, not its data
      {"asked of Linux only", [](AmxFacts& f) { f.is_linux = false; }},
      {"failed with errno 22, Invalid argument", [](AmxFacts& f) { f.permission_error = 22; }},
  };
  for (const Row& row : rows) {
    AmxFacts facts = kAllThere;
    row.change(facts);
    EXPECT_NE(AmxObstacle(facts).find(row.reason), std::string::npos) << AmxObstacle(facts);
  }
}

TEST(AmxSupportTest, KernelsAreThereExactlyIfNothingIsInTheWay) {
  EXPECT_EQ(AmxObstacle(), AmxObstacle(ThisAmxFacts(Avx512Kernels() != nullptr)));
  EXPECT_EQ(AmxKernels() == nullptr, !AmxObstacle().empty());
  EXPECT_EQ(FindKernels(Backend::kAmx), AmxKernels());
  if (AmxKernels() != nullptr) return;
  const Result<Backend> asked = ResolveBackend(Backend::kAmx);
  ASSERT_FALSE(asked.has_value());
  EXPECT_EQ(asked.error().code, ErrorCode::kUnavailable);
  EXPECT_NE(asked.error().message.find(AmxObstacle()), std::string::npos);
}

TEST(AmxSupportTest, EmulatedKernelsAreAmongTheTested) {
  if (EmulatedAmxKernels() == nullptr) GTEST_SKIP() << "SIMDe headers were not found";
  EXPECT_EQ(EmulatedAmxKernels()->backend, Backend::kAmx);
}

// With AVX-512, the library's own code is among them too.
TEST(AmxSupportTest, CompiledKernelsAreTestedWhereAvx512Is) {
  EXPECT_EQ(AmxKernels() != nullptr || TrappedAmxKernels() != nullptr, Avx512Kernels() != nullptr);
}

// Of an int8 codebook, with random codes in `blocks` blocks and random digits.
struct Problem {
  std::vector<int16_t> levels = std::vector<int16_t>(256);
  std::vector<uint8_t> packed;
  std::vector<float> scales;
  std::vector<int8_t> high, low;
  std::vector<float> factors;
  ScorePlan plan;
  size_t blocks;
  size_t queries;

  Problem(size_t dim, int bits, size_t block_count, size_t query_count)
      : blocks(block_count), queries(query_count) {
    std::mt19937 generator(static_cast<unsigned>(dim) + 7);
    const int codes = bits == 8 ? 255 : 1 << bits;
    for (int i = 0; i < codes; ++i)
      levels[i] =
          static_cast<int16_t>(bits == 8 ? i - 127 : (2 * i - codes + 1) * 127 / (codes - 1));
    plan = {dim, bits, codes, levels.data(), true};
    packed.assign(blocks * KeyBlockBytes(dim, static_cast<size_t>(bits)), 0);
    std::vector<uint8_t> row(dim);
    for (size_t r = 0; r < kKeyBlockRows * blocks; ++r) {
      for (uint8_t& code : row)
        code = static_cast<uint8_t>(generator() % static_cast<unsigned>(codes));
      reference::PackCodes({packed.data(), dim, bits, false}, r, 1, row.data());
    }
    const auto number = [&](int least, int most) {
      return least + static_cast<int>(generator() % static_cast<unsigned>(most - least + 1));
    };
    for (size_t r = 0; r < kKeyBlockRows * blocks; ++r)
      scales.push_back(static_cast<float>(number(1, 1000)) * 0.37f);
    high.assign(queries * PaddedDim(dim), 0);
    low = high;
    for (size_t q = 0; q < queries; ++q) {
      for (size_t j = 0; j < dim; ++j) {
        high[q * PaddedDim(dim) + j] = static_cast<int8_t>(number(-63, 63));
        low[q * PaddedDim(dim) + j] = static_cast<int8_t>(number(-64, 63));
      }
      factors.push_back(static_cast<float>(number(1, 1000)) * 1e-4f);
    }
  }

  std::vector<float> Scores(const KernelTable& table, bool two, ReadAhead ahead = {}) const {
    const size_t rows = kKeyBlockRows * blocks;
    std::vector<float> scores(queries * rows, -1.0f);
    table.score_keys(
        plan, {packed.data(), blocks, ahead}, {nullptr, scales.data()},
        {high.data(), two ? low.data() : nullptr, PaddedDim(plan.dim), queries, factors.data()},
        scores.data(), rows);
    return scores;
  }
};

class AmxKernelsTest : public testing::TestWithParam<const KernelTable*> {
 protected:
  // Whether TileUnit does the table's products.
  bool counted() const { return GetParam() != AmxKernels(); }
  // Tile products of the scores.
  size_t Products(const Problem& problem, bool two) const {
    const size_t before = TileUnit::OfThisThread().products();
    problem.Scores(*GetParam(), two);
    return TileUnit::OfThisThread().products() - before;
  }
};

// Odd and even numbers of blocks, more than a panel holds; groups of queries that are full and not;
// chunks of one pass and of several, whole and partial.
TEST_P(AmxKernelsTest, ScoresOfManyBlocksAndQueriesEqualReference) {
  for (const size_t dim : {4u, 36u, 64u, 68u, 80u, 112u, 128u, 192u, 256u, 260u, 600u, 1024u}) {
    for (const int bits : {1, 2, 3, 4, 8}) {
      for (const size_t blocks : {1u, 2u, 3u, 35u}) {
        for (const size_t queries : {4u, 9u, 16u, 17u, 41u}) {
          if (dim * blocks * queries > 80'000) continue;  // the reference takes its time
          const Problem problem(dim, bits, blocks, queries);
          const ReadAhead ahead = {problem.packed.data(), problem.packed.size() / 2};
          for (const bool two : {true, false}) {
            ASSERT_EQ(problem.Scores(*GetParam(), two, ahead),
                      problem.Scores(reference::kTable, two))
                << "dim " << dim << " bits " << bits << " blocks " << blocks << " queries "
                << queries << " two digits " << two;
          }
        }
      }
    }
  }
}

// Four queries of two digits, or of one at 8 bits; a tile full of them of one digit otherwise.
TEST_P(AmxKernelsTest, TilesAreUsedWhereTheyPayAndReleased) {
  for (const size_t queries : {1u, 2u, 3u, 4u, 8u, 9u, 15u, 16u, 17u}) {
    for (const bool two : {true, false}) {
      for (const int bits : {4, 8}) {
        const Problem problem(128, bits, 6, queries);
        const size_t rows = queries * (two ? 2 : 1);
        const size_t groups = queries < (two || bits == 8 ? 4 : 16) ? 0 : (rows + 15) / 16;
        if (counted()) {
          EXPECT_EQ(Products(problem, two), groups * 6 * 2) << queries << " " << two << " " << bits;
        }
        EXPECT_FALSE(TileUnit::OfThisThread().in_use());
      }
    }
  }
}

TEST_P(AmxKernelsTest, LongRowsAndWideLevelsAreLeftToAvx512) {
  if (!counted()) return;
  EXPECT_EQ(Products(Problem(1024, 4, 2, 8), true), 2 * 16u);
  EXPECT_EQ(Products(Problem(1028, 4, 2, 8), true), 0u);
  Problem wide(128, 4, 2, 8);
  wide.plan.int8_levels = false;
  EXPECT_EQ(Products(wide, true), 0u);
}

TEST_P(AmxKernelsTest, TheRestOfTheTableIsThatOfAvx512) {
  const bool emulated = GetParam() == EmulatedAmxKernels();
  const KernelTable& avx512 = emulated ? *EmulatedAvx512Kernels() : *Avx512Kernels();
  EXPECT_EQ(GetParam()->backend, Backend::kAmx);
  EXPECT_EQ(GetParam()->encode_rows, avx512.encode_rows);
  EXPECT_EQ(GetParam()->rotate, avx512.rotate);
  EXPECT_EQ(GetParam()->attention->softmax, avx512.attention->softmax);
  EXPECT_NE(GetParam()->score_keys, avx512.score_keys);
  EXPECT_NE(GetParam()->attention->accumulate_values, avx512.attention->accumulate_values);
}

INSTANTIATE_TEST_SUITE_P(Backends, AmxKernelsTest, testing::ValuesIn(TestedAmxTables()),
                         [](const auto& tested) { return TableName(*tested.param); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(AmxKernelsTest);

}  // namespace
}  // namespace turboquant::kernels
