#include "src/math/sphere.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numbers>

#include "src/math/gauss_legendre.h"

namespace turboquant {
namespace {

// Beyond 12 standard deviations N(0, 1) has mass 4e-33, and every sphere less.
constexpr double kFarTail = 12.0;
constexpr double kMaxPanel = 0.5;

// (1 - square)^exponent without losing the digits of a small square.
double PowerOfComplement(double square, double exponent) {
  if (exponent == 0.0) return 1.0;
  return std::exp(exponent * std::log1p(-std::min(square, 1.0)));
}

}  // namespace

double GammaHalfStep(double x) {
  assert(x > 0.0);
  double ratio = 1.0;
  for (; x < 32.0; ++x) ratio *= x / (x + 0.5);
  // Stirling's series of ln Γ(x + 1/2) - ln Γ(x); the next term is 2e-3 / x⁹.
  const double y = 1.0 / x;
  const double y2 = y * y;
  const double series =
      y * (-1.0 / 8.0 + y2 * (1.0 / 192.0 + y2 * (-1.0 / 640.0 + y2 * (17.0 / 14336.0))));
  return ratio * std::sqrt(x) * std::exp(series);
}

CoordinateDensity CoordinateDensity::Sphere(size_t dim) {
  assert(dim >= 2);
  const double d = static_cast<double>(dim);
  const double peak = GammaHalfStep(0.5 * (d - 1.0)) / std::sqrt(std::numbers::pi * d);
  return {d, peak, std::min(std::sqrt(d), kFarTail)};
}

CoordinateDensity CoordinateDensity::Gaussian() {
  return {0.0, std::numbers::inv_sqrtpi / std::numbers::sqrt2, kFarTail};
}

double CoordinateDensity::Density(double z) const {
  if (dim_ == 0.0) return peak_ * std::exp(-0.5 * z * z);
  return peak_ * PowerOfComplement(z * z / dim_, 0.5 * (dim_ - 3.0));
}

// On the sphere z = √d sin u turns density · dz into a power of cos u, which has no singular end
// for any dim (in z, dim 2 is infinite there, and every even dim has a root).
double CoordinateDensity::Coordinate(double u) const {
  return dim_ == 0.0 ? u : std::sqrt(dim_) * std::sin(u);
}

double CoordinateDensity::Weight(double u) const {
  if (dim_ == 0.0) return Density(u);
  const double scale = peak_ * std::sqrt(dim_);
  const double sine = std::sin(u);
  if (sine * sine < 0.5) return scale * PowerOfComplement(sine * sine, 0.5 * (dim_ - 2.0));
  return scale * std::pow(std::cos(u), dim_ - 2.0);
}

double CoordinateDensity::Tail(double z) const {
  if (dim_ == 0.0) return Density(z);
  return peak_ * dim_ / (dim_ - 1.0) * PowerOfComplement(z * z / dim_, 0.5 * (dim_ - 1.0));
}

template <class Integrand>
double CoordinateDensity::IntegrateCell(const Integrand& integrand, double from, double to) const {
  from = std::max(from, -limit_);
  to = std::min(to, limit_);
  if (!(from < to)) return 0.0;
  if (dim_ == 0.0) return Integrate(integrand, from, to, kMaxPanel);
  const double root = std::sqrt(dim_);
  const auto angle = [root](double z) { return std::asin(std::clamp(z / root, -1.0, 1.0)); };
  return Integrate(integrand, angle(from), angle(to), kMaxPanel / root);
}

double CoordinateDensity::Mass(double from, double to) const {
  return IntegrateCell([this](double u) { return Weight(u); }, from, to);
}

double CoordinateDensity::FirstMoment(double from, double to) const {
  from = std::max(from, -limit_);
  to = std::min(to, limit_);
  return from < to ? Tail(from) - Tail(to) : 0.0;
}

double CoordinateDensity::SquaredError(double from, double to, double centre) const {
  return IntegrateCell(
      [this, centre](double u) {
        const double error = Coordinate(u) - centre;
        return error * error * Weight(u);
      },
      from, to);
}

}  // namespace turboquant
