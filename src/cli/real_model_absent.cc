// Of a build without ONNX Runtime's headers.
#include "src/base/failure.h"
#include "src/cli/real_model_command.h"

namespace turboquant::cli {
namespace {

std::unexpected<Error> Absent() {
  return Fail(ErrorCode::kUnavailable,
              "this build runs no real models: ONNX Runtime's headers were not found when it was "
              "made");
}

}  // namespace

Result<void> RunRealModelWorkload(
    const BenchmarkOptions&, Backend, const eval::RunContext&,
    BenchmarkChoices,  // NOLINT(performance-unnecessary-value-param): as the real one
    eval::BenchmarkResult&) {
  return Absent();
}

Result<void> RunGenerate(const GenerateOptions&, std::ostream&) { return Absent(); }

}  // namespace turboquant::cli
