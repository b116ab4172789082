// Codebooks against the numbers of rate-distortion theory (docs/algorithm.md).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "src/math/lloyd_max.h"
#include "turboquant/codebook.h"

namespace turboquant {
namespace {

// Lloyd-Max for N(0, 1), 1 to 8 bits.
constexpr double kGaussianDistortion[] = {0.3633802276, 0.1174818478, 0.0345477608, 0.0095010080,
                                          0.0025046684, 0.0006442397, 0.0001634782, 0.0000411851};

struct SphereRow {
  size_t dim;
  double distortion[6];  // optimum for 1 to 6 bits, to seven decimals
};
constexpr SphereRow kSphereDistortion[] = {
    {16, {.3431850, .1058475, .0300841, .0080937, .0021061, .0005378}},
    {32, {.3533566, .1116003, .0322611, .0087738, .0022977, .0005888}},
    {64, {.3583874, .1145258, .0333908, .0091315, .0023992, .0006160}},
    {80, {.3593890, .1151146, .0336201, .0092045, .0024200, .0006215}},
    {96, {.3600559, .1155078, .0337735, .0092534, .0024339, .0006253}},
    {128, {.3608886, .1160001, .0339659, .0093148, .0024515, .0006300}},
    {256, {.3621356, .1167400, .0342560, .0094075, .0024779, .0006371}},
    {1536, {.3631730, .1173581, .0344990, .0094854, .0025002, .0006430}},
};

LloydMaxOptimum Optimum(size_t dim, int bits, CodebookDensity density) {
  Result<LloydMaxOptimum> optimum = OptimalCentroids(dim, bits, density);
  EXPECT_TRUE(optimum) << optimum.error().message;
  return *std::move(optimum);
}

Codebook Shipped(size_t dim, int bits) {
  Result<Codebook> codebook = Codebook::Create({.dim = dim, .bits = bits});
  EXPECT_TRUE(codebook) << codebook.error().message;
  return *std::move(codebook);
}

std::vector<double> CentroidsOf(const Codebook& codebook) {
  std::vector<double> centroids;
  for (size_t i = 0; i < codebook.size(); ++i) centroids.push_back(codebook.Centroid(i));
  return centroids;
}

// The last centroids.size() are `expected`, to half of its last digit and 1e-6.
void ExpectLastCentroids(const LloydMaxOptimum& optimum, const std::vector<double>& expected,
                         double tolerance) {
  const size_t first = optimum.centroids.size() - expected.size();
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(optimum.centroids[first + i], expected[i], tolerance)
        << optimum.centroids.size() << " centroids, " << first + i;
    EXPECT_NEAR(static_cast<float>(optimum.centroids[first + i]), expected[i], 1e-4);
  }
}

// Acceptance row 1.
TEST(CodebookTheoryTest, GaussianCentroids) {
  const auto gaussian = [](int bits) { return Optimum(128, bits, CodebookDensity::kGaussian); };
  ExpectLastCentroids(gaussian(1), {.7978846}, 1e-6);
  ExpectLastCentroids(gaussian(2), {.4527800, 1.5104176}, 1e-6);
  ExpectLastCentroids(gaussian(3), {.2450942, .7560053, 1.3439093, 2.1519457}, 1e-6);
  ExpectLastCentroids(
      gaussian(4),
      {.1283950, .3880483, .6567591, .9423405, 1.2562312, 1.6180464, 2.0690172, 2.7325896}, 1e-6);
  ExpectLastCentroids(
      gaussian(5),
      {.0658897, .1980518, .3313783, .4666995, .6049336, .7471357, .8945651, 1.0487833, 1.2118044,
       1.3863403, 1.5762281, 1.7872332, 2.0287284, 2.3177394, 2.6911196, 3.2607325},
      1e-6);
  ExpectLastCentroids(gaussian(6), {2.917407, 3.240437, 3.744101}, 1e-6);
  ExpectLastCentroids(gaussian(7), {3.447430, 3.734937, 4.189694}, 1e-6);
  ExpectLastCentroids(gaussian(8), {3.925638, 4.186595, 4.603536}, 1e-6);
  EXPECT_NEAR(gaussian(6).centroids[32], .033410, 1e-6);
  EXPECT_NEAR(gaussian(7).centroids[64], .016828, 1e-6);
  EXPECT_NEAR(gaussian(8).centroids[128], .008446, 1e-6);
}

// Acceptance row 1, the rest, and how far the integer levels are from the optimum.
TEST(CodebookTheoryTest, ShippedCentroidsAreOddMidpointsAndNearTheOptimum) {
  for (int bits = 1; bits <= 8; ++bits) {
    const LloydMaxOptimum optimum = Optimum(128, bits, CodebookDensity::kGaussian);
    const Codebook shipped = Shipped(128, bits);
    ASSERT_EQ(shipped.size(), optimum.centroids.size());
    for (size_t i = 0; i < shipped.size(); ++i) {
      EXPECT_EQ(optimum.centroids[i], -optimum.centroids[shipped.size() - 1 - i]);
      EXPECT_EQ(shipped.Centroid(i), -shipped.Centroid(shipped.size() - 1 - i));
      // Half a step of rounding; below 5 bits the step itself was fitted too.
      const double slack = bits >= 5 ? 1e-9 : 0.25 * shipped.step();
      EXPECT_NEAR(shipped.Centroid(i), optimum.centroids[i], 0.5 * shipped.step() + slack)
          << bits << " bits, centroid " << i;
      if (i + 1 < shipped.size()) {
        EXPECT_DOUBLE_EQ(shipped.Boundary(i), (shipped.Centroid(i) + shipped.Centroid(i + 1)) / 2);
      }
    }
  }
}

// Acceptance row 2.
TEST(CodebookTheoryTest, GaussianDistortion) {
  for (int bits = 1; bits <= 8; ++bits) {
    const double listed = kGaussianDistortion[bits - 1];
    const double tolerance = std::max(1e-6 * listed, 0.5e-10);
    EXPECT_NEAR(Optimum(128, bits, CodebookDensity::kGaussian).distortion, listed, tolerance)
        << bits << " bits";
  }
  const double frozen[] = {.1174819, .0345486, .0095062};
  for (int bits = 2; bits <= 4; ++bits) {
    EXPECT_NEAR(Shipped(128, bits).Distortion() / frozen[bits - 2], 1.0, 1e-5) << bits << " bits";
  }
}

TEST(CodebookTheoryTest, IntegerLevelsCostLittle) {
  // Int8 levels at most .055 %; the grid of 1/1024 adds at most its own variance, step² / 12.
  for (int bits = 1; bits <= 8; ++bits) {
    const double optimum = kGaussianDistortion[bits - 1];
    const double shipped = Shipped(128, bits).Distortion();
    EXPECT_GE(shipped, optimum * (1.0 - 1e-6)) << bits << " bits";
    EXPECT_LE(shipped, bits <= 4 ? optimum * 1.00055 : optimum + 1.2 / (12.0 * 1024 * 1024))
        << bits << " bits";
  }
  // Below 64 dims as well.
  for (const size_t dim : {2, 3, 5, 7, 16, 32, 48, 63}) {
    for (int bits = 1; bits <= 4; ++bits) {
      const double optimum = Optimum(dim, bits, CodebookDensity::kSphere).distortion;
      const double shipped = Shipped(dim, bits).Distortion();
      EXPECT_GE(shipped, optimum * (1.0 - 1e-9)) << dim << ", " << bits << " bits";
      EXPECT_LE(shipped, optimum * 1.0015) << dim << ", " << bits << " bits";
    }
  }
}

TEST(CodebookTheoryTest, SphereDistortion) {
  for (const SphereRow& row : kSphereDistortion) {
    for (int bits = 1; bits <= 6; ++bits) {
      const double listed = row.distortion[bits - 1];
      EXPECT_NEAR(Optimum(row.dim, bits, CodebookDensity::kSphere).distortion, listed, 0.51e-7)
          << row.dim << ", " << bits << " bits";
    }
  }
}

// Side condition of acceptance row 3: what the Gaussian codebook loses on the sphere.
TEST(CodebookTheoryTest, ShippedCodebooksOnTheSphere) {
  const double loss[] = {.005, .005, .005, .005, .010, .012};
  for (const SphereRow& row : kSphereDistortion) {
    const CoordinateDensity sphere = CoordinateDensity::Sphere(row.dim);
    for (int bits = 1; bits <= 6; ++bits) {
      const double listed = row.distortion[bits - 1];
      const double shipped = Distortion(sphere, CentroidsOf(Shipped(row.dim, bits)));
      EXPECT_GE(shipped, listed - 0.51e-7) << row.dim << ", " << bits << " bits";
      EXPECT_LE(shipped, listed * (1.0 + loss[bits - 1])) << row.dim << ", " << bits << " bits";
    }
    for (int bits = 7; row.dim >= 64 && bits <= 8; ++bits) {
      const double shipped = Distortion(sphere, CentroidsOf(Shipped(row.dim, bits)));
      EXPECT_NEAR(shipped / kGaussianDistortion[bits - 1], 1.0, 0.06) << row.dim << ", " << bits;
    }
  }
}

// Acceptance row 4: between Shannon's limit and the paper's bound, √3 π / 2.
TEST(CodebookTheoryTest, DistortionIsBetweenShannonAndThePapersBound) {
  const double bound = std::numbers::sqrt3 * std::numbers::pi / 2.0;
  double previous = 1.0;
  for (int bits = 1; bits <= 8; ++bits) {
    const double levels = std::pow(4.0, bits);
    const double optimum = Optimum(128, bits, CodebookDensity::kGaussian).distortion * levels;
    EXPECT_GT(optimum, 1.0) << bits;
    EXPECT_LT(optimum, bound) << bits;
    EXPECT_GT(optimum, previous) << bits;  // the bound is approached from below
    previous = optimum;
    for (const size_t dim : {64, 128, 1536}) {
      const double shipped = Shipped(dim, bits).Distortion() * levels;
      EXPECT_GT(shipped, 1.0) << dim << ", " << bits;
      EXPECT_LT(shipped, bound) << dim << ", " << bits;
    }
  }
}

// Acceptance row 16, in expectation: bits that an ideal entropy coder would need per code.
TEST(CodebookTheoryTest, IndexEntropy) {
  const double listed[] = {1.0000, 1.9111, 2.8249, 3.7653, 4.7298, 5.7101, 6.6996, 7.6941};
  const CoordinateDensity gaussian = CoordinateDensity::Gaussian();
  for (int bits = 1; bits <= 8; ++bits) {
    const auto entropy = [&](const std::vector<double>& centroids) {
      double sum = 0.0;
      double lower = -gaussian.Limit();
      for (size_t i = 0; i < centroids.size(); ++i) {
        const bool last = i + 1 == centroids.size();
        const double upper = last ? gaussian.Limit() : 0.5 * (centroids[i] + centroids[i + 1]);
        const double probability = gaussian.Mass(lower, upper);
        sum -= probability * std::log2(probability);
        lower = upper;
      }
      return sum;
    };
    EXPECT_NEAR(entropy(Optimum(128, bits, CodebookDensity::kGaussian).centroids), listed[bits - 1],
                0.6e-4)
        << bits << " bits";
    EXPECT_NEAR(entropy(CentroidsOf(Shipped(128, bits))), listed[bits - 1], 0.005) << bits;
  }
}

}  // namespace
}  // namespace turboquant
