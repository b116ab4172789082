// Benchmark results as one web page that needs nothing else: no scripts, no fonts, no network.
#ifndef TURBOQUANT_SRC_EVAL_REPORT_H_
#define TURBOQUANT_SRC_EVAL_REPORT_H_

#include <string>

#include "src/eval/result_row.h"

namespace turboquant::eval {

// For every source and dim: distortion against true bits with Shannon's limit and the paper's
// bound, KL against true bits, error by position (traces), time per row, and the numbers. For
// caches: error by policy; KL and output error against true bytes per token of every head. For
// attention: time against the length of the context, beside f16, f32 and a plain read.
std::string RenderReport(const BenchmarkResult& result);

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_REPORT_H_
