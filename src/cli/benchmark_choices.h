// What `turboquant benchmark` is to compare, from its flags.
#ifndef TURBOQUANT_SRC_CLI_BENCHMARK_CHOICES_H_
#define TURBOQUANT_SRC_CLI_BENCHMARK_CHOICES_H_

#include <vector>

#include "src/cli/benchmark_command.h"
#include "src/eval/cache_spec.h"
#include "src/eval/method.h"
#include "turboquant/error.h"

namespace turboquant::cli {

// The workload must be known. Errors: kInvalidArgument for a flag of one workload given with
// another, which would be ignored, and for one that is missing.
[[nodiscard]] Result<void> CheckFlagsFitWorkload(const BenchmarkOptions& options);

struct BenchmarkChoices {
  std::vector<eval::MethodSpec> methods;
  std::vector<eval::CacheSpec> caches;
  eval::MethodMaker maker = {};  // of the methods, where that is not the CPU
};

// Traces have rows of methods and rows of caches. Flags that only one of the two has choose it;
// with flags of both, or of neither, there are both. Errors: kInvalidArgument for unknown names and
// impossible combinations.
[[nodiscard]] Result<BenchmarkChoices> MakeChoices(const BenchmarkOptions& options);

}  // namespace turboquant::cli

#endif  // TURBOQUANT_SRC_CLI_BENCHMARK_CHOICES_H_
