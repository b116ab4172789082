#include "turboquant/webgpu/device.h"

#include "src/base/try.h"
#include "src/webgpu/gpu.h"

namespace turboquant {

Result<WebGpuDevice> WebGpuDevice::Create(const WebGpuDeviceOptions& options) {
  TQ_TRY(std::shared_ptr<webgpu::Gpu> gpu, webgpu::Gpu::Open(options));
  return WebGpuDevice(std::move(gpu));
}

const WebGpuAdapter& WebGpuDevice::adapter() const { return gpu_->adapter(); }
const WebGpuLimits& WebGpuDevice::limits() const { return gpu_->limits(); }
size_t WebGpuDevice::HeldBytes() const { return gpu_->HeldBytes(); }
void WebGpuDevice::Destroy() { gpu_->Destroy(); }

}  // namespace turboquant
