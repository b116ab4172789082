// Inputs and baselines that the benchmarks share.
#ifndef TURBOQUANT_BENCH_BENCH_ROWS_H_
#define TURBOQUANT_BENCH_BENCH_ROWS_H_

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "src/eval/read_bytes.h"
#include "turboquant/mse_quantizer.h"

namespace turboquant::bench {

inline std::vector<float> NormalRows(size_t rows, size_t dim, unsigned seed = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(rows * dim);
  for (float& x : values) x = normal(generator);
  return values;
}

using eval::ReadBytes;

// Sets the counters every benchmark reports: ns per row (and query), bytes per row, GB/s of the
// bytes read or written.
inline void ReportRows(benchmark::State& state, size_t rows, size_t queries, double bytes_per_row) {
  const double items = static_cast<double>(state.iterations()) * static_cast<double>(rows);
  state.counters["ns_per_row"] =
      benchmark::Counter(items * static_cast<double>(queries) * 1e-9,
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["bytes_per_row"] = bytes_per_row;
  state.counters["GB/s"] =
      benchmark::Counter(items * bytes_per_row * 1e-9, benchmark::Counter::kIsRate);
}

inline MseQuantizer MakeQuantizer(MseOptions options) {
  auto quantizer = MseQuantizer::Create(options);
  return *std::move(quantizer);  // options are the benchmark's own; a refusal ends the program
}

}  // namespace turboquant::bench

#endif  // TURBOQUANT_BENCH_BENCH_ROWS_H_
