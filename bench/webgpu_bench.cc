// Batches on a GPU (or the software that plays one): encode and score, rows coming from and scores
// going to the host, beside a copy of as many bytes from buffer to buffer on the device. The label
// names the adapter.
#include <string>

#include "bench/bench_rows.h"
#include "src/webgpu/gpu.h"
#include "turboquant/webgpu/device.h"
#include "turboquant/webgpu/mse_quantizer.h"

namespace turboquant::bench {
namespace {

constexpr size_t kDim = 128;

// Null, and the benchmark skipped, where there is no device.
const WebGpuDevice* Device(benchmark::State& state) {
  static const Result<WebGpuDevice> device = WebGpuDevice::Create();
  if (device) return &*device;
  state.SkipWithError(device.error().message.c_str());
  return nullptr;
}

void Label(benchmark::State& state, const WebGpuDevice& device) {
  state.SetLabel(device.adapter().name + (device.adapter().software ? " (software)" : ""));
}

// Args: bits, rows.
void EncodeOnGpu(benchmark::State& state) {
  const WebGpuDevice* device = Device(state);
  if (device == nullptr) return;
  const size_t rows = static_cast<size_t>(state.range(1));
  const auto quantizer =
      WebGpuMseQuantizer::Create(*device, {.dim = kDim, .bits = static_cast<int>(state.range(0))});
  const auto input = NormalRows(rows, kDim);
  WebGpuMseRows encoded = quantizer->MakeRows();
  for (auto _ : state) {
    (void)encoded.Truncate(0);
    if (!quantizer->Append(MatrixView<const float>(input.data(), rows, kDim), encoded)) {
      state.SkipWithError("the device failed");
      return;
    }
  }
  Label(state, *device);
  ReportRows(state, rows, 1, kDim * sizeof(float));
}

// Args: bits, rows, queries.
void ScoreOnGpu(benchmark::State& state) {
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
  std::vector<float> scores(queries * rows);
  if (!encoded || !prepared) {
    state.SkipWithError("the device failed");
    return;
  }
  for (auto _ : state) {
    if (!quantizer->Score(*prepared, *encoded, {scores.data(), queries, rows})) {
      state.SkipWithError("the device failed");
      return;
    }
  }
  Label(state, *device);
  ReportRows(state, rows, queries, static_cast<double>(kDim * state.range(0)) / 8.0 + 4.0);
}

constexpr char kCopyWords[] = R"(
@group(0) @binding(0) var<uniform> parameters: array<vec4u, 2>;
@group(0) @binding(1) var<storage, read> from: array<vec4u>;
@group(0) @binding(2) var<storage, read_write> to: array<vec4u>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  for (var i = id.x; i < parameters[0].x; i += 64u * parameters[0].y) { to[i] = from[i]; }
})";

// Args: bytes.
void CopyOnGpu(benchmark::State& state) {
  const WebGpuDevice* device = Device(state);
  if (device == nullptr) return;
  const size_t bytes = static_cast<size_t>(state.range(0));
  constexpr uint32_t kGroups = 4096;
  webgpu::Gpu& gpu = *device->gpu();
  const Result<void> done = gpu.Guarded([&]() -> Result<void> {
    TQ_TRY(const webgpu::Buffer from, gpu.MakeBuffer("from", bytes));
    TQ_TRY(const webgpu::Buffer to, gpu.MakeBuffer("to", bytes));
    std::vector<std::byte> last(4);
    for (auto _ : state) {
      TQ_CHECK(gpu.Run({"copy", kCopyWords}, {static_cast<uint32_t>(bytes / 16), kGroups},
                       {&from, &to}, kGroups));
      TQ_CHECK(gpu.Read(to, 0, last));  // waits
    }
    return {};
  });
  if (!done) state.SkipWithError(done.error().message.c_str());
  Label(state, *device);
  ReportRows(state, 1, 1, static_cast<double>(bytes));
}

BENCHMARK(EncodeOnGpu)->ArgsProduct({{2, 4, 8}, {1 << 12, 1 << 16}})->UseRealTime();
BENCHMARK(ScoreOnGpu)->ArgsProduct({{2, 4, 8}, {1 << 16}, {1, 8}})->UseRealTime();
BENCHMARK(CopyOnGpu)->Arg(32 << 20)->UseRealTime();

}  // namespace
}  // namespace turboquant::bench
