// TurboQuant-MSE has the reconstruction error that the theory gives it: no less, no more. Inner
// products are in mse_inner_product_theory_test.cc.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "tests/support/encoded_rows.h"
#include "tests/support/random_rows.h"
#include "tests/support/sphere_density.h"
#include "turboquant/mse_quantizer.h"

namespace turboquant {
namespace {

using test::MakeMse;
using test::Rows;

constexpr size_t kRows = 20000;

// Uniform on the sphere, drawn once per dim.
const Rows& SphereRows(size_t dim) {
  static std::map<size_t, Rows> drawn;
  const auto found = drawn.find(dim);
  return found != drawn.end() ? found->second
                              : drawn.emplace(dim, test::UnitRows(kRows, dim, dim)).first->second;
}

MseOptions PaperOptions(size_t dim, int bits, RotationKind rotation) {
  return {.dim = dim,
          .bits = bits,
          .scale = Scale::kNorm,
          .scale_search = false,
          .scale_type = ScaleType::kF32,
          .rotation = rotation};
}

// |x - decoded|² of unit rows.
test::Sample SquaredErrors(const MseQuantizer& quantizer, const Rows& rows) {
  Rows decoded(rows.rows, rows.dim);
  EXPECT_TRUE(quantizer.Decode(*quantizer.Encode(rows.view()), decoded.view()));
  test::Sample errors;
  for (size_t r = 0; r < rows.rows; ++r) errors.Add(test::SquaredDistance(rows[r], decoded[r]));
  return errors;
}

// The standard deviation of |x - decoded|² at 1 to 5 bits, 0 where it is not tabulated.
double TabulatedSigma(size_t dim, int bits) {
  static const std::map<size_t, std::vector<double>> table = {
      {64, {.0422, .0211, .00853, .00303, .00105}},
      {128, {.0298, .0154, .00632, .00229, .00076}},
      {256, {.0211, .0110, .00456, .00172}},
      {1536, {.0086, .00448, .00193, .00072, .00026}}};
  const auto row = table.find(dim);
  const size_t column = static_cast<size_t>(bits - 1);
  return row == table.end() || column >= row->second.size() ? 0.0 : row->second[column];
}

void ExpectDistortionOfTheTheory(size_t dim, int bits, RotationKind rotation) {
  const MseQuantizer quantizer = MakeMse(PaperOptions(dim, bits, rotation));
  const test::Sample errors = SquaredErrors(quantizer, SphereRows(dim));
  const double expected = test::SphereDistortion(dim, quantizer.codebook());
  const double tabulated = TabulatedSigma(dim, bits);
  double sigma = std::sqrt(errors.variance());
  if (tabulated > 0.0) {
    // The tabulated values are rounded up: by a third at 5 bits.
    EXPECT_LT(sigma, 1.04 * tabulated);
    EXPECT_GT(sigma, 0.65 * tabulated);
    sigma = std::min(sigma, tabulated);
  }
  const double tolerance = 4.0 * sigma / std::sqrt(double{kRows});
  EXPECT_NEAR(errors.mean(), expected, tolerance);
  if (dim > 3) {
    EXPECT_LT(tolerance, 0.08 * expected) << "power of the test";
  }
}

std::string ShapeName(const testing::TestParamInfo<std::tuple<size_t, int>>& shape) {
  return "dim" + std::to_string(std::get<0>(shape.param)) + "_bits" +
         std::to_string(std::get<1>(shape.param));
}

class MseDenseTest : public testing::TestWithParam<std::tuple<size_t, int>> {};

TEST_P(MseDenseTest, DistortionOfUnitRowsIsThatOfTheCodebook) {
  const auto [dim, bits] = GetParam();
  ExpectDistortionOfTheTheory(dim, bits, RotationKind::kDense);
}

INSTANTIATE_TEST_SUITE_P(Shapes, MseDenseTest,
                         testing::Combine(testing::Values(64, 128), testing::Range(1, 9)),
                         ShapeName);
INSTANTIATE_TEST_SUITE_P(Dim256, MseDenseTest,
                         testing::Combine(testing::Values(256), testing::Range(1, 6)), ShapeName);

class MseHadamardTest : public testing::TestWithParam<std::tuple<size_t, int>> {};

TEST_P(MseHadamardTest, DistortionOfUnitRowsIsThatOfTheCodebook) {
  const auto [dim, bits] = GetParam();
  ExpectDistortionOfTheTheory(dim, bits, RotationKind::kHadamard);
}

INSTANTIATE_TEST_SUITE_P(Shapes, MseHadamardTest,
                         testing::Combine(testing::Values(2, 3, 16, 33, 63, 64, 65, 80, 96, 112,
                                                          127, 128, 130, 256),
                                          testing::Range(1, 9)),
                         ShapeName);

TEST(MseLargeDimTest, DistortionOfUnitRowsIsThatOfTheCodebook) {
  if (std::getenv("TURBOQUANT_LONG_TESTS") == nullptr) {
    GTEST_SKIP() << "20,000 rows of dim 1536 take two minutes: set TURBOQUANT_LONG_TESTS=1";
  }
  for (int bits = 1; bits <= 8; ++bits) {
    ExpectDistortionOfTheTheory(1536, bits, RotationKind::kHadamard);
  }
  ExpectDistortionOfTheTheory(1536, 4, RotationKind::kDense);
}

// What rows 3 and 5 of the acceptance numbers compare with is itself what algorithm.md promises:
// the exact optimum of the sphere, but for the rounding of levels and, from 64 dims up, the
// Gaussian density in place of the sphere's.
TEST(MseTheoryTest, DistortionOfTheCodebooksIsNearTheOptimum) {
  const std::map<size_t, std::vector<double>> optimum = {
      {16, {.3431850, .1058475, .0300841, .0080937, .0021061, .0005378}},
      {32, {.3533566, .1116003, .0322611, .0087738, .0022977, .0005888}},
      {64, {.3583874, .1145258, .0333908, .0091315, .0023992, .0006160}},
      {80, {.3593890, .1151146, .0336201, .0092045, .0024200, .0006215}},
      {96, {.3600559, .1155078, .0337735, .0092534, .0024339, .0006253}},
      {128, {.3608886, .1160001, .0339659, .0093148, .0024515, .0006300}},
      {256, {.3621356, .1167400, .0342560, .0094075, .0024779, .0006371}},
      {1536, {.3631730, .1173581, .0344990, .0094854, .0025002, .0006430}}};
  const std::vector<double> gaussian = {.3633802276, .1174818478, .0345477608, .0095010080,
                                        .0025046684, .0006442397, .0001634782, .0000411851};
  for (const auto& [dim, by_bits] : optimum) {
    for (int bits = 1; bits <= 8; ++bits) {
      const auto codebook = Codebook::Create({.dim = dim, .bits = bits});
      ASSERT_TRUE(codebook);
      const double distortion = test::SphereDistortion(dim, *codebook);
      const std::string where = "dim " + std::to_string(dim) + " bits " + std::to_string(bits);
      if (bits <= 6) {
        const double best = by_bits[static_cast<size_t>(bits - 1)];
        const double loss = bits <= 4 ? 0.005 : bits == 5 ? 0.010 : 0.012;
        EXPECT_LT(distortion, (1.0 + loss) * best) << where;
        EXPECT_GT(distortion, (1.0 - 1e-5) * best) << where;
      } else if (dim >= 64) {
        EXPECT_NEAR(distortion / gaussian[static_cast<size_t>(bits - 1)], 1.0, 0.06) << where;
      }
    }
  }
}

// One-hot rows of a power-of-two dim under fresh signs: after two rounds each coordinate is a sum
// of dim random signs.
double BinomialDistortion(const Codebook& codebook) {
  const size_t dim = codebook.dim();
  const double d = static_cast<double>(dim);
  double expected = 0.0;
  double binomial = std::exp2(-d);  // Binom(d, 1/2)(k)
  for (size_t k = 0; k <= dim; ++k) {
    const double z = (2.0 * static_cast<double>(k) - d) / std::sqrt(d);
    // Codes are decided on a grid of 4096 steps a sigma.
    size_t code = 0;
    while (code + 1 < codebook.size() &&
           std::nearbyint(4096.0 * z) > std::floor(4096.0 * codebook.Boundary(code))) {
      ++code;
    }
    const double error = z - codebook.Centroid(code);
    expected += binomial * error * error;
    binomial *= static_cast<double>(dim - k) / static_cast<double>(k + 1);
  }
  return expected;
}

test::Sample OneHotErrors(size_t dim, int bits, int rounds, size_t draws) {
  test::Sample errors;
  for (uint64_t seed = 0; seed < draws; ++seed) {
    MseOptions options = PaperOptions(dim, bits, RotationKind::kHadamard);
    options.rotation_rounds = rounds;
    options.seed = seed;
    Rows one_hot(1, dim);
    one_hot[0][seed * 37 % dim] = seed % 2 ? 3.0f : -3.0f;
    const MseQuantizer quantizer = MakeMse(options);
    Rows decoded(1, dim);
    EXPECT_TRUE(quantizer.Decode(*quantizer.Encode(one_hot.view()), decoded.view()));
    errors.Add(test::SquaredDistance(one_hot[0], decoded[0]) / 9.0);
  }
  return errors;
}

class MseOneHotTest : public testing::TestWithParam<std::tuple<size_t, int>> {};

TEST_P(MseOneHotTest, TwoRoundsMakeCoordinatesBinomial) {
  const auto [dim, bits] = GetParam();
  const double listed[2][4] = {{.3683, .1233, .0415, .01213}, {.3659, .1175, .0368, .00972}};
  const auto codebook = Codebook::Create({.dim = dim, .bits = bits});
  ASSERT_TRUE(codebook);
  const double expected = BinomialDistortion(*codebook);
  EXPECT_NEAR(expected, listed[dim == 128][bits - 1], 0.02 * expected);
  const test::Sample errors = OneHotErrors(dim, bits, 2, 16000);
  EXPECT_NEAR(errors.mean(), expected, 0.02 * expected);
  EXPECT_NEAR(errors.mean(), expected, 4.0 * errors.standard_error());
  EXPECT_LT(4.0 * errors.standard_error(), 0.02 * expected) << "power of the test";
}

TEST_P(MseOneHotTest, ThreeRoundsAreAsGoodAsARandomRotation) {
  const auto [dim, bits] = GetParam();
  const auto codebook = Codebook::Create({.dim = dim, .bits = bits});
  ASSERT_TRUE(codebook);
  const double expected = test::SphereDistortion(dim, *codebook);
  const test::Sample errors = OneHotErrors(dim, bits, 3, 16000);
  // What is left of the lattice of signs is 2.8 % at dim 64 and 3 bits, below 1.5 % elsewhere.
  EXPECT_NEAR(errors.mean(), expected, 0.03 * expected + 4.0 * errors.standard_error());
  EXPECT_LT(4.0 * errors.standard_error(), 0.02 * expected) << "power of the test";
}

INSTANTIATE_TEST_SUITE_P(Shapes, MseOneHotTest,
                         testing::Combine(testing::Values(64, 128), testing::Range(1, 5)),
                         ShapeName);

// Squared cosines of rows with their centroids.
std::vector<double> SquaredCosines(int bits, bool search, const Rows& rows) {
  MseOptions options = PaperOptions(rows.dim, bits, RotationKind::kHadamard);
  options.scale_search = search;
  const MseQuantizer quantizer = MakeMse(options);
  Rows rotated(rows.rows, rows.dim);
  Rows centroids(rows.rows, rows.dim);
  EXPECT_TRUE(quantizer.rotation().Apply(rows.view(), rotated.view()));
  EXPECT_TRUE(quantizer.DecodeRotated(*quantizer.Encode(rows.view()), centroids.view()));
  std::vector<double> cosines;
  for (size_t r = 0; r < rows.rows; ++r) {
    const double inner = test::Dot(rotated[r], centroids[r]);
    cosines.push_back(inner * inner / test::Dot(rotated[r], rotated[r]) /
                      test::Dot(centroids[r], centroids[r]));
  }
  return cosines;
}

class MseBitsTest : public testing::TestWithParam<int> {};

TEST_P(MseBitsTest, SearchNeverLowersACosine) {
  const int bits = GetParam();
  for (const size_t dim : {2, 16, 33, 80, 128}) {
    const Rows rows = test::NormalRows(1000, dim, 5);
    const std::vector<double> plain = SquaredCosines(bits, false, rows);
    const std::vector<double> searched = SquaredCosines(bits, true, rows);
    double gain = 0.0;
    for (size_t r = 0; r < rows.rows; ++r) {
      // The choice is made on the grid: near-ties may fall the other way by a grid step.
      ASSERT_GT(searched[r], plain[r] - 2e-4 * std::sqrt(1.0 - plain[r] + 1e-6))
          << "dim " << dim << " row " << r;
      gain += searched[r] - plain[r];
    }
    EXPECT_GT(gain, bits == 1 ? -1e-9 : 0.0) << "dim " << dim;
  }
}

INSTANTIATE_TEST_SUITE_P(Bits, MseBitsTest, testing::Range(1, 9));

TEST(MseTheoryTest, SearchGainsWhatItShould) {
  const double expected[] = {.1143, .0316, .0077, .0019};  // 1 - cos² at 2 to 5 bits
  const Rows& rows = SphereRows(128);
  for (int bits = 2; bits <= 5; ++bits) {
    test::Sample sines;
    for (const double cosine : SquaredCosines(bits, true, rows)) sines.Add(1.0 - cosine);
    EXPECT_NEAR(sines.mean(), expected[bits - 2], 0.02 * expected[bits - 2]) << bits;
  }
}

TEST(MseTheoryTest, EntropyOfTheCodesIsThatOfTheCodebook) {
  const double listed[] = {1.000, 1.911, 2.825, 3.765};
  const Rows& rows = SphereRows(128);
  for (int bits = 1; bits <= 4; ++bits) {
    const MseQuantizer quantizer = MakeMse(PaperOptions(128, bits, RotationKind::kHadamard));
    const auto encoded = quantizer.Encode(rows.view());
    ASSERT_TRUE(encoded);
    std::vector<double> counts(quantizer.codebook().size());
    std::vector<uint8_t> codes(128);
    for (size_t r = 0; r < rows.rows; ++r) {
      ASSERT_TRUE(encoded->Codes(r, codes));
      for (const uint8_t code : codes) ++counts[code];
    }
    double entropy = 0.0;
    for (const double count : counts) {
      const double share = count / (128.0 * kRows);
      entropy -= share * std::log2(share);
    }
    EXPECT_NEAR(entropy, listed[bits - 1], 0.005) << bits;
  }
}

}  // namespace
}  // namespace turboquant
