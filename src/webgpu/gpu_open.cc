// From a library to a device.
#include <algorithm>
#include <string>
#include <vector>

#include "src/base/failure.h"
#include "src/webgpu/gpu.h"

namespace turboquant::webgpu {
namespace {

constexpr size_t kSmallestLimit = 4096;

std::string Text(const WGPUStringView& text) {
  if (text.data == nullptr) return {};
  if (text.length == WGPU_STRLEN) return text.data;
  return {text.data, text.length};
}

std::string_view BackendText(WGPUBackendType backend) {
  switch (backend) {
    case WGPUBackendType_Vulkan:
      return "Vulkan";
    case WGPUBackendType_Metal:
      return "Metal";
    case WGPUBackendType_D3D12:
      return "D3D12";
    default:
      return "unknown";
  }
}

// Smaller is taken first.
int Rank(WGPUAdapterType type) {
  switch (type) {
    case WGPUAdapterType_DiscreteGPU:
      return 0;
    case WGPUAdapterType_IntegratedGPU:
      return 1;
    case WGPUAdapterType_CPU:
      return 3;
    default:
      return 2;
  }
}

bool Suits(WebGpuAdapterChoice choice, WGPUAdapterType type) {
  const bool software = type == WGPUAdapterType_CPU;
  if (choice == WebGpuAdapterChoice::kHardware) return !software;
  return choice == WebGpuAdapterChoice::kFastest || software;
}

}  // namespace

void Gpu::Loss::Report(bool is_lost, WGPUStringView message) {
  const std::lock_guard lock(mutex);
  std::string& text = is_lost ? reason : uncaptured;
  if (text.empty()) text = Text(message);
  std::ranges::replace(text, '\n', ' ');
  lost |= is_lost;
}

Result<std::shared_ptr<Gpu>> Gpu::Open(const WebGpuDeviceOptions& options) {
  if (options.max_buffer_bytes != 0 && options.max_buffer_bytes < kSmallestLimit) {
    return Fail(ErrorCode::kInvalidArgument, "max_buffer_bytes must be 0 or at least ",
                kSmallestLimit, ", got ", options.max_buffer_bytes);
  }
  auto gpu = std::make_shared<Gpu>();
  TQ_TRY(gpu->library_, LoadLibrary(options));
  gpu->after_chunk_ = options.after_chunk;
  // Without this GL is probed too, which is slow and writes to standard error.
  WGPUInstanceExtras extras{};
  extras.chain.sType = static_cast<WGPUSType>(WGPUSType_InstanceExtras);
  extras.backends =
      WGPUInstanceBackend_Vulkan | WGPUInstanceBackend_Metal | WGPUInstanceBackend_DX12;
  WGPUInstanceDescriptor descriptor = WGPU_INSTANCE_DESCRIPTOR_INIT;
  descriptor.nextInChain = &extras.chain;
  gpu->instance_ = gpu->library_->CreateInstance(&descriptor);
  if (gpu->instance_ == nullptr) {
    return Fail(ErrorCode::kUnavailable, "wgpu-native made no instance");
  }
  TQ_CHECK(gpu->ChooseAdapter(options.adapter));
  TQ_CHECK(gpu->RequestDevice(options.max_buffer_bytes));
  return gpu;
}

Result<void> Gpu::ChooseAdapter(WebGpuAdapterChoice choice) {
  const size_t count = library_->InstanceEnumerateAdapters(instance_, nullptr, nullptr);
  std::vector<WGPUAdapter> adapters(count);
  if (count > 0) library_->InstanceEnumerateAdapters(instance_, nullptr, adapters.data());
  int best = 4;
  for (WGPUAdapter& candidate : adapters) {
    WGPUAdapterInfo facts = WGPU_ADAPTER_INFO_INIT;
    library_->AdapterGetInfo(candidate, &facts);
    if (Suits(choice, facts.adapterType) && Rank(facts.adapterType) < best) {
      best = Rank(facts.adapterType);
      Describe(facts);
      std::swap(adapter_handle_, candidate);
    }
    library_->AdapterInfoFreeMembers(facts);
  }
  for (WGPUAdapter left : adapters) {
    if (left != nullptr) library_->AdapterRelease(left);
  }
  if (adapter_handle_ != nullptr) return {};
  if (adapters.empty()) {
    return Fail(ErrorCode::kUnavailable,
                "no GPU: no Vulkan, Metal or Direct3D 12 driver was found, nor a software one");
  }
  return Fail(ErrorCode::kUnavailable, "none of the ", adapters.size(), " adapters is ",
              choice == WebGpuAdapterChoice::kHardware ? "hardware" : "software");
}

void Gpu::Describe(const WGPUAdapterInfo& info) {
  adapter_.name = Text(info.device);
  adapter_.driver = Text(info.vendor);
  const std::string description = Text(info.description);
  if (!adapter_.driver.empty() && !description.empty()) adapter_.driver += ' ';
  adapter_.driver += description;
  adapter_.backend = BackendText(info.backendType);
  adapter_.software = info.adapterType == WGPUAdapterType_CPU;
  adapter_.library = library_->path.native() + " " + library_->version;
}

Result<void> Gpu::RequestDevice(size_t max_buffer_bytes) {
  WGPULimits limits = WGPU_LIMITS_INIT;
  library_->AdapterGetLimits(adapter_handle_, &limits);
  WGPUDeviceDescriptor wanted = WGPU_DEVICE_DESCRIPTOR_INIT;
  wanted.requiredLimits = &limits;
  wanted.deviceLostCallbackInfo.mode = WGPUCallbackMode_AllowProcessEvents;
  wanted.deviceLostCallbackInfo.userdata1 = loss_.get();
  wanted.deviceLostCallbackInfo.callback = [](const WGPUDevice*, WGPUDeviceLostReason,
                                              WGPUStringView message, void* loss, void*) {
    static_cast<Loss*>(loss)->Report(true, message);
  };
  wanted.uncapturedErrorCallbackInfo.userdata1 = loss_.get();
  wanted.uncapturedErrorCallbackInfo.callback = [](const WGPUDevice*, WGPUErrorType,
                                                   WGPUStringView message, void* loss, void*) {
    static_cast<Loss*>(loss)->Report(false, message);
  };
  struct Answer {
    WGPUDevice device = nullptr;
    bool given = false;
    std::string message;
  } answer;
  WGPURequestDeviceCallbackInfo callback = WGPU_REQUEST_DEVICE_CALLBACK_INFO_INIT;
  callback.mode = WGPUCallbackMode_AllowProcessEvents;
  callback.userdata1 = &answer;
  callback.callback = [](WGPURequestDeviceStatus, WGPUDevice device, WGPUStringView message,
                         void* to,
                         void*) { *static_cast<Answer*>(to) = {device, true, Text(message)}; };
  library_->AdapterRequestDevice(adapter_handle_, &wanted, callback);
  // Answered within the call; the events are for a library that is not.
  for (int i = 0; i < 1000 && !answer.given; ++i) library_->InstanceProcessEvents(instance_);
  if (answer.device == nullptr) {
    return Fail(ErrorCode::kUnavailable, "the adapter '", adapter_.name,
                "' gave no device: ", answer.message);
  }
  device_ = answer.device;
  queue_ = library_->DeviceGetQueue(device_);
  limits_ = {static_cast<size_t>(
                 std::min({limits.maxStorageBufferBindingSize, limits.maxBufferSize,
                           uint64_t{max_buffer_bytes != 0 ? max_buffer_bytes : ~size_t{0}}})),
             limits.maxComputeWorkgroupStorageSize, limits.maxComputeWorkgroupsPerDimension,
             limits.maxStorageBuffersPerShaderStage};
  limits_.max_buffer_bytes -= limits_.max_buffer_bytes % 4;
  return {};
}

Gpu::~Gpu() {
  compiled_.clear();
  for (Staging& staging : uploads_) Release(staging);
  Release(download_);
  if (queue_ != nullptr) library_->QueueRelease(queue_);
  if (device_ != nullptr) library_->DeviceRelease(device_);
  if (adapter_handle_ != nullptr) library_->AdapterRelease(adapter_handle_);
  if (instance_ != nullptr) library_->InstanceRelease(instance_);
}

}  // namespace turboquant::webgpu
