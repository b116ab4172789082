#include "src/math/lloyd_max.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>

#include "src/base/random.h"

namespace turboquant {
namespace {

constexpr int kMaxRounds = 1000;    // Newton takes under ten; only Lloyd rounds could use more
constexpr double kLastStep = 1e-9;  // the step after one so small is below rounding

// Half of the gradient of the distortion in the positive centroids, and half of its Hessian, which
// is symmetric and tridiagonal.
struct Stationarity {
  std::vector<double> residual;      // centroid · mass - first moment, per cell
  std::vector<double> mass;          // per cell
  std::vector<double> diagonal;      // of the Hessian
  std::vector<double> off_diagonal;  // [i] couples centroids i and i + 1
};

// Positive centroids that follow f^(1/3), the density of centroids that is optimal for many bits.
// From any flatter or narrower start the outer centroids take thousands of rounds to arrive.
std::vector<double> CompandingStart(const CoordinateDensity& density, int bits) {
  const size_t half = size_t{1} << (bits - 1);
  std::vector<double> centroids(half);
  for (size_t i = 0; i < half; ++i) {
    const double p = 0.5 + (static_cast<double>(i) + 0.5) / static_cast<double>(2 * half);
    const double quantile = std::sqrt(3.0) * InverseNormal(p);  // of N(0, 3), f^(1/3) of N(0, 1)
    // A short support bends the quantiles into itself.
    centroids[i] = quantile / std::hypot(1.0, quantile / density.Limit());
  }
  return centroids;
}

Stationarity Evaluate(const CoordinateDensity& density, const std::vector<double>& centroids) {
  const size_t half = centroids.size();
  Stationarity at{std::vector<double>(half), std::vector<double>(half), std::vector<double>(half),
                  std::vector<double>(half)};
  double lower = 0.0;
  double lower_coupling = 0.0;  // the boundary at 0 does not move
  for (size_t i = 0; i < half; ++i) {
    const bool last = i + 1 == half;
    const double upper = last ? density.Limit() : 0.5 * (centroids[i] + centroids[i + 1]);
    const double coupling = last ? 0.0 : 0.5 * density.Density(upper) * (upper - centroids[i]);
    at.mass[i] = density.Mass(lower, upper);
    at.residual[i] = centroids[i] * at.mass[i] - density.FirstMoment(lower, upper);
    at.diagonal[i] = at.mass[i] - lower_coupling - coupling;
    at.off_diagonal[i] = -coupling;
    lower = upper;
    lower_coupling = coupling;
  }
  return at;
}

// Replaces the residual by Newton's step, Hessian⁻¹ · residual. False when the Hessian is not
// positive definite here, so that Newton might climb.
bool SolveNewtonStep(Stationarity& at) {
  const size_t half = at.residual.size();
  for (size_t i = 0; i < half; ++i) {
    if (i > 0) {
      const double factor = at.off_diagonal[i - 1] / at.diagonal[i - 1];
      at.diagonal[i] -= factor * at.off_diagonal[i - 1];
      at.residual[i] -= factor * at.residual[i - 1];
    }
    if (!(at.diagonal[i] > 0.0)) return false;
  }
  for (size_t i = half; i-- > 0;) {
    const double above = i + 1 < half ? at.off_diagonal[i] * at.residual[i + 1] : 0.0;
    at.residual[i] = (at.residual[i] - above) / at.diagonal[i];
  }
  return true;
}

bool AscendWithin(const std::vector<double>& centroids, double limit) {
  return centroids.front() > 0.0 && centroids.back() < limit &&
         std::ranges::adjacent_find(centroids, std::ranges::greater_equal{}) == centroids.end();
}

// One round: Newton's step where it is safe, else Lloyd's, which always descends. Returns the
// largest move.
double Improve(const CoordinateDensity& density, std::vector<double>& centroids) {
  Stationarity at = Evaluate(density, centroids);
  std::vector<double> next = centroids;
  for (size_t i = 0; i < next.size(); ++i) next[i] -= at.residual[i] / at.mass[i];
  if (SolveNewtonStep(at)) {
    std::vector<double> newton = centroids;
    for (size_t i = 0; i < newton.size(); ++i) newton[i] -= at.residual[i];
    if (AscendWithin(newton, density.Limit())) next = std::move(newton);
  }
  double move = 0.0;
  for (size_t i = 0; i < next.size(); ++i) {
    move = std::max(move, std::abs(next[i] - centroids[i]));
  }
  centroids = std::move(next);
  return move;
}

}  // namespace

LloydMaxQuantizer LloydMax(const CoordinateDensity& density, int bits) {
  assert(bits >= 1 && bits <= 8);
  std::vector<double> positive = CompandingStart(density, bits);
  int rounds = 0;
  while (Improve(density, positive) > kLastStep && rounds < kMaxRounds) ++rounds;
  assert(rounds < kMaxRounds);

  LloydMaxQuantizer quantizer;
  for (size_t i = positive.size(); i-- > 0;) quantizer.centroids.push_back(-positive[i]);
  quantizer.centroids.insert(quantizer.centroids.end(), positive.begin(), positive.end());
  quantizer.distortion = Distortion(density, quantizer.centroids);
  return quantizer;
}

double Distortion(const CoordinateDensity& density, std::span<const double> centroids) {
  assert(!centroids.empty());
  double distortion = 0.0;
  double lower = -density.Limit();
  for (size_t i = 0; i < centroids.size(); ++i) {
    const double upper =
        i + 1 < centroids.size() ? 0.5 * (centroids[i] + centroids[i + 1]) : density.Limit();
    distortion += density.SquaredError(lower, upper, centroids[i]);
    lower = upper;
  }
  return distortion;
}

}  // namespace turboquant
