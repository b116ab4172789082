// The baselines in the shape of RowMethod.
#ifndef TURBOQUANT_SRC_EVAL_BASELINE_METHOD_H_
#define TURBOQUANT_SRC_EVAL_BASELINE_METHOD_H_

#include <memory>

#include "src/eval/baselines.h"
#include "src/eval/method.h"

namespace turboquant::eval {

// With `hadamard`, rows and queries go through the randomized Hadamard rotation first, as llama.cpp
// and others do to tame outliers. Errors: those of Rotation::Create.
[[nodiscard]] Result<std::unique_ptr<RowMethod>> MakeBaselineMethod(BaselineFormat format,
                                                                    bool hadamard,
                                                                    const MethodContext& context);

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_BASELINE_METHOD_H_
