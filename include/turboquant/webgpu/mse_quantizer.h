// TurboQuant-MSE on a GPU: the verbs and options of MseQuantizer on batches, and rows that stay on
// the device between calls.
#ifndef TURBOQUANT_WEBGPU_MSE_QUANTIZER_H_
#define TURBOQUANT_WEBGPU_MSE_QUANTIZER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "turboquant/error.h"
#include "turboquant/matrix_view.h"
#include "turboquant/mse_quantizer.h"
#include "turboquant/webgpu/device.h"

namespace turboquant {

namespace webgpu {
class MseKernels;
class QueryChunks;
class Segments;
}  // namespace webgpu

// n encoded rows in device memory: packed codes in key blocks of 16, as MseRows has them, and an
// f32 scale each, which holds an f16 exactly where that is the scale type. Memory comes in pieces
// that the device's buffer limit allows and that at least double, so that appending row by row
// copies nothing. Written by one thread at a time; a moved-from object may only be assigned to.
class WebGpuMseRows {
 public:
  WebGpuMseRows(WebGpuMseRows&&) noexcept;
  WebGpuMseRows& operator=(WebGpuMseRows&&) noexcept;
  ~WebGpuMseRows();

  size_t size() const;
  size_t dim() const { return dim_; }
  int bits() const { return bits_; }
  ScaleType scale_type() const { return scale_type_; }

  // Identity of the quantizer that wrote the rows: that of an MseQuantizer of the same options.
  uint64_t quantizer_fingerprint() const { return quantizer_fingerprint_; }

  // Keeps the first n rows; their memory is kept for more. Errors: kInvalidArgument if n > size().
  [[nodiscard]] Result<void> Truncate(size_t n);

  // Bytes of device memory held.
  size_t HeldBytes() const;

  // For the library's own use.
  const webgpu::Segments& segments() const { return *segments_; }
  webgpu::Segments& segments() { return *segments_; }

 private:
  friend class WebGpuMseQuantizer;
  WebGpuMseRows(const WebGpuDevice& device, const MseOptions& options, uint64_t fingerprint,
                std::unique_ptr<webgpu::Segments> segments);

  WebGpuDevice device_;
  size_t dim_;
  int bits_;
  ScaleType scale_type_;
  uint64_t quantizer_fingerprint_;
  std::unique_ptr<webgpu::Segments> segments_;
};

// Queries on the device, ready to be scored: rotated once, as integer digits.
class WebGpuMseQueries {
 public:
  WebGpuMseQueries(WebGpuMseQueries&&) noexcept;
  WebGpuMseQueries& operator=(WebGpuMseQueries&&) noexcept;
  ~WebGpuMseQueries();

  size_t size() const;
  size_t dim() const { return dim_; }

  // For the library's own use.
  const webgpu::QueryChunks& chunks() const { return *chunks_; }

 private:
  friend class WebGpuMseQuantizer;
  WebGpuMseQueries(const WebGpuDevice& device, size_t dim, uint64_t fingerprint,
                   std::unique_ptr<webgpu::QueryChunks> chunks);

  WebGpuDevice device_;
  size_t dim_;
  uint64_t quantizer_fingerprint_;
  std::unique_ptr<webgpu::QueryChunks> chunks_;
};

// Codes and scores are those of MseQuantizer with the same options: what the device computes in
// floats are additions, subtractions and single products in the order that the CPU has, and
// everything else is integer arithmetic. A driver that contracts or flushes, or a norm within 2^-31
// of where a float rounds, may change a code that lies on a boundary or a scale by its last bit.
// Batches larger than a buffer are split. Every verb waits for its result. Immutable after Create;
// safe to share between threads. All errors of the device: see WebGpuDevice.
class WebGpuMseQuantizer {
 public:
  // Kernels are compiled when a verb first needs them, once for all quantizers of a device whose
  // options differ in seed and stream only. Errors: as MseQuantizer::Create; kUnsupported for
  // RotationKind::kDense and for a dim beyond the device's limits, with the numbers: nothing runs
  // on the CPU instead.
  [[nodiscard]] static Result<WebGpuMseQuantizer> Create(const WebGpuDevice& device,
                                                         const MseOptions& options);

  const MseOptions& options() const { return host_.options(); }  // with defaults filled in
  const Codebook& codebook() const { return host_.codebook(); }
  uint64_t fingerprint() const { return host_.fingerprint(); }
  const WebGpuDevice& device() const { return device_; }
  // The same quantizer on the CPU, which reads what this one downloads.
  const MseQuantizer& host() const { return host_; }

  // No rows yet.
  WebGpuMseRows MakeRows() const;

  // Encodes rows [n × dim]. Errors: those of MseQuantizer::Encode, naming the same row.
  [[nodiscard]] Result<WebGpuMseRows> Encode(RowsView rows) const;

  // Encodes rows behind those already in `into`; a failed call leaves `into` as it was.
  // Errors: as Encode, and kInvalidArgument if another quantizer or device holds `into`.
  [[nodiscard]] Result<void> Append(RowsView rows, WebGpuMseRows& into) const;

  // Copies rows to the device and back. Errors: kInvalidArgument for rows of another quantizer.
  [[nodiscard]] Result<WebGpuMseRows> Upload(const MseRows& rows) const;
  [[nodiscard]] Result<MseRows> Download(const WebGpuMseRows& rows,
                                         Tiling tiling = Tiling::kKeys) const;

  // out [encoded.size() × dim] = scale · Πᵀ centroids, within 2^-22 of MseQuantizer::Decode
  // relative to the row's norm. Errors: kDimensionMismatch, kInvalidArgument.
  [[nodiscard]] Result<void> Decode(const WebGpuMseRows& encoded, MatrixView<float> out) const;

  // Rotates queries [q × dim] and rounds them to digits. Errors: kDimensionMismatch, kNonFinite.
  [[nodiscard]] Result<WebGpuMseQueries> Prepare(MatrixView<const float> queries,
                                                 const PrepareOptions& prepare_options = {}) const;

  // scores [q × encoded.size()]: estimates of <query, row>. Errors: kDimensionMismatch,
  // kInvalidArgument.
  [[nodiscard]] Result<void> Score(const WebGpuMseQueries& queries, const WebGpuMseRows& encoded,
                                   MatrixView<float> scores) const;

  // For the library's own use.
  const webgpu::MseKernels& kernels() const { return *kernels_; }
  [[nodiscard]] Result<void> CheckRows(const WebGpuMseRows& rows) const;
  [[nodiscard]] Result<void> CheckQueries(const WebGpuMseQueries& queries) const;

 private:
  WebGpuMseQuantizer(const WebGpuDevice& device, MseQuantizer host,
                     std::shared_ptr<const webgpu::MseKernels> kernels);

  WebGpuDevice device_;
  MseQuantizer host_;
  std::shared_ptr<const webgpu::MseKernels> kernels_;
};

}  // namespace turboquant

#endif  // TURBOQUANT_WEBGPU_MSE_QUANTIZER_H_
