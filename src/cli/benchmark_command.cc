#include "src/cli/benchmark_command.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/cli/backend_flag.h"
#include "src/cli/print_format.h"
#include "src/cli/tbb_parallel_for.h"
#include "src/cli/text_file.h"
#include "src/eval/report.h"
#include "src/eval/result_output.h"
#include "src/eval/synthetic_workload.h"
#include "src/eval/trace_workload.h"
#include "turboquant/backend.h"

namespace turboquant::cli {
namespace {

using eval::BenchmarkResult;
using eval::MethodKind;
using eval::MethodSpec;
using eval::Policy;
using eval::RunContext;

// A flag of one workload given with the other would be ignored; that is an error instead.
Result<void> CheckFlagsFitWorkload(const BenchmarkOptions& options) {
  const bool trace = options.workload == "trace";
  const std::pair<std::string_view, bool> synthetic_only[] = {
      {"--dims", !options.dims.empty()},
      {"--tokens", options.tokens.has_value()},
      {"--queries", options.queries.has_value()},
      {"--samples", options.samples.has_value()},
      {"--logit-std", options.logit_std.has_value()},
  };
  const std::pair<std::string_view, bool> trace_only[] = {
      {"--trace", !options.traces.empty()},
      {"--max-queries", options.max_queries.has_value()},
      {"--normalize", options.normalize},
  };
  for (const auto& [flag, given] : synthetic_only) {
    if (trace && given) {
      return Fail(ErrorCode::kInvalidArgument, flag, " is for --workload synthetic, not trace");
    }
  }
  for (const auto& [flag, given] : trace_only) {
    if (!trace && given) {
      return Fail(ErrorCode::kInvalidArgument, flag, " is for --workload trace, not synthetic");
    }
  }
  if (trace && options.traces.empty()) {
    return Fail(ErrorCode::kInvalidArgument, "--workload trace needs --trace FILE");
  }
  return {};
}

std::vector<double> DefaultBits(bool quick) {
  if (quick) return {2, 2.5, 3, 3.5, 4};
  return {1, 2, 2.5, 3, 3.5, 4, 5, 6, 8};
}

// The paper's choices stand beside the library's on random directions, where theory predicts both.
std::vector<Policy> DefaultPolicies(bool trace) {
  if (trace) return {Policy::kDefault};
  return {Policy::kDefault, Policy::kPaper};
}

Result<std::vector<MethodSpec>> Methods(const BenchmarkOptions& options) {
  std::vector<MethodKind> kinds;
  for (const std::string& name : options.methods) {
    TQ_TRY(const MethodKind kind, eval::ParseMethod(name));
    kinds.push_back(kind);
  }
  std::vector<Policy> policies;
  for (const std::string& name : options.policies) {
    TQ_TRY(const Policy policy, eval::ParsePolicy(name));
    policies.push_back(policy);
  }
  if (policies.empty()) policies = DefaultPolicies(options.workload == "trace");
  // Both by name: every method must have every width. Otherwise widths select among methods, or
  // methods among the default widths.
  const bool both_named = !kinds.empty() && !options.bits.empty();
  const auto missing = both_named ? eval::MissingWidth::kError : eval::MissingWidth::kDrop;
  const std::vector<double> bits = options.bits.empty() ? DefaultBits(options.quick) : options.bits;
  TQ_TRY(std::vector<MethodSpec> methods, eval::ExpandMethods(kinds, bits, policies, missing));
  for (const double width : options.bits) {
    if (std::ranges::find(methods, width, &MethodSpec::bits) == methods.end()) {
      return Fail(ErrorCode::kInvalidArgument, "no method asked for has a width of ", width,
                  " bits");
    }
  }
  return methods;
}

Result<RunContext> Context(const BenchmarkOptions& options, std::ostream* progress) {
  RunContext run;
  run.repeats = options.repeats.value_or(options.quick ? 5 : 9);
  if (run.repeats < 1 || run.repeats > 100000) {
    return Fail(ErrorCode::kInvalidArgument, "repeats must be 1 to 100000, got ", run.repeats);
  }
  run.threads = options.threads;
  TQ_TRY(run.parallel_for, MakeParallelFor(options.threads));
  if (progress != nullptr) {
    run.progress = [progress](std::string_view what) {
      *progress << "\r\033[K" << what << std::flush;
    };
  }
  return run;
}

Result<void> RunWorkload(const BenchmarkOptions& options, Backend backend, const RunContext& run,
                         std::vector<MethodSpec> methods, BenchmarkResult& result) {
  if (options.workload == "trace") {
    eval::TraceOptions trace;
    trace.files = options.traces;
    trace.max_queries = options.max_queries.value_or(0);
    trace.normalize = options.normalize;
    trace.seed = options.seed;
    trace.backend = backend;
    trace.methods = std::move(methods);
    trace.methods_by_default = options.methods.empty();
    return eval::RunTrace(trace, run, result);
  }
  eval::SyntheticOptions synthetic;
  synthetic.dims = options.dims;
  if (synthetic.dims.empty()) {
    synthetic.dims = options.quick ? std::vector<size_t>{128} : std::vector<size_t>{64, 128, 256};
  }
  synthetic.rows = options.tokens.value_or(options.quick ? 1024 : 4096);
  synthetic.queries = options.queries.value_or(options.quick ? 32 : 64);
  synthetic.samples = options.samples.value_or(options.quick ? 2 : 4);
  synthetic.logit_std = options.logit_std.value_or(2.0);
  synthetic.seed = options.seed;
  synthetic.backend = backend;
  synthetic.methods = std::move(methods);
  synthetic.methods_by_default = options.methods.empty();
  return eval::RunSynthetic(synthetic, run, result);
}

std::string Print(const BenchmarkResult& result, PrintFormat format) {
  switch (format) {
    case PrintFormat::kJson:
      return eval::ToJson(result);
    case PrintFormat::kCsv:
      return eval::ToCsv(result);
    case PrintFormat::kTable:
      break;
  }
  return eval::ToTable(result);
}

}  // namespace

Result<void> RunBenchmark(const BenchmarkOptions& options, std::ostream& out,
                          std::ostream* progress) {
  if (options.workload != "synthetic" && options.workload != "trace") {
    return Fail(ErrorCode::kInvalidArgument, "unknown workload \"", options.workload,
                "\"; known: synthetic, trace");
  }
  TQ_CHECK(CheckFlagsFitWorkload(options));
  TQ_TRY(const PrintFormat format, ParsePrintFormat(options.format));
  TQ_TRY(const Backend backend, ParseBackendFlag(options.backend));
  TQ_TRY(std::vector<MethodSpec> methods, Methods(options));
  TQ_TRY(const RunContext run, Context(options, progress));

  BenchmarkResult result;
  result.workload = options.workload;
  result.quick = options.quick;
  result.seed = options.seed;
  result.machine = eval::ThisMachine();
  const Result<void> ran = RunWorkload(options, backend, run, std::move(methods), result);
  if (progress != nullptr) *progress << "\r\033[K" << std::flush;
  TQ_CHECK(ran);

  const std::string printed = Print(result, format);
  if (!options.report.empty()) {
    TQ_CHECK(WriteTextFile(options.report, eval::RenderReport(result)));
  }
  if (!options.output.empty()) return WriteTextFile(options.output, printed);
  out << printed;
  return {};
}

}  // namespace turboquant::cli
