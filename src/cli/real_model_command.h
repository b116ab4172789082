// What the program does with decoders: `benchmark --workload real-model` and `generate`.
#ifndef TURBOQUANT_SRC_CLI_REAL_MODEL_COMMAND_H_
#define TURBOQUANT_SRC_CLI_REAL_MODEL_COMMAND_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <ostream>
#include <string>

#include "src/cli/benchmark_choices.h"
#include "src/cli/benchmark_command.h"
#include "src/cli/real_model_flags.h"
#include "src/eval/measure.h"
#include "src/eval/result_row.h"
#include "turboquant/backend.h"
#include "turboquant/error.h"

namespace turboquant::cli {

// Errors: kUnavailable in a build without ONNX Runtime's headers; those of the bundle, the
// tokenizer and the workload; kIo for files of prompts and texts.
[[nodiscard]] Result<void> RunRealModelWorkload(const BenchmarkOptions& options, Backend backend,
                                                const eval::RunContext& run,
                                                BenchmarkChoices choices,
                                                eval::BenchmarkResult& result);

// As the flags of the same names (docs/cli.md).
struct GenerateOptions {
  ModelFlags model;
  std::string policy;  // empty: an exact cache
  std::optional<int> key_bits;
  std::optional<int> value_bits;
  double temperature = 0.0;
  size_t top_k = 0;
  double top_p = 1.0;
  uint64_t seed = 42;
  std::string backend = "auto";
  int threads = 1;
};

// Writes what the decoder says to each prompt as it comes. Errors: as above.
[[nodiscard]] Result<void> RunGenerate(const GenerateOptions& options, std::ostream& out);

}  // namespace turboquant::cli

#endif  // TURBOQUANT_SRC_CLI_REAL_MODEL_COMMAND_H_
