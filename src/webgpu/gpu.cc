#include "src/webgpu/gpu.h"

#include <algorithm>
#include <cstring>

#include "src/base/checked.h"
#include "src/base/failure.h"

namespace turboquant::webgpu {
namespace {

constexpr WGPUBufferUsage kStorageUsage =
    WGPUBufferUsage_Storage | WGPUBufferUsage_CopyDst | WGPUBufferUsage_CopySrc;

WGPUStringView View(std::string_view text) { return {text.data(), text.size()}; }

std::string OneLine(const WGPUStringView& text) {
  std::string line = text.data == nullptr ? std::string()
                                          : std::string(text.data, text.length == WGPU_STRLEN
                                                                       ? std::strlen(text.data)
                                                                       : text.length);
  std::ranges::replace(line, '\n', ' ');
  return line;
}

}  // namespace

Buffer::~Buffer() {
  if (handle_ == nullptr) return;
  gpu_->held_bytes_ -= bytes_;
  gpu_->library_->BufferRelease(handle_);
}

Kernel::~Kernel() {
  if (layout_ != nullptr) library_->BindGroupLayoutRelease(layout_);
  if (pipeline_ != nullptr) library_->ComputePipelineRelease(pipeline_);
}

void Gpu::Destroy() {
  const std::lock_guard submitting(submit_mutex_);
  {
    const std::lock_guard lock(loss_->mutex);
    if (loss_->lost) return;
    loss_->lost = true;
    loss_->reason = "it was destroyed";
  }
  library_->DeviceDestroy(device_);
}

Result<void> Gpu::CheckAlive() const {
  const std::lock_guard lock(loss_->mutex);
  if (!loss_->lost) return {};
  return Fail(ErrorCode::kUnavailable, "the device '", adapter_.name,
              "' was lost: ", loss_->reason.empty() ? "no reason given" : loss_->reason);
}

void Gpu::PushScopes() {
  {
    const std::lock_guard lock(loss_->mutex);
    loss_->uncaptured.clear();
  }
  // Not WGPUErrorFilter_Internal: wgpu-native 29 aborts there, and reports such errors elsewhere.
  library_->DevicePushErrorScope(device_, WGPUErrorFilter_OutOfMemory);
  library_->DevicePushErrorScope(device_, WGPUErrorFilter_Validation);
}

std::optional<Error> Gpu::PopScope() {
  std::optional<Error> found;
  WGPUPopErrorScopeCallbackInfo callback = WGPU_POP_ERROR_SCOPE_CALLBACK_INFO_INIT;
  callback.mode = WGPUCallbackMode_AllowProcessEvents;
  callback.userdata1 = &found;
  callback.callback = [](WGPUPopErrorScopeStatus status, WGPUErrorType type, WGPUStringView message,
                         void* to, void*) {
    if (status != WGPUPopErrorScopeStatus_Success || type == WGPUErrorType_NoError) return;
    const bool memory = type == WGPUErrorType_OutOfMemory;
    *static_cast<std::optional<Error>*>(to) = Error{
        memory ? ErrorCode::kUnavailable : ErrorCode::kInternal,
        (memory ? "the device is out of memory: " : "the device refused: ") + OneLine(message)};
  };
  // Answered within the call.
  library_->DevicePopErrorScope(device_, callback);
  return found;
}

Result<void> Gpu::PopScopes(Result<void> done) {
  const std::optional<Error> found[] = {PopScope(), PopScope()};
  library_->InstanceProcessEvents(instance_);
  // A lost device fails in many ways; the loss is the reason of them all.
  TQ_CHECK(CheckAlive());
  TQ_CHECK(done);
  for (const std::optional<Error>& error : found) {
    if (error) return std::unexpected(*error);
  }
  const std::lock_guard lock(loss_->mutex);
  if (loss_->uncaptured.empty()) return {};
  return Fail(ErrorCode::kInternal, "the device refused: ", loss_->uncaptured);
}

Result<WGPUBuffer> Gpu::CreateBuffer(std::string_view what, const WGPUBufferDescriptor& wanted) {
  // The size was checked, so what is wrong is memory, which wgpu-native 29 calls a validation
  // error.
  library_->DevicePushErrorScope(device_, WGPUErrorFilter_OutOfMemory);
  library_->DevicePushErrorScope(device_, WGPUErrorFilter_Validation);
  WGPUBuffer handle = library_->DeviceCreateBuffer(device_, &wanted);
  std::optional<Error> failed = PopScope();
  if (std::optional<Error> outer = PopScope(); outer && !failed) failed = std::move(outer);
  if (!failed && handle != nullptr) return handle;
  if (handle != nullptr) library_->BufferRelease(handle);
  TQ_CHECK(CheckAlive());
  return Fail(ErrorCode::kUnavailable, "the device has no ", wanted.size, " bytes for ", what,
              failed ? ": " + failed->message : std::string());
}

Result<Buffer> Gpu::Allocate(std::string_view what, size_t bytes, WGPUBufferUsage usage) {
  WGPUBufferDescriptor wanted = WGPU_BUFFER_DESCRIPTOR_INIT;
  wanted.size = std::max<size_t>(RoundUp(bytes, 4), 4);
  wanted.usage = usage;
  TQ_TRY(WGPUBuffer handle, CreateBuffer(what, wanted));
  held_bytes_ += wanted.size;
  return Buffer(shared_from_this(), handle, wanted.size);
}

Result<Buffer> Gpu::MakeBuffer(std::string_view what, size_t bytes) {
  if (bytes > limits_.max_buffer_bytes) {
    return Fail(ErrorCode::kUnsupported, what, " needs a buffer of ", bytes,
                " bytes, the device's limit is ", limits_.max_buffer_bytes);
  }
  return Allocate(what, bytes, kStorageUsage);
}

Result<Buffer> Gpu::MakeBuffer(std::string_view what, std::span<const std::byte> bytes) {
  TQ_TRY(Buffer buffer, MakeBuffer(what, bytes.size()));
  const size_t whole = bytes.size() / 4 * 4;
  Write(buffer, 0, bytes.first(whole));
  if (whole < bytes.size()) {
    std::array<std::byte, 4> last{};
    std::ranges::copy(bytes.subspan(whole), last.begin());
    Write(buffer, whole, last);
  }
  return buffer;
}

Result<Kernel> Gpu::MakeKernel(std::string_view name, const std::string& wgsl) {
  WGPUShaderSourceWGSL source = WGPU_SHADER_SOURCE_WGSL_INIT;
  source.code = View(wgsl);
  WGPUShaderModuleDescriptor module_wanted = WGPU_SHADER_MODULE_DESCRIPTOR_INIT;
  module_wanted.nextInChain = &source.chain;
  module_wanted.label = View(name);
  library_->DevicePushErrorScope(device_, WGPUErrorFilter_Validation);
  WGPUShaderModule module = library_->DeviceCreateShaderModule(device_, &module_wanted);
  WGPUComputePipelineDescriptor wanted = WGPU_COMPUTE_PIPELINE_DESCRIPTOR_INIT;
  wanted.label = View(name);
  wanted.compute.module = module;
  wanted.compute.entryPoint = View("main");
  WGPUComputePipeline pipeline = library_->DeviceCreateComputePipeline(device_, &wanted);
  library_->ShaderModuleRelease(module);
  const std::optional<Error> invalid = PopScope();
  if (!invalid && pipeline != nullptr) {
    return Kernel(library_, pipeline, library_->ComputePipelineGetBindGroupLayout(pipeline, 0));
  }
  if (pipeline != nullptr) library_->ComputePipelineRelease(pipeline);
  TQ_CHECK(CheckAlive());
  return Fail(ErrorCode::kUnsupported, "the kernel ", name, " cannot run on '", adapter_.name,
              "': ", invalid ? invalid->message : "no reason given");
}

Result<void> Gpu::Submit(std::string_view tried, WGPUCommandEncoder encoder) {
  WGPUCommandBuffer commands = library_->CommandEncoderFinish(encoder, nullptr);
  library_->CommandEncoderRelease(encoder);
  std::optional<Error> invalid = PopScope();
  const std::lock_guard lock(submit_mutex_);
  Result<void> alive = CheckAlive();
  if (alive && !invalid) last_submission_ = library_->QueueSubmitForIndex(queue_, 1, &commands);
  library_->CommandBufferRelease(commands);
  if (!alive || !invalid) return alive;
  return Fail(invalid->code, tried, ": ", invalid->message);
}

Result<const Kernel*> Gpu::FindKernel(std::string_view name, const std::string& wgsl) {
  const auto found = compiled_.find(wgsl);
  if (found != compiled_.end()) return &found->second;
  TQ_TRY(Kernel kernel, MakeKernel(name, wgsl));
  return &compiled_.emplace(wgsl, std::move(kernel)).first->second;
}

Result<void> Gpu::Run(const Shader& shader, const Parameters& parameters,
                      std::initializer_list<const Buffer*> bindings, uint32_t groups_x,
                      uint32_t groups_y) {
  TQ_CHECK(CheckAlive());
  if (groups_x == 0 || groups_y == 0) return {};
  TQ_TRY(const Kernel* const kernel, FindKernel(shader.name, shader.wgsl));
  TQ_TRY(const Buffer uniform, Allocate("parameters", sizeof(parameters),
                                        WGPUBufferUsage_Uniform | WGPUBufferUsage_CopyDst));
  Write(uniform, 0, std::as_bytes(std::span(parameters)));
  std::vector<WGPUBindGroupEntry> entries;
  const auto bind = [&](const Buffer& buffer) {
    WGPUBindGroupEntry entry = WGPU_BIND_GROUP_ENTRY_INIT;
    entry.binding = static_cast<uint32_t>(entries.size());
    entry.buffer = buffer.handle();
    entry.size = buffer.bytes();
    entries.push_back(entry);
  };
  bind(uniform);
  for (const Buffer* buffer : bindings) bind(*buffer);
  WGPUBindGroupDescriptor wanted = WGPU_BIND_GROUP_DESCRIPTOR_INIT;
  wanted.layout = kernel->layout();
  wanted.entryCount = entries.size();
  wanted.entries = entries.data();
  library_->DevicePushErrorScope(device_, WGPUErrorFilter_Validation);
  WGPUBindGroup group = library_->DeviceCreateBindGroup(device_, &wanted);
  WGPUCommandEncoder encoder = library_->DeviceCreateCommandEncoder(device_, nullptr);
  WGPUComputePassEncoder pass = library_->CommandEncoderBeginComputePass(encoder, nullptr);
  library_->ComputePassEncoderSetPipeline(pass, kernel->pipeline());
  library_->ComputePassEncoderSetBindGroup(pass, 0, group, 0, nullptr);
  library_->ComputePassEncoderDispatchWorkgroups(pass, groups_x, groups_y, 1);
  library_->ComputePassEncoderEnd(pass);
  library_->ComputePassEncoderRelease(pass);
  Result<void> submitted = Submit(shader.name, encoder);
  library_->BindGroupRelease(group);
  return submitted;
}

Result<void> Gpu::EndChunk() {
  if (after_chunk_) after_chunk_();
  TQ_CHECK(CheckAlive());
  if (chunk_before_) library_->DevicePoll(device_, true, &*chunk_before_);
  chunk_before_ = last_submission_;
  return CheckAlive();
}

}  // namespace turboquant::webgpu
