#include "turboquant/rotation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "src/base/random.h"
#include "src/kernels/kernels.h"
#include "tests/support/random_rows.h"

namespace turboquant {
namespace {

using test::Rows;

// H_p / sqrt(p) by its definition, in double: entry (i, j) is negative where i & j has odd parity.
std::vector<double> Hadamard(std::span<const double> x) {
  std::vector<double> y(x.size(), 0.0);
  for (size_t i = 0; i < x.size(); ++i) {
    for (size_t j = 0; j < x.size(); ++j) y[i] += std::popcount(i & j) % 2 ? -x[j] : x[j];
    y[i] /= std::sqrt(static_cast<double>(x.size()));
  }
  return y;
}

// The transform as docs/format.md words it, from the sign stream itself.
std::vector<double> DefinedTransform(const RotationOptions& options, std::vector<double> x) {
  const size_t d = options.dim;
  const size_t p = std::bit_floor(d);
  for (int round = 0; round < options.rounds; ++round) {
    RandomBits bits(options.seed, {options.stream.layer, options.stream.head, options.stream.side,
                                   options.stage, static_cast<uint32_t>(round)});
    for (double& coordinate : x) coordinate = bits.NextBit() ? -coordinate : coordinate;
    std::ranges::copy(Hadamard(std::span(x).first(p)), x.begin());
    if (p == d) continue;
    for (size_t j = d - p; j < d; ++j) x[j] = bits.NextBit() ? -x[j] : x[j];
    std::ranges::copy(Hadamard(std::span(x).last(p)), x.end() - static_cast<ptrdiff_t>(p));
    std::vector<double> riffled;
    for (size_t j = 0; j < d; j += 2) riffled.push_back(x[j]);
    for (size_t j = 1; j < d; j += 2) riffled.push_back(x[j]);
    x = riffled;
  }
  return x;
}

std::vector<float> Rotated(const Rotation& rotation, std::span<const float> row) {
  std::vector<float> out(row.size());
  EXPECT_TRUE(rotation.Apply({row.data(), 1, row.size()}, {out.data(), 1, out.size()}));
  return out;
}

TEST(RotationTest, HadamardIsTheDocumentedTransform) {
  for (const size_t dim :
       {2, 3, 4, 5, 6, 7, 8, 15, 16, 17, 31, 48, 64, 65, 80, 96, 112, 127, 128}) {
    for (int rounds = 1; rounds <= 3; ++rounds) {
      const RotationOptions options = {.dim = dim,
                                       .rounds = rounds,
                                       .seed = 7,
                                       .stream = {.layer = 3, .head = 5, .side = 1},
                                       .stage = 2};
      const auto rotation = Rotation::Create(options);
      ASSERT_TRUE(rotation);
      const Rows row = test::NormalRows(1, dim, dim);
      const std::vector<double> expected =
          DefinedTransform(options, std::vector<double>(row[0].begin(), row[0].end()));
      const std::vector<float> actual = Rotated(*rotation, row[0]);
      for (size_t j = 0; j < dim; ++j) {
        EXPECT_NEAR(actual[j], expected[j], 2e-6 * test::Norm(row[0]))
            << "dim " << dim << " rounds " << rounds << " coordinate " << j;
      }
    }
  }
}

TEST(RotationTest, PowerOfTwoDimsMultiplyOnceAtTheEnd) {
  for (const size_t dim : {4, 8, 64, 128}) {
    for (int rounds = 1; rounds <= 3; ++rounds) {
      const auto rotation = Rotation::Create({.dim = dim, .rounds = rounds});
      ASSERT_TRUE(rotation);
      const Rows row = test::NormalRows(1, dim, 3);
      std::vector<float> expected(row.values);
      kernels::reference::Rotate({dim, rounds, rotation->sign_masks().data()}, expected.data());
      const float factor = static_cast<float>(
          std::pow(static_cast<double>(dim), -0.5 * static_cast<double>(rounds)));
      for (float& x : expected) x *= factor;
      EXPECT_EQ(Rotated(*rotation, row[0]), expected) << "dim " << dim << " rounds " << rounds;
    }
  }
}

TEST(RotationTest, DenseIsItsMatrixInBothDirections) {
  const auto rotation = Rotation::Create({.dim = 23, .kind = RotationKind::kDense});
  ASSERT_TRUE(rotation);
  const Rows row = test::NormalRows(1, 23, 1);
  const std::vector<float> rotated = Rotated(*rotation, row[0]);
  std::vector<float> inverse(23);
  ASSERT_TRUE(rotation->ApplyInverse(row.view(), {inverse.data(), 1, 23}));
  const std::span<const float> matrix = rotation->matrix();
  ASSERT_EQ(matrix.size(), 23u * 23u);
  for (size_t i = 0; i < 23; ++i) {
    double forward = 0.0;
    double backward = 0.0;
    for (size_t j = 0; j < 23; ++j) {
      forward += static_cast<double>(matrix[i * 23 + j]) * static_cast<double>(row[0][j]);
      backward += static_cast<double>(matrix[j * 23 + i]) * static_cast<double>(row[0][j]);
    }
    EXPECT_FLOAT_EQ(rotated[i], static_cast<float>(forward));
    EXPECT_FLOAT_EQ(inverse[i], static_cast<float>(backward));
  }
}

TEST(RotationTest, RefusesWhatIsOutOfRangeByName) {
  const auto message = [](RotationOptions options) {
    const auto rotation = Rotation::Create(options);
    EXPECT_FALSE(rotation);
    if (rotation) return std::string();
    EXPECT_EQ(rotation.error().code, ErrorCode::kInvalidArgument);
    return rotation.error().message;
  };
  EXPECT_EQ(message({.dim = 0}), "dim must be 2 to 65536, got 0");
  EXPECT_EQ(message({.dim = 1}), "dim must be 2 to 65536, got 1");
  EXPECT_EQ(message({.dim = 65537}), "dim must be 2 to 65536, got 65537");
  EXPECT_EQ(message({.dim = 8193, .kind = RotationKind::kDense}),
            "dim must be 2 to 8192 for a dense rotation, got 8193");
  EXPECT_EQ(message({.dim = 8, .rounds = 0}), "rotation rounds must be 1 to 3, got 0");
  EXPECT_EQ(message({.dim = 8, .rounds = 4}), "rotation rounds must be 1 to 3, got 4");
  EXPECT_EQ(message({.dim = 8, .stream = {.layer = 1u << 20}}),
            "stream layer and head must be below 1048576, got 1048576 and 0");
  EXPECT_EQ(message({.dim = 8, .stream = {.head = 1u << 20}}),
            "stream layer and head must be below 1048576, got 0 and 1048576");
  EXPECT_EQ(message({.dim = 8, .stream = {.side = 256}}),
            "stream side and stage must be below 256, got 256 and 0");
  EXPECT_EQ(message({.dim = 8, .stage = 256}),
            "stream side and stage must be below 256, got 0 and 256");
  EXPECT_NE(message({.dim = 8, .kind = static_cast<RotationKind>(9)}).find("9"), std::string::npos);
}

TEST(RotationTest, RefusesOtherShapesAndLeavesTheOutputAlone) {
  for (const RotationKind kind : {RotationKind::kHadamard, RotationKind::kDense}) {
    const auto rotation = Rotation::Create({.dim = 6, .kind = kind});
    ASSERT_TRUE(rotation);
    std::vector<float> in(24, 1.0f);
    std::vector<float> out(24, 7.0f);
    const auto fails = [&](MatrixView<const float> from, MatrixView<float> to) {
      for (const auto& done : {rotation->Apply(from, to), rotation->ApplyInverse(from, to)}) {
        if (done || done.error().code != ErrorCode::kDimensionMismatch) return false;
      }
      return true;
    };
    EXPECT_TRUE(fails({in.data(), 2, 5}, {out.data(), 2, 6}));
    EXPECT_TRUE(fails({in.data(), 2, 6}, {out.data(), 2, 7}));
    EXPECT_TRUE(fails({in.data(), 2, 6}, {out.data(), 3, 6}));
    EXPECT_TRUE(fails({in.data(), 2, 6, 5}, {out.data(), 2, 6}));
    EXPECT_TRUE(fails({in.data(), 2, 6}, {out.data(), 2, 6, 3}));
    EXPECT_EQ(out, std::vector<float>(24, 7.0f));
    EXPECT_TRUE(rotation->Apply({nullptr, 0, 6}, {nullptr, 0, 6}));
  }
}

TEST(RotationTest, InPlaceAndStridedRowsEqualPackedOnes) {
  for (const RotationKind kind : {RotationKind::kHadamard, RotationKind::kDense}) {
    for (const size_t dim : {12, 16}) {
      const auto rotation = Rotation::Create({.dim = dim, .kind = kind});
      ASSERT_TRUE(rotation);
      const Rows rows = test::NormalRows(3, dim, 4);
      Rows expected(3, dim);
      ASSERT_TRUE(rotation->Apply(rows.view(), expected.view()));
      Rows in_place = rows;
      ASSERT_TRUE(rotation->Apply(in_place.view(), in_place.view()));
      EXPECT_EQ(in_place.values, expected.values);
      const size_t stride = dim + 3;
      std::vector<float> wide(3 * stride, std::numeric_limits<float>::quiet_NaN());
      std::vector<float> out(3 * stride, 5.0f);
      for (size_t r = 0; r < 3; ++r)
        std::ranges::copy(rows[r], wide.begin() + static_cast<ptrdiff_t>(r * stride));
      ASSERT_TRUE(rotation->Apply({wide.data(), 3, dim, stride}, {out.data(), 3, dim, stride}));
      for (size_t r = 0; r < 3; ++r) {
        for (size_t j = 0; j < stride; ++j) {
          EXPECT_EQ(out[r * stride + j], j < dim ? expected[r][j] : 5.0f);
        }
      }
    }
  }
}

TEST(RotationTest, NoTwoStreamsShareBits) {
  const std::vector<RotationOptions> streams = {
      {.dim = 128},
      {.dim = 128, .seed = 43},
      {.dim = 128, .seed = 42 + (uint64_t{1} << 32)},
      {.dim = 128, .stream = {.layer = 1}},
      {.dim = 128, .stream = {.head = 1}},
      {.dim = 128, .stream = {.side = 1}},
      {.dim = 128, .stage = 1},
  };
  std::vector<std::vector<uint32_t>> rounds;
  for (const RotationOptions& options : streams) {
    const auto rotation = Rotation::Create(options);
    ASSERT_TRUE(rotation);
    const auto masks = rotation->sign_masks();
    ASSERT_EQ(masks.size(), 2u * 128u);
    rounds.emplace_back(masks.begin(), masks.begin() + 128);
    rounds.emplace_back(masks.begin() + 128, masks.end());
  }
  for (size_t a = 0; a < rounds.size(); ++a) {
    const auto negative = std::ranges::count(rounds[a], 0x80000000u);
    EXPECT_NEAR(static_cast<double>(negative), 64.0, 25.0);  // 4.4 sigma
    EXPECT_EQ(std::ranges::count(rounds[a], 0u), 128 - negative);
    for (size_t b = 0; b < a; ++b) {
      int equal = 0;
      for (size_t j = 0; j < 128; ++j) equal += rounds[a][j] == rounds[b][j];
      EXPECT_NEAR(equal, 64, 25) << a << " and " << b;
    }
  }
}

TEST(RotationTest, HoldsNoMatrixUnlessDense) {
  const auto fast = Rotation::Create({.dim = 4096});
  ASSERT_TRUE(fast);
  EXPECT_EQ(fast->HeldBytes(), 2u * 4096u * 4u);
  EXPECT_TRUE(fast->matrix().empty());
  const auto odd = Rotation::Create({.dim = 100, .rounds = 1});
  ASSERT_TRUE(odd);
  EXPECT_EQ(odd->sign_masks().size(), 164u);
  const auto dense = Rotation::Create({.dim = 64, .kind = RotationKind::kDense});
  ASSERT_TRUE(dense);
  EXPECT_EQ(dense->HeldBytes(), 64u * 64u * 4u);
  EXPECT_TRUE(dense->sign_masks().empty());
}

}  // namespace
}  // namespace turboquant
