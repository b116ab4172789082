// What `benchmark --sweep --output-dir FOLDER` leaves behind.
#ifndef TURBOQUANT_SRC_CLI_SWEEP_FILES_H_
#define TURBOQUANT_SRC_CLI_SWEEP_FILES_H_

#include <string>

#include "src/eval/result_row.h"
#include "turboquant/error.h"

namespace turboquant::cli {

// Makes the folder if there is none and writes results.json, summary.md and report.html. `result`
// has a sweep. Errors: kIo naming the path.
[[nodiscard]] Result<void> WriteSweepFiles(const std::string& folder,
                                           const eval::BenchmarkResult& result);

}  // namespace turboquant::cli

#endif  // TURBOQUANT_SRC_CLI_SWEEP_FILES_H_
