// Random inputs of tests, the same on every platform.
#ifndef TURBOQUANT_TESTS_SUPPORT_RANDOM_ROWS_H_
#define TURBOQUANT_TESTS_SUPPORT_RANDOM_ROWS_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "src/base/random.h"
#include "turboquant/matrix_view.h"

namespace turboquant::test {

inline constexpr uint32_t kTestStage = 15;

// Rows with their shape.
struct Rows {
  size_t rows = 0;
  size_t dim = 0;
  std::vector<float> values;

  Rows(size_t rows_in, size_t dim_in) : rows(rows_in), dim(dim_in), values(rows_in * dim_in) {}

  std::span<float> operator[](size_t r) { return {values.data() + r * dim, dim}; }
  std::span<const float> operator[](size_t r) const { return {values.data() + r * dim, dim}; }
  MatrixView<float> view() { return {values.data(), rows, dim}; }
  MatrixView<const float> view() const { return {values.data(), rows, dim}; }
};

inline double Dot(std::span<const float> a, std::span<const float> b) {
  double sum = 0.0;
  for (size_t j = 0; j < a.size(); ++j)
    sum += static_cast<double>(a[j]) * static_cast<double>(b[j]);
  return sum;
}

inline double Norm(std::span<const float> a) { return std::sqrt(Dot(a, a)); }

// |a - b|².
inline double SquaredDistance(std::span<const float> a, std::span<const float> b) {
  double sum = 0.0;
  for (size_t j = 0; j < a.size(); ++j) {
    const double difference = static_cast<double>(a[j]) - static_cast<double>(b[j]);
    sum += difference * difference;
  }
  return sum;
}

// Independent N(0, 1).
inline Rows NormalRows(size_t rows, size_t dim, uint64_t seed) {
  Rows normal(rows, dim);
  RandomBits bits(seed, {.stage = kTestStage});
  for (float& x : normal.values) x = static_cast<float>(bits.NextNormal());
  return normal;
}

// Uniform on the unit sphere.
inline Rows UnitRows(size_t rows, size_t dim, uint64_t seed) {
  Rows unit = NormalRows(rows, dim, seed);
  for (size_t r = 0; r < rows; ++r) {
    const double norm = Norm(unit[r]);
    for (float& x : unit[r]) x = static_cast<float>(static_cast<double>(x) / norm);
  }
  return unit;
}

// Mean of samples and its standard error.
class Sample {
 public:
  void Add(double x) {
    ++count_;
    const double step = x - mean_;
    mean_ += step / count_;
    squares_ += step * (x - mean_);
  }
  double mean() const { return mean_; }
  double variance() const { return squares_ / (count_ - 1.0); }
  double standard_error() const { return std::sqrt(variance() / count_); }

 private:
  double count_ = 0.0;
  double mean_ = 0.0;
  double squares_ = 0.0;
};

}  // namespace turboquant::test

#endif  // TURBOQUANT_TESTS_SUPPORT_RANDOM_ROWS_H_
