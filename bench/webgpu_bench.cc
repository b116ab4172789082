// Batches on a GPU (or the software that plays one). "Resident" benchmarks time kernels alone, on
// rows that lie on the device, beside a copy from buffer to buffer there: GB/s count what is read
// and written. The others begin and end at the host. The label names the adapter.
#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "bench/bench_rows.h"
#include "src/base/try.h"
#include "src/webgpu/gpu.h"
#include "src/webgpu/mse_kernels.h"
#include "turboquant/webgpu/attention.h"
#include "turboquant/webgpu/device.h"
#include "turboquant/webgpu/mse_quantizer.h"

namespace turboquant::bench {
namespace {

constexpr size_t kDim = 128;
constexpr int kRunsPerWait = 8;

const Result<WebGpuDevice>& OpenDevice() {
  static const Result<WebGpuDevice> device = WebGpuDevice::Create();
  return device;
}

bool IsHardware() { return OpenDevice() && !OpenDevice()->adapter().software; }

// Null, and the benchmark skipped, where there is no device.
const WebGpuDevice* Device(benchmark::State& state) {
  const Result<WebGpuDevice>& device = OpenDevice();
  if (device) return &*device;
  state.SkipWithError(device.error().message.c_str());
  return nullptr;
}

void Label(benchmark::State& state, const WebGpuDevice& device) {
  state.SetLabel(device.adapter().name + (device.adapter().software ? " (software)" : ""));
}

void SkipFailed(benchmark::State& state, const Error& error) {
  state.SkipWithError(("the device failed: " + error.message).c_str());
}

double CodeBytes(int64_t bits) { return static_cast<double>(kDim) * static_cast<double>(bits) / 8; }

// Args: bits, rows.
void EncodeFromHost(benchmark::State& state) {
  const WebGpuDevice* device = Device(state);
  if (device == nullptr) return;
  const size_t rows = static_cast<size_t>(state.range(1));
  const auto quantizer =
      WebGpuMseQuantizer::Create(*device, {.dim = kDim, .bits = static_cast<int>(state.range(0))});
  const auto input = NormalRows(rows, kDim);
  WebGpuMseRows encoded = quantizer->MakeRows();
  for (auto _ : state) {
    (void)encoded.Truncate(0);
    const auto done = quantizer->Append(MatrixView<const float>(input.data(), rows, kDim), encoded);
    if (!done) return SkipFailed(state, done.error());
  }
  Label(state, *device);
  ReportRows(state, rows, 1, kDim * sizeof(float));
}

// Args: bits, rows, queries.
void ScoreToHost(benchmark::State& state) {
  const WebGpuDevice* device = Device(state);
  if (device == nullptr) return;
  const size_t rows = static_cast<size_t>(state.range(1));
  const size_t queries = static_cast<size_t>(state.range(2));
  const auto quantizer = WebGpuMseQuantizer::Create(
      *device, {.dim = kDim, .bits = static_cast<int>(state.range(0)), .scale_search = false});
  const auto input = NormalRows(rows, kDim);
  const auto encoded = quantizer->Encode(MatrixView<const float>(input.data(), rows, kDim));
  const auto query_rows = NormalRows(queries, kDim, 2);
  const auto prepared =
      quantizer->Prepare(MatrixView<const float>(query_rows.data(), queries, kDim));
  if (!encoded) return SkipFailed(state, encoded.error());
  if (!prepared) return SkipFailed(state, prepared.error());
  std::vector<float> scores(queries * rows);
  for (auto _ : state) {
    const auto done = quantizer->Score(*prepared, *encoded, {scores.data(), queries, rows});
    if (!done) return SkipFailed(state, done.error());
  }
  Label(state, *device);
  ReportRows(state, rows, queries, CodeBytes(state.range(0)) + 4.0);
}

// Calls run() kRunsPerWait times an iteration and waits, by reading a word of `last`.
Result<void> TimeRuns(benchmark::State& state, webgpu::Gpu& gpu, const webgpu::Buffer& last,
                      const std::function<Result<void>()>& run) {
  std::vector<std::byte> word(4);
  TQ_CHECK(run());
  TQ_CHECK(gpu.Read(last, 0, word));  // compiled, and its memory touched
  for (auto _ : state) {
    for (int i = 0; i < kRunsPerWait; ++i) TQ_CHECK(run());
    TQ_CHECK(gpu.Read(last, 0, word));
  }
  return {};
}

// Args: bits, rows of one run.
void EncodeResident(benchmark::State& state) {
  const WebGpuDevice* device = Device(state);
  if (device == nullptr) return;
  const size_t rows = static_cast<size_t>(state.range(1));
  const auto core = MseCore::Create({.dim = kDim, .bits = static_cast<int>(state.range(0))});
  const auto input = NormalRows(rows, kDim);
  webgpu::Gpu& gpu = *device->gpu();
  const Result<void> done = gpu.Guarded([&]() -> Result<void> {
    TQ_TRY(const auto kernels, webgpu::MseKernels::Make(gpu, *core));
    TQ_TRY(const webgpu::Buffer floats, gpu.MakeBuffer("rows", std::as_bytes(std::span(input))));
    webgpu::Segments encoded(kernels->format());
    TQ_TRY(webgpu::Segment* const segment, encoded.Room(gpu, rows));
    TQ_TRY(const webgpu::RowStatus status, webgpu::RowStatus::Make(gpu));
    return TimeRuns(state, gpu, status.buffer(),
                    [&] { return kernels->Encode(gpu, floats, 0, rows, *segment, status); });
  });
  if (!done) return SkipFailed(state, done.error());
  Label(state, *device);
  ReportRows(state, rows * kRunsPerWait, 1, kDim * sizeof(float) + CodeBytes(state.range(0)) + 4.0);
}

// Args: bits, rows, queries.
void ScoreResident(benchmark::State& state) {
  const WebGpuDevice* device = Device(state);
  if (device == nullptr) return;
  const size_t rows = static_cast<size_t>(state.range(1));
  const size_t queries = static_cast<size_t>(state.range(2));
  const auto core = MseCore::Create({.dim = kDim, .bits = static_cast<int>(state.range(0))});
  const auto input = NormalRows(queries, kDim);
  webgpu::Gpu& gpu = *device->gpu();
  const Result<void> done = gpu.Guarded([&]() -> Result<void> {
    TQ_TRY(const auto kernels, webgpu::MseKernels::Make(gpu, *core));
    TQ_TRY(const webgpu::RowStatus status, webgpu::RowStatus::Make(gpu));
    TQ_TRY(const webgpu::Buffer floats, gpu.MakeBuffer("queries", std::as_bytes(std::span(input))));
    TQ_TRY(const webgpu::QueryChunk chunk, kernels->Prepare(gpu, floats, queries, 1, status));
    webgpu::Segments encoded(kernels->format());
    TQ_TRY(webgpu::Segment* const segment, encoded.Room(gpu, rows));  // all codes 0: any do
    segment->rows = rows;
    TQ_TRY(const webgpu::Buffer scores, gpu.MakeBuffer("scores", queries * rows * sizeof(float)));
    return TimeRuns(state, gpu, scores, [&] {
      return kernels->Score(gpu, *segment, chunk, 0, queries, scores, rows, 0);
    });
  });
  if (!done) return SkipFailed(state, done.error());
  Label(state, *device);
  ReportRows(state, rows * kRunsPerWait, 1,
             CodeBytes(state.range(0)) + 4.0 + 4.0 * static_cast<double>(queries));
}

// Args: tokens, query heads. Rows resident, outputs to the host; GB/s of packed keys and values.
void AttendResident(benchmark::State& state) {
  const WebGpuDevice* device = Device(state);
  if (device == nullptr) return;
  const size_t tokens = static_cast<size_t>(state.range(0));
  const size_t heads = static_cast<size_t>(state.range(1));
  const auto quantizer = WebGpuMseQuantizer::Create(*device, {.dim = kDim, .bits = 4});
  const auto input = NormalRows(tokens, kDim);
  const auto rows = quantizer->Encode(MatrixView<const float>(input.data(), tokens, kDim));
  const auto query_rows = NormalRows(heads, kDim, 2);
  const auto queries = quantizer->Prepare(MatrixView<const float>(query_rows.data(), heads, kDim));
  if (!rows) return SkipFailed(state, rows.error());
  if (!queries) return SkipFailed(state, queries.error());
  std::vector<float> outputs(heads * kDim);
  for (auto _ : state) {
    const auto done = AttendOnDevice(*queries, {*quantizer, *rows}, {*quantizer, *rows},
                                     {outputs.data(), heads, kDim});
    if (!done) return SkipFailed(state, done.error());
  }
  Label(state, *device);
  ReportRows(state, tokens, heads, 2.0 * (CodeBytes(4) + 4.0));
}

constexpr char kCopyWords[] = R"(
@group(0) @binding(0) var<uniform> parameters: array<vec4u, 2>;
@group(0) @binding(1) var<storage, read> source: array<vec4u>;
@group(0) @binding(2) var<storage, read_write> copied: array<vec4u>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  for (var i = id.x; i < parameters[0].x; i += 64u * parameters[0].y) { copied[i] = source[i]; }
})";

