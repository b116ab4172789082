// The kernels of a Prod quantizer on one device: those of its first stage, and the sketch's.
#ifndef TURBOQUANT_SRC_WEBGPU_PROD_KERNELS_H_
#define TURBOQUANT_SRC_WEBGPU_PROD_KERNELS_H_

#include <cstddef>
#include <memory>

#include "src/webgpu/gpu.h"
#include "src/webgpu/mse_kernels.h"
#include "src/webgpu/segments.h"
#include "turboquant/error.h"
#include "turboquant/prod_quantizer.h"

namespace turboquant::webgpu {

class ProdKernels {
 public:
  // Within Gpu::Guarded. Errors: kUnsupported for what the device cannot hold.
  [[nodiscard]] static Result<std::shared_ptr<const ProdKernels>> Make(Gpu& gpu, MseCore core,
                                                                       const QjlSketch& sketch);

  const MseKernels& mse() const { return *mse_; }
  size_t sign_words() const { return mse_->format().sign_words; }  // of one row
  size_t queries_per_chunk() const { return queries_per_chunk_; }

  // Codes, scales, signs and residual norms.
  [[nodiscard]] Result<void> Encode(Gpu& gpu, const Buffer& floats, size_t first_row, size_t count,
                                    const Segment& into, const RowStatus& status) const;
  [[nodiscard]] Result<void> Decode(Gpu& gpu, const Segment& from, size_t first_lane, size_t count,
                                    const Buffer& decoded) const;
  [[nodiscard]] Result<QueryChunk> Prepare(Gpu& gpu, const Buffer& floats, size_t queries,
                                           const RowStatus& status) const;
  [[nodiscard]] Result<void> Score(Gpu& gpu, const Segment& rows, const QueryChunk& chunk,
                                   size_t first_query, size_t queries, const Buffer& scores) const;

 private:
  explicit ProdKernels(std::shared_ptr<const MseKernels> mse) : mse_(std::move(mse)) {}
  // Sign masks of the rotation, and behind them the sketch: masks, or the transposed matrix.
  [[nodiscard]] Result<void> UploadTables(Gpu& gpu, const QjlSketch& sketch);
  void WriteShaders(const QjlSketch& sketch);

  std::shared_ptr<const MseKernels> mse_;
  size_t queries_per_chunk_ = 0;
  Buffer masks_;
  Shader signs_;
  Shader decode_;
  Shader prepare_;
  Shader score_;
};

}  // namespace turboquant::webgpu

#endif  // TURBOQUANT_SRC_WEBGPU_PROD_KERNELS_H_
