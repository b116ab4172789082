// Runs one method on attention cases and reports a benchmark row.
#ifndef TURBOQUANT_SRC_EVAL_MEASURE_H_
#define TURBOQUANT_SRC_EVAL_MEASURE_H_

#include <functional>
#include <string_view>
#include <vector>

#include "src/eval/attention_errors.h"
#include "src/eval/method.h"
#include "src/eval/result_row.h"
#include "turboquant/error.h"
#include "turboquant/parallel_for.h"

namespace turboquant::eval {

// How a workload runs, whatever it measures.
struct RunContext {
  ParallelFor parallel_for;
  int threads = 1;
  int repeats = 7;  // of each timing; the minimum is reported
  // Told what is about to run; may be empty.
  std::function<void(std::string_view)> progress;
};

// Shortest of `repeats` calls, in seconds. Stops at the first error.
[[nodiscard]] Result<double> ShortestSeconds(int repeats,
                                             const std::function<Result<void>()>& call);

// Accumulates one method over the samples of a workload.
class MethodMeasurement {
 public:
  MethodMeasurement(const MethodSpec& spec, std::vector<PositionErrors> bins);

  const MethodSpec& spec() const { return spec_; }

  // Encodes keys and values, scores every query and adds the errors. `context` is that of the keys.
  // The first case is also timed. Errors: those of the method.
  [[nodiscard]] Result<void> Add(const ExactAttention& exact, const MethodContext& context,
                                 const RunContext& run);

  // Everything measured so far, with the fields a workload owns (workload, source, ...) left empty.
  BenchmarkRow Row() const;

 private:
  [[nodiscard]] Result<void> Time(const AttentionCase& attention_case, RowMethod& method,
                                  const RunContext& run);

  MethodSpec spec_;
  AttentionErrors errors_;
  BenchmarkRow row_;  // sizes, theory and times; the rest comes from errors_
};

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_MEASURE_H_
