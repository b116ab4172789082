// turboquant decode: an encoded-row file back into floats.
#ifndef TURBOQUANT_SRC_CLI_DECODE_COMMAND_H_
#define TURBOQUANT_SRC_CLI_DECODE_COMMAND_H_

#include <optional>
#include <ostream>
#include <string>

#include "turboquant/error.h"

namespace turboquant::cli {

struct DecodeOptions {
  std::string input;
  std::string output;
  std::string tensor = "rows";         // name of the tensor that is written, F32 [rows, dim]
  std::optional<std::string> backend;  // qjl and polar rows have no use for one
  int threads = 1;
};

// Writes a safetensors file and says so in one line on `out`. Errors: those of reading, decoding
// and writing; on an error `output` is as it was.
[[nodiscard]] Result<void> RunDecode(const DecodeOptions& options, std::ostream& out);

}  // namespace turboquant::cli

#endif  // TURBOQUANT_SRC_CLI_DECODE_COMMAND_H_
