// Rows between the library's memory and the device's: the same blocks, each from its first lane.
#ifndef TURBOQUANT_SRC_WEBGPU_HOST_BLOCKS_H_
#define TURBOQUANT_SRC_WEBGPU_HOST_BLOCKS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "src/quantizers/mse_core.h"
#include "src/webgpu/gpu.h"
#include "src/webgpu/segments.h"
#include "turboquant/error.h"

namespace turboquant::webgpu {

// kUnsupported for batches whose rows a 32-bit number does not count.
[[nodiscard]] Result<void> CheckBatch(size_t rows);

// Rows [first, first + count) as a segment holds them.
class HostBlocks {
 public:
  HostBlocks(const MseCore& core, const MseRows& rows, size_t first, size_t count);
  std::span<const std::byte> codes() const { return std::as_bytes(std::span(blocks_)); }
  std::span<const std::byte> scales() const { return std::as_bytes(std::span(scales_)); }

 private:
  std::vector<uint8_t> blocks_;
  std::vector<float> scales_;
};

// Segments read back one after another, in canonical form.
class CanonicalRows {
 public:
  CanonicalRows(const MseCore& core, size_t rows);
  // The rows of the next segment. Errors: those of Gpu::Read.
  [[nodiscard]] Result<void> Read(Gpu& gpu, const Segment& segment);
  std::span<const uint8_t> packed() const { return packed_; }
  std::span<const float> scales() const { return scales_; }

 private:
  const MseCore& core_;
  size_t row_bytes_;
  size_t done_ = 0;
  std::vector<uint8_t> packed_;
  std::vector<float> scales_;
};

}  // namespace turboquant::webgpu

#endif  // TURBOQUANT_SRC_WEBGPU_HOST_BLOCKS_H_
