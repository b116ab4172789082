// The program without its process: arguments in, text and exit code out.
#ifndef TURBOQUANT_SRC_CLI_COMMAND_LINE_H_
#define TURBOQUANT_SRC_CLI_COMMAND_LINE_H_

#include <ostream>
#include <string>
#include <vector>

namespace turboquant::cli {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;   // anything that is not bad usage
inline constexpr int kExitBadUsage = 2;  // flags that do not parse, or that a command refuses

// Runs one command; `arguments` are those after the program's name. Results go to `out`, one line
// to `err` when it fails, and progress to `err` when that is a terminal.
int RunCommandLine(const std::vector<std::string>& arguments, std::ostream& out, std::ostream& err,
                   bool err_is_terminal);

}  // namespace turboquant::cli

#endif  // TURBOQUANT_SRC_CLI_COMMAND_LINE_H_
