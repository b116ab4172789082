// The GPU of `benchmark --backend wgpu` and of `info`.
#ifndef TURBOQUANT_SRC_CLI_WEBGPU_COMMAND_H_
#define TURBOQUANT_SRC_CLI_WEBGPU_COMMAND_H_

#include "src/cli/print_format.h"
#include "src/eval/method.h"
#include "turboquant/error.h"

namespace turboquant::cli {

// Methods kMse and kProd on this machine's GPU, or the software that plays one; kUnsupported for
// others. The library is looked for in $TURBOQUANT_WGPU, if that is set, and in the usual places.
// Errors: kUnavailable saying what is missing.
[[nodiscard]] Result<eval::MethodMaker> MakeWebGpuMethods();

// What the adapter is, or why there is none.
void AddWebGpu(FactSheet& facts);

}  // namespace turboquant::cli

#endif  // TURBOQUANT_SRC_CLI_WEBGPU_COMMAND_H_
