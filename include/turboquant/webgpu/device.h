// A GPU through WebGPU (wgpu-native), loaded when a program first wants it and never linked.
#ifndef TURBOQUANT_WEBGPU_DEVICE_H_
#define TURBOQUANT_WEBGPU_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "turboquant/error.h"

namespace turboquant {

namespace webgpu {
class Gpu;
}  // namespace webgpu

// Which of a machine's adapters to take.
enum class WebGpuAdapterChoice {
  kFastest,   // a discrete GPU before an integrated one; software where there is no other
  kHardware,  // never software: kUnavailable instead
  kSoftware,  // a CPU that plays a GPU (lavapipe), for tests
};

struct WebGpuDeviceOptions {
  // The library or the folder it lies in; given, nothing else is tried.
  std::filesystem::path library = {};
  // Folders to look into before the usual places, e.g. wgpu/resources of a Python environment.
  std::vector<std::filesystem::path> folders = {};
  WebGpuAdapterChoice adapter = WebGpuAdapterChoice::kFastest;
  // No buffer is made larger, so that batches and resident rows are split; 0: what the device
  // allows. At least 4096.
  size_t max_buffer_bytes = 0;
  // Called behind each chunk of a batch that was handed to the device; may call Destroy(), and
  // nothing else that uses the device.
  std::function<void()> after_chunk = {};
};

// What the adapter says of itself.
struct WebGpuAdapter {
  std::string name;     // "NVIDIA H100", "llvmpipe (LLVM 15.0.6, 256 bits)"
  std::string driver;   // name and version as the driver gives them
  std::string backend;  // "Vulkan", "Metal", "D3D12"
  bool software = false;
  std::string library;  // of wgpu-native: file and version
};

// Bounds of the device, of WebGPU's names.
struct WebGpuLimits {
  size_t max_buffer_bytes = 0;   // of one storage buffer, max_buffer_bytes of the options included
  size_t workgroup_bytes = 0;    // of memory shared by a workgroup
  uint32_t max_groups = 0;       // workgroups of one dispatch, per dimension
  uint32_t storage_buffers = 0;  // of one kernel
};

// One device. Copies share it; it ends with the last of them and of what was made on it. Safe to
// share between threads, whose calls run one after another. Whatever the driver reports comes back
// as an error of the call that met it: kUnavailable for a lost device and for memory that is out.
class WebGpuDevice {
 public:
  // Looks for the library in options.folders, beside the program or library this code is part of,
  // in the folder that this build was told of, and on the system's library path. Errors:
  // kUnavailable saying what is missing (the library, a driver, an adapter of the kind asked for,
  // WebGPU in this build); kUnsupported for a library of another version; kInvalidArgument.
  [[nodiscard]] static Result<WebGpuDevice> Create(const WebGpuDeviceOptions& options = {});

  const WebGpuAdapter& adapter() const;
  const WebGpuLimits& limits() const;

  // Bytes of device memory held by buffers that are alive.
  size_t HeldBytes() const;

  // Ends the device at once, whoever still holds it: as if its driver had lost it. Calls under way
  // and later ones fail with kUnavailable. Thread-safe.
  void Destroy();

  // For the library's own use.
  const std::shared_ptr<webgpu::Gpu>& gpu() const { return gpu_; }

 private:
  explicit WebGpuDevice(std::shared_ptr<webgpu::Gpu> gpu) : gpu_(std::move(gpu)) {}
  std::shared_ptr<webgpu::Gpu> gpu_;
};

}  // namespace turboquant

#endif  // TURBOQUANT_WEBGPU_DEVICE_H_
