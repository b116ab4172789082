// The density that one coordinate of a rotated unit vector has.
#ifndef TURBOQUANT_SRC_MATH_SPHERE_H_
#define TURBOQUANT_SRC_MATH_SPHERE_H_

#include <cstddef>

namespace turboquant {

// Γ(x + 1/2) / Γ(x) for x > 0, to a few units in the last place (a difference of two log-gammas
// would lose as many digits as x has).
double GammaHalfStep(double x);

// Density of z = √dim · t, t one coordinate of a uniform point on the unit sphere:
//   f(t) = Γ(d/2) / (√π Γ((d-1)/2)) · (1 - t²)^((d-3)/2), |t| <= 1,
// or its limit N(0, 1). Symmetric, with variance exactly 1; all arguments are in units of that
// standard deviation. Immutable; safe to share between threads.
class CoordinateDensity {
 public:
  static CoordinateDensity Sphere(size_t dim);  // dim >= 2
  static CoordinateDensity Gaussian();

  // No mass that a double would notice lies outside [-Limit(), Limit()]: √dim, at most 12.
  double Limit() const { return limit_; }

  // At z in (-Limit(), Limit()). Infinite at ±√2 for dim 2.
  double Density(double z) const;

  // ∫ over [from, to] of the density times 1, z, and (z - centre)²; the interval is clipped to the
  // support. FirstMoment is closed form, the others are quadrature to 1e-13 of the whole.
  double Mass(double from, double to) const;
  double FirstMoment(double from, double to) const;
  double SquaredError(double from, double to, double centre) const;

 private:
  CoordinateDensity(double dim, double peak, double limit)
      : dim_(dim), peak_(peak), limit_(limit) {}

  // z for the variable of integration u, in which every density is smooth up to the ends.
  double Coordinate(double u) const;
  // density(z) dz/du.
  double Weight(double u) const;
  // Tail(z) = ∫ from z to the end of the support of z · density.
  double Tail(double z) const;

  template <class Integrand>
  double IntegrateCell(const Integrand& integrand, double from, double to) const;

  double dim_;   // 0 for N(0, 1)
  double peak_;  // density at 0
  double limit_;
};

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_MATH_SPHERE_H_
