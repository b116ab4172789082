// config.json and generation_config.json of a bundle, read strictly.
#ifndef TURBOQUANT_SRC_ONNX_DECODER_CONFIG_H_
#define TURBOQUANT_SRC_ONNX_DECODER_CONFIG_H_

#include <string_view>

#include "turboquant/error.h"
#include "turboquant/onnx/bundle.h"

namespace turboquant {

// `generation` may be empty: no such file. `folder` names the model where config.json does not.
// Errors: kModel naming file and field.
[[nodiscard]] Result<DecoderConfig> ParseDecoderConfig(std::string_view config,
                                                       std::string_view generation,
                                                       std::string_view folder);

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_ONNX_DECODER_CONFIG_H_
