// wgpu-native's functions, found at run time.
#ifndef TURBOQUANT_SRC_WEBGPU_LIBRARY_H_
#define TURBOQUANT_SRC_WEBGPU_LIBRARY_H_

#include <webgpu.h>
#include <wgpu.h>

#include <filesystem>
#include <memory>
#include <string>

#include "turboquant/error.h"
#include "turboquant/webgpu/device.h"

namespace turboquant::webgpu {

// All that is called. Not among them, because wgpu-native aborts the process there: WaitAny, the
// getters of an instance's features, of map states, lost futures and a device's adapter, pipelines
// made in the background, SetLabel.
// clang-format off
#define TQ_WEBGPU_FUNCTIONS(apply) \
  apply(CreateInstance) apply(InstanceRelease) apply(InstanceProcessEvents) \
  apply(InstanceEnumerateAdapters) apply(AdapterRelease) apply(AdapterGetInfo) \
  apply(AdapterInfoFreeMembers) apply(AdapterGetLimits) apply(AdapterRequestDevice) \
  apply(DeviceRelease) apply(DeviceDestroy) apply(DeviceGetQueue) apply(DevicePushErrorScope) \
  apply(DevicePopErrorScope) apply(DevicePoll) apply(DeviceCreateBuffer) \
  apply(DeviceCreateShaderModule) apply(DeviceCreateComputePipeline) \
  apply(DeviceCreateBindGroup) apply(DeviceCreateCommandEncoder) apply(QueueRelease) \
  apply(QueueWriteBuffer) apply(QueueSubmitForIndex) apply(BufferRelease) apply(BufferMapAsync) \
  apply(BufferGetConstMappedRange) apply(BufferGetMappedRange) apply(BufferUnmap) \
  apply(ShaderModuleRelease) \
  apply(ComputePipelineRelease) apply(ComputePipelineGetBindGroupLayout) \
  apply(BindGroupLayoutRelease) apply(BindGroupRelease) apply(CommandEncoderRelease) \
  apply(CommandEncoderBeginComputePass) apply(CommandEncoderCopyBufferToBuffer) \
  apply(CommandEncoderFinish) apply(CommandBufferRelease) apply(ComputePassEncoderSetPipeline) \
  apply(ComputePassEncoderSetBindGroup) apply(ComputePassEncoderDispatchWorkgroups) \
  apply(ComputePassEncoderEnd) apply(ComputePassEncoderRelease) apply(GetVersion) \
  apply(SetLogLevel)
// clang-format on

// Loaded once and kept to the end of the process: its threads would not outlive it.
struct Library {
  std::filesystem::path path;
  std::string version;  // "29.0.1.1"
#define TQ_WEBGPU_POINTER(name) decltype(&wgpu##name) name = nullptr;
  TQ_WEBGPU_FUNCTIONS(TQ_WEBGPU_POINTER)
#undef TQ_WEBGPU_POINTER
};

// Where to look and errors: as WebGpuDevice::Create.
[[nodiscard]] Result<std::shared_ptr<const Library>> LoadLibrary(
    const WebGpuDeviceOptions& options);

}  // namespace turboquant::webgpu

#endif  // TURBOQUANT_SRC_WEBGPU_LIBRARY_H_
