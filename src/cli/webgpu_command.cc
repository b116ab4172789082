#include "src/cli/webgpu_command.h"

#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "turboquant/webgpu/device.h"
#include "turboquant/webgpu/mse_quantizer.h"
#include "turboquant/webgpu/prod_quantizer.h"

namespace turboquant::cli {
namespace {

constexpr const char* kLibraryVariable = "TURBOQUANT_WGPU";

Result<WebGpuDevice> OpenDevice() {
  WebGpuDeviceOptions options;
  if (const char* library = std::getenv(kLibraryVariable)) options.library = library;
  return WebGpuDevice::Create(options);
}

size_t FileBytes(const WebGpuMseQuantizer& quantizer) {
  const MseRows rows = quantizer.host().MakeRows();
  return rows.CanonicalRowBytes() + (rows.scale_type() == ScaleType::kF16 ? 2 : 4);
}
size_t FileBytes(const WebGpuProdQuantizer& quantizer) {
  return quantizer.host().MakeRows().CanonicalBytesPerRow();
}

// Either GPU quantizer as a method. Rows stay on the device between calls; times hold what a caller
// waits for: rows going there, decoded rows and scores coming back.
template <class Quantizer>
class WebGpuMethod : public eval::RowMethod {
 public:
  using Rows = decltype(std::declval<const Quantizer&>().MakeRows());
  using Queries = typename decltype(std::declval<const Quantizer&>().Prepare(
      std::declval<MatrixView<const float>>()))::value_type;

  explicit WebGpuMethod(Quantizer quantizer) : quantizer_(std::move(quantizer)) {}

  Result<void> Encode(MatrixView<const float> rows, const ParallelFor&) override {
    TQ_TRY(Rows fresh, quantizer_.Encode(rows));
    encoded_.emplace(std::move(fresh));
    return {};
  }
  Result<void> Decode(MatrixView<float> out, const ParallelFor&) const override {
    if (!encoded_) return Fail(ErrorCode::kInvalidArgument, "no rows were encoded");
    return quantizer_.Decode(*encoded_, out);
  }
  Result<void> Prepare(MatrixView<const float> queries) override {
    TQ_TRY(Queries prepared, quantizer_.Prepare(queries));
    queries_.emplace(std::move(prepared));
    return {};
  }
  Result<void> Score(MatrixView<float> scores, const ParallelFor&) const override {
    if (!encoded_ || !queries_) {
      return Fail(ErrorCode::kInvalidArgument, "no rows were encoded or no queries prepared");
    }
    return quantizer_.Score(*queries_, *encoded_, scores);
  }
  double BitsPerCoordinate() const override {
    return 8.0 * static_cast<double>(FileBytes(quantizer_)) /
           static_cast<double>(quantizer_.options().dim);
  }
  std::optional<double> TheoryNmse() const override {
    return eval::TheoryNmseOf(quantizer_.host());
  }
  std::string_view Target() const override { return "wgpu"; }
  std::string_view Adapter() const override { return quantizer_.device().adapter().name; }

 private:
  Quantizer quantizer_;
  std::optional<Rows> encoded_;
  std::optional<Queries> queries_;
};

template <class Quantizer>
Result<std::unique_ptr<eval::RowMethod>> Wrap(Result<Quantizer> quantizer) {
  if (!quantizer) return std::unexpected(std::move(quantizer).error());
  return std::make_unique<WebGpuMethod<Quantizer>>(*std::move(quantizer));
}

}  // namespace

Result<eval::MethodMaker> MakeWebGpuMethods() {
  TQ_TRY(const WebGpuDevice device, OpenDevice());
  return [device](const eval::MethodSpec& spec,
                  const eval::MethodContext& context) -> Result<std::unique_ptr<eval::RowMethod>> {
    if (spec.kind == eval::MethodKind::kMse) {
      return Wrap(WebGpuMseQuantizer::Create(device, eval::MseOptionsOf(spec, context)));
    }
    if (spec.kind == eval::MethodKind::kProd) {
      return Wrap(WebGpuProdQuantizer::Create(device, eval::ProdOptionsOf(spec, context)));
    }
    return Fail(ErrorCode::kUnsupported, "the GPU has mse and prod, not ",
                eval::MethodName(spec.kind));
  };
}

void AddWebGpu(FactSheet& facts) {
  const Result<WebGpuDevice> device = OpenDevice();
  if (!device) {
    facts.Add("gpu", device.error().message);
    return;
  }
  const WebGpuAdapter& adapter = device->adapter();
  const WebGpuLimits& limits = device->limits();
  facts.Add("gpu", adapter.name);
  facts.Add("gpu_software", adapter.software);
  facts.Add("gpu_driver", adapter.driver);
  facts.Add("gpu_backend", adapter.backend);
  facts.Add("gpu_library", adapter.library);
  facts.Add("gpu_max_buffer_bytes", limits.max_buffer_bytes);
  facts.Add("gpu_workgroup_bytes", limits.workgroup_bytes);
}

}  // namespace turboquant::cli
