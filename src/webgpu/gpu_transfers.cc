// Between the host's memory and the device's.
#include <algorithm>
#include <cstring>

#include "src/base/checked.h"
#include "src/base/failure.h"
#include "src/webgpu/gpu.h"

namespace turboquant::webgpu {
namespace {

constexpr size_t kDownloadBytes = size_t{64} << 20;  // one copy back
constexpr size_t kSmallestStaging = size_t{1} << 16;

}  // namespace

void Gpu::Write(const Buffer& into, size_t offset, std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  library_->QueueWriteBuffer(queue_, into.handle(), offset, bytes.data(), bytes.size());
}

void Gpu::Release(Staging& staging) {
  if (staging.handle != nullptr) library_->BufferRelease(staging.handle);
  staging = {};
}

Result<void> Gpu::MakeStaging(Staging& staging, size_t bytes, WGPUBufferUsage usage) {
  if (staging.bytes >= bytes) return {};
  Release(staging);
  WGPUBufferDescriptor wanted = WGPU_BUFFER_DESCRIPTOR_INIT;
  wanted.size = std::max(bytes, kSmallestStaging);
  wanted.usage = usage;
  TQ_TRY(staging.handle, CreateBuffer("a transfer", wanted));
  staging.bytes = wanted.size;
  return {};
}

Result<void> Gpu::Map(const Staging& staging, size_t bytes, WGPUMapMode mode,
                      WGPUSubmissionIndex* wait_for) {
  int status = 0;
  WGPUBufferMapCallbackInfo callback = WGPU_BUFFER_MAP_CALLBACK_INFO_INIT;
  callback.mode = WGPUCallbackMode_AllowProcessEvents;
  callback.userdata1 = &status;
  callback.callback = [](WGPUMapAsyncStatus mapped, WGPUStringView, void* to, void*) {
    *static_cast<int*>(to) = static_cast<int>(mapped);
  };
  library_->BufferMapAsync(staging.handle, mode, 0, bytes, callback);
  if (wait_for != nullptr) library_->DevicePoll(device_, *wait_for != 0, wait_for);
  // One poll waits for all; should a driver need more, it gets them, and ends at a loss.
  for (int i = 0; i < 1000 && status == 0 && CheckAlive(); ++i) {
    library_->DevicePoll(device_, true, nullptr);
  }
  TQ_CHECK(CheckAlive());
  if (status == static_cast<int>(WGPUMapAsyncStatus_Success)) return {};
  return Fail(ErrorCode::kInternal, "the device did not give ", bytes, " bytes of its memory");
}

Result<void> Gpu::Copy(std::string_view what, WGPUBuffer from, size_t from_offset, WGPUBuffer to,
                       size_t bytes) {
  library_->DevicePushErrorScope(device_, WGPUErrorFilter_Validation);
  WGPUCommandEncoder encoder = library_->DeviceCreateCommandEncoder(device_, nullptr);
  library_->CommandEncoderCopyBufferToBuffer(encoder, from, from_offset, to, 0, bytes);
  return Submit(what, encoder);
}

Result<void> Gpu::Upload(const Buffer& into, size_t bytes,
                         const std::function<void(std::span<std::byte>)>& fill) {
  TQ_CHECK(CheckAlive());
  if (bytes == 0) return {};
  Staging& staging = uploads_[next_upload_];
  next_upload_ = 1 - next_upload_;
  TQ_CHECK(MakeStaging(staging, bytes, WGPUBufferUsage_MapWrite | WGPUBufferUsage_CopySrc));
  TQ_CHECK(Map(staging, bytes, WGPUMapMode_Write, &staging.last_use));
  void* mapped = library_->BufferGetMappedRange(staging.handle, 0, bytes);
  if (mapped != nullptr) fill({static_cast<std::byte*>(mapped), bytes});
  library_->BufferUnmap(staging.handle);
  if (mapped == nullptr) {
    return Fail(ErrorCode::kInternal, "the device did not take ", bytes, " bytes");
  }
  TQ_CHECK(Copy("sending", staging.handle, 0, into.handle(), bytes));
  staging.last_use = last_submission_;
  return {};
}

Result<void> Gpu::ReadTo(const Buffer& from, size_t offset, size_t bytes, const ReadSink& sink) {
  TQ_CHECK(CheckAlive());
  for (size_t done = 0; done < bytes;) {
    const size_t count = std::min(kDownloadBytes, bytes - done);
    TQ_CHECK(MakeStaging(download_, count, WGPUBufferUsage_MapRead | WGPUBufferUsage_CopyDst));
    TQ_CHECK(Copy("reading back", from.handle(), offset + done, download_.handle, count));
    TQ_CHECK(Map(download_, count, WGPUMapMode_Read, nullptr));
    chunk_before_.reset();
    const void* mapped = library_->BufferGetConstMappedRange(download_.handle, 0, count);
    if (mapped != nullptr) sink(done, {static_cast<const std::byte*>(mapped), count});
    library_->BufferUnmap(download_.handle);
    if (mapped == nullptr) {
      return Fail(ErrorCode::kInternal, "the device did not give back ", count, " bytes");
    }
    done += count;
  }
  return {};
}

Result<void> Gpu::Read(const Buffer& from, size_t offset, std::span<std::byte> bytes) {
  return ReadTo(from, offset, bytes.size(), [&](size_t at, std::span<const std::byte> piece) {
    std::ranges::copy(piece, bytes.begin() + static_cast<ptrdiff_t>(at));
  });
}

Result<void> Gpu::ReadRows(const Buffer& from, size_t rows, size_t row_bytes, std::byte* to,
                           size_t to_stride) {
  return ReadTo(from, 0, rows * row_bytes, [&](size_t at, std::span<const std::byte> piece) {
    while (!piece.empty()) {
      const size_t column = at % row_bytes;
      const size_t count = std::min(row_bytes - column, piece.size());
      std::memcpy(to + at / row_bytes * to_stride + column, piece.data(), count);
      piece = piece.subspan(count);
      at += count;
    }
  });
}

}  // namespace turboquant::webgpu
