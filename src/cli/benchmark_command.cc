#include "src/cli/benchmark_command.h"

#include <string_view>
#include <utility>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/cli/backend_flag.h"
#include "src/cli/benchmark_choices.h"
#include "src/cli/print_format.h"
#include "src/cli/real_model_command.h"
#include "src/cli/supported_models.h"
#include "src/cli/sweep_files.h"
#include "src/cli/tbb_parallel_for.h"
#include "src/cli/text_file.h"
#include "src/cli/webgpu_command.h"
#include "src/eval/attention_workload.h"
#include "src/eval/report.h"
#include "src/eval/result_output.h"
#include "src/eval/synthetic_workload.h"
#include "src/eval/trace_workload.h"
#include "turboquant/backend.h"

namespace turboquant::cli {
namespace {

using eval::BenchmarkResult;
using eval::RunContext;

Result<RunContext> Context(const BenchmarkOptions& options, std::ostream* progress) {
  RunContext run;
  run.repeats = options.repeats.value_or(options.quick ? 5 : 9);
  if (run.repeats < 1 || run.repeats > 100000) {
    return Fail(ErrorCode::kInvalidArgument, "repeats must be 1 to 100000, got ", run.repeats);
  }
  if (options.threads.empty()) return Fail(ErrorCode::kInvalidArgument, "--threads is empty");
  run.threads = options.threads.front();
  TQ_TRY(run.parallel_for, MakeParallelFor(run.threads));
  if (progress != nullptr) {
    run.progress = [progress](std::string_view what) {
      *progress << "\r\033[K" << what << std::flush;
    };
  }
  return run;
}

Result<void> RunSyntheticWorkload(const BenchmarkOptions& options, Backend backend,
                                  const RunContext& run, BenchmarkChoices choices,
                                  BenchmarkResult& result) {
  eval::SyntheticOptions synthetic;
  synthetic.dims = options.dims;
  if (synthetic.dims.empty()) {
    synthetic.dims = options.quick ? std::vector<size_t>{128} : std::vector<size_t>{64, 128, 256};
  }
  const size_t rows = options.quick ? 1024 : 4096;
  synthetic.rows = options.tokens.empty() ? rows : options.tokens.front();
  synthetic.queries = options.queries.value_or(options.quick ? 32 : 64);
  synthetic.samples = options.samples.value_or(options.quick ? 2 : 4);
  synthetic.logit_std = options.logit_std.value_or(2.0);
  synthetic.seed = options.seed;
  synthetic.backend = backend;
  synthetic.methods = std::move(choices.methods);
  synthetic.methods_by_default = options.methods.empty();
  synthetic.maker = std::move(choices.maker);
  return eval::RunSynthetic(synthetic, run, result);
}

// Of every combination of head counts and dims.
std::vector<eval::AttentionOptions> AttentionShapes(const BenchmarkOptions& options,
                                                    Backend backend, BenchmarkChoices choices) {
  const auto either = [](const std::vector<size_t>& given, size_t usual) {
    return given.empty() ? std::vector<size_t>{usual} : given;
  };
  eval::AttentionOptions attention;
  attention.tokens = options.tokens;
  if (attention.tokens.empty() && options.quick) attention.tokens = {512, 2048, 8192};
  if (attention.tokens.empty()) attention.tokens = {1024, 4096, 16384, 32768};
  attention.seed = options.seed;
  attention.backend = backend;
  attention.caches = std::move(choices.caches);
  std::vector<eval::AttentionOptions> shapes;
  for (const size_t head_dim : either(options.head_dims, 128)) {
    for (const size_t kv_heads : either(options.kv_heads, 8)) {
      for (const size_t query_heads : either(options.query_heads, 32)) {
        attention.head_dim = head_dim;
        attention.kv_heads = kv_heads;
        attention.query_heads = query_heads;
        shapes.push_back(attention);
      }
    }
  }
  return shapes;
}

Result<void> RunAttentionWorkload(const BenchmarkOptions& options, Backend backend, RunContext run,
                                  BenchmarkChoices choices, BenchmarkResult& result) {
  const auto shapes = AttentionShapes(options, backend, std::move(choices));
  for (const eval::AttentionOptions& shape : shapes) {
    TQ_CHECK(eval::CheckAttentionOptions(shape));
  }
  std::vector<ParallelFor> parallel_for(options.threads.size());
  for (size_t i = 0; i < parallel_for.size(); ++i) {
    TQ_TRY(parallel_for[i], MakeParallelFor(options.threads[i]));
  }
  for (const eval::AttentionOptions& shape : shapes) {
    for (size_t i = 0; i < parallel_for.size(); ++i) {
      run.threads = options.threads[i];
      run.parallel_for = parallel_for[i];
      TQ_CHECK(eval::RunAttention(shape, run, result));
    }
  }
  return {};
}

Result<void> RunWorkload(const BenchmarkOptions& options, Backend backend, const RunContext& run,
                         BenchmarkChoices choices, BenchmarkResult& result) {
  if (options.workload == "trace") {
    eval::TraceOptions trace;
    trace.files = options.traces;
    trace.max_queries = options.max_queries.value_or(0);
    trace.normalize = options.normalize;
    trace.seed = options.seed;
    trace.backend = backend;
    trace.methods = std::move(choices.methods);
    trace.methods_by_default = options.methods.empty();
    trace.maker = std::move(choices.maker);
    trace.caches = std::move(choices.caches);
    return eval::RunTrace(trace, run, result);
  }
  if (options.workload == "real-model") {
    return RunRealModelWorkload(options, backend, run, std::move(choices), result);
  }
  if (options.workload == "attention") {
    return RunAttentionWorkload(options, backend, run, std::move(choices), result);
  }
  return RunSyntheticWorkload(options, backend, run, std::move(choices), result);
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
  if (options.supported_real_models) {
    PrintSupportedModels(out);
    return {};
  }
  if (options.workload != "synthetic" && options.workload != "trace" &&
      options.workload != "attention" && options.workload != "real-model") {
    return Fail(ErrorCode::kInvalidArgument, "unknown workload \"", options.workload,
                "\"; known: synthetic, trace, attention, real-model");
  }
  TQ_CHECK(CheckFlagsFitWorkload(options));
  TQ_TRY(const PrintFormat format, ParsePrintFormat(options.format));
  const bool on_gpu = options.backend == kWebGpuBackend;
  TQ_TRY(const Backend backend, ParseBackendFlag(on_gpu ? "auto" : options.backend));
  TQ_TRY(BenchmarkChoices choices, MakeChoices(options));
  if (on_gpu) {
    TQ_TRY(choices.maker, MakeWebGpuMethods());
  }
  TQ_TRY(const RunContext run, Context(options, progress));

  BenchmarkResult result;
  result.workload = options.workload;
  result.quick = options.quick;
  result.seed = options.seed;
  result.machine = eval::ThisMachine();
  const Result<void> ran = RunWorkload(options, backend, run, std::move(choices), result);
  if (progress != nullptr) *progress << "\r\033[K" << std::flush;
  TQ_CHECK(ran);

  const RealModelFlags& flags = options.real_model;
  if (flags.sweep) {
    result.sweep = eval::RankSweep(
        result.real_model_rows, {flags.min_token_match, flags.min_top_k_agreement, flags.max_kl});
    if (!flags.output_dir.empty()) TQ_CHECK(WriteSweepFiles(flags.output_dir, result));
  }
  const std::string printed = Print(result, format);
  if (!options.report.empty()) {
    TQ_CHECK(WriteTextFile(options.report, eval::RenderReport(result)));
  }
  if (!options.output.empty()) return WriteTextFile(options.output, printed);
  out << printed;
  return {};
}

}  // namespace turboquant::cli
