#include "turboquant/webgpu/prod_quantizer.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "src/base/checked.h"
#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/quantizers/direction.h"
#include "src/quantizers/row_reader.h"
#include "src/webgpu/host_blocks.h"
#include "src/webgpu/prod_kernels.h"

namespace turboquant {

using webgpu::Buffer;
using webgpu::Gpu;
using webgpu::QueryChunk;
using webgpu::QueryChunks;
using webgpu::RowStatus;
using webgpu::Segment;
using webgpu::Segments;

namespace {

// Where word w of a row's signs lies in a segment.
size_t SignWord(size_t row, size_t words, size_t w) {
  return (row / 16 * words + w) * 16 + row % 16;
}

std::vector<uint32_t> InterleavedSigns(const SignRows& rows, size_t first, size_t count,
                                       size_t words) {
  std::vector<uint32_t> interleaved(RoundUp(count, 16) * words);
  for (size_t r = 0; r < count; ++r) {
    const auto signs = rows.SignsOf(first + r);
    for (size_t byte = 0; byte < signs.size(); ++byte) {
      interleaved[SignWord(r, words, byte / 4)] |= uint32_t{signs[byte]} << (8 * (byte % 4));
    }
  }
  return interleaved;
}

// Reads the sketches of a segment: signs [rows × row_bytes] and residual norms [rows].
Result<void> ReadSketch(Gpu& gpu, const Segment& segment, size_t words, size_t row_bytes,
                        std::span<uint8_t> signs, std::span<float> norms) {
  std::vector<uint32_t> interleaved(RoundUp(segment.rows, 16) * words);
  TQ_CHECK(gpu.Read(segment.signs, 0, std::as_writable_bytes(std::span(interleaved))));
  TQ_CHECK(
      gpu.Read(segment.scales, segment.capacity * sizeof(float), std::as_writable_bytes(norms)));
  for (size_t r = 0; r < segment.rows; ++r) {
    for (size_t byte = 0; byte < row_bytes; ++byte) {
      const uint32_t word = interleaved[SignWord(r, words, byte / 4)];
      signs[r * row_bytes + byte] = static_cast<uint8_t>(word >> (8 * (byte % 4)));
    }
  }
  return {};
}

}  // namespace

WebGpuProdRows::WebGpuProdRows(const WebGpuDevice& device, const ProdOptions& options,
                               uint64_t fingerprint, std::unique_ptr<Segments> segments)
    : device_(device),
      dim_(options.dim),
      bits_(options.bits),
      scale_type_(options.scale_type),
      quantizer_fingerprint_(fingerprint),
      segments_(std::move(segments)) {}
WebGpuProdRows::WebGpuProdRows(WebGpuProdRows&&) noexcept = default;
WebGpuProdRows& WebGpuProdRows::operator=(WebGpuProdRows&&) noexcept = default;
WebGpuProdRows::~WebGpuProdRows() = default;

size_t WebGpuProdRows::size() const { return segments_->size(); }
size_t WebGpuProdRows::HeldBytes() const { return segments_->HeldBytes(); }

Result<void> WebGpuProdRows::Truncate(size_t n) {
  if (n > size()) {
    return Fail(ErrorCode::kInvalidArgument, "cannot keep ", n, " rows of ", size());
  }
  segments_->Truncate(n);
  return {};
}

WebGpuProdQueries::WebGpuProdQueries(const WebGpuDevice& device, size_t dim, uint64_t fingerprint,
                                     std::unique_ptr<QueryChunks> chunks)
    : device_(device), dim_(dim), quantizer_fingerprint_(fingerprint), chunks_(std::move(chunks)) {}
WebGpuProdQueries::WebGpuProdQueries(WebGpuProdQueries&&) noexcept = default;
WebGpuProdQueries& WebGpuProdQueries::operator=(WebGpuProdQueries&&) noexcept = default;
WebGpuProdQueries::~WebGpuProdQueries() = default;

size_t WebGpuProdQueries::size() const { return chunks_->queries; }

WebGpuProdQuantizer::WebGpuProdQuantizer(const WebGpuDevice& device, ProdQuantizer host,
                                         std::shared_ptr<const webgpu::ProdKernels> kernels)
    : device_(device), host_(std::move(host)), kernels_(std::move(kernels)) {}

Result<WebGpuProdQuantizer> WebGpuProdQuantizer::Create(const WebGpuDevice& device,
                                                        const ProdOptions& options) {
  TQ_TRY(ProdQuantizer host, ProdQuantizer::Create(options));
  TQ_TRY(MseCore core, MseCore::Create(host.mse().options()));
  std::shared_ptr<const webgpu::ProdKernels> kernels;
  Gpu& gpu = *device.gpu();
  const Result<void> done = gpu.Guarded([&]() -> Result<void> {
    TQ_TRY(kernels, webgpu::ProdKernels::Make(gpu, std::move(core), host.sketch()));
    return {};
  });
  TQ_CHECK(done);
  return WebGpuProdQuantizer(device, std::move(host), std::move(kernels));
}

WebGpuProdRows WebGpuProdQuantizer::MakeRows() const {
  return WebGpuProdRows(device_, options(), fingerprint(),
                        std::make_unique<Segments>(kernels_->mse().format()));
}

Result<void> WebGpuProdQuantizer::CheckRows(const WebGpuProdRows& rows) const {
  if (rows.device_.gpu() != device_.gpu()) {
    return Fail(ErrorCode::kInvalidArgument, "the rows are on another device");
  }
  if (rows.scale_type_ != options().scale_type) {
    return Fail(ErrorCode::kInvalidArgument,
                "the rows hold scales of another type than this quantizer's");
  }
  if (rows.quantizer_fingerprint_ == fingerprint()) return {};
  return Fail(ErrorCode::kInvalidArgument, "the rows (dim ", rows.dim_, ", ", rows.bits_,
              " bits in total) were written by another quantizer than this one (dim ",
              options().dim, ", ", options().bits,
              " bits): their sketch, seed, stream, rotation or codebook differ");
}

Result<WebGpuProdRows> WebGpuProdQuantizer::Encode(RowsView rows) const {
  WebGpuProdRows encoded = MakeRows();
  TQ_CHECK(Append(rows, encoded));
  return encoded;
}

Result<void> WebGpuProdQuantizer::Append(RowsView rows, WebGpuProdRows& into) const {
  TQ_CHECK(CheckRows(into));
  TQ_CHECK(CheckShape("rows", rows.cols(), rows.stride(), rows.rows(), options().dim));
  TQ_CHECK(webgpu::CheckBatch(rows.rows()));
  Gpu& gpu = *device_.gpu();
  const size_t old_size = into.size();
  const Result<void> done = gpu.Guarded([&]() -> Result<void> {
    TQ_TRY(const RowStatus status, RowStatus::Make(gpu));
    TQ_CHECK(webgpu::AppendByRuns(
        gpu, rows, kernels_->mse().rows_per_run(), *into.segments_,
        [&](const Buffer& floats, size_t first_row, size_t count, Segment& segment) {
          return kernels_->Encode(gpu, floats, first_row, count, segment, status);
        }));
    TQ_TRY(const std::optional<size_t> bad, status.FirstBad(gpu));
    if (bad) return std::unexpected(kernels_->mse().RowError(rows, *bad));
    return {};
  });
  if (!done) into.segments_->Truncate(old_size);
  return done;
}

Result<WebGpuProdRows> WebGpuProdQuantizer::Upload(const ProdRows& rows) const {
  if (rows.quantizer_fingerprint() != fingerprint() ||
      rows.codes().scale_type() != options().scale_type) {
    return Fail(ErrorCode::kInvalidArgument,
                "the rows were written by another quantizer, or hold scales of another type");
  }
  WebGpuProdRows uploaded = MakeRows();
  Segments& segments = *uploaded.segments_;
  Gpu& gpu = *device_.gpu();
  const Result<void> done = gpu.Guarded([&]() -> Result<void> {
    while (segments.size() < rows.size()) {
      const size_t first = segments.size();
      TQ_TRY(Segment* const segment, segments.Room(gpu, rows.size() - first));
      const size_t count = std::min(segment->capacity, rows.size() - first);
      const webgpu::HostBlocks blocks(kernels_->mse().core(), rows.codes(), first, count);
      const std::vector<uint32_t> signs =
          InterleavedSigns(rows.residuals(), first, count, kernels_->sign_words());
      std::vector<float> norms(count);
      for (size_t r = 0; r < count; ++r) norms[r] = rows.residuals().NormOf(first + r);
      gpu.Write(segment->blocks, 0, blocks.codes());
      gpu.Write(segment->scales, 0, blocks.scales());
      gpu.Write(segment->scales, segment->capacity * sizeof(float),
                std::as_bytes(std::span(norms)));
      gpu.Write(segment->signs, 0, std::as_bytes(std::span(signs)));
      segments.Grow(*segment, count);
      if (auto ended = gpu.EndChunk(); !ended) return ended;
    }
    return {};
  });
  TQ_CHECK(done);
  return uploaded;
}

Result<ProdRows> WebGpuProdQuantizer::Download(const WebGpuProdRows& rows) const {
  TQ_CHECK(CheckRows(rows));
  webgpu::CanonicalRows canonical(kernels_->mse().core(), rows.size());
  const size_t row_bytes = CeilDivide(options().sketch_rows, 8);
  std::vector<uint8_t> signs(rows.size() * row_bytes);
  std::vector<float> norms(rows.size());
  Gpu& gpu = *device_.gpu();
  const Result<void> done = gpu.Guarded([&]() -> Result<void> {
    size_t first = 0;
    for (const Segment& segment : rows.segments_->segments()) {
      TQ_CHECK(canonical.Read(gpu, segment));
      TQ_CHECK(ReadSketch(gpu, segment, kernels_->sign_words(), row_bytes,
                          std::span(signs).subspan(first * row_bytes, segment.rows * row_bytes),
                          std::span(norms).subspan(first, segment.rows)));
      first += segment.rows;
    }
    return {};
  });
  TQ_CHECK(done);
  return host_.Import(canonical.packed(), canonical.scales(), signs, norms);
}

Result<void> WebGpuProdQuantizer::Decode(const WebGpuProdRows& encoded,
                                         MatrixView<float> out) const {
  TQ_CHECK(CheckRows(encoded));
  TQ_CHECK(CheckDecoded(out, encoded.size(), options().dim));
  Gpu& gpu = *device_.gpu();
  return gpu.Guarded([&] {
    return webgpu::DecodeByRuns(
        gpu, *encoded.segments_, kernels_->mse().rows_per_run(), out,
        [&](const Segment& segment, size_t first_lane, size_t count, const Buffer& decoded) {
          return kernels_->Decode(gpu, segment, first_lane, count, decoded);
        });
  });
}

Result<WebGpuProdQueries> WebGpuProdQuantizer::Prepare(MatrixView<const float> queries) const {
  TQ_CHECK(CheckShape("queries", queries.cols, queries.stride, queries.rows, options().dim));
  TQ_CHECK(webgpu::CheckBatch(queries.rows));
  auto chunks = std::make_unique<QueryChunks>();
  Gpu& gpu = *device_.gpu();
  const Result<void> done = gpu.Guarded([&] {
    return webgpu::PrepareByRuns(gpu, queries, kernels_->queries_per_chunk(), *chunks,
                                 [&](const Buffer& floats, size_t count, const RowStatus& status) {
                                   return kernels_->Prepare(gpu, floats, count, status);
                                 });
  });
  TQ_CHECK(done);
  return WebGpuProdQueries(device_, options().dim, fingerprint(), std::move(chunks));
}

Result<void> WebGpuProdQuantizer::Score(const WebGpuProdQueries& queries,
                                        const WebGpuProdRows& encoded,
                                        MatrixView<float> scores) const {
  TQ_CHECK(CheckRows(encoded));
  if (queries.quantizer_fingerprint_ != fingerprint() || queries.device_.gpu() != device_.gpu()) {
    return Fail(ErrorCode::kInvalidArgument,
                "the queries were prepared by another quantizer or on another device");
  }
  TQ_CHECK(CheckScores(scores, queries.size(), encoded.size()));
  Gpu& gpu = *device_.gpu();
  return gpu.Guarded([&] {
    return webgpu::ScoreByRuns(gpu, *queries.chunks_, *encoded.segments_, scores,
                               [&](const Segment& segment, const QueryChunk& chunk,
                                   size_t first_query, size_t count, const Buffer& on_device) {
                                 return kernels_->Score(gpu, segment, chunk, first_query, count,
                                                        on_device);
                               });
  });
}

}  // namespace turboquant
