#include "src/cli/benchmark_choices.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/cli/backend_flag.h"

namespace turboquant::cli {
namespace {

using eval::CacheChoices;
using eval::CacheSpec;
using eval::MethodKind;
using eval::MethodSpec;
using eval::Policy;

struct Flag {
  std::string_view name;
  bool given;
  std::string_view workloads;  // that have it, separated by ", "
};

std::vector<Flag> Flags(const BenchmarkOptions& options) {
  const RealModelFlags& model = options.real_model;
  return {
      {"--methods", !options.methods.empty(), "synthetic, trace"},
      {"--bits", !options.bits.empty(), "synthetic, trace, real-model"},
      {"--dims", !options.dims.empty(), "synthetic"},
      {"--tokens", !options.tokens.empty(), "synthetic, attention"},
      {"--queries", options.queries.has_value(), "synthetic"},
      {"--samples", options.samples.has_value(), "synthetic"},
      {"--logit-std", options.logit_std.has_value(), "synthetic"},
      {"--trace", !options.traces.empty(), "trace"},
      {"--max-queries", options.max_queries.has_value(), "trace"},
      {"--normalize", options.normalize, "trace"},
      {"--key-bits", !options.key_bits.empty(), "trace, attention, real-model"},
      {"--value-bits", !options.value_bits.empty(), "trace, attention, real-model"},
      {"--key-method", !options.key_methods.empty(), "trace, attention, real-model"},
      {"--value-method", !options.value_methods.empty(), "trace, attention, real-model"},
      {"--key-map", !options.key_maps.empty(), "trace, attention, real-model"},
      {"--scale-search", !options.scale_searches.empty(), "trace, real-model"},
      {"--key-codes", !options.key_codes.empty(), "trace, real-model"},
      {"--key-map-tokens", !options.key_map_tokens.empty(), "trace, real-model"},
      {"--sinks", !options.sinks.empty(), "trace, real-model"},
      {"--window", !options.windows.empty(), "trace, real-model"},
      {"--threads with several numbers", options.threads.size() > 1, "attention"},
      {"--query-heads", !options.query_heads.empty(), "attention"},
      {"--kv-heads", !options.kv_heads.empty(), "attention"},
      {"--head-dim", !options.head_dims.empty(), "attention"},
      {"--real-model-dir", !model.model.folder.empty(), "real-model"},
      {"--onnxruntime", !model.model.onnxruntime.empty(), "real-model"},
      {"--prompt", !model.model.prompts.empty(), "real-model"},
      {"--prompts", !model.model.prompts_file.empty(), "real-model"},
      {"--builtin-prompts", !model.builtin_prompts.empty(), "real-model"},
      {"--max-prompts", model.model.max_prompts.has_value(), "real-model"},
      {"--prompt-prefix", !model.model.prompt_prefix.empty(), "real-model"},
      {"--prompt-suffix", !model.model.prompt_suffix.empty(), "real-model"},
      {"--max-new-tokens", model.model.max_new_tokens.has_value(), "real-model"},
      {"--ignore-eos", model.model.ignore_eos, "real-model"},
      {"--real-eval-mode", !model.mode.empty(), "real-model"},
      {"--top-k", model.top_k.has_value(), "real-model"},
      {"--text", !model.texts.empty(), "real-model"},
      {"--context", model.context.has_value(), "real-model"},
      {"--max-contexts", model.max_contexts.has_value(), "real-model"},
      {"--first-position", model.first_position.has_value(), "real-model"},
      {"--layer-damage", model.layer_damage, "real-model"},
      {"--sweep", model.sweep, "real-model"},
      {"--min-token-match", model.min_token_match.has_value(), "real-model"},
      {"--min-top-k-agreement", model.min_top_k_agreement.has_value(), "real-model"},
      {"--max-kl", model.max_kl.has_value(), "real-model"},
      {"--output-dir", !model.output_dir.empty(), "real-model"},
      {"--baselines", model.baselines, "real-model"},
  };
}

bool IsMethodPolicy(const std::string& name) { return eval::ParsePolicy(name).has_value(); }

// Flags that say something about caches and about nothing else.
bool NamesCaches(const BenchmarkOptions& options) {
  return !options.key_bits.empty() || !options.value_bits.empty() || !options.key_methods.empty() ||
         !options.value_methods.empty() || !options.key_maps.empty() ||
         !options.scale_searches.empty() || !options.key_codes.empty() ||
         !options.key_map_tokens.empty() || !options.sinks.empty() || !options.windows.empty() ||
         std::ranges::any_of(options.policies, [](const std::string& name) {
           return eval::IsCachePolicy(name) && !IsMethodPolicy(name);
         });
}

bool NamesMethods(const BenchmarkOptions& options) {
  return !options.methods.empty() || !options.bits.empty() ||
         std::ranges::any_of(options.policies, [](const std::string& name) {
           return IsMethodPolicy(name) && !eval::IsCachePolicy(name);
         });
}

std::vector<double> DefaultBits(const BenchmarkOptions& options) {
  const bool quick = options.quick;
  if (options.backend == kWebGpuBackend) {  // which has no outlier split
    return quick ? std::vector<double>{2, 3, 4} : std::vector<double>{1, 2, 3, 4, 5, 6, 8};
  }
  if (quick) return {2, 2.5, 3, 3.5, 4};
  return {1, 2, 2.5, 3, 3.5, 4, 5, 6, 8};
}

// The paper's choices stand beside the library's on random directions, where theory predicts both;
// the GPU has no dense rotation.
std::vector<Policy> DefaultPolicies(const BenchmarkOptions& options) {
  if (options.workload == "trace" || options.backend == kWebGpuBackend) return {Policy::kDefault};
  return {Policy::kDefault, Policy::kPaper};
}

Result<std::vector<MethodSpec>> Methods(const BenchmarkOptions& options) {
  const bool trace = options.workload == "trace";
  std::vector<MethodKind> kinds;
  // A default leaves out what the GPU has not; what is asked for by name is refused there.
  if (options.backend == kWebGpuBackend && options.methods.empty()) {
    kinds = {MethodKind::kMse, MethodKind::kProd};
  }
  for (const std::string& name : options.methods) {
    TQ_TRY(const MethodKind kind, eval::ParseMethod(name));
    kinds.push_back(kind);
  }
  std::vector<Policy> policies;
  for (const std::string& name : options.policies) {
    if (trace && !IsMethodPolicy(name)) continue;  // one of caches
    TQ_TRY(const Policy policy, eval::ParsePolicy(name));
    policies.push_back(policy);
  }
  if (policies.empty()) policies = DefaultPolicies(options);
  // Both by name: every method must have every width. Otherwise widths select among methods, or
  // methods among the default widths.
  const bool both_named = !kinds.empty() && !options.bits.empty();
  const auto missing = both_named ? eval::MissingWidth::kError : eval::MissingWidth::kDrop;
  const std::vector<double> bits = options.bits.empty() ? DefaultBits(options) : options.bits;
  TQ_TRY(std::vector<MethodSpec> methods, eval::ExpandMethods(kinds, bits, policies, missing));
  for (const double width : options.bits) {
    if (std::ranges::find(methods, width, &MethodSpec::bits) == methods.end()) {
      return Fail(ErrorCode::kInvalidArgument, "no method asked for has a width of ", width,
                  " bits");
    }
  }
  return methods;
}

// The grid of a sweep where the flags leave it open. Nothing but sinks is exact: beside prompts and
// contexts as short as these a window would hide what the widths do.
void FillSweepGrid(const BenchmarkOptions& options, CacheChoices& choices) {
  if (options.bits.empty() && choices.key_bits.empty()) {
    choices.key_bits = options.quick ? std::vector<int>{3, 4} : std::vector<int>{2, 3, 4, 8};
  }
  if (options.bits.empty() && choices.value_bits.empty()) {
    choices.value_bits = options.quick ? std::vector<int>{3, 4} : std::vector<int>{2, 3, 4};
  }
  if (choices.windows.empty()) choices.windows = {0};
}

Result<void> CheckRealModel(const RealModelFlags& flags) {
  const bool gated = flags.min_token_match || flags.min_top_k_agreement || flags.max_kl;
  if (!flags.sweep && (gated || !flags.output_dir.empty())) {
    return Fail(ErrorCode::kInvalidArgument,
                "--min-token-match, --min-top-k-agreement, --max-kl and --output-dir need --sweep");
  }
  if (flags.sweep && !flags.mode.empty() && flags.mode != "compare") {
    return Fail(ErrorCode::kInvalidArgument, "--sweep compares; it has no mode ", flags.mode);
  }
  if (flags.layer_damage && (flags.texts.empty() || flags.mode == "exact")) {
    return Fail(ErrorCode::kInvalidArgument,
                "--layer-damage is for caches on a text: --text, and no --real-eval-mode exact");
  }
  for (const auto& share : {flags.min_token_match, flags.min_top_k_agreement}) {
    if (share && !(*share >= 0.0 && *share <= 1.0)) {
      return Fail(ErrorCode::kInvalidArgument, "gates of shares must be 0 to 1, got ", *share);
    }
  }
  if (flags.max_kl && !(*flags.max_kl >= 0.0)) {
    return Fail(ErrorCode::kInvalidArgument, "--max-kl must be 0 or more, got ", *flags.max_kl);
  }
  return {};
}

// Explicit widths, maps and the like change one policy rather than all of them.
std::vector<std::string> DefaultCachePolicies(const BenchmarkOptions& options) {
  if (options.real_model.sweep) {
    // What tells peer from the others is its method.
    if (!options.key_methods.empty()) return {"balanced", "paper"};
    return {"balanced", "paper", "peer"};
  }
  const bool bits = options.workload == "real-model" && !options.bits.empty();
  if (NamesCaches(options) || bits) return {"balanced"};
  if (options.workload == "attention" || options.workload == "real-model")
    return {"safe", "balanced", "small"};
  return eval::CachePolicyNames();
}

// --bits is the width of keys and of values, unless the flags of either say otherwise.
Result<std::vector<CacheSpec>> ExpandWidths(const BenchmarkOptions& options,
                                            const CacheChoices& choices) {
  if (options.workload != "real-model" || options.bits.empty()) {
    return eval::ExpandCaches(choices);
  }
  std::vector<CacheSpec> all;
  for (const double bits : options.bits) {
    const int width = static_cast<int>(std::clamp(bits, 0.0, 9.0));
    if (width != bits || width < 1 || width > 8) {
      return Fail(ErrorCode::kInvalidArgument, "bits of caches must be 1 to 8, got ", bits);
    }
    CacheChoices of_width = choices;
    if (choices.key_bits.empty()) of_width.key_bits = {width};
    if (choices.value_bits.empty()) of_width.value_bits = {width};
    TQ_TRY(std::vector<CacheSpec> caches, eval::ExpandCaches(of_width));
    std::ranges::move(caches, std::back_inserter(all));
  }
  return all;
}

Result<std::vector<CacheSpec>> Caches(const BenchmarkOptions& options) {
  CacheChoices choices;
  for (const std::string& name : options.policies) {
    if (options.workload != "trace" || eval::IsCachePolicy(name)) {
      choices.policies.push_back(name);
    }
  }
  if (choices.policies.empty()) choices.policies = DefaultCachePolicies(options);
  choices.key_bits = options.key_bits;
  choices.value_bits = options.value_bits;
  for (const std::string& name : options.key_methods) {
    TQ_TRY(choices.key_methods.emplace_back(), eval::ParseKvMethod(name));
  }
  for (const std::string& name : options.value_methods) {
    TQ_TRY(choices.value_methods.emplace_back(), eval::ParseKvMethod(name));
  }
  for (const std::string& name : options.key_maps) {
    TQ_TRY(choices.key_maps.emplace_back(), eval::ParseKeyMapKind(name));
  }
  for (const std::string& name : options.scale_searches) {
    TQ_TRY(choices.scale_searches.emplace_back(), eval::ParseScaleSearch(name));
  }
  for (const std::string& name : options.key_codes) {
    TQ_TRY(choices.key_codes.emplace_back(), eval::ParseKeyCodes(name));
  }
  choices.key_map_tokens = options.key_map_tokens;
  choices.sinks = options.sinks;
  choices.windows = options.windows;
  if (options.workload == "attention") choices.sinks = choices.windows = {0};  // all is packed
  if (options.real_model.sweep) FillSweepGrid(options, choices);
  TQ_TRY(std::vector<CacheSpec> caches, ExpandWidths(options, choices));
  if (options.workload == "trace" || options.real_model.baselines || options.real_model.sweep) {
    for (CacheSpec& baseline : eval::BaselinesBeside(caches)) {
      caches.push_back(std::move(baseline));
    }
  }
  return caches;
}

}  // namespace

Result<void> CheckFlagsFitWorkload(const BenchmarkOptions& options) {
  for (const Flag& flag : Flags(options)) {
    if (flag.given && flag.workloads.find(options.workload) == std::string_view::npos) {
      return Fail(ErrorCode::kInvalidArgument, flag.name, " is for --workload ", flag.workloads,
                  ", not ", options.workload);
    }
  }
  if (options.workload == "trace" && options.traces.empty()) {
    return Fail(ErrorCode::kInvalidArgument, "--workload trace needs --trace FILE");
  }
  if (options.workload == "real-model") {
    if (options.real_model.model.folder.empty()) {
      return Fail(ErrorCode::kInvalidArgument, "--workload real-model needs --real-model-dir");
    }
    TQ_CHECK(CheckRealModel(options.real_model));
  }
  if (options.workload == "synthetic" && options.tokens.size() > 1) {
    return Fail(ErrorCode::kInvalidArgument, "--workload synthetic takes one number of --tokens");
  }
  return {};
}

Result<BenchmarkChoices> MakeChoices(const BenchmarkOptions& options) {
  for (const std::string& name : options.policies) {
    if (options.workload == "trace" && !eval::IsCachePolicy(name) && !IsMethodPolicy(name)) {
      return Fail(ErrorCode::kInvalidArgument, "unknown policy \"", name,
                  "\"; known: default, no-search, paper for methods; safe, balanced, small, paper, "
                  "peer for caches");
    }
  }
  const bool on_gpu = options.backend == kWebGpuBackend;
  const bool caches = NamesCaches(options);
  const bool methods = NamesMethods(options) || on_gpu;
  if (on_gpu && (caches || (options.workload != "synthetic" && options.workload != "trace"))) {
    return Fail(ErrorCode::kInvalidArgument,
                "--backend wgpu runs methods of --workload synthetic and trace; caches are the "
                "CPU's");
  }
  BenchmarkChoices choices;
  if (options.workload == "synthetic" || (options.workload == "trace" && (methods || !caches))) {
    TQ_TRY(choices.methods, Methods(options));
  }
  if (options.workload == "attention" || options.workload == "real-model" ||
      (options.workload == "trace" && (caches || !methods))) {
    TQ_TRY(choices.caches, Caches(options));
  }
  return choices;
}

}  // namespace turboquant::cli
