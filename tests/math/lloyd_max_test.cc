#include "src/math/lloyd_max.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>
#include <vector>

namespace turboquant {
namespace {

struct NamedDensity {
  std::string name;
  CoordinateDensity density;
};

std::vector<NamedDensity> Densities() {
  std::vector<NamedDensity> densities = {{"Gaussian", CoordinateDensity::Gaussian()}};
  for (const size_t dim : {2, 3, 4, 5, 7, 16, 63, 64, 128, 1536, 65536}) {
    densities.push_back({"dim " + std::to_string(dim), CoordinateDensity::Sphere(dim)});
  }
  return densities;
}

// (z - nearest centroid)² by the midpoint rule over the whole support.
double DirectDistortion(const CoordinateDensity& density, const std::vector<double>& centroids) {
  constexpr int kCells = 400000;
  const double limit = std::min(density.Limit(), 10.0);
  const double width = 2.0 * limit / kCells;
  double sum = 0.0;
  for (int i = 0; i < kCells; ++i) {
    const double z = -limit + (i + 0.5) * width;
    double nearest = INFINITY;
    for (const double centroid : centroids) nearest = std::min(nearest, std::abs(z - centroid));
    sum += nearest * nearest * density.Density(z);
  }
  return sum * width;
}

TEST(LloydMaxTest, IsAFixpointWithOddSymmetry) {
  for (const auto& [name, density] : Densities()) {
    for (int bits = 1; bits <= 8; ++bits) {
      const std::vector<double> centroids = LloydMax(density, bits).centroids;
      ASSERT_EQ(centroids.size(), size_t{1} << bits);
      double lower = -density.Limit();
      for (size_t i = 0; i < centroids.size(); ++i) {
        const bool last = i + 1 == centroids.size();
        const double upper = last ? density.Limit() : 0.5 * (centroids[i] + centroids[i + 1]);
        const double mean = density.FirstMoment(lower, upper) / density.Mass(lower, upper);
        ASSERT_NEAR(centroids[i], mean, 1e-10) << name << ", " << bits << " bits, centroid " << i;
        ASSERT_EQ(centroids[i], -centroids[centroids.size() - 1 - i]) << name << ", " << bits;
        ASSERT_LT(centroids[i], upper) << name << ", " << bits << " bits, centroid " << i;
        lower = upper;
      }
    }
  }
}

// A slowly converging iteration satisfies the test above long before it arrives. At the fixpoint
// itself stretching the codebook either way costs the same, to second order.
TEST(LloydMaxTest, IsTheMinimumUnderStretching) {
  for (const auto& [name, density] : Densities()) {
    for (int bits = 1; bits <= 8; ++bits) {
      const LloydMaxQuantizer optimum = LloydMax(density, bits);
      constexpr double kStretch = 1e-4;
      std::vector<double> wide = optimum.centroids;
      std::vector<double> narrow = optimum.centroids;
      for (double& centroid : wide) centroid *= 1.0 + kStretch;
      for (double& centroid : narrow) centroid *= 1.0 - kStretch;
      const double more = Distortion(density, wide) - optimum.distortion;
      const double less = Distortion(density, narrow) - optimum.distortion;
      EXPECT_GT(more, 0.0) << name << ", " << bits << " bits";
      EXPECT_GT(less, 0.0) << name << ", " << bits << " bits";
      EXPECT_NEAR(more / less, 1.0, 0.05) << name << ", " << bits << " bits";
    }
  }
}

TEST(LloydMaxTest, UniformDensityOfDim3HasEqualSteps) {
  const CoordinateDensity uniform = CoordinateDensity::Sphere(3);
  for (int bits = 1; bits <= 8; ++bits) {
    const LloydMaxQuantizer quantizer = LloydMax(uniform, bits);
    const double count = static_cast<double>(quantizer.centroids.size());
    for (size_t i = 0; i < quantizer.centroids.size(); ++i) {
      const double expected = std::sqrt(3.0) * ((2.0 * static_cast<double>(i) + 1.0) / count - 1.0);
      EXPECT_NEAR(quantizer.centroids[i], expected, 1e-11) << bits << " bits, centroid " << i;
    }
    EXPECT_NEAR(quantizer.distortion * count * count, 1.0, 1e-12) << bits << " bits";
  }
}

TEST(LloydMaxTest, OneBitIsTheMeanMagnitude) {
  const double pi = std::numbers::pi;
  const struct {
    size_t dim;
    double mean;
  } cases[] = {{2, 2.0 * std::sqrt(2.0) / pi},
               {3, std::sqrt(3.0) / 2.0},
               {4, 8.0 / (3.0 * pi)},
               {5, std::sqrt(5.0) * 0.375},
               {7, std::sqrt(7.0) * 0.3125}};
  for (const auto& [dim, mean] : cases) {
    const LloydMaxQuantizer quantizer = LloydMax(CoordinateDensity::Sphere(dim), 1);
    EXPECT_NEAR(quantizer.centroids[1], mean, 1e-13) << dim;
    EXPECT_NEAR(quantizer.distortion, 1.0 - mean * mean, 1e-13) << dim;
  }
}

TEST(LloydMaxTest, ConvergesForEveryDimAndBits) {
  for (size_t dim = 2; dim <= 130; ++dim) {
    const CoordinateDensity density = CoordinateDensity::Sphere(dim);
    double previous = 1.0;
    for (int bits = 1; bits <= 6; ++bits) {
      const double distortion = LloydMax(density, bits).distortion;
      // One bit more divides the error by 2.7 to 4.6 (4 in the limit, from either side).
      EXPECT_LT(distortion, previous / 2.7) << dim << ", " << bits;
      EXPECT_GT(distortion, previous / (bits == 1 ? 5.3 : 4.6)) << dim << ", " << bits;
      previous = distortion;
    }
  }
}

TEST(LloydMaxTest, DistortionOfAnyCodebookEqualsDirectIntegration) {
  const std::vector<std::vector<double>> codebooks = {
      {0.3}, {-0.9, 0.2}, {-1.0, -0.4, 0.1, 1.3}, {-7.5, -0.2, 0.0, 0.9, 1.1, 3.0, 5.0, 8.0}};
  for (const size_t dim : {3, 4, 5, 7, 16}) {
    const CoordinateDensity density = CoordinateDensity::Sphere(dim);
    for (const std::vector<double>& centroids : codebooks) {
      EXPECT_NEAR(Distortion(density, centroids), DirectDistortion(density, centroids), 1e-7)
          << dim << ", " << centroids.size() << " centroids";
    }
  }
  const CoordinateDensity gaussian = CoordinateDensity::Gaussian();
  for (const std::vector<double>& centroids : codebooks) {
    EXPECT_NEAR(Distortion(gaussian, centroids), DirectDistortion(gaussian, centroids), 1e-8);
  }
  // The midpoint rule is poor at the infinite ends of dim 2: a tenth of a percent is what it can.
  const CoordinateDensity arcsine = CoordinateDensity::Sphere(2);
  for (const std::vector<double>& centroids : codebooks) {
    const double direct = DirectDistortion(arcsine, centroids);
    EXPECT_NEAR(Distortion(arcsine, centroids), direct, 0.005 * direct);
  }
}

TEST(LloydMaxTest, OneCentroidHasVariancePlusItsSquare) {
  for (const auto& [name, density] : Densities()) {
    const double centroids[] = {0.7};
    EXPECT_NEAR(Distortion(density, centroids), 1.49, 1e-12) << name;
  }
}

}  // namespace
}  // namespace turboquant
