#include "src/eval/theory.h"

#include <cmath>
#include <numbers>

#include "gtest/gtest.h"

namespace turboquant::eval {
namespace {

Codebook MakeCodebook(size_t dim, int bits) {
  return Codebook::Create({.dim = dim, .bits = bits}).value();
}

TEST(TheoryTest, SphereDistortionEqualsTheLibrarysQuadratureWhereBothAreOnTheSphere) {
  for (const size_t dim : {2u, 3u, 4u, 16u, 33u, 63u}) {
    for (int bits = 1; bits <= 8; ++bits) {
      const Codebook codebook = MakeCodebook(dim, bits);
      EXPECT_NEAR(SphereDistortion(codebook) / codebook.Distortion(), 1.0, 2e-6)
          << "dim " << dim << " bits " << bits;
    }
  }
}

TEST(TheoryTest, SphereDistortionIsTheTableOfTheExactOptimumPlusTheLossOfTheGaussianCodebook) {
  // D_d(b) of docs/algorithm.md; the shipped Gaussian codebook is 0 to 0.5 % above it.
  const struct {
    size_t dim;
    double optimum[4];
  } table[] = {{64, {.3583874, .1145258, .0333908, .0091315}},
               {128, {.3608886, .1160001, .0339659, .0093148}},
               {1536, {.3631730, .1173581, .0344990, .0094854}}};
  for (const auto& row : table) {
    for (int bits = 1; bits <= 4; ++bits) {
      const double ratio = SphereDistortion(MakeCodebook(row.dim, bits)) / row.optimum[bits - 1];
      EXPECT_GE(ratio, 1.0 - 2e-6) << "dim " << row.dim << " bits " << bits;
      EXPECT_LE(ratio, 1.006) << "dim " << row.dim << " bits " << bits;
    }
  }
}

TEST(TheoryTest, SphereDistortionTendsToTheGaussianOne) {
  const Codebook codebook = MakeCodebook(65536, 4);
  EXPECT_NEAR(SphereDistortion(codebook) / codebook.Distortion(), 1.0, 1e-4);
  EXPECT_LT(SphereDistortion(MakeCodebook(128, 4)), 0.99 * codebook.Distortion());
}

// Judged by a simulation of 6.4 million coordinates each, whose standard error is below 0.1 %.
TEST(TheoryTest, AngularDistortionIsWhatASimulationMeasures) {
  const struct {
    size_t dim;
    double simulated[3];  // 2, 3 and 4 bits
    double tolerance;     // of the expansion in 1/dim
  } table[] = {{16, {.0997771, .0269211, .0070831}, 0.01},
               {64, {.1130131, .0325448, .0088663}, 0.002},
               {128, {.1151548, .0335587, .0091798}, 0.002},
               {256, {.1163057, .0340518, .0093278}, 0.002}};
  for (const auto& row : table) {
    for (int bits = 2; bits <= 4; ++bits) {
      const double angular = SphereAngularDistortion(MakeCodebook(row.dim, bits));
      EXPECT_NEAR(angular / row.simulated[bits - 2], 1.0, row.tolerance)
          << "dim " << row.dim << " bits " << bits;
    }
  }
}

TEST(TheoryTest, ScalesChangeTheErrorAsDocumented) {
  const Codebook codebook = MakeCodebook(64, 3);
  const double angular = SphereAngularDistortion(codebook);
  EXPECT_EQ(ScaledNmse(codebook, Scale::kNorm), SphereDistortion(codebook));
  EXPECT_EQ(ScaledNmse(codebook, Scale::kLeastSquares), angular);
  EXPECT_DOUBLE_EQ(ScaledNmse(codebook, Scale::kMatched), 2 - 2 * std::sqrt(1 - angular));
  EXPECT_DOUBLE_EQ(ScaledNmse(codebook, Scale::kUnbiased), angular / (1 - angular));
}

TEST(TheoryTest, SketchesTendToTheirLimits) {
  EXPECT_NEAR(SketchNmse(4096, 4096, SketchKind::kOrthogonal), std::numbers::pi / 2 - 1, 3e-4);
  EXPECT_NEAR(SketchNmse(4096, 4096, SketchKind::kGaussian), std::numbers::pi / 2, 3e-4);
  EXPECT_NEAR(SketchNmse(128, 256, SketchKind::kOrthogonal),
              SketchNmse(128, 128, SketchKind::kOrthogonal) / 2, 1e-12);
}

TEST(TheoryTest, Bounds) {
  EXPECT_DOUBLE_EQ(ShannonNmse(4), 1.0 / 256);
  EXPECT_NEAR(PaperBoundNmse(0), 2.7207, 1e-4);
}

}  // namespace
}  // namespace turboquant::eval
