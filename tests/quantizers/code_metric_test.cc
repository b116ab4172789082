// Codes by what queries see of their error, against the same metric written out as a matrix.
#include "src/quantizers/code_metric.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>
#include <vector>

#include "src/kernels/kernels.h"

namespace turboquant {
namespace {

// W = H diag(weights) H / dim with the Sylvester-Hadamard matrix H, weights of mean 1.
std::vector<double> MetricMatrix(const std::vector<float>& weights) {
  const size_t dim = weights.size();
  double sum = 0.0;
  for (const float w : weights) sum += w;
  std::vector<double> matrix(dim * dim);
  for (size_t i = 0; i < dim; ++i) {
    for (size_t j = 0; j < dim; ++j) {
      for (size_t k = 0; k < dim; ++k) {
        const bool minus = std::popcount((i ^ j) & k) % 2 != 0;
        matrix[i * dim + j] += (minus ? -1.0 : 1.0) * weights[k] / sum;
      }
    }
  }
  return matrix;
}

double Form(const std::vector<double>& matrix, const std::vector<double>& x,
            const std::vector<double>& y) {
  double sum = 0.0;
  for (size_t i = 0; i < x.size(); ++i)
    for (size_t j = 0; j < y.size(); ++j) sum += x[i] * matrix[i * x.size() + j] * y[j];
  return sum;
}

// A row on the grid with its nearest codes.
struct Row {
  Codebook codebook;
  std::vector<int16_t> grid;
  std::vector<uint8_t> codes;
  kernels::RowSums sums = {0, 0};

  Row(size_t dim, int bits, unsigned seed)
      : codebook(*Codebook::Create({.dim = dim, .bits = bits})), grid(dim), codes(dim) {
    std::mt19937 generator(seed);
    std::normal_distribution<double> normal;
    std::vector<double> x(dim);
    double norm2 = 0.0;
    for (double& v : x) {
      v = normal(generator);
      norm2 += v * v;
    }
    for (size_t j = 0; j < dim; ++j) {
      const double sigmas = x[j] * std::sqrt(static_cast<double>(dim) / norm2);
      grid[j] = static_cast<int16_t>(std::lrint(sigmas * kernels::kGridPerSigma));
      while (codes[j] + 1u < codebook.size() && sigmas > codebook.Boundary(codes[j])) ++codes[j];
    }
    Sum();
  }

