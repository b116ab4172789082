// The program's threads: oneTBB behind the library's ParallelFor.
#ifndef TURBOQUANT_SRC_CLI_TBB_PARALLEL_FOR_H_
#define TURBOQUANT_SRC_CLI_TBB_PARALLEL_FOR_H_

#include "turboquant/error.h"
#include "turboquant/parallel_for.h"

namespace turboquant::cli {

// `threads` threads in all, the calling one included; 1 gives an empty ParallelFor.
// Errors: kInvalidArgument unless threads is 1 to 1024.
[[nodiscard]] Result<ParallelFor> MakeParallelFor(int threads);

}  // namespace turboquant::cli

#endif  // TURBOQUANT_SRC_CLI_TBB_PARALLEL_FOR_H_
