// Expectations over one coordinate of a uniform point on the unit sphere, by a quadrature that
// shares nothing with src/math.
#ifndef TURBOQUANT_TESTS_SUPPORT_SPHERE_DENSITY_H_
#define TURBOQUANT_TESTS_SUPPORT_SPHERE_DENSITY_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>

#include "turboquant/codebook.h"

namespace turboquant::test {

// E[f(z)], z = sqrt(dim) t in sigma. With t = sin(angle) the density is cos(angle)^(dim-2), smooth
// for every dim >= 2; the midpoint rule is off by about 1e-9 where f has kinks.
template <class F>
double SphereMean(size_t dim, const F& f) {
  constexpr int kSteps = 100000;
  const double root_dim = std::sqrt(static_cast<double>(dim));
  const double end =
      dim < 64 ? std::numbers::pi / 2 : std::min(std::numbers::pi / 2, 13 / root_dim);
  double weights = 0.0;
  double sum = 0.0;
  for (int step = 0; step < kSteps; ++step) {
    const double angle = end * ((2.0 * step + 1.0) / kSteps - 1.0);
    const double weight = std::pow(std::cos(angle), static_cast<double>(dim) - 2.0);
    weights += weight;
    sum += weight * f(root_dim * std::sin(angle));
  }
  return sum / weights;
}

// The code of z; on a boundary, the lower one.
inline size_t NearestCode(const Codebook& codebook, double z) {
  size_t low = 0;
  size_t high = codebook.size() - 1;
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (z > codebook.Boundary(middle)) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// D: the expected squared error of a unit row under `codebook`.
inline double SphereDistortion(size_t dim, const Codebook& codebook) {
  return SphereMean(dim, [&](double z) {
    const double error = z - codebook.Centroid(NearestCode(codebook, z));
    return error * error;
  });
}

}  // namespace turboquant::test

#endif  // TURBOQUANT_TESTS_SUPPORT_SPHERE_DENSITY_H_
