#include "src/eval/theory.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace turboquant::eval {
namespace {

// Simpson's rule on `panels` pairs of steps.
template <class F>
double Integrate(double low, double high, const F& f) {
  constexpr double kWidest = 0.05;  // in sigma
  constexpr int kFewest = 12;       // in narrow cells the integrand is still a parabola and more
  const int steps = 2 * std::max(kFewest, static_cast<int>(std::ceil((high - low) / kWidest)));
  const double h = (high - low) / steps;
  double sum = f(low) + f(high);
  for (int i = 1; i < steps; ++i) sum += (i % 2 == 1 ? 4.0 : 2.0) * f(low + i * h);
  return sum * h / 3.0;
}

// Expectations over one coordinate z (in sigma) of a uniform point on the sphere of the codebook's
// dim, q its nearest centroid.
struct SphereMoments {
  double distortion = 0.0;     // (z - q)²
  double energy = 0.0;         // q²
  double radial = 0.0;         // g = (z - q) q
  double radial_square = 0.0;  // g²
  double radial_energy = 0.0;  // g (z² - 1)
};

SphereMoments MomentsOf(const Codebook& codebook) {
  // A coordinate sin(a) has density ∝ cos(a)^(dim-2) in a, smooth for every dim. a is measured in
  // sigma, w = sqrt(dim) a; beyond 12 sigma nothing is left.
  const double root = std::sqrt(static_cast<double>(codebook.dim()));
  const double exponent = static_cast<double>(codebook.dim()) - 2.0;
  const double end = std::min(root * std::numbers::pi / 2.0, 12.0);
  const auto weight = [&](double w) {
    return exponent == 0.0 ? 1.0 : std::pow(std::max(0.0, std::cos(w / root)), exponent);
  };
  SphereMoments moments;
  double mass = 0.0;
  double low = -end;
  for (size_t i = 0; i < codebook.size(); ++i) {
    const bool last = i + 1 == codebook.size();
    const double boundary = last ? 1.0 : codebook.Boundary(i) / root;
    const double high =
        last ? end : std::clamp(root * std::asin(std::clamp(boundary, -1.0, 1.0)), low, end);
    if (high <= low) continue;
    const double q = codebook.Centroid(i);
    const auto add = [&](double& moment, const auto& f) {
      moment +=
          Integrate(low, high, [&](double w) { return weight(w) * f(root * std::sin(w / root)); });
    };
    add(mass, [](double) { return 1.0; });
    add(moments.distortion, [q](double z) { return (z - q) * (z - q); });
    add(moments.energy, [q](double) { return q * q; });
    add(moments.radial, [q](double z) { return (z - q) * q; });
    add(moments.radial_square, [q](double z) { return (z - q) * q * (z - q) * q; });
    add(moments.radial_energy, [q](double z) { return (z - q) * q * (z * z - 1.0); });
    low = high;
  }
  for (double* moment : {&moments.distortion, &moments.energy, &moments.radial,
                         &moments.radial_square, &moments.radial_energy}) {
    *moment /= mass;
  }
  return moments;
}

}  // namespace

double ShannonNmse(double bits) { return std::exp2(-2.0 * bits); }

double PaperBoundNmse(double bits) {
  return std::numbers::sqrt3 * std::numbers::pi / 2.0 * ShannonNmse(bits);
}

double SphereDistortion(const Codebook& codebook) { return MomentsOf(codebook).distortion; }

double SphereAngularDistortion(const Codebook& codebook) {
  const SphereMoments moments = MomentsOf(codebook);
  // Rescaling a row by the best factor takes out the part of its error along the centroid vector c:
  // <u - c, c>²/|c|². <u - c, c> is the mean over coordinates of g = (z - q) q, so that its square
  // is (E g)² plus Var(g)/dim, less what the sphere, Σ z² = dim, leaves no freedom for.
  const double dim = static_cast<double>(codebook.dim());
  const double variance = moments.radial_square - moments.radial * moments.radial -
                          moments.radial_energy * moments.radial_energy / 2.0;
  const double along = (moments.radial * moments.radial + variance / dim) / moments.energy;
  return moments.distortion - along;
}

double ScaledNmse(const Codebook& codebook, Scale scale) {
  if (scale == Scale::kNorm) return SphereDistortion(codebook);
  const double angular = SphereAngularDistortion(codebook);
  switch (scale) {
    case Scale::kMatched:
      return 2.0 - 2.0 * std::sqrt(1.0 - angular);
    case Scale::kUnbiased:
      return angular / (1.0 - angular);
    case Scale::kNorm:
    case Scale::kLeastSquares:
      break;
  }
  return angular;
}

double SketchNmse(size_t dim, size_t sketch_rows, SketchKind kind) {
  const auto d = static_cast<double>(dim);
  const auto m = static_cast<double>(sketch_rows);
  // The reconstruction has mean inner product |r|² with r, so NMSE = |reconstruction|²/|r|² - 1.
  if (kind == SketchKind::kGaussian) return (std::numbers::pi / 2.0 * d - 1.0) / m;
  // One orthogonal block has |S^T signs|² = d² exactly; blocks are independent.
  const double log_ratio = std::lgamma((d + 1.0) / 2.0) - std::lgamma(d / 2.0);
  const double one_block = std::numbers::pi * std::exp(2.0 * log_ratio) / d;
  return (one_block - 1.0) * d / m;
}

}  // namespace turboquant::eval
