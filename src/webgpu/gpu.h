// One device with its queue: buffers, kernels and their runs, with errors as values.
#ifndef TURBOQUANT_SRC_WEBGPU_GPU_H_
#define TURBOQUANT_SRC_WEBGPU_GPU_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/base/try.h"
#include "src/webgpu/library.h"
#include "turboquant/error.h"
#include "turboquant/webgpu/device.h"

namespace turboquant::webgpu {

class Gpu;

// Device memory. Ends with its owner; what still runs on it keeps it until it has run.
class Buffer {
 public:
  Buffer() = default;
  Buffer(std::shared_ptr<Gpu> gpu, WGPUBuffer handle, size_t bytes)
      : gpu_(std::move(gpu)), handle_(handle), bytes_(bytes) {}
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(gpu_, other.gpu_);
    std::swap(handle_, other.handle_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Buffer();

  WGPUBuffer handle() const { return handle_; }
  size_t bytes() const { return bytes_; }

 private:
  std::shared_ptr<Gpu> gpu_;
  WGPUBuffer handle_ = nullptr;
  size_t bytes_ = 0;
};

// A compiled shader with one entry point, "main".
class Kernel {
 public:
  Kernel() = default;
  Kernel(std::shared_ptr<const Library> library, WGPUComputePipeline pipeline,
         WGPUBindGroupLayout layout)
      : library_(std::move(library)), pipeline_(pipeline), layout_(layout) {}
  Kernel(Kernel&& other) noexcept { *this = std::move(other); }
  Kernel& operator=(Kernel&& other) noexcept {
    std::swap(library_, other.library_);
    std::swap(pipeline_, other.pipeline_);
    std::swap(layout_, other.layout_);
    return *this;
  }
  ~Kernel();

  WGPUComputePipeline pipeline() const { return pipeline_; }
  WGPUBindGroupLayout layout() const { return layout_; }

 private:
  std::shared_ptr<const Library> library_;
  WGPUComputePipeline pipeline_ = nullptr;
  WGPUBindGroupLayout layout_ = nullptr;
};

// A kernel that is compiled when it is first run.
struct Shader {
  std::string name;
  std::string wgsl;
};

inline constexpr size_t kUploadBytes = size_t{32} << 20;

using Parameters = std::array<uint32_t, 8>;  // of one run, two vec4u at binding 0

// The whole of an object, as the device takes it.
template <class T>
std::span<const std::byte> BytesOf(std::span<const T> elements) {
  return std::as_bytes(elements);
}

// Everything but Guarded(), Destroy() and the getters is called from the body of a Guarded().
class Gpu : public std::enable_shared_from_this<Gpu> {
 public:
  // Errors: as WebGpuDevice::Create.
  [[nodiscard]] static Result<std::shared_ptr<Gpu>> Open(const WebGpuDeviceOptions& options);

  Gpu() = default;
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;
  ~Gpu();

  const WebGpuAdapter& adapter() const { return adapter_; }
  const WebGpuLimits& limits() const { return limits_; }
  size_t HeldBytes() const { return held_bytes_; }
  void Destroy();

  // Runs body() -> Result<void> while no other thread uses the device, and adds what the driver
  // found wrong with it. Errors: the body's; kUnavailable for a device that is lost or out of
  // memory; kInternal for what only a fault of ours can cause.
  template <class Body>
  [[nodiscard]] Result<void> Guarded(Body&& body) {
    const std::lock_guard lock(mutex_);
    TQ_CHECK(CheckAlive());
    PushScopes();
    return PopScopes(body());
  }

  // Zeroed storage. `what` names it in errors: kUnsupported beyond the limits, kUnavailable where
  // memory is out.
  [[nodiscard]] Result<Buffer> MakeBuffer(std::string_view what, size_t bytes);
  // The same with contents; bytes are padded to whole words.
  [[nodiscard]] Result<Buffer> MakeBuffer(std::string_view what, std::span<const std::byte> bytes);

  // Compiles a shader, or finds it: equal ones are compiled once and kept as long as the device,
  // for the heads of a model differ in their tables only. Errors: kUnsupported where the device
  // refuses the shader, with its reason.
  [[nodiscard]] Result<const Kernel*> FindKernel(std::string_view name, const std::string& wgsl);

  // Small things. Offset and size are multiples of 4.
  void Write(const Buffer& into, size_t offset, std::span<const std::byte> bytes);

  // Large ones, at most kUploadBytes, a multiple of 4: fill writes them to where the device fetches
  // them from, to the start of `into`, and throws nothing. Waits where the last but one of them was
  // not fetched yet.
  [[nodiscard]] Result<void> Upload(const Buffer& into, size_t bytes,
                                    const std::function<void(std::span<std::byte>)>& fill);

