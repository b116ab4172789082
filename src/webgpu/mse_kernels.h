// The kernels of an MSE quantizer on one device, and their tables.
#ifndef TURBOQUANT_SRC_WEBGPU_MSE_KERNELS_H_
#define TURBOQUANT_SRC_WEBGPU_MSE_KERNELS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "src/quantizers/mse_core.h"
#include "src/webgpu/gpu.h"
#include "src/webgpu/segments.h"
#include "src/webgpu/shader_constants.h"
#include "turboquant/error.h"
#include "turboquant/matrix_view.h"

namespace turboquant::webgpu {

// Rows on their way to the device: floats [count × dim] of `rows` from first_row on.
[[nodiscard]] Result<void> UploadFloats(Gpu& gpu, const RowsView& rows, size_t first_row,
                                        size_t count, const Buffer& into);

// Rows that one run takes: as many as groups of a dispatch, and as the larger of their two buffers
// allows; not so many that the host waits long. Errors: kUnsupported where not even one fits.
[[nodiscard]] Result<size_t> RowsPerRun(const Gpu& gpu, size_t bytes_per_row);

// The first rows that an encoder could not take, of each kind (encode_rows.wgsl).
class RowStatus {
 public:
  static constexpr size_t kKinds = 4;
  [[nodiscard]] static Result<RowStatus> Make(Gpu& gpu);
  const Buffer& buffer() const { return buffer_; }
  // The first of all, or none. Waits.
  [[nodiscard]] Result<std::optional<size_t>> FirstBad(Gpu& gpu) const;

 private:
  explicit RowStatus(Buffer buffer) : buffer_(std::move(buffer)) {}
  Buffer buffer_;
};

// Appends rows to segments by runs of encode(floats, first_row, count, segment).
using EncodeRun =
    std::function<Result<void>(const Buffer& floats, size_t first_row, size_t count, Segment&)>;
[[nodiscard]] Result<void> AppendByRuns(Gpu& gpu, const RowsView& rows, size_t rows_per_run,
                                        Segments& into, const EncodeRun& encode);

// Queries in chunks of prepare(floats, count, status). Errors also: kNonFinite naming the query.
using PrepareRun =
    std::function<Result<QueryChunk>(const Buffer& floats, size_t count, const RowStatus&)>;
[[nodiscard]] Result<void> PrepareByRuns(Gpu& gpu, const MatrixView<const float>& queries,
                                         size_t queries_per_chunk, QueryChunks& into,
                                         const PrepareRun& prepare);

// Calls score(segment, chunk, first_query, queries, scores) for pieces whose scores fit a buffer,
// queries from a multiple of four on, and copies them to `scores` [queries × rows].
using ScoreRun = std::function<Result<void>(const Segment&, const QueryChunk&, size_t first_query,
                                            size_t queries, const Buffer& scores)>;
[[nodiscard]] Result<void> ScoreByRuns(Gpu& gpu, const QueryChunks& queries, const Segments& rows,
                                       const MatrixView<float>& scores, const ScoreRun& score);

// The same for rows decoded to floats: decode(segment, first_lane, count, decoded).
using DecodeRun = std::function<Result<void>(const Segment&, size_t first_lane, size_t count,
                                             const Buffer& decoded)>;
[[nodiscard]] Result<void> DecodeByRuns(Gpu& gpu, const Segments& rows, size_t rows_per_run,
                                        const MatrixView<float>& out, const DecodeRun& decode);

// Rows whose weighted sum one workgroup takes.
inline constexpr size_t kSpanRows = 256;

class MseKernels {
 public:
  // Workgroups of a kernel that takes whole rows.
  uint32_t GroupsOf(size_t rows) const;

  // Within Gpu::Guarded. Segments get room for a sketch of so many words a row. Errors:
  // kUnsupported for what the device cannot hold.
  [[nodiscard]] static Result<std::shared_ptr<const MseKernels>> Make(Gpu& gpu, MseCore core,
                                                                      size_t sign_words = 0);

  const MseCore& core() const { return core_; }
  const RowFormat& format() const { return format_; }
  const GroupShape& group() const { return group_; }
  size_t rows_per_run() const { return rows_per_run_; }
  const Buffer& masks() const { return masks_; }
  const Buffer& codebook() const { return codebook_; }

  [[nodiscard]] Result<void> Encode(Gpu& gpu, const Buffer& floats, size_t first_row, size_t count,
                                    const Segment& into, const RowStatus& status) const;
  [[nodiscard]] Result<void> Decode(Gpu& gpu, const Segment& from, size_t first_lane, size_t count,
                                    const Buffer& decoded) const;
  // `queries` floats to a chunk of digits. Queries that are not finite are in status.
  [[nodiscard]] Result<QueryChunk> Prepare(Gpu& gpu, const Buffer& floats, size_t queries,
                                           int digits, const RowStatus& status) const;
  // To scores [queries × stride], from first_score on.
  [[nodiscard]] Result<void> Score(Gpu& gpu, const Segment& rows, const QueryChunk& chunk,
                                   size_t first_query, size_t queries, const Buffer& scores,
                                   size_t stride, size_t first_score) const;

  // Attention: scores [queries × tokens] and a segment's values to sums [spans × queries × padded
  // dim] and what of the softmax belongs to them, two floats a span and query; those to outputs
  // [queries × dim].
  struct SpanPlace {
    size_t tokens;  // of a query's scores
    size_t first_token;
    size_t first_span;
    size_t queries;
    float scale;  // of the logits
  };
  [[nodiscard]] Result<void> SumValues(Gpu& gpu, const Segment& rows, const Buffer& scores,
                                       const SpanPlace& place, const Buffer& sums,
                                       const Buffer& spans) const;
  [[nodiscard]] Result<void> FinishOutputs(Gpu& gpu, const Buffer& sums, const Buffer& spans,
                                           size_t span_count, size_t queries,
                                           const Buffer& outputs) const;

  // Queries of one chunk: a multiple of four.
  size_t queries_per_chunk() const { return queries_per_chunk_; }

  // What is wrong with a row or query that status named, in the words of the CPU.
  Error RowError(const RowsView& rows, size_t row) const;

 private:
  MseKernels(MseCore core, const RowFormat& format, const GroupShape& group)
      : core_(std::move(core)), format_(format), group_(group) {}
  void WriteShaders();
  [[nodiscard]] Result<void> UploadTables(Gpu& gpu);

  MseCore core_;
  RowFormat format_;
  GroupShape group_;
  size_t rows_per_run_ = 0;
  size_t queries_per_chunk_ = 0;
  Buffer masks_;
  Buffer codebook_;
  Shader encode_;
  Shader decode_;
  Shader prepare_;
  Shader score_;
  Shader sum_values_;
  Shader outputs_;
};

}  // namespace turboquant::webgpu

#endif  // TURBOQUANT_SRC_WEBGPU_MSE_KERNELS_H_
