// Encode, decode and canonical import/export, ns per row. Beside them: a copy of the same rows.
#include <cstring>

#include "bench/bench_rows.h"
#include "turboquant/prod_quantizer.h"

namespace turboquant::bench {
namespace {

constexpr size_t kRows = 1024;

// Args: dim, bits, rounds, search, values.
void Encode(benchmark::State& state) {
  const size_t dim = static_cast<size_t>(state.range(0));
  const int bits = static_cast<int>(state.range(1));
  const Tiling tiling = state.range(4) != 0 ? Tiling::kValues : Tiling::kKeys;
  const MseQuantizer quantizer =
      MakeQuantizer({.dim = dim,
                     .bits = bits,
                     .scale_search = state.range(3) != 0,
                     .rotation_rounds = static_cast<int>(state.range(2))});
  const auto input = NormalRows(kRows, dim);
  MseRows rows = quantizer.MakeRows(tiling);
  for (auto _ : state) {
    (void)rows.Truncate(0);
    (void)quantizer.Append(MatrixView<const float>(input.data(), kRows, dim), rows);
    benchmark::DoNotOptimize(rows.blocks().data());
  }
  state.SetLabel(std::string(BackendName(quantizer.backend())));
  ReportRows(state, kRows, 1, 4.0 * static_cast<double>(dim));
}
BENCHMARK(Encode)
    ->ArgNames({"dim", "bits", "rounds", "search", "values"})
    ->ArgsProduct({{128}, {2, 3, 4}, {1, 2}, {0, 1}, {0, 1}})
    ->ArgsProduct({{64, 80, 256}, {4}, {2}, {0, 1}, {0}})
    ->ArgsProduct({{128}, {1}, {2}, {0}, {0}})
    ->ArgsProduct({{128}, {5, 6, 7, 8}, {2}, {0, 1}, {0, 1}});

ProdQuantizer MakeProdQuantizer(size_t dim, int bits, bool orthogonal) {
  const SketchKind sketch = orthogonal ? SketchKind::kOrthogonal : SketchKind::kGaussian;
  return *ProdQuantizer::Create({.dim = dim, .bits = bits, .sketch = sketch});
}

// Args: bits in total, kind of the sketch (0 Gaussian, 1 orthogonal).
void EncodeProd(benchmark::State& state) {
  constexpr size_t kDim = 128;
  const ProdQuantizer quantizer =
      MakeProdQuantizer(kDim, static_cast<int>(state.range(0)), state.range(1) != 0);
  const auto input = NormalRows(kRows, kDim);
  ProdRows rows = quantizer.MakeRows();
  for (auto _ : state) {
    (void)rows.Truncate(0);
    (void)quantizer.Append(MatrixView<const float>(input.data(), kRows, kDim), rows);
    benchmark::DoNotOptimize(&rows);
  }
  ReportRows(state, kRows, 1, 4.0 * kDim);
}
BENCHMARK(EncodeProd)->ArgNames({"bits", "orthogonal"})->ArgsProduct({{4}, {0, 1}});

// Args: as of EncodeProd.
void DecodeProd(benchmark::State& state) {
  constexpr size_t kDim = 128;
  const ProdQuantizer quantizer =
      MakeProdQuantizer(kDim, static_cast<int>(state.range(0)), state.range(1) != 0);
  const auto input = NormalRows(kRows, kDim);
  const auto rows = quantizer.Encode(MatrixView<const float>(input.data(), kRows, kDim));
  std::vector<float> out(kRows * kDim);
  for (auto _ : state) {
    (void)quantizer.Decode(*rows, {out.data(), kRows, kDim});
    benchmark::DoNotOptimize(out.data());
  }
  ReportRows(state, kRows, 1, 4.0 * kDim);
}
BENCHMARK(DecodeProd)->ArgNames({"bits", "orthogonal"})->ArgsProduct({{4}, {0, 1}});

void Decode(benchmark::State& state) {
  const size_t dim = static_cast<size_t>(state.range(0));
  const MseQuantizer quantizer =
      MakeQuantizer({.dim = dim, .bits = static_cast<int>(state.range(1))});
  const auto input = NormalRows(kRows, dim);
  const auto rows = quantizer.Encode(MatrixView<const float>(input.data(), kRows, dim));
  std::vector<float> out(kRows * dim);
  for (auto _ : state) {
    (void)quantizer.Decode(*rows, {out.data(), kRows, dim});
    benchmark::DoNotOptimize(out.data());
  }
  ReportRows(state, kRows, 1, 4.0 * static_cast<double>(dim));
}
BENCHMARK(Decode)->ArgNames({"dim", "bits"})->ArgsProduct({{64, 128, 256}, {2, 3, 4, 8}});

void ImportCanonical(benchmark::State& state) {
  const size_t dim = static_cast<size_t>(state.range(0));
  const MseQuantizer quantizer =
      MakeQuantizer({.dim = dim, .bits = static_cast<int>(state.range(1))});
  const auto input = NormalRows(kRows, dim);
  const auto rows = quantizer.Encode(MatrixView<const float>(input.data(), kRows, dim));
  std::vector<uint8_t> packed(kRows * rows->CanonicalRowBytes());
  (void)rows->ExportCanonical(packed);
  std::vector<float> scales(kRows);
  for (size_t r = 0; r < kRows; ++r) scales[r] = rows->ScaleOf(r);
  const Tiling tiling = state.range(2) != 0 ? Tiling::kValues : Tiling::kKeys;
  for (auto _ : state) {
    auto imported = quantizer.ImportCanonical(packed, scales, tiling);
    benchmark::DoNotOptimize(imported->blocks().data());
  }
  ReportRows(state, kRows, 1, static_cast<double>(rows->CanonicalRowBytes()));
}
BENCHMARK(ImportCanonical)
    ->ArgNames({"dim", "bits", "values"})
    ->ArgsProduct({{128}, {2, 3, 4}, {0, 1}})
    ->ArgsProduct({{128}, {1, 5, 6, 7, 8}, {0}})
    ->ArgsProduct({{80}, {3, 4}, {0, 1}});

void ExportCanonical(benchmark::State& state) {
  const size_t dim = static_cast<size_t>(state.range(0));
  const MseQuantizer quantizer =
      MakeQuantizer({.dim = dim, .bits = static_cast<int>(state.range(1))});
  const auto input = NormalRows(kRows, dim);
  const Tiling tiling = state.range(2) != 0 ? Tiling::kValues : Tiling::kKeys;
  const auto rows = quantizer.Encode(MatrixView<const float>(input.data(), kRows, dim), tiling);
  std::vector<uint8_t> packed(kRows * rows->CanonicalRowBytes());
  for (auto _ : state) {
    (void)rows->ExportCanonical(packed);
    benchmark::DoNotOptimize(packed.data());
  }
  ReportRows(state, kRows, 1, static_cast<double>(rows->CanonicalRowBytes()));
}
BENCHMARK(ExportCanonical)
    ->ArgNames({"dim", "bits", "values"})
    ->ArgsProduct({{128}, {2, 3, 4}, {0, 1}})
    ->ArgsProduct({{128}, {1, 5, 6, 7, 8}, {0}})
    ->ArgsProduct({{80}, {3, 4}, {0, 1}});

void CopyRows(benchmark::State& state) {
  const size_t dim = static_cast<size_t>(state.range(0));
  const auto input = NormalRows(kRows, dim);
  std::vector<float> out(input.size());
  for (auto _ : state) {
    std::memcpy(out.data(), input.data(), input.size() * sizeof(float));
    benchmark::DoNotOptimize(out.data());
  }
  ReportRows(state, kRows, 1, 4.0 * static_cast<double>(dim));
}
BENCHMARK(CopyRows)->ArgName("dim")->Arg(128);

void CreateQuantizer(benchmark::State& state) {
  for (auto _ : state) {
    auto quantizer = MakeQuantizer({.dim = static_cast<size_t>(state.range(0)), .bits = 4});
    benchmark::DoNotOptimize(&quantizer);
  }
}
BENCHMARK(CreateQuantizer)->ArgName("dim")->Arg(48)->Arg(128);

}  // namespace
}  // namespace turboquant::bench
