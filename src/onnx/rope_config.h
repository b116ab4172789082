// How a configuration says that keys are rotated by their positions.
#ifndef TURBOQUANT_SRC_ONNX_ROPE_CONFIG_H_
#define TURBOQUANT_SRC_ONNX_ROPE_CONFIG_H_

#include "src/onnx/config_fields.h"
#include "turboquant/error.h"
#include "turboquant/onnx/bundle.h"

namespace turboquant {

// Fills rope and rope_note of a config whose other fields are set. Errors: kModel naming the field.
[[nodiscard]] Result<void> ReadRope(const ConfigFields& fields, DecoderConfig& config);

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_ONNX_ROPE_CONFIG_H_
