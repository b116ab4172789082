#include "src/math/balanced_map.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <utility>

#include "src/math/symmetric_eigen.h"

namespace turboquant {
namespace {

constexpr double kSmallestEigenvalue = 1e-9;  // of the largest

std::vector<double> Multiply(size_t dim, std::span<const double> a, std::span<const double> b) {
  std::vector<double> product(dim * dim);
  for (size_t i = 0; i < dim; ++i) {
    double* row = product.data() + i * dim;
    for (size_t k = 0; k < dim; ++k) {
      const double factor = a[i * dim + k];
      for (size_t j = 0; j < dim; ++j) row[j] += factor * b[k * dim + j];
    }
  }
  return product;
}

// The sum of values[i] · v_i v_iᵀ over the eigenvectors.
std::vector<double> Compose(const SymmetricEigen& eigen, std::span<const double> values) {
  const size_t dim = values.size();
  std::vector<double> scaled = eigen.eigenvectors;
  std::vector<double> transposed(dim * dim);
  for (size_t i = 0; i < dim; ++i) {
    for (size_t j = 0; j < dim; ++j) {
      transposed[j * dim + i] = scaled[i * dim + j];
      scaled[i * dim + j] *= values[i];
    }
  }
  return Multiply(dim, transposed, scaled);
}

// Eigenvalues of a root: those of `eigen`, the smallest raised.
std::vector<double> RootEigenvalues(const SymmetricEigen& eigen) {
  std::vector<double> roots = eigen.eigenvalues;
  const double smallest = kSmallestEigenvalue * roots.back();
  for (double& x : roots) x = std::sqrt(std::max(x, smallest));
  return roots;
}

std::vector<double> Root(size_t dim, std::span<const double> matrix) {
  const SymmetricEigen eigen = DecomposeSymmetric(dim, matrix);
  return Compose(eigen, RootEigenvalues(eigen));
}

// Left · matrix · left for symmetric factors, made symmetric again.
std::vector<double> Surround(size_t dim, std::span<const double> left,
                             std::span<const double> matrix) {
  std::vector<double> product = Multiply(dim, Multiply(dim, left, matrix), left);
  for (size_t i = 0; i < dim; ++i) {
    for (size_t j = 0; j < i; ++j) {
      const double mean = (product[i * dim + j] + product[j * dim + i]) / 2.0;
      product[i * dim + j] = mean;
      product[j * dim + i] = mean;
    }
  }
  return product;
}

// Elements divided by the mean of those at 0, step, 2 step, ...
void DivideByMean(size_t step, std::span<double> elements) {
  double sum = 0.0;
  size_t count = 0;
  for (size_t i = 0; i < elements.size(); i += step, ++count) sum += elements[i];
  const double mean = sum / static_cast<double>(count);
  for (double& x : elements) x /= mean;
}

}  // namespace

std::vector<double> BalancedMap(size_t dim, std::span<const double> key_covariance,
                                std::span<const double> query_moment) {
  assert(key_covariance.size() == dim * dim && query_moment.size() == dim * dim);
  const SymmetricEigen keys = DecomposeSymmetric(dim, key_covariance);
  std::vector<double> roots = RootEigenvalues(keys);
  const std::vector<double> key_root = Compose(keys, roots);
  for (double& x : roots) x = 1.0 / x;
  const std::vector<double> inverse_root = Compose(keys, roots);
  const std::vector<double> middle = Root(dim, Surround(dim, key_root, query_moment));
  std::vector<double> map = Root(dim, Surround(dim, inverse_root, middle));
  DivideByMean(dim + 1, map);
  return map;
}

std::vector<double> BalancedScales(std::span<const double> key_variances,
                                   std::span<const double> query_moments) {
  assert(key_variances.size() == query_moments.size());
  const double smallest_key =
      kSmallestEigenvalue * *std::max_element(key_variances.begin(), key_variances.end());
  const double smallest_query =
      kSmallestEigenvalue * *std::max_element(query_moments.begin(), query_moments.end());
  std::vector<double> scales(key_variances.size());
  for (size_t j = 0; j < scales.size(); ++j) {
    scales[j] = std::sqrt(std::sqrt(std::max(query_moments[j], smallest_query) /
                                    std::max(key_variances[j], smallest_key)));
  }
  DivideByMean(1, scales);
  return scales;
}

std::optional<std::vector<double>> InvertMatrix(size_t dim, std::span<const double> matrix) {
  assert(matrix.size() == dim * dim);
  std::vector<double> rest(matrix.begin(), matrix.end());
  std::vector<double> inverse(dim * dim);
  for (size_t i = 0; i < dim; ++i) inverse[i * dim + i] = 1.0;
  double largest = 0.0;
  for (const double x : rest) largest = std::max(largest, std::abs(x));
  for (size_t k = 0; k < dim; ++k) {
    size_t pivot = k;
    for (size_t i = k + 1; i < dim; ++i) {
      if (std::abs(rest[i * dim + k]) > std::abs(rest[pivot * dim + k])) pivot = i;
    }
    if (!(std::abs(rest[pivot * dim + k]) > 1e-12 * largest)) return std::nullopt;
    for (std::vector<double>* part : {&rest, &inverse}) {
      double* row = part->data() + k * dim;
      if (pivot != k) std::swap_ranges(row, row + dim, part->data() + pivot * dim);
    }
    const double divisor = rest[k * dim + k];
    for (size_t j = 0; j < dim; ++j) rest[k * dim + j] /= divisor;
    for (size_t j = 0; j < dim; ++j) inverse[k * dim + j] /= divisor;
    for (size_t i = 0; i < dim; ++i) {
      const double factor = rest[i * dim + k];
      if (i == k || factor == 0.0) continue;
      for (size_t j = k; j < dim; ++j) rest[i * dim + j] -= factor * rest[k * dim + j];
      for (size_t j = 0; j < dim; ++j) inverse[i * dim + j] -= factor * inverse[k * dim + j];
    }
  }
  return inverse;
}

}  // namespace turboquant
