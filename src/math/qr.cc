#include "src/math/qr.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>

namespace turboquant {
namespace {

// Rows that are orthogonalised together, so that each earlier row is read once for all of them.
constexpr size_t kBlockRows = 32;

// Eight partial sums that take turns: an order of additions that a compiler may keep in vector
// registers of any width.
double Dot(std::span<const double> a, std::span<const double> b) {
  constexpr size_t kLanes = 8;
  std::array<double, kLanes> sums{};
  const size_t whole = a.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  for (size_t i = whole; i < a.size(); ++i) sums[i - whole] += a[i] * b[i];
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

// row -= (row · direction) direction, for a unit direction.
void Remove(std::span<const double> direction, std::span<double> row) {
  const double projection = Dot(direction, row);
  for (size_t i = 0; i < row.size(); ++i) row[i] -= projection * direction[i];
}

void Normalize(std::span<double> row) {
  const double norm = std::sqrt(Dot(row, row));
  assert(norm > 0.0);
  for (double& element : row) element /= norm;  // by a positive number: L's diagonal
}

}  // namespace

std::vector<double> OrthogonalFromRows(size_t dim,
                                       const std::function<void(std::span<double>)>& fill_row) {
  std::vector<double> matrix(dim * dim);
  const auto row = [&](size_t i) { return std::span(matrix).subspan(i * dim, dim); };
  for (size_t first = 0; first < dim; first += kBlockRows) {
    const size_t last = std::min(first + kBlockRows, dim);
    for (size_t i = first; i < last; ++i) fill_row(row(i));
    // Modified Gram-Schmidt loses as many digits as A is ill-conditioned; a second pass over its
    // result, which is nearly orthonormal, loses none.
    for (int pass = 0; pass < 2; ++pass) {
      for (size_t earlier = 0; earlier < first; ++earlier) {
        for (size_t i = first; i < last; ++i) Remove(row(earlier), row(i));
      }
      for (size_t i = first; i < last; ++i) {
        for (size_t earlier = first; earlier < i; ++earlier) Remove(row(earlier), row(i));
        Normalize(row(i));
      }
    }
  }
  return matrix;
}

}  // namespace turboquant
