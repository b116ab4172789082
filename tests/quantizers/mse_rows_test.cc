// Rows that grow at the back and shrink at the front are always what a plain list of rows would be.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "tests/support/encoded_rows.h"
#include "tests/support/expect_error.h"
#include "tests/support/random_rows.h"
#include "turboquant/mse_quantizer.h"

namespace turboquant {
namespace {

using test::Canonical;
using test::FailsWith;
using test::MakeMse;
using test::Rows;
using test::Snapshot;

constexpr Tiling kTilings[] = {Tiling::kKeys, Tiling::kValues};

std::vector<uint8_t> Blocks(const MseRows& rows) {
  return {rows.blocks().begin(), rows.blocks().end()};
}

// Scores of three fixed queries against rows in Tiling::kKeys.
std::vector<float> Scores(const MseQuantizer& quantizer, const MseRows& rows) {
  const auto queries = quantizer.Prepare(test::NormalRows(3, quantizer.options().dim, 77).view());
  std::vector<float> scores(3 * rows.size());
  EXPECT_TRUE(quantizer.Score(*queries, rows, {scores.data(), 3, rows.size()}));
  return scores;
}

// Random codes of `count` rows, packed bit by bit, row by row.
std::vector<uint8_t> RandomCodes(size_t count, size_t dim, const Codebook& codebook,
                                 std::vector<std::vector<uint8_t>>& codes) {
  std::mt19937_64 random(dim * 10 + codebook.size());
  std::vector<uint8_t> packed;
  codes.assign(count, std::vector<uint8_t>(dim));
  for (auto& row : codes) {
    for (uint8_t& code : row) code = static_cast<uint8_t>(random() % codebook.size());
    const std::vector<uint8_t> bytes = test::PackBitByBit(row, codebook.bits());
    packed.insert(packed.end(), bytes.begin(), bytes.end());
  }
  return packed;
}

class MseRowsTest : public testing::TestWithParam<int> {};

TEST_P(MseRowsTest, CanonicalRowsRoundTripAtEveryDim) {
  const int bits = GetParam();
  constexpr size_t kRows = 67;
  std::vector<size_t> dims = {192, 255, 256, 257};
  for (size_t dim = 2; dim <= 130; ++dim) dims.push_back(dim);
  for (const size_t dim : dims) {
    for (const Tiling tiling : kTilings) {
      const MseQuantizer quantizer = MakeMse({.dim = dim, .bits = bits, .rotation_rounds = 1});
      std::vector<std::vector<uint8_t>> codes;
      const std::vector<uint8_t> packed = RandomCodes(kRows, dim, quantizer.codebook(), codes);
      std::vector<float> scales(kRows);
      for (size_t r = 0; r < kRows; ++r) scales[r] = 0.25f * static_cast<float>(r);
      const auto rows = quantizer.ImportCanonical(packed, scales, tiling);
      ASSERT_TRUE(rows) << rows.error().message;
      EXPECT_EQ(rows->size(), kRows);
      EXPECT_EQ(rows->tiling(), tiling);
      ASSERT_EQ(Canonical(*rows), packed) << "dim " << dim;
      ASSERT_EQ(test::Scales(*rows), scales);
      for (const size_t r : {0, 15, 16, 63, 64, 66}) {
        std::vector<uint8_t> row(dim);
        ASSERT_TRUE(rows->Codes(r, row));
        ASSERT_EQ(row, codes[r]) << "dim " << dim << " row " << r;
      }
    }
  }
}

TEST_P(MseRowsTest, EncodedRowsRoundTripAndDecodeTheSame) {
  const int bits = GetParam();
  for (const size_t dim : {2, 3, 5, 16, 33, 64, 80, 96, 112, 128, 130}) {
    for (const ScaleType scale_type : {ScaleType::kF16, ScaleType::kF32}) {
      const MseQuantizer quantizer = MakeMse({.dim = dim, .bits = bits, .scale_type = scale_type});
      const Rows rows = test::NormalRows(70, dim, 1);
      Rows expected(70, dim);
      Rows actual(70, dim);
      for (const Tiling from : kTilings) {
        const auto encoded = quantizer.Encode(rows.view(), from);
        ASSERT_TRUE(encoded && quantizer.Decode(*encoded, expected.view()));
        for (const Tiling to : kTilings) {
          const auto imported =
              quantizer.ImportCanonical(Canonical(*encoded), test::Scales(*encoded), to);
          ASSERT_TRUE(imported && quantizer.Decode(*imported, actual.view()));
          EXPECT_EQ(Snapshot(*imported), Snapshot(*encoded));
          EXPECT_EQ(actual.values, expected.values);
          if (from == to) {
            EXPECT_EQ(Blocks(*imported), Blocks(*encoded));
          }
        }
      }
    }
  }
}

// After RemoveFront(n) the rows are those an encoder would give that never saw the first n.
TEST_P(MseRowsTest, RemoveFrontOfEveryCount) {
  constexpr size_t kDim = 37;
  constexpr size_t kRows = 150;
  const MseQuantizer quantizer = MakeMse({.dim = kDim, .bits = GetParam()});
  const Rows rows = test::NormalRows(kRows, kDim, 1);
  const Rows more = test::NormalRows(30, kDim, 2);
  for (const Tiling tiling : kTilings) {
    const auto all = quantizer.Encode(rows.view(), tiling);
    ASSERT_TRUE(all);
    for (size_t n = 0; n <= kRows; ++n) {
      MseRows shortened = *all;
      ASSERT_TRUE(shortened.RemoveFront(n));
      const MatrixView<const float> rest = rows.view().Slice(n, kRows - n);
      auto fresh = quantizer.Encode(rest, tiling);
      ASSERT_TRUE(fresh);
      ASSERT_EQ(Snapshot(shortened), Snapshot(*fresh)) << n;
      ASSERT_TRUE(quantizer.Append(more.view(), shortened));
      ASSERT_TRUE(quantizer.Append(more.view(), *fresh));
      ASSERT_EQ(Snapshot(shortened), Snapshot(*fresh)) << n;
      if (tiling == Tiling::kKeys) {
        ASSERT_EQ(Scores(quantizer, shortened), Scores(quantizer, *fresh)) << n;
      }
      // Memory follows: at most the lanes of one block are held in front.
      ASSERT_LT(shortened.front(), tiling == Tiling::kKeys ? 16u : 64u);
      ASSERT_LE(shortened.blocks().size(), fresh->blocks().size() * 2 + 64 * kDim) << n;
    }
  }
}

TEST_P(MseRowsTest, TruncateIsAsIfTheRowsHadNeverBeen) {
  constexpr size_t kDim = 37;
  constexpr size_t kRows = 150;
  const Rows rows = test::NormalRows(kRows, kDim, 1);
  const Rows more = test::NormalRows(90, kDim, 2);
  for (const ScaleType scale_type : {ScaleType::kF16, ScaleType::kF32}) {
    const MseQuantizer quantizer =
        MakeMse({.dim = kDim, .bits = GetParam(), .scale_type = scale_type});
    for (const Tiling tiling : kTilings) {
      const auto all = quantizer.Encode(rows.view(), tiling);
      ASSERT_TRUE(all);
      for (size_t n = 0; n <= kRows; ++n) {
        MseRows shortened = *all;
        ASSERT_TRUE(shortened.Truncate(n));
        auto fresh = quantizer.Encode(rows.view().Slice(0, n), tiling);
        ASSERT_TRUE(fresh);
        ASSERT_EQ(Blocks(shortened), Blocks(*fresh)) << n;
        ASSERT_TRUE(std::ranges::equal(shortened.scales_f16(), fresh->scales_f16())) << n;
        ASSERT_TRUE(std::ranges::equal(shortened.scales_f32(), fresh->scales_f32())) << n;
        ASSERT_TRUE(quantizer.Append(more.view(), shortened));
        ASSERT_TRUE(quantizer.Append(more.view(), *fresh));
        ASSERT_EQ(Blocks(shortened), Blocks(*fresh)) << n;
        ASSERT_EQ(Snapshot(shortened), Snapshot(*fresh)) << n;
      }
    }
  }
}

TEST_P(MseRowsTest, AppendOfRowsIsConcatenation) {
  constexpr size_t kDim = 50;
  const MseQuantizer quantizer = MakeMse({.dim = kDim, .bits = GetParam()});
  const Rows rows = test::NormalRows(200, kDim, 1);
  for (const Tiling from : kTilings) {
    for (const Tiling to : kTilings) {
      for (const size_t split : {0, 1, 16, 63, 64, 65, 137, 200}) {
        auto front = quantizer.Encode(rows.view().Slice(0, split), to);
        auto back = quantizer.Encode(rows.view(), from);
        ASSERT_TRUE(front && back && back->RemoveFront(split));
        ASSERT_TRUE(front->Append(*back));
        EXPECT_EQ(Blocks(*front), Blocks(*quantizer.Encode(rows.view(), to))) << split;
        EXPECT_EQ(Snapshot(*front), Snapshot(*quantizer.Encode(rows.view(), to))) << split;
      }
    }
  }
  for (const Tiling tiling : kTilings) {
    for (const size_t removed : {0, 5, 70}) {
      auto twice = quantizer.Encode(rows.view(), tiling);
      ASSERT_TRUE(twice && twice->RemoveFront(removed));
      auto expected = *twice;
      ASSERT_TRUE(twice->Append(*twice));
      ASSERT_TRUE(quantizer.Append(rows.view().Slice(removed, 200 - removed), expected));
      EXPECT_EQ(Snapshot(*twice), Snapshot(expected)) << removed;
    }
  }
}

// Any sequence of operations, held against a list of canonical rows.
TEST_P(MseRowsTest, RandomOperationsEqualAPlainList) {
  constexpr size_t kDim = 21;
  const int bits = GetParam();
  const ScaleType scale_type = bits % 2 ? ScaleType::kF16 : ScaleType::kF32;
  const MseQuantizer quantizer = MakeMse({.dim = kDim, .bits = bits, .scale_type = scale_type});
  const Rows pool = test::NormalRows(300, kDim, 1);
  Rows bad = test::NormalRows(90, kDim, 2);
  bad[80][7] = std::numeric_limits<float>::quiet_NaN();
  const Snapshot encoded_pool(*quantizer.Encode(pool.view()));
  const auto pool_scores = Scores(quantizer, *quantizer.Encode(pool.view()));
  for (const Tiling tiling : kTilings) {
    std::mt19937_64 random(static_cast<uint64_t>(bits));
    const auto below = [&](size_t end) { return static_cast<size_t>(random() % end); };
    MseRows rows = quantizer.MakeRows(tiling);
    std::vector<size_t> list;  // of rows of the pool
    for (int step = 0; step < 600; ++step) {
      const size_t first = below(300);
      const size_t count = below(std::min<size_t>(300 - first, 80) + 1);
      const auto batch = pool.view().Slice(first, count);
      switch (below(list.size() > 500 ? 4 : 7)) {
        case 0:
        case 1: {
          const size_t n = below(list.size() + 1);
          ASSERT_TRUE(rows.RemoveFront(n));
          list.erase(list.begin(), list.begin() + static_cast<ptrdiff_t>(n));
          break;
        }
        case 2:
          list.resize(below(list.size() + 1));
          ASSERT_TRUE(rows.Truncate(list.size()));
          break;
        case 3:
          ASSERT_FALSE(quantizer.Append(bad.view(), rows));
          ASSERT_FALSE(rows.RemoveFront(list.size() + 1));
          ASSERT_FALSE(rows.Truncate(list.size() + 1));
          break;
        case 4:
          for (size_t r = 0, end = list.size(); r < end; ++r) list.push_back(list[r]);
          ASSERT_TRUE(rows.Append(rows));
          break;
        case 5:
          ASSERT_TRUE(rows.Append(*quantizer.Encode(batch, kTilings[below(2)])));
          for (size_t r = 0; r < count; ++r) list.push_back(first + r);
          break;
        default:
          ASSERT_TRUE(quantizer.Append(batch, rows));
          for (size_t r = 0; r < count; ++r) list.push_back(first + r);
      }
      ASSERT_EQ(rows.size(), list.size());
      const Snapshot actual(rows);
      const size_t row_bytes = rows.CanonicalRowBytes();
      for (size_t r = 0; r < list.size(); ++r) {
        ASSERT_EQ(actual.scale_bits[r], encoded_pool.scale_bits[list[r]]) << step;
        ASSERT_TRUE(
            std::equal(actual.packed.begin() + static_cast<ptrdiff_t>(r * row_bytes),
                       actual.packed.begin() + static_cast<ptrdiff_t>((r + 1) * row_bytes),
                       encoded_pool.packed.begin() + static_cast<ptrdiff_t>(list[r] * row_bytes)))
            << step;
      }
      if (tiling != Tiling::kKeys || step % 4 != 0) continue;
      const auto scores = Scores(quantizer, rows);
      for (size_t q = 0; q < 3; ++q) {
        for (size_t r = 0; r < list.size(); ++r) {
          ASSERT_EQ(scores[q * list.size() + r], pool_scores[q * 300 + list[r]]) << step;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Bits, MseRowsTest, testing::Range(1, 9));

TEST(MseRowsErrorTest, CodesAndScalesPastTheEnd) {
  const MseQuantizer quantizer = MakeMse({.dim = 16});
  auto rows = quantizer.Encode(test::NormalRows(5, 16, 1).view());
  ASSERT_TRUE(rows && rows->RemoveFront(2));
  std::vector<uint8_t> codes(16);
  EXPECT_TRUE(rows->Codes(2, codes));
  EXPECT_TRUE(FailsWith(rows->Codes(3, codes), ErrorCode::kInvalidArgument,
                        "row 3 was asked for, there are 3"));
  for (const size_t room : {0, 15, 17}) {
    codes.assign(room, 0);
    EXPECT_TRUE(FailsWith(rows->Codes(0, codes), ErrorCode::kDimensionMismatch,
                          "codes have room for " + std::to_string(room) + ", a row has 16"));
  }
  EXPECT_FALSE(std::isnan(rows->ScaleOf(2)));
  EXPECT_TRUE(std::isnan(rows->ScaleOf(3)));
}

TEST(MseRowsErrorTest, RowsOfAnotherQuantizerOrScaleTypeAreNotAppended) {
  const Rows rows = test::NormalRows(5, 16, 1);
  auto into = MakeMse({.dim = 16}).Encode(rows.view());
  ASSERT_TRUE(into);
  const Snapshot before(*into);
  const MseOptions others[] = {{.dim = 16, .seed = 1},
                               {.dim = 16, .bits = 3},
                               {.dim = 16, .rotation_rounds = 1},
                               {.dim = 16, .stream = {.side = 1}}};
  for (const MseOptions& options : others) {
    EXPECT_TRUE(FailsWith(into->Append(*MakeMse(options).Encode(rows.view())),
                          ErrorCode::kInvalidArgument, "another quantizer"));
  }
  const auto wide = MakeMse({.dim = 16, .scale_type = ScaleType::kF32}).Encode(rows.view());
  EXPECT_TRUE(
      FailsWith(into->Append(*wide), ErrorCode::kInvalidArgument, "scales of another type"));
  EXPECT_EQ(Snapshot(*into), before);
}

TEST(MseRowsErrorTest, MoreRowsThanThereAreCannotBeRemovedOrKept) {
  auto rows = MakeMse({.dim = 16}).Encode(test::NormalRows(5, 16, 1).view());
  ASSERT_TRUE(rows);
  EXPECT_TRUE(FailsWith(rows->RemoveFront(6), ErrorCode::kInvalidArgument, "remove 6 rows from 5"));
  EXPECT_TRUE(FailsWith(rows->Truncate(6), ErrorCode::kInvalidArgument, "keep 6 rows of 5"));
  EXPECT_TRUE(FailsWith(rows->Truncate(SIZE_MAX), ErrorCode::kInvalidArgument, "rows of 5"));
  EXPECT_EQ(rows->size(), 5u);
  std::vector<uint8_t> packed(5 * rows->CanonicalRowBytes() - 1);
  EXPECT_TRUE(FailsWith(rows->ExportCanonical(packed), ErrorCode::kDimensionMismatch,
                        "packed has 39 bytes, 5 rows need 40"));
}

TEST(MseRowsErrorTest, CorruptCanonicalRowsAreNamed) {
  constexpr size_t kDim = 5;
  const MseQuantizer quantizer = MakeMse({.dim = kDim, .bits = 3});
  const auto encoded = quantizer.Encode(test::NormalRows(40, kDim, 1).view());
  ASSERT_TRUE(encoded);
  const std::vector<uint8_t> packed = Canonical(*encoded);
  const std::vector<float> scales = test::Scales(*encoded);
  ASSERT_TRUE(quantizer.ImportCanonical(packed, scales));
  for (const Tiling tiling : kTilings) {
    const auto import_with_scale = [&](float scale) {
      std::vector<float> changed = scales;
      changed[33] = scale;
      return quantizer.ImportCanonical(packed, changed, tiling);
    };
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    const float bad_scales[] = {std::numeric_limits<float>::quiet_NaN(),
                                kInfinity,
                                -kInfinity,
                                -1.0f,
                                -0x1p-24f,
                                -0.0f,
                                0.1f,  // lies between two halves
                                65520.0f,
                                0x1p-25f,
                                1e30f};
    for (const float scale : bad_scales) {
      EXPECT_TRUE(FailsWith(import_with_scale(scale), ErrorCode::kCorruptData, "scales[33] is"))
          << scale;
    }
    for (const float scale : {0.0f, 0x1p-24f, 65504.0f}) EXPECT_TRUE(import_with_scale(scale));
    for (const int padding : {0x80, 0xFF}) {  // 15 bits are codes, the 16th is padding
      std::vector<uint8_t> changed = packed;
      changed[43] = static_cast<uint8_t>(changed[43] | padding);
      EXPECT_TRUE(FailsWith(quantizer.ImportCanonical(changed, scales, tiling),
                            ErrorCode::kCorruptData, "codes[21] has padding bits"));
    }
  }
  std::vector<uint8_t> short_of_a_byte(packed.begin(), packed.end() - 1);
  EXPECT_TRUE(FailsWith(quantizer.ImportCanonical(short_of_a_byte, scales),
                        ErrorCode::kDimensionMismatch, "packed has 79 bytes, 40 rows of 2 bytes"));
  EXPECT_TRUE(FailsWith(quantizer.ImportCanonical(packed, std::vector<float>(39)),
                        ErrorCode::kDimensionMismatch, "39 rows of 2 bytes"));
  EXPECT_TRUE(FailsWith(quantizer.ImportCanonical({}, scales), ErrorCode::kDimensionMismatch,
                        "packed has 0 bytes"));
}

TEST(MseRowsErrorTest, F32ScalesTakeAnyFiniteNumber) {
  const MseQuantizer quantizer = MakeMse({.dim = 5, .scale_type = ScaleType::kF32});
  const std::vector<uint8_t> packed(3 * 3);
  const std::vector<float> scales = {0.1f, 1e30f, 0x1p-149f};
  const auto rows = quantizer.ImportCanonical(packed, scales);
  ASSERT_TRUE(rows);
  EXPECT_EQ(test::Scales(*rows), scales);
  EXPECT_TRUE(FailsWith(quantizer.ImportCanonical(packed, std::vector<float>{1.0f, -1.0f, 1.0f}),
                        ErrorCode::kCorruptData, "scales[1] is -1"));
}

TEST(MseRowsErrorTest, Code255OfTheUniformCodebookIsRefused) {
  const MseQuantizer quantizer = MakeMse({.dim = 6, .bits = 8, .codebook = CodebookKind::kUniform});
  std::vector<uint8_t> packed(4 * 6, 254);
  const std::vector<float> scales(4, 1.0f);
  EXPECT_TRUE(quantizer.ImportCanonical(packed, scales));
  packed[2 * 6 + 5] = 255;
  EXPECT_TRUE(FailsWith(quantizer.ImportCanonical(packed, scales), ErrorCode::kCorruptData,
                        "codes[2] has code 255 at column 5, the codebook has 255"));
  EXPECT_TRUE(MakeMse({.dim = 6, .bits = 8}).ImportCanonical(packed, scales));
}

TEST(MseRowsErrorTest, HeldBytesCoverBlocksAndScales) {
  const MseQuantizer quantizer = MakeMse({.dim = 64, .bits = 4});
  for (const Tiling tiling : kTilings) {
    const size_t block = tiling == Tiling::kKeys ? 16 : 64;
    for (const size_t count : {1, 16, 17, 64, 65, 200}) {
      const auto rows = quantizer.Encode(test::NormalRows(count, 64, 1).view(), tiling);
      ASSERT_TRUE(rows);
      const size_t lanes = (count + block - 1) / block * block;
      EXPECT_EQ(rows->blocks().size(), lanes * 32);
      EXPECT_EQ(rows->HeldBytes(), lanes * (32 + 2)) << "one batch allocates what it needs";
    }
  }
}

}  // namespace
}  // namespace turboquant
