// Scores of packed keys, ns per (query, key), beside a plain read of the same bytes and a plain f32
// dot product over the uncompressed keys.
#include <algorithm>
#include <cstring>

#include "bench/bench_rows.h"
#include "turboquant/prod_quantizer.h"
#include "turboquant/qjl.h"

namespace turboquant::bench {
namespace {

constexpr size_t kDim = 128;

using Vector __attribute__((vector_size(32))) = float;

// scores[q * keys + k] = <query q, key k>, key after key so that the keys are read once.
TQ_CPU_CLONES void DotF32(const float* keys, size_t key_count, const float* queries,
                          size_t query_count, float* scores) {
  for (size_t k = 0; k < key_count; ++k) {
    for (size_t q = 0; q < query_count; ++q) {
      Vector sums[4] = {};
      for (size_t j = 0; j < kDim; j += 32) {
        for (size_t i = 0; i < 4; ++i) {
          Vector a, b;
          std::memcpy(&a, keys + k * kDim + j + 8 * i, sizeof(a));
          std::memcpy(&b, queries + q * kDim + j + 8 * i, sizeof(b));
          sums[i] += a * b;
        }
      }
      const Vector sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
      float total = 0.0f;
      for (int i = 0; i < 8; ++i) total += sum[i];
      scores[q * key_count + k] = total;
    }
  }
}

// Args: bits, queries, digits, keys.
void Score(benchmark::State& state) {
  const int bits = static_cast<int>(state.range(0));
  const size_t queries = static_cast<size_t>(state.range(1));
  const size_t keys = static_cast<size_t>(state.range(3));
  const CodebookKind kind = bits == 8 ? CodebookKind::kUniform : CodebookKind::kLloydMax;
  const MseQuantizer quantizer =
      MakeQuantizer({.dim = kDim, .bits = bits, .scale_search = false, .codebook = kind});
  MseRows rows = quantizer.MakeRows();
  const auto input = NormalRows(4096, kDim);
  for (size_t done = 0; done < keys; done += 4096) {
    (void)quantizer.Append(
        MatrixView<const float>(input.data(), std::min<size_t>(4096, keys - done), kDim), rows);
  }
  const auto query_rows = NormalRows(queries, kDim, 2);
  const auto prepared = quantizer.Prepare({query_rows.data(), queries, kDim},
                                          {.digits = static_cast<int>(state.range(2))});
  std::vector<float> scores(queries * keys);
  for (auto _ : state) {
    (void)quantizer.Score(*prepared, rows, {scores.data(), queries, keys});
    benchmark::DoNotOptimize(scores.data());
  }
  state.SetLabel(std::string(BackendName(quantizer.backend())));
  ReportRows(state, keys, queries,
             static_cast<double>(rows.blocks().size()) / static_cast<double>(keys));
}
BENCHMARK(Score)
    ->ArgNames({"bits", "queries", "digits", "keys"})
    ->ArgsProduct({{2, 3, 4, 8}, {1, 4, 8}, {1, 2}, {4096, 262144}});

// Args: bits in total, queries, keys.
void ScoreProd(benchmark::State& state) {
  const size_t queries = static_cast<size_t>(state.range(1));
  const size_t keys = static_cast<size_t>(state.range(2));
  const auto quantizer =
      ProdQuantizer::Create({.dim = kDim, .bits = static_cast<int>(state.range(0))});
  const auto input = NormalRows(keys, kDim);
  const auto rows = quantizer->Encode(MatrixView<const float>(input.data(), keys, kDim));
  const auto query_rows = NormalRows(queries, kDim, 2);
  const auto prepared = quantizer->Prepare({query_rows.data(), queries, kDim});
  std::vector<float> scores(queries * keys);
  for (auto _ : state) {
    (void)quantizer->Score(*prepared, *rows, {scores.data(), queries, keys});
    benchmark::DoNotOptimize(scores.data());
  }
  ReportRows(state, keys, queries, static_cast<double>(rows->CanonicalBytesPerRow()));
}
BENCHMARK(ScoreProd)
    ->ArgNames({"bits", "queries", "keys"})
    ->ArgsProduct({{2, 4}, {1, 4, 8}, {4096}});

// Args: queries, keys. One sign per coordinate.
void ScoreSigns(benchmark::State& state) {
  const size_t queries = static_cast<size_t>(state.range(0));
  const size_t keys = static_cast<size_t>(state.range(1));
  const auto sketch = QjlSketch::Create({.dim = kDim});
  const auto input = NormalRows(keys, kDim);
  const auto rows = sketch->Encode(MatrixView<const float>(input.data(), keys, kDim));
  const auto query_rows = NormalRows(queries, kDim, 2);
  const auto prepared = sketch->Prepare({query_rows.data(), queries, kDim});
  std::vector<float> scores(queries * keys);
  for (auto _ : state) {
    (void)sketch->Score(*prepared, *rows, {scores.data(), queries, keys});
    benchmark::DoNotOptimize(scores.data());
  }
  ReportRows(state, keys, queries, static_cast<double>(rows->CanonicalBytesPerRow()));
}
BENCHMARK(ScoreSigns)->ArgNames({"queries", "keys"})->ArgsProduct({{1, 4, 8}, {4096}});

// Args: bits, keys. The floor of the above: the same lines, only read.
void ReadLines(benchmark::State& state) {
  const size_t keys = static_cast<size_t>(state.range(1));
  const size_t bytes = keys * kDim * static_cast<size_t>(state.range(0)) / 8;
  MseRows rows = MakeQuantizer({.dim = kDim, .bits = 8}).MakeRows();
  std::vector<uint8_t> lines(bytes + 64, 1);
  uint8_t* aligned = lines.data() + (64 - reinterpret_cast<uintptr_t>(lines.data()) % 64);
  for (auto _ : state) {
    uint64_t sum = ReadBytes(aligned, bytes);
    benchmark::DoNotOptimize(sum);
  }
  ReportRows(state, keys, 1, static_cast<double>(bytes) / static_cast<double>(keys));
}
BENCHMARK(ReadLines)->ArgNames({"bits", "keys"})->ArgsProduct({{2, 3, 4, 8}, {4096, 262144}});

// Args: queries, keys.
void F32Dots(benchmark::State& state) {
  const size_t queries = static_cast<size_t>(state.range(0));
  const size_t keys = static_cast<size_t>(state.range(1));
  const auto rows = NormalRows(keys, kDim);
  const auto query_rows = NormalRows(queries, kDim, 2);
  std::vector<float> scores(queries * keys);
  for (auto _ : state) {
    DotF32(rows.data(), keys, query_rows.data(), queries, scores.data());
    benchmark::DoNotOptimize(scores.data());
  }
  ReportRows(state, keys, queries, 4.0 * kDim);
}
BENCHMARK(F32Dots)->ArgNames({"queries", "keys"})->ArgsProduct({{1, 4, 8}, {4096, 65536}});

}  // namespace
}  // namespace turboquant::bench
