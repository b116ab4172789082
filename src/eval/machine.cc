#include <fstream>
#include <thread>

#include "src/eval/result_row.h"
#include "turboquant/backend.h"

namespace turboquant::eval {
namespace {

// The name as Linux reports it; elsewhere, and where it is hidden, "unknown".
std::string CpuName() {
  std::ifstream cpu_info("/proc/cpuinfo");
  for (std::string line; std::getline(cpu_info, line);) {
    if (!line.starts_with("model name")) continue;
    const size_t colon = line.find(": ");
    if (colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

std::string CompilerName() {
#if defined(__clang__)
  return "clang " __clang_version__;
#elif defined(__GNUC__)
  return "gcc " __VERSION__;
#else
  return "unknown";
#endif
}

}  // namespace

Machine ThisMachine() {
  Machine machine;
  machine.cpu = CpuName();
  machine.cores = static_cast<int>(std::thread::hardware_concurrency());
  machine.best_target = BackendName(ResolveBackend(Backend::kAuto).value_or(Backend::kScalar));
  machine.compiler = CompilerName();
  machine.version = TURBOQUANT_VERSION;
  return machine;
}

}  // namespace turboquant::eval
