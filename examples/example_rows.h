// Rows for the examples: real programs have their own.
#ifndef TURBOQUANT_EXAMPLES_EXAMPLE_ROWS_H_
#define TURBOQUANT_EXAMPLES_EXAMPLE_ROWS_H_

#include <cstddef>
#include <random>
#include <vector>

#include "turboquant/matrix_view.h"

// rows × dim floats with a view on them.
struct ExampleRows {
  size_t rows;
  size_t dim;
  std::vector<float> values;

  ExampleRows(size_t rows_in, size_t dim_in)
      : rows(rows_in), dim(dim_in), values(rows_in * dim_in) {}

  turboquant::MatrixView<float> view() { return {values.data(), rows, dim}; }
  turboquant::MatrixView<const float> view() const { return {values.data(), rows, dim}; }
};

// Independent standard normals.
inline ExampleRows NormalRows(size_t rows, size_t dim, unsigned seed) {
  ExampleRows normal(rows, dim);
  std::mt19937 generator(seed);
  std::normal_distribution<float> distribution;
  for (float& x : normal.values) x = distribution(generator);
  return normal;
}

inline double Dot(const float* a, const float* b, size_t dim) {
  double sum = 0.0;
  for (size_t j = 0; j < dim; ++j) sum += static_cast<double>(a[j]) * static_cast<double>(b[j]);
  return sum;
}

// Mean of |row - decoded|² / |row|².
inline double RelativeError(const ExampleRows& rows, const ExampleRows& decoded) {
  double sum = 0.0;
  for (size_t r = 0; r < rows.rows; ++r) {
    const float* row = rows.view().Row(r);
    const float* other = decoded.view().Row(r);
    double squares = 0.0;
    for (size_t j = 0; j < rows.dim; ++j) {
      const double difference = static_cast<double>(row[j]) - static_cast<double>(other[j]);
      squares += difference * difference;
    }
    sum += squares / Dot(row, row, rows.dim);
  }
  return sum / static_cast<double>(rows.rows);
}

#endif  // TURBOQUANT_EXAMPLES_EXAMPLE_ROWS_H_
