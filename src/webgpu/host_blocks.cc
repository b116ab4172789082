#include "src/webgpu/host_blocks.h"

#include <algorithm>
#include <limits>

#include "src/base/checked.h"
#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/kernels/kernels.h"
#include "src/kernels/line_layout.h"

namespace turboquant::webgpu {
namespace {

constexpr size_t kChunkRows = 64;  // through a buffer of codes

size_t BlockBytes(const MseCore& core) {
  return kernels::KeyBlockBytes(core.options().dim, static_cast<size_t>(core.options().bits));
}

kernels::PackedBlocks View(const MseCore& core, uint8_t* blocks) {
  return {blocks, core.options().dim, core.options().bits, /*values=*/false};
}

}  // namespace

Result<void> CheckBatch(size_t rows) {
  if (rows < std::numeric_limits<uint32_t>::max()) return {};
  return Fail(ErrorCode::kUnsupported, "a batch of ", rows,
              " rows: the GPU counts them in 32 bits");
}

HostBlocks::HostBlocks(const MseCore& core, const MseRows& rows, size_t first, size_t count)
    : blocks_(CeilDivide(count, kernels::kKeyBlockRows) * BlockBytes(core)), scales_(count) {
  const size_t dim = core.options().dim;
  std::vector<uint8_t> codes(kChunkRows * dim);
  for (size_t done = 0; done < count; done += kChunkRows) {
    const size_t chunk = std::min(kChunkRows, count - done);
    for (size_t r = 0; r < chunk; ++r) {
      (void)rows.Codes(first + done + r, std::span(codes).subspan(r * dim, dim));  // in range
    }
    core.kernels().pack_codes(View(core, blocks_.data()), done, chunk, codes.data());
  }
  for (size_t r = 0; r < count; ++r) scales_[r] = rows.ScaleOf(first + r);
}

CanonicalRows::CanonicalRows(const MseCore& core, size_t rows)
    : core_(core),
      row_bytes_(CeilDivide(core.options().dim * static_cast<size_t>(core.options().bits), 8)),
      packed_(rows * row_bytes_),
      scales_(rows) {}

Result<void> CanonicalRows::Read(Gpu& gpu, const Segment& segment) {
  const MseOptions& options = core_.options();
  std::vector<uint8_t> blocks(CeilDivide(segment.rows, kernels::kKeyBlockRows) * BlockBytes(core_));
  TQ_CHECK(gpu.Read(segment.blocks, 0, std::as_writable_bytes(std::span(blocks))));
  TQ_CHECK(gpu.Read(segment.scales, 0,
                    std::as_writable_bytes(std::span(scales_).subspan(done_, segment.rows))));
  std::vector<uint8_t> codes(kChunkRows * options.dim);
  for (size_t first = 0; first < segment.rows; first += kChunkRows) {
    const size_t chunk = std::min(kChunkRows, segment.rows - first);
    core_.kernels().unpack_codes(View(core_, blocks.data()), first, chunk, codes.data());
    core_.kernels().pack_stream(codes.data(), options.bits, chunk, options.dim,
                                packed_.data() + (done_ + first) * row_bytes_);
  }
  done_ += segment.rows;
  return {};
}

}  // namespace turboquant::webgpu
