// turboquant encode: rows of a safetensors file into an encoded-row file.
#ifndef TURBOQUANT_SRC_CLI_ENCODE_COMMAND_H_
#define TURBOQUANT_SRC_CLI_ENCODE_COMMAND_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <ostream>
#include <string>

#include "turboquant/error.h"

namespace turboquant::cli {

// As the flags of the same names (docs/cli.md). Unset means the method's default; a flag that the
// method has no use for is an error.
struct EncodeOptions {
  std::string input;
  std::string tensor;
  std::string output;
  std::string method = "mse";
  std::optional<double> bits;
  std::optional<std::string> scale;
  bool no_scale_search = false;
  std::optional<std::string> rotation;
  std::optional<int> rotation_rounds;
  std::string scale_type = "f16";
  std::optional<std::string> sketch;
  std::optional<size_t> sketch_rows;
  std::optional<std::string> codebook;
  uint64_t seed = 42;
  std::optional<std::string> backend;
  int threads = 1;
};

// Encodes tensor `tensor` [..., dim] (F64, F32, F16 or BF16), all leading axes as rows, and writes
// `output`; says what it did in one line on `out`. Errors: kInvalidArgument for flags, those of
// reading, encoding and writing; on an error `output` is as it was.
[[nodiscard]] Result<void> RunEncode(const EncodeOptions& options, std::ostream& out);

}  // namespace turboquant::cli

#endif  // TURBOQUANT_SRC_CLI_ENCODE_COMMAND_H_