  // Starts groups_x × groups_y workgroups on bindings 1, 2, ... behind the parameters.
  [[nodiscard]] Result<void> Run(const Shader& shader, const Parameters& parameters,
                                 std::initializer_list<const Buffer*> bindings, uint32_t groups_x,
                                 uint32_t groups_y = 1);

  // Behind a chunk: tells after_chunk, and waits until at most one chunk is under way.
  [[nodiscard]] Result<void> EndChunk();

  // Waits for all that runs, and copies. Offset and size are multiples of 4.
  [[nodiscard]] Result<void> Read(const Buffer& from, size_t offset, std::span<std::byte> bytes);
  // The same for the first rows × row_bytes of a buffer, to rows that lie to_stride bytes apart.
  [[nodiscard]] Result<void> ReadRows(const Buffer& from, size_t rows, size_t row_bytes,
                                      std::byte* to, size_t to_stride);

 private:
  struct Loss {  // what the callbacks write
    std::mutex mutex;
    bool lost = false;
    std::string reason;
    std::string uncaptured;
    void Report(bool is_lost, WGPUStringView message);
  };

  // Host memory that the device reads or writes, kept for the next transfer.
  struct Staging {
    WGPUBuffer handle = nullptr;
    size_t bytes = 0;
    WGPUSubmissionIndex last_use = 0;  // 0: none
  };
  using ReadSink = std::function<void(size_t offset, std::span<const std::byte>)>;

  [[nodiscard]] Result<void> ChooseAdapter(WebGpuAdapterChoice choice);
  [[nodiscard]] Result<void> RequestDevice(size_t max_buffer_bytes);
  void Describe(const WGPUAdapterInfo& info);
  [[nodiscard]] Result<void> CheckAlive() const;
  void PushScopes();
  [[nodiscard]] Result<void> PopScopes(Result<void> done);
  // Kind and message of the innermost scope, if anything failed in it.
  std::optional<Error> PopScope();
  [[nodiscard]] Result<Kernel> MakeKernel(std::string_view name, const std::string& wgsl);
  [[nodiscard]] Result<WGPUBuffer> CreateBuffer(std::string_view what,
                                                const WGPUBufferDescriptor& wanted);
  [[nodiscard]] Result<Buffer> Allocate(std::string_view what, size_t bytes, WGPUBufferUsage usage);
  [[nodiscard]] Result<void> MakeStaging(Staging& staging, size_t bytes, WGPUBufferUsage usage);
  void Release(Staging& staging);
  // Waits for the last use alone, or for all that runs where wait_for is null.
  [[nodiscard]] Result<void> Map(const Staging& staging, size_t bytes, WGPUMapMode mode,
                                 WGPUSubmissionIndex* wait_for);
  [[nodiscard]] Result<void> Copy(std::string_view what, WGPUBuffer from, size_t from_offset,
                                  WGPUBuffer to, size_t bytes);
  // In pieces that staging memory holds.
  [[nodiscard]] Result<void> ReadTo(const Buffer& from, size_t offset, size_t bytes,
                                    const ReadSink& sink);
  // Ends the encoder. wgpu-native 29 aborts the process where a submission fails, so nothing is
  // submitted that a scope of `tried` found fault with, nor to a device that is lost.
  [[nodiscard]] Result<void> Submit(std::string_view tried, WGPUCommandEncoder encoder);

  std::shared_ptr<const Library> library_;
  WebGpuAdapter adapter_;
  WebGpuLimits limits_;
  std::function<void()> after_chunk_;
  WGPUInstance instance_ = nullptr;
  WGPUAdapter adapter_handle_ = nullptr;
  WGPUDevice device_ = nullptr;
  WGPUQueue queue_ = nullptr;
  std::unique_ptr<Loss> loss_ = std::make_unique<Loss>();
  std::mutex mutex_;
  std::mutex submit_mutex_;  // Destroy() does not come between a look at the loss and a submission
  std::map<std::string, Kernel> compiled_;  // by source
  std::atomic<size_t> held_bytes_ = 0;
  WGPUSubmissionIndex last_submission_ = 0;
  std::optional<WGPUSubmissionIndex> chunk_before_;
  std::array<Staging, 2> uploads_;  // one is filled while the device fetches the other
  size_t next_upload_ = 0;
  Staging download_;

  friend class Buffer;
};

}  // namespace turboquant::webgpu

#endif  // TURBOQUANT_SRC_WEBGPU_GPU_H_
