// Encodes a batch on a GPU, scores queries against it there, and reads it with the quantizer of the
// CPU. Exit code 77 where there is no GPU, nor software that plays one.
#include <cmath>
#include <cstdio>
#include <expected>

#include "examples/example_rows.h"
#include "turboquant/mse_quantizer.h"
#include "turboquant/webgpu/device.h"
#include "turboquant/webgpu/mse_quantizer.h"

using turboquant::Result;
using turboquant::WebGpuDevice;
using turboquant::WebGpuMseQuantizer;

namespace {

constexpr size_t kDim = 128;
constexpr size_t kRows = 1000;
constexpr size_t kQueries = 4;

// The largest difference of a score from the CPU's, relative to the largest score.
Result<double> CompareScores(const WebGpuDevice& device) {
  const auto gpu = WebGpuMseQuantizer::Create(device, {.dim = kDim, .bits = 4});
  if (!gpu) return std::unexpected(gpu.error());
  const ExampleRows rows = NormalRows(kRows, kDim, /*seed=*/1);
  const ExampleRows queries = NormalRows(kQueries, kDim, /*seed=*/2);

  const auto encoded = gpu->Encode(rows.view());  // stays on the device
  if (!encoded) return std::unexpected(encoded.error());
  const auto prepared = gpu->Prepare(queries.view());
  if (!prepared) return std::unexpected(prepared.error());
  ExampleRows scores(kQueries, kRows);
  if (const auto done = gpu->Score(*prepared, *encoded, scores.view()); !done) {
    return std::unexpected(done.error());
  }

  const auto downloaded = gpu->Download(*encoded);  // MseRows, as an MseQuantizer writes them
  if (!downloaded) return std::unexpected(downloaded.error());
  const auto here = gpu->host().Prepare(queries.view());
  if (!here) return std::unexpected(here.error());
  ExampleRows expected(kQueries, kRows);
  if (const auto done = gpu->host().Score(*here, *downloaded, expected.view()); !done) {
    return std::unexpected(done.error());
  }
  double largest = 0.0;
  double difference = 0.0;
  for (size_t i = 0; i < scores.values.size(); ++i) {
    largest = std::fmax(largest, std::fabs(expected.values[i]));
    difference = std::fmax(difference, std::fabs(scores.values[i] - expected.values[i]));
  }
  return difference / largest;
}

}  // namespace

int main() {
  const auto device = WebGpuDevice::Create();
  if (!device) {
    std::printf("no GPU: %s\n", device.error().message.c_str());
    return 77;
  }
  std::printf("%s%s\n", device->adapter().name.c_str(),
              device->adapter().software ? " (software)" : "");
  const auto difference = CompareScores(*device);
  if (!difference) {
    std::printf("%s\n", difference.error().message.c_str());
    return 1;
  }
  std::printf("%zu rows, %zu queries: scores differ from the CPU's by %.1e at most\n", kRows,
              kQueries, *difference);
  return *difference < 1e-6 ? 0 : 1;
}