// Args: bytes.
void CopyResident(benchmark::State& state) {
  const WebGpuDevice* device = Device(state);
  if (device == nullptr) return;
  const size_t bytes = static_cast<size_t>(state.range(0));
  constexpr uint32_t kGroups = 16384;
  webgpu::Gpu& gpu = *device->gpu();
  const Result<void> done = gpu.Guarded([&]() -> Result<void> {
    TQ_TRY(const webgpu::Buffer from, gpu.MakeBuffer("from", bytes));
    TQ_TRY(const webgpu::Buffer to, gpu.MakeBuffer("to", bytes));
    return TimeRuns(state, gpu, to, [&] {
      return gpu.Run({"copy", kCopyWords}, {static_cast<uint32_t>(bytes / 16), kGroups},
                     {&from, &to}, kGroups);
    });
  });
  if (!done) return SkipFailed(state, done.error());
  Label(state, *device);
  ReportRows(state, kRunsPerWait, 1, 2.0 * static_cast<double>(bytes));
}

// Large enough for a GPU to be busy; software gets as much as it does in a second.
void RowSizes(benchmark::internal::Benchmark* bench, std::initializer_list<int64_t> bits,
              std::initializer_list<int64_t> queries, int64_t hardware, int64_t software) {
  for (const int64_t width : bits) {
    for (const int64_t q : queries) {
      bench->Args({width, IsHardware() ? hardware : software, q});
    }
  }
  bench->UseRealTime();
}

