// The list of methods that a workload takes through its samples.
#ifndef TURBOQUANT_SRC_EVAL_WORKLOAD_METHODS_H_
#define TURBOQUANT_SRC_EVAL_WORKLOAD_METHODS_H_

#include <span>
#include <string>
#include <vector>

#include "src/eval/measure.h"
#include "src/eval/method.h"
#include "src/eval/result_row.h"
#include "turboquant/error.h"

namespace turboquant::eval {

// One measurement for each method that can be created in `context`. One that cannot is an error
// with the method's name in front, or, with `by_default`, an entry of `left_out`: someone who gave
// no list of methods wants all that exist. An unavailable backend is an error either way.
[[nodiscard]] Result<std::vector<MethodMeasurement>> StartMeasurements(
    std::span<const MethodSpec> methods, bool by_default, const MethodContext& context,
    const std::vector<PositionErrors>& bins, std::vector<LeftOut>& left_out);

// Adds one case to every measurement. `label` goes in front of the method in progress reports.
[[nodiscard]] Result<void> AddToAll(const ExactAttention& exact, const MethodContext& context,
                                    const RunContext& run, const std::string& label,
                                    std::span<MethodMeasurement> measurements);

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_WORKLOAD_METHODS_H_
