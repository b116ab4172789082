// turboquant info: what this build can do on this machine.
#ifndef TURBOQUANT_SRC_CLI_INFO_COMMAND_H_
#define TURBOQUANT_SRC_CLI_INFO_COMMAND_H_

#include <ostream>
#include <string>

#include "turboquant/error.h"

namespace turboquant::cli {

struct InfoOptions {
  std::string format = "table";
};

// Errors: kInvalidArgument for the format.
[[nodiscard]] Result<void> RunInfo(const InfoOptions& options, std::ostream& out);

}  // namespace turboquant::cli

#endif  // TURBOQUANT_SRC_CLI_INFO_COMMAND_H_
