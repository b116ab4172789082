#include "turboquant/webgpu/mse_quantizer.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "src/base/failure.h"
#include "src/base/half.h"
#include "src/base/try.h"
#include "src/quantizers/direction.h"
#include "src/quantizers/row_reader.h"
#include "src/webgpu/host_blocks.h"
#include "src/webgpu/mse_kernels.h"

namespace turboquant {

using webgpu::Buffer;
using webgpu::Gpu;
using webgpu::QueryChunk;
using webgpu::QueryChunks;
using webgpu::RowStatus;
using webgpu::Segment;
using webgpu::Segments;

WebGpuMseRows::WebGpuMseRows(const WebGpuDevice& device, const MseOptions& options,
                             uint64_t fingerprint, std::unique_ptr<Segments> segments)
    : device_(device),
      dim_(options.dim),
      bits_(options.bits),
      scale_type_(options.scale_type),
      quantizer_fingerprint_(fingerprint),
      segments_(std::move(segments)) {}
WebGpuMseRows::WebGpuMseRows(WebGpuMseRows&&) noexcept = default;
WebGpuMseRows& WebGpuMseRows::operator=(WebGpuMseRows&&) noexcept = default;
WebGpuMseRows::~WebGpuMseRows() = default;

size_t WebGpuMseRows::size() const { return segments_->size(); }
size_t WebGpuMseRows::HeldBytes() const { return segments_->HeldBytes(); }

Result<void> WebGpuMseRows::Truncate(size_t n) {
  if (n > size()) {
    return Fail(ErrorCode::kInvalidArgument, "cannot keep ", n, " rows of ", size());
  }
  segments_->Truncate(n);
  return {};
}

WebGpuMseQueries::WebGpuMseQueries(const WebGpuDevice& device, size_t dim, uint64_t fingerprint,
                                   std::unique_ptr<QueryChunks> chunks)
    : device_(device), dim_(dim), quantizer_fingerprint_(fingerprint), chunks_(std::move(chunks)) {}
WebGpuMseQueries::WebGpuMseQueries(WebGpuMseQueries&&) noexcept = default;
WebGpuMseQueries& WebGpuMseQueries::operator=(WebGpuMseQueries&&) noexcept = default;
WebGpuMseQueries::~WebGpuMseQueries() = default;

size_t WebGpuMseQueries::size() const { return chunks_->queries; }

WebGpuMseQuantizer::WebGpuMseQuantizer(const WebGpuDevice& device, MseQuantizer host,
                                       std::shared_ptr<const webgpu::MseKernels> kernels)
    : device_(device), host_(std::move(host)), kernels_(std::move(kernels)) {}

Result<WebGpuMseQuantizer> WebGpuMseQuantizer::Create(const WebGpuDevice& device,
                                                      const MseOptions& options) {
  TQ_TRY(MseQuantizer host, MseQuantizer::Create(options));
  TQ_TRY(MseCore core, MseCore::Create(options));
  std::shared_ptr<const webgpu::MseKernels> kernels;
  Gpu& gpu = *device.gpu();
  const Result<void> done = gpu.Guarded([&]() -> Result<void> {
    TQ_TRY(kernels, webgpu::MseKernels::Make(gpu, std::move(core)));
    return {};
  });
  TQ_CHECK(done);
  return WebGpuMseQuantizer(device, std::move(host), std::move(kernels));
}

WebGpuMseRows WebGpuMseQuantizer::MakeRows() const {
  return WebGpuMseRows(device_, options(), fingerprint(),
                       std::make_unique<Segments>(kernels_->format()));
}

Result<void> WebGpuMseQuantizer::CheckRows(const WebGpuMseRows& rows) const {
  if (rows.device_.gpu() != device_.gpu()) {
    return Fail(ErrorCode::kInvalidArgument, "the rows are on another device");
  }
  if (rows.scale_type_ != options().scale_type) {
    return Fail(ErrorCode::kInvalidArgument,
                "the rows hold scales of another type than this quantizer's");
  }
  if (rows.quantizer_fingerprint_ == fingerprint()) return {};
  return Fail(ErrorCode::kInvalidArgument, "the rows (dim ", rows.dim_, ", ", rows.bits_,
              " bits) were written by another quantizer than this one (dim ", options().dim, ", ",
              options().bits, " bits): their seed, stream, rotation or codebook differ");
}

Result<void> WebGpuMseQuantizer::CheckQueries(const WebGpuMseQueries& queries) const {
  if (queries.quantizer_fingerprint_ == fingerprint() && queries.device_.gpu() == device_.gpu()) {
    return {};
  }
  return Fail(ErrorCode::kInvalidArgument,
              "the queries were prepared by another quantizer or on another device");
}

Result<WebGpuMseRows> WebGpuMseQuantizer::Encode(RowsView rows) const {
  WebGpuMseRows encoded = MakeRows();
  TQ_CHECK(Append(rows, encoded));
  return encoded;
}

Result<void> WebGpuMseQuantizer::Append(RowsView rows, WebGpuMseRows& into) const {
  TQ_CHECK(CheckRows(into));
  TQ_CHECK(CheckShape("rows", rows.cols(), rows.stride(), rows.rows(), options().dim));
  TQ_CHECK(webgpu::CheckBatch(rows.rows()));
  Gpu& gpu = *device_.gpu();
  const size_t old_size = into.size();
  const Result<void> done = gpu.Guarded([&]() -> Result<void> {
    TQ_TRY(const RowStatus status, RowStatus::Make(gpu));
    TQ_CHECK(webgpu::AppendByRuns(
        gpu, rows, kernels_->rows_per_run(), into.segments(),
        [&](const Buffer& floats, size_t first_row, size_t count, Segment& segment) {
          return kernels_->Encode(gpu, floats, first_row, count, segment, status);
        }));
    TQ_TRY(const std::optional<size_t> bad, status.FirstBad(gpu));
    if (bad) return std::unexpected(kernels_->RowError(rows, *bad));
    return {};
  });
  if (!done) into.segments().Truncate(old_size);
  return done;
}

Result<WebGpuMseRows> WebGpuMseQuantizer::Upload(const MseRows& rows) const {
  if (rows.quantizer_fingerprint() != fingerprint() || rows.scale_type() != options().scale_type) {
    return Fail(ErrorCode::kInvalidArgument,
                "the rows were written by another quantizer, or hold scales of another type");
  }
  WebGpuMseRows uploaded = MakeRows();
  Gpu& gpu = *device_.gpu();
  const Result<void> done = gpu.Guarded([&]() -> Result<void> {
    while (uploaded.size() < rows.size()) {
      TQ_TRY(Segment* const segment, uploaded.segments().Room(gpu, rows.size() - uploaded.size()));
      const size_t first = uploaded.size();
      const size_t count = std::min(segment->capacity, rows.size() - first);
      const webgpu::HostBlocks blocks(kernels_->core(), rows, first, count);
      gpu.Write(segment->blocks, 0, blocks.codes());
      gpu.Write(segment->scales, 0, blocks.scales());
      uploaded.segments().Grow(*segment, count);
      TQ_CHECK(gpu.EndChunk());
    }
    return {};
  });
  TQ_CHECK(done);
  return uploaded;
}

Result<MseRows> WebGpuMseQuantizer::Download(const WebGpuMseRows& rows, Tiling tiling) const {
  TQ_CHECK(CheckRows(rows));
  webgpu::CanonicalRows canonical(kernels_->core(), rows.size());
  Gpu& gpu = *device_.gpu();
  const Result<void> done = gpu.Guarded([&]() -> Result<void> {
    for (const Segment& segment : rows.segments().segments()) {
      TQ_CHECK(canonical.Read(gpu, segment));
    }
    return {};
  });
  TQ_CHECK(done);
  return host_.ImportCanonical(canonical.packed(), canonical.scales(), tiling);
}

Result<void> WebGpuMseQuantizer::Decode(const WebGpuMseRows& encoded, MatrixView<float> out) const {
  TQ_CHECK(CheckRows(encoded));
  TQ_CHECK(CheckDecoded(out, encoded.size(), options().dim));
  Gpu& gpu = *device_.gpu();
  return gpu.Guarded([&] {
    return webgpu::DecodeByRuns(
        gpu, encoded.segments(), kernels_->rows_per_run(), out,
        [&](const Segment& segment, size_t first_lane, size_t count, const Buffer& decoded) {
          return kernels_->Decode(gpu, segment, first_lane, count, decoded);
        });
  });
}

Result<WebGpuMseQueries> WebGpuMseQuantizer::Prepare(MatrixView<const float> queries,
                                                     const PrepareOptions& prepare_options) const {
  TQ_CHECK(CheckShape("queries", queries.cols, queries.stride, queries.rows, options().dim));
  TQ_CHECK(webgpu::CheckBatch(queries.rows));
  const int digits = prepare_options.digits;
  if (digits != 1 && digits != 2) {
    return Fail(ErrorCode::kInvalidArgument, "digits must be 1 or 2, got ", digits);
  }
  auto chunks = std::make_unique<QueryChunks>();
  Gpu& gpu = *device_.gpu();
  const Result<void> done = gpu.Guarded([&] {
    return webgpu::PrepareByRuns(gpu, queries, kernels_->queries_per_chunk(), *chunks,
                                 [&](const Buffer& floats, size_t count, const RowStatus& status) {
                                   return kernels_->Prepare(gpu, floats, count, digits, status);
                                 });
  });
  TQ_CHECK(done);
  return WebGpuMseQueries(device_, options().dim, fingerprint(), std::move(chunks));
}

Result<void> WebGpuMseQuantizer::Score(const WebGpuMseQueries& queries,
                                       const WebGpuMseRows& encoded,
                                       MatrixView<float> scores) const {
  TQ_CHECK(CheckRows(encoded));
  TQ_CHECK(CheckQueries(queries));
  TQ_CHECK(CheckScores(scores, queries.size(), encoded.size()));
  Gpu& gpu = *device_.gpu();
  return gpu.Guarded([&] {
    return webgpu::ScoreByRuns(gpu, queries.chunks(), encoded.segments(), scores,
                               [&](const Segment& segment, const QueryChunk& chunk,
                                   size_t first_query, size_t count, const Buffer& on_device) {
                                 return kernels_->Score(gpu, segment, chunk, first_query, count,
                                                        on_device, segment.rows, 0);
                               });
  });
}

}  // namespace turboquant
