// Results that go to a file.
#ifndef TURBOQUANT_SRC_CLI_TEXT_FILE_H_
#define TURBOQUANT_SRC_CLI_TEXT_FILE_H_

#include <string>

#include "turboquant/error.h"

namespace turboquant::cli {

// Replaces the file as a whole; a failed call leaves the old one. Errors: kIo naming the path.
[[nodiscard]] Result<void> WriteTextFile(const std::string& path, const std::string& text);

}  // namespace turboquant::cli

#endif  // TURBOQUANT_SRC_CLI_TEXT_FILE_H_
