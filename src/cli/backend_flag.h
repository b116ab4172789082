// The --backend flag of every command.
#ifndef TURBOQUANT_SRC_CLI_BACKEND_FLAG_H_
#define TURBOQUANT_SRC_CLI_BACKEND_FLAG_H_

#include <string_view>

#include "turboquant/backend.h"
#include "turboquant/error.h"

namespace turboquant::cli {

// The name of the GPU, which only the benchmark's methods run on.
inline constexpr std::string_view kWebGpuBackend = "wgpu";

// A name of ParseBackend, or "simd", which is what another benchmark calls "auto". Errors:
// kInvalidArgument for an unknown name, kUnavailable for one that this machine lacks.
[[nodiscard]] Result<Backend> ParseBackendFlag(std::string_view name);

}  // namespace turboquant::cli

#endif  // TURBOQUANT_SRC_CLI_BACKEND_FLAG_H_
