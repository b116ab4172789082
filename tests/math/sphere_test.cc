#include "src/math/sphere.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numbers>
#include <string>
#include <vector>

namespace turboquant {
namespace {

constexpr double kPi = std::numbers::pi;

struct NamedDensity {
  std::string name;
  CoordinateDensity density;
};

std::vector<NamedDensity> Densities() {
  std::vector<NamedDensity> densities = {{"Gaussian", CoordinateDensity::Gaussian()}};
  for (const size_t dim : {2, 3, 4, 5, 7, 16, 63, 64, 128, 143, 144, 145, 1536, 65536}) {
    densities.push_back({"dim " + std::to_string(dim), CoordinateDensity::Sphere(dim)});
  }
  return densities;
}

// Midpoint rule: nothing in common with the library's quadrature but the density.
double MidpointRule(const std::function<double(double)>& integrand, double from, double to) {
  constexpr int kCells = 20000;
  const double width = (to - from) / kCells;
  double sum = 0.0;
  for (int i = 0; i < kCells; ++i) sum += integrand(from + (i + 0.5) * width);
  return sum * width;
}

// P(Z <= z) in closed form.
double CumulativeSphere(int dim, double z) {
  const double t = z / std::sqrt(dim);
  switch (dim) {
    case 2:
      return 0.5 + std::asin(t) / kPi;
    case 3:
      return 0.5 + 0.5 * t;
    case 4:
      return 0.5 + (t * std::sqrt(1.0 - t * t) + std::asin(t)) / kPi;
    case 5:
      return 0.5 + 0.75 * (t - t * t * t / 3.0);
    case 7:
      return 0.5 + 15.0 / 16.0 * (t - 2.0 * t * t * t / 3.0 + std::pow(t, 5) / 5.0);
    default:
      ADD_FAILURE() << "no closed form here for dim " << dim;
      return 0.0;
  }
}

TEST(SphereTest, GammaHalfStepIsExact) {
  EXPECT_NEAR(GammaHalfStep(0.5), 1.0 / std::sqrt(kPi), 1e-15);
  EXPECT_NEAR(GammaHalfStep(1.0), std::sqrt(kPi) / 2.0, 1e-15);
  EXPECT_NEAR(GammaHalfStep(1.5), 2.0 / std::sqrt(kPi), 2e-15);
  for (double x = 0.5; x < 30.0; x += 0.25) {
    const double expected = std::exp(std::lgamma(x + 0.5) - std::lgamma(x));
    EXPECT_NEAR(GammaHalfStep(x) / expected, 1.0, 1e-13) << x;
  }
  // Γ(x + 1) / Γ(x) = x in two half steps, also where log-gammas have lost their digits.
  for (const double x : {0.5, 1.0, 7.5, 31.0, 31.5, 32.0, 33.0, 64.0, 1000.5, 32767.5, 1e9}) {
    EXPECT_NEAR(GammaHalfStep(x) * GammaHalfStep(x + 0.5) / x, 1.0, 5e-15) << x;
  }
}

TEST(SphereTest, TotalMassAndVarianceAreOne) {
  for (const auto& [name, density] : Densities()) {
    EXPECT_NEAR(density.Mass(-100.0, 100.0), 1.0, 1e-13) << name;
    EXPECT_NEAR(density.SquaredError(-100.0, 100.0, 0.0), 1.0, 1e-13) << name;
    EXPECT_NEAR(density.FirstMoment(-100.0, 100.0), 0.0, 1e-15) << name;
  }
}

TEST(SphereTest, MassIsTheClosedForm) {
  for (const int dim : {2, 3, 4, 5, 7}) {
    const CoordinateDensity density = CoordinateDensity::Sphere(static_cast<size_t>(dim));
    const double limit = density.Limit();
    EXPECT_DOUBLE_EQ(limit, std::sqrt(dim));
    for (double from = -limit; from < limit; from += limit / 7.0) {
      for (double to = from; to < limit; to += limit / 9.0) {
        EXPECT_NEAR(density.Mass(from, to), CumulativeSphere(dim, to) - CumulativeSphere(dim, from),
                    1e-13)
            << dim << " from " << from << " to " << to;
      }
      // To the very end, where dim 2 is infinite and dim 4 has a root.
      EXPECT_NEAR(density.Mass(from, limit), 1.0 - CumulativeSphere(dim, from), 1e-13) << dim;
    }
  }
  const CoordinateDensity gaussian = CoordinateDensity::Gaussian();
  for (double z = -6.0; z <= 6.0; z += 0.37) {
    EXPECT_NEAR(gaussian.Mass(z, 100.0), 0.5 * std::erfc(z / std::numbers::sqrt2), 1e-14) << z;
  }
}

TEST(SphereTest, DensityIsTheDerivativeOfTheMass) {
  for (const auto& [name, density] : Densities()) {
    constexpr double kStep = 1e-3;
    for (double z = -0.9 * density.Limit(); z < 0.9 * density.Limit(); z += 0.31) {
      EXPECT_NEAR(density.Mass(z - kStep, z + kStep) / (2.0 * kStep), density.Density(z), 1e-5)
          << name << " at " << z;
      EXPECT_DOUBLE_EQ(density.Density(z), density.Density(-z)) << name << " at " << z;
    }
  }
}

TEST(SphereTest, MomentsEqualDirectIntegration) {
  for (const auto& [name, density] : Densities()) {
    const double reach = std::min(0.8 * density.Limit(), 3.0);
    for (double from = -reach; from < reach; from += 0.41 * reach) {
      const double to = from + 0.23 * reach;
      const double centre = from + 0.3 * (to - from);
      EXPECT_NEAR(density.Mass(from, to),
                  MidpointRule([&](double z) { return density.Density(z); }, from, to), 1e-9)
          << name;
      EXPECT_NEAR(density.FirstMoment(from, to),
                  MidpointRule([&](double z) { return z * density.Density(z); }, from, to), 1e-9)
          << name;
      EXPECT_NEAR(
          density.SquaredError(from, to, centre),
          MidpointRule([&](double z) { return (z - centre) * (z - centre) * density.Density(z); },
                       from, to),
          1e-10)
          << name;
    }
  }
}

// Ties the closed form of the first moment to the two quadratures, at full precision.
TEST(SphereTest, SquaredErrorExpandsIntoTheMoments) {
  for (const auto& [name, density] : Densities()) {
    for (const double from : {-20.0, -1.1, 0.0, 0.4}) {
      for (const double to : {0.5, 1.2, 20.0}) {
        const double mass = density.Mass(from, to);
        const double first = density.FirstMoment(from, to);
        const double second = density.SquaredError(from, to, 0.0);
        EXPECT_NEAR(density.SquaredError(from, to, 0.7), second - 1.4 * first + 0.49 * mass, 1e-13)
            << name << " " << from << " " << to;
        EXPECT_NEAR(density.Mass(from, 0.45) + density.Mass(0.45, to), mass, 1e-13) << name;
      }
    }
  }
}

TEST(SphereTest, IntervalsAreClippedAndEmptyOnesHaveNothing) {
  for (const auto& [name, density] : Densities()) {
    EXPECT_EQ(density.Mass(0.5, 0.5), 0.0) << name;
    EXPECT_EQ(density.Mass(0.5, 0.1), 0.0) << name;
    EXPECT_EQ(density.FirstMoment(0.5, 0.1), 0.0) << name;
    EXPECT_EQ(density.SquaredError(0.5, 0.1, 0.0), 0.0) << name;
    EXPECT_EQ(density.Mass(12.5, 13.0), 0.0) << name;
    EXPECT_EQ(density.FirstMoment(12.5, 13.0), 0.0) << name;
    EXPECT_EQ(density.Mass(-1.0, 1e300), density.Mass(-1.0, density.Limit())) << name;
  }
}

TEST(SphereTest, ApproachesTheGaussianAsOneOverDim) {
  const CoordinateDensity gaussian = CoordinateDensity::Gaussian();
  for (const size_t dim : {64, 1024, 65536}) {
    const CoordinateDensity sphere = CoordinateDensity::Sphere(dim);
    const double excess =
        (sphere.Density(0.0) / gaussian.Density(0.0) - 1.0) * static_cast<double>(dim);
    EXPECT_NEAR(excess, -0.75, 3.0 / static_cast<double>(dim)) << dim;
  }
  // Nothing overflows or hangs for a dim that no vector has.
  EXPECT_NEAR(CoordinateDensity::Sphere(size_t{1} << 60).Mass(-1.0, 1.0),
              std::erf(1.0 / std::numbers::sqrt2), 1e-13);
}

}  // namespace
}  // namespace turboquant
