// Inputs and baselines that the benchmarks share.
#ifndef TURBOQUANT_BENCH_BENCH_ROWS_H_
#define TURBOQUANT_BENCH_BENCH_ROWS_H_

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "turboquant/mse_quantizer.h"

namespace turboquant::bench {

inline std::vector<float> NormalRows(size_t rows, size_t dim, unsigned seed = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(rows * dim);
  for (float& x : values) x = normal(generator);
  return values;
}

// A clone for each x86-64 level, chosen at run time: the baselines get the same CPU as the kernels.
#if defined(__x86_64__)
#define TQ_BENCH_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define TQ_BENCH_CLONES
#endif

// Reads every byte once, eight 32-byte sums at a time: what memory and caches allow here.
TQ_BENCH_CLONES inline uint64_t ReadBytes(const uint8_t* bytes, size_t count) {
  using Vector __attribute__((vector_size(32))) = uint64_t;
  Vector sums[8] = {};
  const Vector* from = reinterpret_cast<const Vector*>(bytes);
  for (size_t i = 0; i + 8 <= count / sizeof(Vector); i += 8) {
    for (size_t k = 0; k < 8; ++k) sums[k] += from[i + k];
  }
  uint64_t total = 0;
  for (const Vector& sum : sums) total += sum[0] + sum[1] + sum[2] + sum[3];
  return total;
}

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
