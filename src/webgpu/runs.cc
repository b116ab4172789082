// Batches by runs that fit the device's buffers.
#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/quantizers/row_reader.h"
#include "src/webgpu/mse_kernels.h"

namespace turboquant::webgpu {
namespace {

constexpr size_t kRunBytes = kUploadBytes;
constexpr uint32_t kNoRow = std::numeric_limits<uint32_t>::max();

std::byte* BytesAt(float* first) { return reinterpret_cast<std::byte*>(first); }

}  // namespace

Result<void> UploadFloats(Gpu& gpu, const RowsView& rows, size_t first_row, size_t count,
                          const Buffer& into) {
  const size_t dim = rows.cols();
  const bool dense = rows.type() == RowType::kF32 && rows.stride() == dim;
  std::vector<float> row(dense ? 0 : dim);  // here: nothing may be thrown while memory is mapped
  return gpu.Upload(into, count * dim * sizeof(float), [&](std::span<std::byte> to) {
    if (dense) {
      std::memcpy(to.data(), static_cast<const float*>(rows.data()) + first_row * dim, to.size());
      return;
    }
    for (size_t r = 0; r < count; ++r) {
      ReadRow(rows, first_row + r, row.data());
      std::memcpy(to.data() + r * dim * sizeof(float), row.data(), dim * sizeof(float));
    }
  });
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
  // One for all: a run's rows are sent when the run before it has read its own.
  const size_t most = std::min(rows_per_run, rows.rows());
  TQ_TRY(const Buffer floats, gpu.MakeBuffer("rows", most * rows.cols() * sizeof(float)));
  for (size_t done = 0; done < rows.rows();) {
    TQ_TRY(Segment* const segment, into.Room(gpu, rows.rows() - done));
    const size_t count =
        std::min({rows_per_run, rows.rows() - done, segment->capacity - segment->rows});
    TQ_CHECK(UploadFloats(gpu, rows, done, count, floats));
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
    TQ_TRY(const Buffer floats, gpu.MakeBuffer("queries", count * queries.cols * sizeof(float)));
    TQ_CHECK(UploadFloats(gpu, queries, first, count, floats));
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
  size_t first_row = 0;
  for (const Segment& segment : rows.segments()) {
    if (segment.rows == 0) break;
    const size_t bytes = std::min(kRunBytes, gpu.limits().max_buffer_bytes);
    const size_t fitting = std::max<size_t>(bytes / (segment.rows * sizeof(float)) / 4 * 4, 4);
    size_t chunk_query = 0;
    for (const QueryChunk& chunk : queries.chunks) {
      for (size_t first = 0; first < chunk.queries; first += fitting) {
        const size_t count = std::min(fitting, chunk.queries - first);
        const size_t row_bytes = segment.rows * sizeof(float);
        TQ_TRY(const Buffer on_device, gpu.MakeBuffer("scores", count * row_bytes));
        TQ_CHECK(score(segment, chunk, first, count, on_device));
        TQ_CHECK(gpu.EndChunk());
        TQ_CHECK(gpu.ReadRows(on_device, count, row_bytes,
                              BytesAt(scores.Row(chunk_query + first) + first_row),
                              scores.stride * sizeof(float)));
      }
      chunk_query += chunk.queries;
    }
    first_row += segment.rows;
  }
  return {};
}

Result<void> DecodeByRuns(Gpu& gpu, const Segments& rows, size_t rows_per_run,
                          const MatrixView<float>& out, const DecodeRun& decode) {
  size_t first_row = 0;
  for (const Segment& segment : rows.segments()) {
    for (size_t lane = 0; lane < segment.rows; lane += rows_per_run) {
      const size_t count = std::min(rows_per_run, segment.rows - lane);
      const size_t row_bytes = out.cols * sizeof(float);
      TQ_TRY(const Buffer on_device, gpu.MakeBuffer("decoded rows", count * row_bytes));
      TQ_CHECK(decode(segment, lane, count, on_device));
      TQ_CHECK(gpu.EndChunk());
      TQ_CHECK(gpu.ReadRows(on_device, count, row_bytes, BytesAt(out.Row(first_row)),
                            out.stride * sizeof(float)));
      first_row += count;
    }
  }
  return {};
}

}  // namespace turboquant::webgpu
