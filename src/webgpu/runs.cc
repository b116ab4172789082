// Batches by runs that fit the device's buffers.
#include <algorithm>
#include <limits>
#include <vector>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/quantizers/row_reader.h"
#include "src/webgpu/mse_kernels.h"

namespace turboquant::webgpu {
namespace {

constexpr size_t kRunBytes = size_t{32} << 20;
constexpr uint32_t kNoRow = std::numeric_limits<uint32_t>::max();

}  // namespace

Result<Buffer> UploadFloats(Gpu& gpu, const RowsView& rows, size_t first_row, size_t count) {
  const size_t dim = rows.cols();
  if (rows.type() == RowType::kF32 && rows.stride() == dim) {
    const float* first = static_cast<const float*>(rows.data()) + first_row * dim;
    return gpu.MakeBuffer("rows", std::as_bytes(std::span(first, count * dim)));
  }
  std::vector<float> floats(count * dim);
  for (size_t r = 0; r < count; ++r) ReadRow(rows, first_row + r, floats.data() + r * dim);
  return gpu.MakeBuffer("rows", std::as_bytes(std::span(floats)));
}

Result<size_t> RowsPerRun(const Gpu& gpu, size_t bytes_per_row) {
  const WebGpuLimits& limits = gpu.limits();
  if (bytes_per_row > limits.max_buffer_bytes) {
    return Fail(ErrorCode::kUnsupported, "a row needs a buffer of ", bytes_per_row,
                " bytes, the device's limit is ", limits.max_buffer_bytes);
  }
  const size_t bytes = std::min(limits.max_buffer_bytes, std::max(kRunBytes, bytes_per_row));
  return std::min<size_t>(bytes / bytes_per_row, limits.max_groups);
}

Result<RowStatus> RowStatus::Make(Gpu& gpu) {
  const std::vector<uint32_t> none(kKinds, kNoRow);
  TQ_TRY(Buffer buffer, gpu.MakeBuffer("status", std::as_bytes(std::span(none))));
  return RowStatus(std::move(buffer));
}

Result<std::optional<size_t>> RowStatus::FirstBad(Gpu& gpu) const {
  uint32_t firsts[kKinds];
  TQ_CHECK(gpu.Read(buffer_, 0, std::as_writable_bytes(std::span(firsts))));
  const uint32_t first = *std::ranges::min_element(firsts);
  if (first == kNoRow) return std::nullopt;
  return first;
}

Result<void> AppendByRuns(Gpu& gpu, const RowsView& rows, size_t rows_per_run, Segments& into,
                          const EncodeRun& encode) {
  for (size_t done = 0; done < rows.rows();) {
    TQ_TRY(Segment* const segment, into.Room(gpu, rows.rows() - done));
    const size_t count =
        std::min({rows_per_run, rows.rows() - done, segment->capacity - segment->rows});
    TQ_TRY(const Buffer floats, UploadFloats(gpu, rows, done, count));
    TQ_CHECK(encode(floats, done, count, *segment));
    into.Grow(*segment, count);
    done += count;
    TQ_CHECK(gpu.EndChunk());
  }
  return {};
}

Result<void> PrepareByRuns(Gpu& gpu, const MatrixView<const float>& queries,
                           size_t queries_per_chunk, QueryChunks& into, const PrepareRun& prepare) {
  for (size_t first = 0; first < queries.rows; first += queries_per_chunk) {
    const size_t count = std::min(queries_per_chunk, queries.rows - first);
    TQ_TRY(const RowStatus status, RowStatus::Make(gpu));
    TQ_TRY(const Buffer floats, UploadFloats(gpu, queries, first, count));
    TQ_TRY(QueryChunk chunk, prepare(floats, count, status));
    TQ_TRY(const std::optional<size_t> bad, status.FirstBad(gpu));
    if (bad) return NonFinite("queries", queries, first + *bad);
    into.chunks.push_back(std::move(chunk));
    into.queries += count;
  }
  return {};
}

Result<void> ScoreByRuns(Gpu& gpu, const QueryChunks& queries, const Segments& rows,
                         const MatrixView<float>& scores, const ScoreRun& score) {
  std::vector<float> piece;
  size_t first_row = 0;
  for (const Segment& segment : rows.segments()) {
    if (segment.rows == 0) break;
    const size_t bytes = std::min(kRunBytes, gpu.limits().max_buffer_bytes);
    const size_t fitting = std::max<size_t>(bytes / (segment.rows * sizeof(float)) / 4 * 4, 4);
    size_t chunk_query = 0;
    for (const QueryChunk& chunk : queries.chunks) {
      for (size_t first = 0; first < chunk.queries; first += fitting) {
        const size_t count = std::min(fitting, chunk.queries - first);
        piece.resize(count * segment.rows);
        TQ_TRY(const Buffer on_device, gpu.MakeBuffer("scores", piece.size() * sizeof(float)));
        TQ_CHECK(score(segment, chunk, first, count, on_device));
        TQ_CHECK(gpu.EndChunk());
        TQ_CHECK(gpu.Read(on_device, 0, std::as_writable_bytes(std::span(piece))));
        for (size_t q = 0; q < count; ++q) {
          std::copy_n(piece.data() + q * segment.rows, segment.rows,
                      scores.Row(chunk_query + first + q) + first_row);
        }
      }
      chunk_query += chunk.queries;
    }
    first_row += segment.rows;
  }
  return {};
}

Result<void> DecodeByRuns(Gpu& gpu, const Segments& rows, size_t rows_per_run,
                          const MatrixView<float>& out, const DecodeRun& decode) {
  std::vector<float> piece;
  size_t first_row = 0;
  for (const Segment& segment : rows.segments()) {
    for (size_t lane = 0; lane < segment.rows; lane += rows_per_run) {
      const size_t count = std::min(rows_per_run, segment.rows - lane);
      piece.resize(count * out.cols);
      TQ_TRY(const Buffer on_device, gpu.MakeBuffer("decoded rows", piece.size() * sizeof(float)));
      TQ_CHECK(decode(segment, lane, count, on_device));
      TQ_CHECK(gpu.EndChunk());
      TQ_CHECK(gpu.Read(on_device, 0, std::as_writable_bytes(std::span(piece))));
      for (size_t r = 0; r < count; ++r) {
        std::copy_n(piece.data() + r * out.cols, out.cols, out.Row(first_row + r));
      }
      first_row += count;
    }
  }
  return {};
}

}  // namespace turboquant::webgpu
