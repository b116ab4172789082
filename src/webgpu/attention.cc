#include "turboquant/webgpu/attention.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>
#include <vector>

#include "src/base/checked.h"
#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/quantizers/direction.h"
#include "src/webgpu/mse_kernels.h"
#include "src/webgpu/shader_constants.h"

namespace turboquant {
namespace {

using webgpu::Buffer;
using webgpu::Gpu;
using webgpu::QueryChunk;
using webgpu::Segment;

Result<void> CheckAttend(const WebGpuMseQueries& queries, const WebGpuPackedRows& keys,
                         const WebGpuPackedRows& values, const MatrixView<float>& outputs) {
  TQ_CHECK(keys.quantizer.CheckRows(keys.rows));
  TQ_CHECK(keys.quantizer.CheckQueries(queries));
  TQ_CHECK(values.quantizer.CheckRows(values.rows));
  if (keys.quantizer.device().gpu() != values.quantizer.device().gpu()) {
    return Fail(ErrorCode::kInvalidArgument, "keys and values are on different devices");
  }
  if (keys.rows.size() != values.rows.size()) {
    return Fail(ErrorCode::kDimensionMismatch, "there are ", keys.rows.size(), " keys and ",
                values.rows.size(), " values");
  }
  return CheckDecoded(outputs, queries.size(), values.rows.dim());
}

size_t SpansOf(const WebGpuPackedRows& values) {
  size_t spans = 0;
  for (const Segment& segment : values.rows.segments().segments()) {
    spans += CeilDivide(segment.rows, webgpu::kSpanRows);
  }
  return spans;
}

// One chunk of queries, `count` from `first` on (a multiple of four).
class AttendRun {
 public:
  AttendRun(Gpu& gpu, const WebGpuPackedRows& keys, const WebGpuPackedRows& values, float scale)
      : gpu_(gpu), keys_(keys), values_(values), scale_(scale) {}

  Result<void> Attend(const QueryChunk& chunk, size_t first, size_t count, float* outputs,
                      size_t stride) {
    const size_t tokens = keys_.rows.size();
    TQ_TRY(const Buffer scores, gpu_.MakeBuffer("scores", count * tokens * sizeof(float)));
    TQ_CHECK(Score(chunk, first, count, scores));
    return Sum(scores, count, outputs, stride);
  }

 private:
  Result<void> Score(const QueryChunk& chunk, size_t first, size_t count, const Buffer& scores) {
    size_t token = 0;
    for (const Segment& segment : keys_.rows.segments().segments()) {
      TQ_CHECK(keys_.quantizer.kernels().Score(gpu_, segment, chunk, first, count, scores,
                                               keys_.rows.size(), token));
      token += segment.rows;
    }
    return {};
  }

  Result<void> Sum(const Buffer& scores, size_t count, float* outputs, size_t stride) {
    const webgpu::MseKernels& kernels = values_.quantizer.kernels();
    const size_t dim = values_.rows.dim();
    const size_t span_count = SpansOf(values_);
    const size_t places = span_count * count;
    TQ_TRY(const Buffer sums,
           gpu_.MakeBuffer("weighted sums", places * RoundUp(dim, 4) * sizeof(float)));
    TQ_TRY(const Buffer spans, gpu_.MakeBuffer("sums of weights", places * 2 * sizeof(float)));
    size_t token = 0;
    size_t span = 0;
    for (const Segment& segment : values_.rows.segments().segments()) {
      TQ_CHECK(kernels.SumValues(gpu_, segment, scores,
                                 {values_.rows.size(), token, span, count, scale_}, sums, spans));
      token += segment.rows;
      span += CeilDivide(segment.rows, webgpu::kSpanRows);
    }
    TQ_TRY(const Buffer on_device, gpu_.MakeBuffer("outputs", count * dim * sizeof(float)));
    TQ_CHECK(kernels.FinishOutputs(gpu_, sums, spans, span_count, count, on_device));
    TQ_CHECK(gpu_.EndChunk());
    return gpu_.ReadRows(on_device, count, dim * sizeof(float),
                         reinterpret_cast<std::byte*>(outputs), stride * sizeof(float));
  }

  Gpu& gpu_;
  const WebGpuPackedRows& keys_;
  const WebGpuPackedRows& values_;
  float scale_;
};

// Queries whose weights and sums fit a buffer: a multiple of four. kUnsupported where not even
// four.
Result<size_t> QueriesPerRun(const Gpu& gpu, const WebGpuPackedRows& values) {
  const size_t tokens = values.rows.size();
  const size_t sums = SpansOf(values) * RoundUp(values.rows.dim(), 4);
  const size_t bytes = 4 * sizeof(float) * std::max(tokens, sums);
  const size_t limit = std::min(gpu.limits().max_buffer_bytes, size_t{32} << 20);
  if (bytes <= limit) return limit / bytes * 4;
  if (bytes <= gpu.limits().max_buffer_bytes) return 4;
  return Fail(ErrorCode::kUnsupported, "attention of four queries to ", tokens,
              " rows needs a buffer of ", bytes, " bytes, the device's limit is ",
              gpu.limits().max_buffer_bytes);
}

}  // namespace

Result<void> AttendOnDevice(const WebGpuMseQueries& queries, const WebGpuPackedRows& keys,
                            const WebGpuPackedRows& values, MatrixView<float> outputs,
                            float scale) {
  TQ_CHECK(CheckAttend(queries, keys, values, outputs));
  if (keys.rows.size() == 0) {
    for (size_t q = 0; q < outputs.rows; ++q) std::ranges::fill(outputs.RowSpan(q), 0.0f);
    return {};
  }
  if (scale == 0.0f) scale = 1.0f / std::sqrt(static_cast<float>(keys.rows.dim()));
  Gpu& gpu = *keys.quantizer.device().gpu();
  TQ_TRY(const size_t per_run, QueriesPerRun(gpu, values));
  return gpu.Guarded([&]() -> Result<void> {
    AttendRun run(gpu, keys, values, scale);
    size_t done = 0;
    for (const QueryChunk& chunk : queries.chunks().chunks) {
      for (size_t first = 0; first < chunk.queries; first += per_run) {
        const size_t count = std::min(per_run, chunk.queries - first);
        if (auto ran = run.Attend(chunk, first, count, outputs.Row(done + first), outputs.stride);
            !ran) {
          return ran;
        }
      }
      done += chunk.queries;
    }
    return {};
  });
}

}  // namespace turboquant
