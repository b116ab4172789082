#include "src/webgpu/segments.h"

#include <algorithm>

#include "src/base/checked.h"
#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/kernels/line_layout.h"
#include "src/webgpu/shader_constants.h"

namespace turboquant::webgpu {
namespace {

constexpr size_t kBlockRows = kernels::kKeyBlockRows;
constexpr size_t kSmallestSegment = 256;
constexpr size_t kScoreBytes = 4 * sizeof(float);  // of four queries

}  // namespace

size_t Segments::HeldBytes() const {
  size_t bytes = 0;
  for (const Segment& segment : segments_) {
    bytes += segment.blocks.bytes() + segment.scales.bytes() + segment.signs.bytes();
  }
  return bytes;
}

Result<size_t> Segments::LargestSegment(const Gpu& gpu, const RowFormat& format) {
  const size_t block =
      std::max({format.block_bytes, kBlockRows * format.sign_words * 4, kBlockRows * kScoreBytes});
  const size_t fitting = gpu.limits().max_buffer_bytes / block * kBlockRows;
  const size_t rows = std::min<size_t>(fitting, size_t{gpu.limits().max_groups} * kThreads);
  if (rows > 0) return rows;
  return Fail(ErrorCode::kUnsupported, "16 rows need a buffer of ", block,
              " bytes, the device's limit is ", gpu.limits().max_buffer_bytes);
}

Result<Segment*> Segments::Room(Gpu& gpu, size_t wanted) {
  for (Segment& segment : segments_) {  // all but the last in use are full, those behind it empty
    if (segment.rows < segment.capacity) return &segment;
  }
  TQ_TRY(const size_t largest, LargestSegment(gpu, format_));
  const size_t comfortable = RoundUp(std::max({wanted, size_, kSmallestSegment}), kBlockRows);
  Segment segment;
  segment.capacity = std::min(comfortable, largest);
  const size_t blocks = segment.capacity / kBlockRows;
  TQ_TRY(segment.blocks, gpu.MakeBuffer("packed codes", blocks * format_.block_bytes));
  const size_t numbers = format_.sign_words > 0 ? 2 : 1;
  TQ_TRY(segment.scales, gpu.MakeBuffer("scales", numbers * segment.capacity * sizeof(float)));
  if (format_.sign_words > 0) {
    TQ_TRY(segment.signs, gpu.MakeBuffer("signs", segment.capacity * format_.sign_words * 4));
  }
  segments_.push_back(std::move(segment));
  return &segments_.back();
}

void Segments::Grow(Segment& segment, size_t count) {
  segment.rows += count;
  size_ += count;
}

void Segments::Truncate(size_t rows) {
  size_ = std::min(size_, rows);
  size_t left = size_;
  for (Segment& segment : segments_) {
    segment.rows = std::min(segment.rows, left);
    left -= segment.rows;
  }
}

}  // namespace turboquant::webgpu
