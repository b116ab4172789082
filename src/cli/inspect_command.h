// turboquant inspect: what is in an encoded-row file or a trace.
#ifndef TURBOQUANT_SRC_CLI_INSPECT_COMMAND_H_
#define TURBOQUANT_SRC_CLI_INSPECT_COMMAND_H_

#include <ostream>
#include <string>

#include "turboquant/error.h"

namespace turboquant::cli {

struct InspectOptions {
  std::string input;
  std::string format = "table";
};

// Reads the whole file, checks it as the other commands would, and prints its facts. Errors: those
// of reading; kInvalidArgument for the format.
[[nodiscard]] Result<void> RunInspect(const InspectOptions& options, std::ostream& out);

}  // namespace turboquant::cli

#endif  // TURBOQUANT_SRC_CLI_INSPECT_COMMAND_H_
