// TurboQuant-Prod on a GPU, all of it: codes, residuals, their sign sketch, and its score.
#ifndef TURBOQUANT_WEBGPU_PROD_QUANTIZER_H_
#define TURBOQUANT_WEBGPU_PROD_QUANTIZER_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "turboquant/error.h"
#include "turboquant/matrix_view.h"
#include "turboquant/prod_quantizer.h"
#include "turboquant/webgpu/device.h"

namespace turboquant {

namespace webgpu {
class ProdKernels;
class QueryChunks;
class Segments;
}  // namespace webgpu

// n encoded rows in device memory: codes and scales as WebGpuMseRows has them, signs in words of 32
// and an f32 residual norm each, which holds an f16 exactly where that is the scale type. Written
// by one thread at a time; a moved-from object may only be assigned to.
class WebGpuProdRows {
 public:
  WebGpuProdRows(WebGpuProdRows&&) noexcept;
  WebGpuProdRows& operator=(WebGpuProdRows&&) noexcept;
  ~WebGpuProdRows();

  size_t size() const;
  size_t dim() const { return dim_; }
  int bits() const { return bits_; }  // in total

  // Identity of the quantizer that wrote the rows: that of a ProdQuantizer of the same options.
  uint64_t quantizer_fingerprint() const { return quantizer_fingerprint_; }

  // Keeps the first n rows; their memory is kept for more. Errors: kInvalidArgument if n > size().
  [[nodiscard]] Result<void> Truncate(size_t n);

  // Bytes of device memory held.
  size_t HeldBytes() const;

 private:
  friend class WebGpuProdQuantizer;
  WebGpuProdRows(const WebGpuDevice& device, const ProdOptions& options, uint64_t fingerprint,
                 std::unique_ptr<webgpu::Segments> segments);

  WebGpuDevice device_;
  size_t dim_;
  int bits_;
  ScaleType scale_type_;
  uint64_t quantizer_fingerprint_;
  std::unique_ptr<webgpu::Segments> segments_;
};

// Queries on the device: rotated once, and projected once from there.
class WebGpuProdQueries {
 public:
  WebGpuProdQueries(WebGpuProdQueries&&) noexcept;
  WebGpuProdQueries& operator=(WebGpuProdQueries&&) noexcept;
  ~WebGpuProdQueries();

  size_t size() const;
  size_t dim() const { return dim_; }

 private:
  friend class WebGpuProdQuantizer;
  WebGpuProdQueries(const WebGpuDevice& device, size_t dim, uint64_t fingerprint,
                    std::unique_ptr<webgpu::QueryChunks> chunks);

  WebGpuDevice device_;
  size_t dim_;
  uint64_t quantizer_fingerprint_;
  std::unique_ptr<webgpu::QueryChunks> chunks_;
};

// Codes and scales are those of ProdQuantizer with the same options (see WebGpuMseQuantizer). The
// residual and what comes of it are computed in f32 where the CPU sums in double: a sign may differ
// where its projection is nearer to 0 than 1e-6 of the residual's norm, a residual norm by the last
// bit of its type. A score is within 1e-5 |query| |row| of the query's product with the decoded
// row: no rounding of queries to digits here. A query's norm must be within f32. Immutable after
// Create; safe to share between threads. All errors of the device: see WebGpuDevice.
class WebGpuProdQuantizer {
 public:
  // Errors: as ProdQuantizer::Create; kUnsupported for RotationKind::kDense and for what the
  // device's limits do not hold, with the numbers: nothing runs on the CPU instead.
  [[nodiscard]] static Result<WebGpuProdQuantizer> Create(const WebGpuDevice& device,
                                                          const ProdOptions& options);

  const ProdOptions& options() const { return host_.options(); }  // with defaults filled in
  uint64_t fingerprint() const { return host_.fingerprint(); }
  const WebGpuDevice& device() const { return device_; }
  // The same quantizer on the CPU, which reads what this one downloads.
  const ProdQuantizer& host() const { return host_; }

  // No rows yet.
  WebGpuProdRows MakeRows() const;

  // Encodes rows [n × dim]. Errors: those of ProdQuantizer::Encode, naming the same row.
  [[nodiscard]] Result<WebGpuProdRows> Encode(RowsView rows) const;

  // Encodes rows behind those already in `into`; a failed call leaves `into` as it was.
  // Errors: as Encode, and kInvalidArgument if another quantizer or device holds `into`.
  [[nodiscard]] Result<void> Append(RowsView rows, WebGpuProdRows& into) const;

  // Copies rows to the device and back. Errors: kInvalidArgument for rows of another quantizer.
  [[nodiscard]] Result<WebGpuProdRows> Upload(const ProdRows& rows) const;
  [[nodiscard]] Result<ProdRows> Download(const WebGpuProdRows& rows) const;

  // out [encoded.size() × dim] = scale · Πᵀ (centroids + constant · residual norm · Sᵀ signs).
  // Errors: kDimensionMismatch, kInvalidArgument.
  [[nodiscard]] Result<void> Decode(const WebGpuProdRows& encoded, MatrixView<float> out) const;

  // Rotates and projects queries [q × dim]. Errors: kDimensionMismatch, kNonFinite.
  [[nodiscard]] Result<WebGpuProdQueries> Prepare(MatrixView<const float> queries) const;

  // scores [q × encoded.size()]: unbiased estimates of <query, row>. Errors: kDimensionMismatch,
  // kInvalidArgument.
  [[nodiscard]] Result<void> Score(const WebGpuProdQueries& queries, const WebGpuProdRows& encoded,
                                   MatrixView<float> scores) const;

 private:
  WebGpuProdQuantizer(const WebGpuDevice& device, ProdQuantizer host,
                      std::shared_ptr<const webgpu::ProdKernels> kernels);
  [[nodiscard]] Result<void> CheckRows(const WebGpuProdRows& rows) const;

  WebGpuDevice device_;
  ProdQuantizer host_;
  std::shared_ptr<const webgpu::ProdKernels> kernels_;
};

}  // namespace turboquant

#endif  // TURBOQUANT_WEBGPU_PROD_QUANTIZER_H_
