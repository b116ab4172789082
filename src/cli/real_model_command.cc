#include "src/cli/real_model_command.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <limits>
#include <optional>
#include <utility>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/cli/backend_flag.h"
#include "src/cli/builtin_prompts.h"
#include "src/cli/real_model_files.h"
#include "src/cli/tbb_parallel_for.h"
#include "src/onnx/real_model_workload.h"
#include "turboquant/kv_cache.h"
#include "turboquant/onnx/generation.h"
#include "turboquant/onnx/sequence.h"

namespace turboquant::cli {
namespace {

constexpr size_t kMaxPrompts = 4;

Result<eval::RealModelMode> ParseMode(const std::string& name) {
  if (name.empty() || name == "compare") return eval::RealModelMode::kCompare;
  if (name == "quantized") return eval::RealModelMode::kQuantized;
  if (name == "exact") return eval::RealModelMode::kExact;
  return Fail(ErrorCode::kInvalidArgument, "unknown mode \"", name,
              "\"; known: exact, quantized, compare");
}

// Those of the flags; the built-in ones where there is neither a prompt nor a text.
Result<std::vector<std::string>> WorkloadPrompts(const RealModelFlags& flags) {
  TQ_TRY(std::vector<std::string> prompts, ReadPrompts(flags.model, kMaxPrompts));
  std::vector<std::string> names = flags.builtin_prompts;
  if (names.empty() && prompts.empty() && flags.texts.empty()) names = {"all"};
  TQ_TRY(std::vector<std::string> builtin, FindBuiltinPrompts(names));
  std::ranges::move(builtin, std::back_inserter(prompts));
  return prompts;
}

Result<eval::RealModelOptions> WorkloadOptions(const BenchmarkOptions& options, Backend backend,
                                               BenchmarkChoices choices) {
  const RealModelFlags& flags = options.real_model;
  eval::RealModelOptions workload;
  TQ_TRY(workload.mode, ParseMode(flags.mode));
  workload.caches = std::move(choices.caches);
  TQ_TRY(workload.prompts, WorkloadPrompts(flags));
  workload.prompt_prefix = Unescaped(flags.model.prompt_prefix);
  workload.prompt_suffix = Unescaped(flags.model.prompt_suffix);
  workload.generation.max_new_tokens = flags.model.max_new_tokens.value_or(16);
  workload.generation.stop_on_eos = !flags.model.ignore_eos;
  for (const std::string& path : flags.texts) {
    TQ_TRY(std::string text, ReadTextFile(path));
    workload.texts.push_back({std::filesystem::path(path).filename().native(), std::move(text)});
  }
  workload.context = flags.context.value_or(512);
  workload.max_contexts = flags.max_contexts.value_or(options.quick ? 1 : 3);
  workload.top_k = flags.top_k.value_or(5);
  workload.layer_damage = flags.layer_damage;
  workload.repeats = options.repeats.value_or(1);
  workload.first_position = flags.first_position.value_or(0);
  workload.seed = options.seed;
  workload.backend = backend;
  return workload;
}

// The sequence that a prompt is read into: exact, or a policy's caches.
Result<DecoderSequence> StartSequence(const GenerateOptions& options, const OnnxDecoder& decoder,
                                      const ParallelFor& parallel_for) {
  if (options.policy.empty()) {
    if (options.key_bits || options.value_bits) {
      return Fail(ErrorCode::kInvalidArgument,
                  "--key-bits and --value-bits are for a quantized cache: --policy NAME");
    }
    return DecoderSequence::Exact(decoder);
  }
  QuantizedSequenceOptions quantized;
  const DecoderConfig& config = decoder.config();
  TQ_TRY(quantized.cache, PolicyOptions(options.policy, config.head_dim, config.kv_heads));
  KvFormatOptions& format = quantized.cache.format;
  if (options.key_bits) format.keys.bits = *options.key_bits;
  if (options.value_bits) format.values.bits = *options.value_bits;
  format.seed = options.seed;
  TQ_TRY(format.backend, ParseBackendFlag(options.backend));
  quantized.parallel_for = parallel_for;
  return DecoderSequence::Quantized(decoder, quantized);
}

Result<void> Answer(const GenerateOptions& options, const std::string& prompt,
                    const LoadedModel& model, const ParallelFor& parallel_for, std::ostream& out) {
  TQ_TRY(const std::vector<int64_t> tokens,
         model.tokenizer.Encode(Unescaped(options.model.prompt_prefix) + prompt +
                                Unescaped(options.model.prompt_suffix)));
  TQ_TRY(DecoderSequence sequence, StartSequence(options, model.decoder, parallel_for));
  GenerationOptions generation;
  generation.max_new_tokens = options.model.max_new_tokens.value_or(128);
  generation.stop_on_eos = !options.model.ignore_eos;
  generation.sampling = {options.temperature, options.top_k, options.top_p, options.seed};
  TokenTextStream stream(model.tokenizer);
  Result<void> told;
  generation.on_token = [&](int64_t token) {
    const Result<std::string> text = stream.Add(token);
    if (text) {
      out << *text << std::flush;
    } else {
      told = std::unexpected(text.error());
    }
  };
  TQ_TRY(const Generation written, Generate(sequence, tokens, generation));
  out << "\n";
  return told;
}

}  // namespace

Result<void> RunRealModelWorkload(const BenchmarkOptions& options, Backend backend,
                                  const eval::RunContext& run, BenchmarkChoices choices,
                                  eval::BenchmarkResult& result) {
  TQ_TRY(const eval::RealModelOptions workload,
         WorkloadOptions(options, backend, std::move(choices)));
  TQ_TRY(const LoadedModel model, LoadModel(options.real_model.model, run.threads));
  return eval::RunRealModel(workload, model.decoder, model.tokenizer, run, result);
}

Result<void> RunGenerate(const GenerateOptions& options, std::ostream& out) {
  TQ_TRY(const std::vector<std::string> prompts,
         ReadPrompts(options.model, std::numeric_limits<size_t>::max()));
  if (prompts.empty()) {
    return Fail(ErrorCode::kInvalidArgument, "no prompt given: --prompt TEXT or --prompts FILE");
  }
  TQ_TRY(const ParallelFor parallel_for, MakeParallelFor(options.threads));
  TQ_TRY(const LoadedModel model, LoadModel(options.model, options.threads));
  for (const std::string& prompt : prompts) {
    if (prompts.size() > 1) out << "> " << prompt << "\n";
    TQ_CHECK(Answer(options, prompt, model, parallel_for, out));
  }
  return {};
}

}  // namespace turboquant::cli
