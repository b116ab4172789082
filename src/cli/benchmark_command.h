// turboquant benchmark: quality, size and speed of methods and caches on random directions, traces,
// long contexts and real models.
#ifndef TURBOQUANT_SRC_CLI_BENCHMARK_COMMAND_H_
#define TURBOQUANT_SRC_CLI_BENCHMARK_COMMAND_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "src/cli/real_model_flags.h"
#include "turboquant/error.h"

namespace turboquant::cli {

// As the flags of the same names (docs/cli.md). Unset and empty mean the workload's default.
struct BenchmarkOptions {
  std::string workload = "synthetic";
  std::vector<std::string> policies;
  std::string backend = "auto";
  uint64_t seed = 42;
  std::vector<int> threads = {1};  // several: attention only
  std::optional<int> repeats;
  bool quick = false;
  // Methods that keep rows one by one: synthetic and trace.
  std::vector<std::string> methods;
  std::vector<double> bits;
  // Synthetic only, but for tokens, which attention has too.
  std::vector<size_t> dims;
  std::vector<size_t> tokens;
  std::optional<size_t> queries;
  std::optional<size_t> samples;
  std::optional<double> logit_std;
  // Trace only.
  std::vector<std::string> traces;
  std::optional<size_t> max_queries;
  bool normalize = false;
  // Caches: trace, attention and real-model; the last five not attention.
  std::vector<int> key_bits;
  std::vector<int> value_bits;
  std::vector<std::string> key_methods;
  std::vector<std::string> value_methods;
  std::vector<std::string> key_maps;
  std::vector<std::string> scale_searches;
  std::vector<std::string> key_codes;
  std::vector<size_t> key_map_tokens;
  std::vector<size_t> sinks;
  std::vector<size_t> windows;
  // Attention only: every combination of them.
  std::vector<size_t> query_heads;
  std::vector<size_t> kv_heads;
  std::vector<size_t> head_dims;
  // Real model only.
  RealModelFlags real_model;
  bool supported_real_models = false;  // list them and do nothing else

  std::string format = "table";
  std::string output;  // a file instead of `out`
  std::string report;  // an HTML file beside it
};

// Runs the workload, prints its results to `out` and writes the files asked for. `progress`, which
// may be null, is a terminal that is told what runs. Errors: kInvalidArgument for flags that do not
// go together or values out of range; those of the workloads; kIo.
[[nodiscard]] Result<void> RunBenchmark(const BenchmarkOptions& options, std::ostream& out,
                                        std::ostream* progress);

}  // namespace turboquant::cli

#endif  // TURBOQUANT_SRC_CLI_BENCHMARK_COMMAND_H_
