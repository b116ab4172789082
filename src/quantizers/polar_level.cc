// Codebooks for the angles between pairs of radii (arXiv 2502.02617, section 4).
#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <mutex>
#include <numbers>
#include <utility>

#include "src/base/failure.h"
#include "src/math/gauss_legendre.h"
#include "turboquant/polar_quantizer.h"

namespace turboquant {
namespace {

// Density of t = angle - π/4 on a level >= 2: ∝ cos^power(2t) for |t| <= limit, power = 2^(level-1)
// - 1. Symmetric and log-concave, so that Lloyd-Max has one fixpoint.
class AngleDensity {
 public:
  explicit AngleDensity(int level)
      : power_(std::ldexp(1.0, level - 1) - 1.0),
        sigma_(0.5 / std::sqrt(power_)),
        limit_(std::min(std::numbers::pi / 4.0, 12.0 * sigma_)) {}

  double limit() const { return limit_; }

  // Up to a constant: 1 at t = 0.
  double At(double t) const { return std::pow(std::cos(2.0 * t), power_); }

  // ∫ over [from, to] of weight(t) times the density.
  template <class Weight>
  double Moment(double from, double to, const Weight& weight) const {
    return Integrate([&](double t) { return weight(t) * At(t); }, from, to, 0.5 * sigma_);
  }

 private:
  double power_;
  double sigma_;  // about the standard deviation
  double limit_;
};

// Cell i of the positive half.
struct Cell {
  double from;
  double to;
};

Cell CellOf(const AngleDensity& density, const std::vector<double>& centroids, size_t i) {
  return {i == 0 ? 0.0 : 0.5 * (centroids[i - 1] + centroids[i]),
          i + 1 == centroids.size() ? density.limit() : 0.5 * (centroids[i] + centroids[i + 1])};
}

// Quantiles of density^(1/3) on the positive half: where many centroids end.
std::vector<double> Start(const AngleDensity& density, size_t half) {
  constexpr size_t kSteps = 4096;
  const double step = density.limit() / kSteps;
  std::vector<double> cumulative(kSteps + 1, 0.0);
  for (size_t i = 0; i < kSteps; ++i) {
    const double middle = (static_cast<double>(i) + 0.5) * step;
    cumulative[i + 1] = cumulative[i] + std::cbrt(density.At(middle));
  }
  std::vector<double> centroids(half);
  for (size_t i = 0; i < half; ++i) {
    const double share = (static_cast<double>(i) + 0.5) / static_cast<double>(half);
    const auto above = std::ranges::upper_bound(cumulative, share * cumulative[kSteps]);
    centroids[i] = (static_cast<double>(above - cumulative.begin()) - 0.5) * step;
  }
  return centroids;
}

// Solves the tridiagonal system in place of `right`; `diagonal` is used up.
void SolveTridiagonal(const std::vector<double>& lower, std::vector<double>& diagonal,
                      const std::vector<double>& upper, std::vector<double>& right) {
  const size_t n = right.size();
  for (size_t i = 1; i < n; ++i) {
    const double factor = lower[i] / diagonal[i - 1];
    diagonal[i] -= factor * upper[i - 1];
    right[i] -= factor * right[i - 1];
  }
  right[n - 1] /= diagonal[n - 1];
  for (size_t i = n - 1; i-- > 0;) right[i] = (right[i] - upper[i] * right[i + 1]) / diagonal[i];
}

// The positive half of the centroids: Newton's method on centroid = mean of its cell, with a plain
// Lloyd step wherever Newton would break their order.
std::vector<double> SolveCentroids(const AngleDensity& density, size_t half) {
  std::vector<double> centroids = Start(density, half);
  std::vector<double> means(half), lower(half), diagonal(half), upper(half), excess(half);
  for (int round = 0; round < 200; ++round) {
    double largest = 0.0;
    for (size_t i = 0; i < half; ++i) {
      const auto [from, to] = CellOf(density, centroids, i);
      const double mass = density.Moment(from, to, [](double) { return 1.0; });
      means[i] = density.Moment(from, to, [](double t) { return t; }) / mass;
      // Derivatives of the mean by the cell's ends; 0 and the limit do not move.
      const double by_from = i == 0 ? 0.0 : density.At(from) * (means[i] - from) / mass;
      const double by_to = i + 1 == half ? 0.0 : density.At(to) * (to - means[i]) / mass;
      lower[i] = -0.5 * by_from;
      upper[i] = -0.5 * by_to;
      diagonal[i] = 1.0 - 0.5 * (by_from + by_to);
      excess[i] = centroids[i] - means[i];
      largest = std::max(largest, std::fabs(excess[i]));
    }
    if (largest < 1e-14 * density.limit()) break;
    SolveTridiagonal(lower, diagonal, upper, excess);
    std::vector<double> moved(half);
    std::ranges::transform(centroids, excess, moved.begin(), std::minus<>{});
    const bool ordered = moved.front() > 0.0 && moved.back() < density.limit() &&
                         std::ranges::is_sorted(moved, std::less_equal<>{});
    centroids = ordered ? moved : means;
  }
  return centroids;
}

// Uniform cells: the first starts at angle 0.
PolarLevel UniformLevel(int bits) {
  PolarLevel level{bits, {}, {}, 0.0};
  const size_t size = size_t{1} << bits;
  const double width = 2.0 * std::numbers::pi / static_cast<double>(size);
  for (size_t i = 0; i < size; ++i) {
    level.angles.push_back((static_cast<double>(i) + 0.5) * width);
    if (i > 0) level.boundaries.push_back(static_cast<double>(i) * width);
  }
  level.distortion = width * width / 12.0;
  return level;
}

PolarLevel LloydMaxLevel(int level_number, int bits) {
  const AngleDensity density(level_number);
  const size_t half = size_t{1} << (bits - 1);
  const std::vector<double> centroids = SolveCentroids(density, half);
  PolarLevel level{bits, {}, {}, 0.0};
  for (size_t i = half; i-- > 0;) level.angles.push_back(std::numbers::pi / 4.0 - centroids[i]);
  double error = 0.0;
  for (size_t i = 0; i < half; ++i) {
    level.angles.push_back(std::numbers::pi / 4.0 + centroids[i]);
    const auto [from, to] = CellOf(density, centroids, i);
    error +=
        density.Moment(from, to, [&](double t) { return (t - centroids[i]) * (t - centroids[i]); });
  }
  level.distortion = error / density.Moment(0.0, density.limit(), [](double) { return 1.0; });
  for (size_t i = 0; i + 1 < level.angles.size(); ++i) {
    level.boundaries.push_back(0.5 * (level.angles[i] + level.angles[i + 1]));
  }
  return level;
}

}  // namespace

Result<PolarLevel> OptimalPolarLevel(int level, int bits) {
  if (level < 1 || level > 16) {
    return Fail(ErrorCode::kInvalidArgument, "level must be 1 to 16, got ", level);
  }
  if (bits < 1 || bits > 8) {
    return Fail(ErrorCode::kInvalidArgument, "bits of level ", level, " must be 1 to 8, got ",
                bits);
  }
  if (level == 1) return UniformLevel(bits);
  static std::mutex mutex;
  static std::map<std::pair<int, int>, PolarLevel> known;
  const std::lock_guard lock(mutex);
  const auto [at, is_new] = known.try_emplace({level, bits});
  if (is_new) at->second = LloydMaxLevel(level, bits);
  return at->second;
}

}  // namespace turboquant
