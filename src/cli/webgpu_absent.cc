// Of a build without wgpu-native's headers.
#include "src/base/failure.h"
#include "src/cli/webgpu_command.h"

namespace turboquant::cli {

namespace {

constexpr const char* kReason =
    "this build has no GPU backend: wgpu-native's headers were not found when it was made";

}  // namespace

Result<eval::MethodMaker> MakeWebGpuMethods() { return Fail(ErrorCode::kUnavailable, kReason); }

void AddWebGpu(FactSheet& facts) { facts.Add("gpu", kReason); }

}  // namespace turboquant::cli
