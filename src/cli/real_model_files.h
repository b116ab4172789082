// A decoder, its tokenizer and the prompts that the flags of a command name.
#ifndef TURBOQUANT_SRC_CLI_REAL_MODEL_FILES_H_
#define TURBOQUANT_SRC_CLI_REAL_MODEL_FILES_H_

#include <string>
#include <string_view>
#include <vector>

#include "src/cli/real_model_flags.h"
#include "turboquant/error.h"
#include "turboquant/onnx/decoder.h"
#include "turboquant/onnx/tokenizer.h"

namespace turboquant::cli {

struct LoadedModel {
  OnnxDecoder decoder;
  Tokenizer tokenizer;
};

// Errors: kInvalidArgument without a folder; kUnavailable, kModel.
[[nodiscard]] Result<LoadedModel> LoadModel(const ModelFlags& flags, int threads);

// Prompts of the flags, then the lines of the file that are not empty; at most max_prompts of the
// latter, or `most`. Errors: kIo; kInvalidArgument for max_prompts 0.
[[nodiscard]] Result<std::vector<std::string>> ReadPrompts(const ModelFlags& flags, size_t most);

// Errors: kIo.
[[nodiscard]] Result<std::string> ReadTextFile(const std::string& path);

// \n, \t and \\ as what they stand for.
std::string Unescaped(std::string_view text);

}  // namespace turboquant::cli

#endif  // TURBOQUANT_SRC_CLI_REAL_MODEL_FILES_H_
