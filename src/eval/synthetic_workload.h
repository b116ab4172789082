// Random directions: the input the theory is about.
#ifndef TURBOQUANT_SRC_EVAL_SYNTHETIC_WORKLOAD_H_
#define TURBOQUANT_SRC_EVAL_SYNTHETIC_WORKLOAD_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/eval/measure.h"
#include "src/eval/method.h"
#include "src/eval/result_row.h"
#include "turboquant/backend.h"
#include "turboquant/error.h"

namespace turboquant::eval {

struct SyntheticOptions {
  std::vector<size_t> dims = {128};
  size_t rows = 4096;   // keys (and values) of one sample
  size_t queries = 64;  // of one sample, each sees all keys
  size_t samples = 4;   // independent draws of rows, queries, rotation and sketch
  // Logits are scaled so that, over the keys, they have this standard deviation.
  double logit_std = 2.0;
  uint64_t seed = 42;
  Backend backend = Backend::kAuto;
  std::vector<MethodSpec> methods;
  // Combinations of method and dim that do not exist are reported in left_out, not as errors.
  bool methods_by_default = false;
  MethodMaker maker = {};  // of the methods, instead of the CPU's
};

// count × dim floats: independent uniform points on the unit sphere, the same on every platform.
std::vector<float> RandomDirections(size_t count, size_t dim, uint64_t seed, uint32_t stream);

// Adds a row for each dim and method to `result`. Errors: kInvalidArgument for empty lists, zero
// sizes or a logit_std that is not positive; those of the methods, prefixed with their name.
[[nodiscard]] Result<void> RunSynthetic(const SyntheticOptions& options, const RunContext& run,
                                        BenchmarkResult& result);

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_SYNTHETIC_WORKLOAD_H_
