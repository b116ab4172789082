// Finds the rows with the largest inner product with a query, in packed rows, and compares with the
// exact answer.
#include <algorithm>
#include <cstdio>
#include <expected>
#include <numeric>
#include <vector>

#include "examples/example_rows.h"
#include "turboquant/mse_quantizer.h"

using turboquant::MseQuantizer;
using turboquant::Result;

namespace {

constexpr size_t kTop = 10;

std::vector<size_t> TopRows(const float* scores, size_t count) {
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  std::partial_sort(order.begin(), order.begin() + kTop, order.end(),
                    [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  order.resize(kTop);
  return order;
}

// How many of the exact top rows are among the top rows of packed scores, as a share.
Result<double> Recall(const ExampleRows& rows, const ExampleRows& queries, int bits) {
  const auto quantizer = MseQuantizer::Create({.dim = rows.dim, .bits = bits});
  if (!quantizer) return std::unexpected(quantizer.error());
  const auto encoded = quantizer->Encode(rows.view());
  if (!encoded) return std::unexpected(encoded.error());

  const auto prepared = quantizer->Prepare(queries.view());  // once for any number of rows
  if (!prepared) return std::unexpected(prepared.error());
  ExampleRows scores(queries.rows, rows.rows);
  if (const auto done = quantizer->Score(*prepared, *encoded, scores.view()); !done) {
    return std::unexpected(done.error());
  }

  size_t found = 0;
  std::vector<float> exact(rows.rows);
  for (size_t q = 0; q < queries.rows; ++q) {
    for (size_t r = 0; r < rows.rows; ++r) {
      exact[r] = static_cast<float>(Dot(queries.view().Row(q), rows.view().Row(r), rows.dim));
    }
    const std::vector<size_t> best = TopRows(exact.data(), rows.rows);
    for (const size_t row : TopRows(scores.view().Row(q), rows.rows)) {
      found += static_cast<size_t>(std::ranges::count(best, row));
    }
  }
  return static_cast<double>(found) / static_cast<double>(kTop * queries.rows);
}

}  // namespace

int main() {
  const ExampleRows rows = NormalRows(10000, 128, /*seed=*/1);
  const ExampleRows queries = NormalRows(20, 128, /*seed=*/2);
  double last = 0.0;
  for (const int bits : {2, 4, 8}) {
    const auto recall = Recall(rows, queries, bits);
    if (!recall) {
      std::fprintf(stderr, "%s\n", recall.error().message.c_str());
      return 1;
    }
    std::printf("%d bits: %.1f %% of the exact top %zu found\n", bits, 100.0 * *recall, kTop);
    if (*recall <= last) return 1;
    last = *recall;
  }
  return last > 0.95 ? 0 : 1;
}
