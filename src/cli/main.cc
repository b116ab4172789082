#include <unistd.h>

#include <iostream>
#include <new>

#include "src/cli/command_line.h"

int main(int argc, char** argv) {
  using turboquant::cli::RunCommandLine;
  try {
    return RunCommandLine({argv + (argc > 0 ? 1 : 0), argv + argc}, std::cout, std::cerr,
                          isatty(STDERR_FILENO) == 1);
  } catch (const std::bad_alloc&) {
    std::cerr << "turboquant: out of memory\n";
    return turboquant::cli::kExitFailure;
  }
}