  void Sum() {
    sums = {0, 0};
    for (size_t j = 0; j < grid.size(); ++j) {
      const int level = codebook.levels()[codes[j]];
      sums.grid_level += grid[j] * level;
      sums.level_level += level * level;
    }
  }
  std::vector<double> Sigmas() const {
    std::vector<double> u(grid.size());
    for (size_t j = 0; j < u.size(); ++j) u[j] = grid[j] / double{kernels::kGridPerSigma};
    return u;
  }
  std::vector<double> Centroids() const {
    std::vector<double> c(grid.size());
    for (size_t j = 0; j < c.size(); ++j) c[j] = codebook.Centroid(codes[j]);
    return c;
  }
  // The scale that codes are found for.
  double StartScale() const {
    return static_cast<double>(grid.size()) * kernels::kGridPerSigma /
           (static_cast<double>(sums.grid_level) * codebook.step());
  }
  // What queries see of the row less scale · centroids.
  double Error(const std::vector<double>& metric, double scale) const {
    std::vector<double> e = Sigmas();
    const std::vector<double> c = Centroids();
    for (size_t j = 0; j < e.size(); ++j) e[j] -= scale * c[j];
    return Form(metric, e, e);
  }
};

// Few coordinates matter much, as behind real maps.
std::vector<float> SteepWeights(size_t dim, unsigned seed) {
  std::mt19937 generator(seed);
  std::exponential_distribution<float> exponential;
  std::vector<float> weights(dim);
  for (float& w : weights) w = 0.1f + exponential(generator) * exponential(generator);
  return weights;
}

TEST(CodeMetricTest, FindsCodesThatNoSingleMoveBetters) {
  for (const size_t dim : {2, 4, 8, 16, 64, 128}) {
    const std::vector<float> weights = SteepWeights(dim, 3);
    const std::vector<double> metric = MetricMatrix(weights);
    CodeMetric shaper(kernels::reference::kTable, weights);
    for (const int bits : {2, 3, 4}) {
      Row row(dim, bits, static_cast<unsigned>(dim) + static_cast<unsigned>(bits));
      const double scale = row.StartScale();
      const double before = row.Error(metric, scale);
      ASSERT_TRUE(shaper.Shape(row.codebook, row.grid.data(), row.sums, row.codes.data()));
      const double after = row.Error(metric, scale);
      EXPECT_LE(after, before * (1 + 1e-6)) << dim << " " << bits;
      for (size_t j = 0; j < dim; ++j) {
        for (const int by : {-1, 1}) {
          if (row.codes[j] + by < 0 || row.codes[j] + by >= 1 << bits) continue;
          Row moved = row;
          moved.codes[j] = static_cast<uint8_t>(moved.codes[j] + by);
          EXPECT_GE(moved.Error(metric, scale), after * (1 - 1e-4)) << dim << " " << bits;
        }
      }
    }
  }
}

// Of many rows the error that queries see falls by a third or more at 3 bits; it is the error of
// nearest codes that is larger elsewhere.
TEST(CodeMetricTest, LowersTheErrorThatQueriesSee) {
  const std::vector<float> weights = SteepWeights(64, 5);
  const std::vector<double> metric = MetricMatrix(weights);
  const std::vector<double> plain = MetricMatrix(std::vector<float>(64, 1.0f));
  CodeMetric shaper(kernels::reference::kTable, weights);
  double before = 0.0, after = 0.0, plain_before = 0.0, plain_after = 0.0;
  for (unsigned seed = 0; seed < 40; ++seed) {
    Row row(64, 3, seed);
    before += row.Error(metric, row.StartScale());
    plain_before += row.Error(plain, row.StartScale());
    const auto scale = shaper.Shape(row.codebook, row.grid.data(), row.sums, row.codes.data());
    ASSERT_TRUE(scale);
    after += row.Error(metric, *scale);
    plain_after += row.Error(plain, *scale);
  }
  EXPECT_LT(after, 0.67 * before);
  EXPECT_GT(plain_after, plain_before);
  RecordProperty("ratio", std::to_string(after / before));
}

TEST(CodeMetricTest, TheScaleIsUnbiasedForTheQueries) {
  const std::vector<float> weights = SteepWeights(32, 7);
  const std::vector<double> metric = MetricMatrix(weights);
  CodeMetric shaper(kernels::reference::kTable, weights);
  Row row(32, 2, 11);
  const auto scale = shaper.Shape(row.codebook, row.grid.data(), row.sums, row.codes.data());
  ASSERT_TRUE(scale);
  const double own = Form(metric, row.Sigmas(), row.Sigmas());
  EXPECT_NEAR(*scale * Form(metric, row.Sigmas(), row.Centroids()), own, 1e-5 * own);
}

// Weights say how coordinates compare, not how large they are.
TEST(CodeMetricTest, OnlyTheShapeOfWeightsMatters) {
  std::vector<float> weights = SteepWeights(64, 9);
  CodeMetric shaper(kernels::reference::kTable, weights);
  for (float& w : weights) w *= 1024.0f;
  CodeMetric larger(kernels::reference::kTable, weights);
  Row a(64, 3, 1);
  Row b = a;
  const auto scale = shaper.Shape(a.codebook, a.grid.data(), a.sums, a.codes.data());
  EXPECT_EQ(larger.Shape(b.codebook, b.grid.data(), b.sums, b.codes.data()), scale);
  EXPECT_EQ(a.codes, b.codes);
}

// A row whose codes point elsewhere keeps them.
TEST(CodeMetricTest, RowsWithoutAScaleStayAsTheyAre) {
  CodeMetric shaper(kernels::reference::kTable, SteepWeights(16, 1));
  Row row(16, 3, 4);
  for (uint8_t& code : row.codes) code = static_cast<uint8_t>(7 - code);
  row.Sum();
  const std::vector<uint8_t> before = row.codes;
  EXPECT_FALSE(shaper.Shape(row.codebook, row.grid.data(), row.sums, row.codes.data()));
  EXPECT_EQ(row.codes, before);
}

TEST(CodeMetricTest, EveryBackendFindsTheSameCodes) {
  for (const size_t dim : {4, 64, 128, 512}) {
    const std::vector<float> weights = SteepWeights(dim, 2);
    CodeMetric reference(kernels::reference::kTable, weights);
    for (const Backend backend : {Backend::kAvx2, Backend::kNeon, Backend::kAvx512}) {
      const kernels::KernelTable* table = kernels::FindKernels(backend);
      if (table == nullptr) continue;
      CodeMetric shaper(*table, weights);
      for (const int bits : {1, 2, 3, 4, 6}) {
        Row expected(dim, bits, 21);
        Row actual = expected;
        EXPECT_EQ(
            shaper.Shape(actual.codebook, actual.grid.data(), actual.sums, actual.codes.data()),
            reference.Shape(expected.codebook, expected.grid.data(), expected.sums,
                            expected.codes.data()));
        EXPECT_EQ(actual.codes, expected.codes) << dim << " " << bits;
      }
    }
  }
}

}  // namespace
}  // namespace turboquant
