#include "src/math/symmetric_eigen.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

namespace turboquant {
namespace {

// Eight partial sums that take turns, so that a compiler may use vectors of any width.
double Dot(const double* a, const double* b, size_t size) {
  constexpr size_t kLanes = 8;
  std::array<double, kLanes> sums{};
  const size_t whole = size / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  for (size_t i = whole; i < size; ++i) sums[i - whole] += a[i] * b[i];
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

// A = Q T Qᵀ, T tridiagonal. Rows of `vectors` become those of Qᵀ.
class Tridiagonal {
 public:
  Tridiagonal(size_t dim, std::vector<double> matrix)
      : diagonal(dim),
        off_diagonal(dim),
        vectors(dim * dim),
        dim_(dim),
        matrix_(std::move(matrix)),
        factors_(dim) {
    for (size_t k = 0; k < dim; ++k) {
      if (k + 2 < dim) {
        Reflect(k);
      } else if (k + 1 < dim) {
        off_diagonal[k] = Row(k)[k + 1];
      }
      diagonal[k] = Row(k)[k];
    }
    Accumulate();
  }

  std::vector<double> diagonal;
  std::vector<double> off_diagonal;  // [k] between k and k + 1; the last is unused
  std::vector<double> vectors;

 private:
  double* Row(size_t row) { return matrix_.data() + row * dim_; }

  // H = I - factor v vᵀ with H · (column k below the diagonal) = (off-diagonal, 0, ...); the rest
  // of the matrix becomes H · rest · H. v replaces row k right of the diagonal.
  void Reflect(size_t k) {
    const size_t count = dim_ - k - 1;
    double* v = Row(k) + k + 1;
    const double norm2 = Dot(v, v, count);
    const double below = Dot(v + 1, v + 1, count - 1);
    off_diagonal[k] = v[0];
    factors_[k] = 0.0;  // H = I
    if (below == 0.0) return;
    off_diagonal[k] = v[0] > 0.0 ? -std::sqrt(norm2) : std::sqrt(norm2);
    v[0] -= off_diagonal[k];
    const double factor = 2.0 / (v[0] * v[0] + below);
    factors_[k] = factor;
    std::vector<double> w(count);
    for (size_t i = 0; i < count; ++i) {
      const double* rest = Row(k + 1 + i) + k + 1;
      for (size_t j = 0; j < count; ++j) w[j] += v[i] * rest[j];
    }
    const double half = factor * factor / 2.0 * Dot(w.data(), v, count);
    for (size_t j = 0; j < count; ++j) w[j] = factor * w[j] - half * v[j];
    for (size_t i = 0; i < count; ++i) {
      double* rest = Row(k + 1 + i) + k + 1;
      for (size_t j = 0; j < count; ++j) rest[j] -= v[i] * w[j] + w[i] * v[j];
    }
  }

  // Qᵀ = H_last ... H_0, from the left: H_k changes only rows and columns behind k.
  void Accumulate() {
    for (size_t i = 0; i < dim_; ++i) vectors[i * dim_ + i] = 1.0;
    for (size_t k = dim_ < 2 ? 0 : dim_ - 2; k-- > 0;) {
      if (factors_[k] == 0.0) continue;
      const double* v = Row(k) + k + 1;
      for (size_t i = k + 1; i < dim_; ++i) {
        double* row = vectors.data() + i * dim_ + k + 1;
        const double factor = factors_[k] * Dot(row, v, dim_ - k - 1);
        for (size_t j = 0; j < dim_ - k - 1; ++j) row[j] -= factor * v[j];
      }
    }
  }

  size_t dim_;
  std::vector<double> matrix_;
  std::vector<double> factors_;
};

// Rows i and i + 1 turn by the angle of cosine and sine.
void TurnRows(size_t dim, double cosine, double sine, double* row) {
  double* next = row + dim;
  for (size_t j = 0; j < dim; ++j) {
    const double x = next[j];
    next[j] = sine * row[j] + cosine * x;
    row[j] = cosine * row[j] - sine * x;
  }
}

// One implicit QL step on the block [first, last] (Numerical Recipes, tqli).
void QlStep(Tridiagonal& t, size_t dim, size_t first, size_t last) {
  std::vector<double>& d = t.diagonal;
  std::vector<double>& e = t.off_diagonal;
  double g = (d[first + 1] - d[first]) / (2.0 * e[first]);
  const double root = std::sqrt(g * g + 1.0);
  g = d[last] - d[first] + e[first] / (g + (g < 0.0 ? -root : root));
  double sine = 1.0;
  double cosine = 1.0;
  double p = 0.0;
  for (size_t i = last; i-- > first;) {
    const double f = sine * e[i];
    const double b = cosine * e[i];
    const double r = std::sqrt(f * f + g * g);
    e[i + 1] = r;
    if (r == 0.0) {  // underflow: the block has split
      d[i + 1] -= p;
      e[last] = 0.0;
      return;
    }
    sine = f / r;
    cosine = g / r;
    g = d[i + 1] - p;
    const double turned = (d[i] - g) * sine + 2.0 * cosine * b;
    p = sine * turned;
    d[i + 1] = g + p;
    g = cosine * turned - b;
    TurnRows(dim, cosine, sine, t.vectors.data() + i * dim);
  }
  d[first] -= p;
  e[first] = g;
  e[last] = 0.0;
}

void Diagonalize(Tridiagonal& t, size_t dim) {
  constexpr int kMostSteps = 100;  // two or three are usual
  constexpr double kEpsilon = std::numeric_limits<double>::epsilon();
  for (size_t first = 0; first < dim; ++first) {
    for (int step = 0; step < kMostSteps; ++step) {
      size_t last = first;
      while (last + 1 < dim &&
             std::abs(t.off_diagonal[last]) >
                 kEpsilon * (std::abs(t.diagonal[last]) + std::abs(t.diagonal[last + 1]))) {
        ++last;
      }
      if (last == first) break;
      QlStep(t, dim, first, last);
      assert(step + 1 < kMostSteps);
    }
  }
}

}  // namespace

SymmetricEigen DecomposeSymmetric(size_t dim, std::span<const double> matrix) {
  assert(matrix.size() == dim * dim);
  double largest = 0.0;
  for (const double x : matrix) largest = std::max(largest, std::abs(x));
  // Within [-1, 1] no square overflows.
  std::vector<double> scaled(matrix.begin(), matrix.end());
  if (largest > 0.0) {
    for (double& x : scaled) x /= largest;
  }
  Tridiagonal t(dim, std::move(scaled));
  Diagonalize(t, dim);

  std::vector<size_t> order(dim);
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::sort(order, [&](size_t a, size_t b) {
    return t.diagonal[a] != t.diagonal[b] ? t.diagonal[a] < t.diagonal[b] : a < b;
  });
  SymmetricEigen eigen{std::vector<double>(dim), std::vector<double>(dim * dim)};
  for (size_t i = 0; i < dim; ++i) {
    eigen.eigenvalues[i] = t.diagonal[order[i]] * largest;
    std::copy_n(t.vectors.begin() + static_cast<std::ptrdiff_t>(order[i] * dim), dim,
                eigen.eigenvectors.begin() + static_cast<std::ptrdiff_t>(i * dim));
  }
  return eigen;
}

}  // namespace turboquant
