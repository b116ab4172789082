// Attention on packed rows that lie on a GPU. Experimental: it may change without notice, has no
// masks and no exact tokens, and was measured on no hardware.
#ifndef TURBOQUANT_WEBGPU_ATTENTION_H_
#define TURBOQUANT_WEBGPU_ATTENTION_H_

#include "turboquant/error.h"
#include "turboquant/matrix_view.h"
#include "turboquant/webgpu/mse_quantizer.h"

namespace turboquant {

// Keys or values of one head: rows, and the quantizer that wrote them.
struct WebGpuPackedRows {
  const WebGpuMseQuantizer& quantizer;
  const WebGpuMseRows& rows;
};

// outputs [q × values' dim] = sum over rows of softmax(scale · <query, key>) · value, for queries
// prepared by keys.quantizer; every query sees every row, as in decoding. scale 0: 1/sqrt(dim).
// Keys, weights and values never leave the device; the sums are taken in the rotated domain, and
// each output is rotated back once. Floats, in an order that does not depend on the driver: within
// 1e-5 of the largest value's norm of the same sums in double. No rows: zeros. Thread-safe. Errors:
// kDimensionMismatch where keys and values are not equally many, or outputs of another shape;
// kInvalidArgument for another quantizer's rows or queries, or another device; kUnsupported where
// the weights of four queries exceed a buffer; those of the device.
[[nodiscard]] Result<void> AttendOnDevice(const WebGpuMseQueries& queries,
                                          const WebGpuPackedRows& keys,
                                          const WebGpuPackedRows& values, MatrixView<float> outputs,
                                          float scale = 0.0f);

}  // namespace turboquant

#endif  // TURBOQUANT_WEBGPU_ATTENTION_H_
