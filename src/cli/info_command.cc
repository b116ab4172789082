#include "src/cli/info_command.h"

#include <vector>

#include "src/base/try.h"
#include "src/cli/print_format.h"
#include "src/cli/webgpu_command.h"
#include "src/eval/method.h"
#include "src/eval/result_row.h"
#include "turboquant/backend.h"

namespace turboquant::cli {

Result<void> RunInfo(const InfoOptions& options, std::ostream& out) {
  TQ_TRY(const PrintFormat format, ParsePrintFormat(options.format));
  const eval::Machine machine = eval::ThisMachine();
  FactSheet facts("turboquant.info/1");
  facts.Add("version", machine.version);
  facts.Add("compiler", machine.compiler);
  facts.Add("cpu", machine.cpu);
  facts.Add("threads", static_cast<size_t>(machine.cores));
  std::vector<std::string> backends;
  for (const Backend backend : AvailableBackends()) backends.emplace_back(BackendName(backend));
  facts.Add("backends", backends);
  facts.Add("auto_backend", machine.best_target);
  const Result<Backend> amx = ResolveBackend(Backend::kAmx);
  facts.Add("amx", amx ? "here" : amx.error().message);
  AddWebGpu(facts);
  facts.Add("encode_methods", std::vector<std::string>{"mse", "prod", "qjl", "polar"});
  std::vector<std::string> methods;
  for (const eval::MethodKind kind : eval::AllMethods()) methods.emplace_back(MethodName(kind));
  facts.Add("benchmark_methods", methods);
  facts.Add("workloads", std::vector<std::string>{"synthetic", "trace", "attention", "real-model"});
  out << facts.Print(format);
  return {};
}

}  // namespace turboquant::cli