BENCHMARK(CopyResident)->Apply([](auto* bench) {
  bench->Arg(IsHardware() ? int64_t{1} << 30 : int64_t{1} << 25)->UseRealTime();
});
BENCHMARK(EncodeResident)->Apply([](auto* bench) {
  RowSizes(bench, {1, 2, 3, 4, 6, 8}, {0}, (1 << 19) - 64, 512);
});
BENCHMARK(ScoreResident)->Apply([](auto* bench) {
  RowSizes(bench, {1, 2, 3, 4, 6, 8}, {1, 4, 8, 32}, 3 << 20, 1 << 14);
});
BENCHMARK(AttendResident)->Apply([](auto* bench) {
  for (const int64_t tokens : {1 << 12, 1 << 15, 1 << 20}) {
    if (IsHardware() || tokens == 1 << 12) bench->Args({tokens, 4});
  }
  bench->UseRealTime();
});
BENCHMARK(EncodeFromHost)->Apply([](auto* bench) {
  RowSizes(bench, {2, 4, 8}, {0}, 1 << 20, 1 << 12);
});
BENCHMARK(ScoreToHost)->Apply([](auto* bench) {
  RowSizes(bench, {2, 4, 8}, {1, 8}, 1 << 20, 1 << 16);
});

}  // namespace
}  // namespace turboquant::bench
