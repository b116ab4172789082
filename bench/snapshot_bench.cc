// Snapshots of a cache in memory: bytes a second, and ns per packed row. The floor is a copy of the
// same bytes.
#include <cstring>

#include "bench/bench_caches.h"
#include "turboquant/snapshot.h"

namespace turboquant::bench {
namespace {

constexpr size_t kKvHeads = 8;

KvCache Packed(const benchmark::State& state) {
  const Shape shape = {128, kKvHeads, 32, static_cast<size_t>(state.range(1))};
  return Fill(Options(shape, Side(state.range(0)), Side(state.range(0))), shape.tokens);
}

void Report(benchmark::State& state, size_t bytes) {
  const double passes = static_cast<double>(state.iterations());
  const double rows = static_cast<double>(2 * kKvHeads) * static_cast<double>(state.range(1));
  state.counters["MB/s"] =
      benchmark::Counter(passes * static_cast<double>(bytes) * 1e-6, benchmark::Counter::kIsRate);
  state.counters["ns_per_row"] = benchmark::Counter(
      passes * rows * 1e-9, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void Save(benchmark::State& state) {
  const KvCache cache = Packed(state);
  size_t size = 0;
  for (auto _ : state) {
    auto bytes = SerializeKvCache(cache);
    if (!bytes) return state.SkipWithError(bytes.error().message.c_str());
    benchmark::DoNotOptimize(bytes->data());
    size = bytes->size();
  }
  Report(state, size);
}

void Load(benchmark::State& state) {
  const auto bytes = SerializeKvCache(Packed(state));
  for (auto _ : state) {
    auto cache = ReadKvCache(*bytes);
    if (!cache) return state.SkipWithError(cache.error().message.c_str());
    benchmark::DoNotOptimize(&*cache);
  }
  Report(state, bytes->size());
}

void Copy(benchmark::State& state) {
  const auto bytes = SerializeKvCache(Packed(state));
  for (auto _ : state) {
    std::vector<std::byte> copy(bytes->size());
    std::memcpy(copy.data(), bytes->data(), copy.size());
    benchmark::DoNotOptimize(copy.data());
  }
  Report(state, bytes->size());
}

BENCHMARK(Save)->ArgNames({"bits", "tokens"})->ArgsProduct({{2, 3, 4, 8, 16}, {4096}});
BENCHMARK(Load)->ArgNames({"bits", "tokens"})->ArgsProduct({{2, 3, 4, 8, 16}, {4096}});
BENCHMARK(Copy)->ArgNames({"bits", "tokens"})->ArgsProduct({{4, 16}, {4096}});

}  // namespace
}  // namespace turboquant::bench
