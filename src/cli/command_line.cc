// The only file that includes CLI11: it is slow to compile.
#include "src/cli/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>

#include "src/cli/benchmark_command.h"
#include "src/cli/decode_command.h"
#include "src/cli/encode_command.h"
#include "src/cli/info_command.h"
#include "src/cli/inspect_command.h"
#include "src/cli/real_model_command.h"
#include "src/eval/result_row.h"

namespace turboquant::cli {
namespace {

// The options of every command, and which command was chosen.
struct Arguments {
  BenchmarkOptions benchmark;
  EncodeOptions encode;
  DecodeOptions decode;
  InspectOptions inspect;
  InfoOptions info;
  GenerateOptions generate;
  bool json = false;
};

void AddFormat(CLI::App& command, std::string& format, bool& json) {
  auto* option =
      command.add_option("--format", format, "table, json or csv")->capture_default_str();
  command.add_flag("--json", json, "the same as --format json")->excludes(option);
}

template <class Text>  // std::string, or an optional one
void AddBackend(CLI::App& command, Text& backend) {
  command.add_option("--backend", backend,
                     "auto (default), scalar, avx2, avx512, amx or neon; simd is another name for "
                     "auto; benchmark, synthetic and trace: wgpu, a GPU");
}

void AddThreads(CLI::App& command, int& threads) {
  command.add_option("--threads", threads, "threads in all")->capture_default_str();
}

// What both kinds of rows of the benchmark, and all its workloads, have.
void AddBenchmarkRun(CLI::App& command, BenchmarkOptions& options, bool& json) {
  command.add_option("--workload", options.workload, "synthetic, trace, attention or real-model")
      ->capture_default_str();
  command
      .add_option("--policy,--policies", options.policies,
                  "methods: default, no-search, paper; caches: safe, balanced, small, paper, peer")
      ->delimiter(',');
  command.add_option("--seed", options.seed)->capture_default_str();
  AddBackend(command, options.backend);
  command.add_option("--threads", options.threads, "threads in all; attention: several numbers")
      ->delimiter(',')
      ->capture_default_str();
  command.add_option("--repeats", options.repeats,
                     "runs of each timing; the shortest is reported (real-model: of each prompt; "
                     "default 1)");
  command.add_flag("--quick", options.quick, "smaller samples; within 20 s on two cores");
  AddFormat(command, options.format, json);
  command.add_option("-o,--output", options.output, "write results here instead of printing them");
  command.add_option("--report", options.report, "also write one HTML page with charts");
}

void AddBenchmarkMethods(CLI::App& command, BenchmarkOptions& options) {
  command
      .add_option("--methods", options.methods,
                  "mse, outlier, prod, qjl, polar, int8, q8_0, q4_0, the last three also with "
                  "-hadamard, fp8 (default: all)")
      ->delimiter(',');
  command
      .add_option("--bits", options.bits,
                  "bits per coordinate, 1 to 8; 2.5 and 3.5 are the outlier split; real-model: of "
                  "keys and of values")
      ->delimiter(',');
  command.add_option("--dims", options.dims, "synthetic: dims of the rows")->delimiter(',');
  command
      .add_option("--tokens", options.tokens,
                  "synthetic: keys of one sample; attention: lengths of the context")
      ->delimiter(',');
  command.add_option("--queries", options.queries, "synthetic: queries of one sample");
  command.add_option("--samples", options.samples, "synthetic: independent draws");
  command.add_option("--logit-std", options.logit_std,
                     "synthetic: standard deviation of the logits (default 2)");
  command.add_option("--trace", options.traces, "trace: safetensors files")->delimiter(',');
  command.add_option("--max-queries", options.max_queries,
                     "trace: queries of each sample, spread evenly; 0 is all");
  command.add_flag("--normalize", options.normalize,
                   "trace: scale keys, values and queries to length 1");
}

void AddBenchmarkCaches(CLI::App& command, BenchmarkOptions& options) {
  const auto list = [&](const char* names, auto& option, const char* text) {
    command.add_option(names, option, text)->delimiter(',');
  };
  list("--key-bits", options.key_bits, "caches: bits of keys, 1 to 8 (default: the policy's)");
  list("--value-bits", options.value_bits, "caches: bits of values");
  list("--key-method,--real-key-strategy", options.key_methods,
       "caches: mse, prod, f16, f32 (default: the policy's)");
  list("--value-method", options.value_methods, "caches: mse, f16, f32");
  list("--key-map", options.key_maps, "caches: none, center, diagonal, full");
  list("--scale-search", options.scale_searches,
       "trace, real-model: on, off (default: the policy's), of keys and of values where they have "
       "it");
  list("--key-codes", options.key_codes,
       "trace, real-model: nearest, weighted (default: weighted where a cache can, to 6 bits), of "
       "MSE keys behind a diagonal key map");
  list("--key-map-tokens", options.key_map_tokens,
       "trace: first tokens the key map is made from (default 256); 0: the cache's own beginning, "
       "exact until then");
  list("--sinks", options.sinks, "trace: first tokens kept exact");
  list("--window", options.windows, "trace: newest tokens kept exact");
  list("--query-heads", options.query_heads, "attention: default 32");
  list("--kv-heads", options.kv_heads, "attention: default 8");
  list("--head-dim", options.head_dims, "attention: default 128");
}

void AddModel(CLI::App& command, ModelFlags& flags) {
  command.add_option("--onnxruntime", flags.onnxruntime,
                     "ONNX Runtime's library or its folder (default: $TURBOQUANT_ONNXRUNTIME, then "
                     "the usual places)");
  command.add_option("--prompt", flags.prompts, "a text to go on from; may be repeated")
      ->allow_extra_args(false);
  command.add_option("--prompts", flags.prompts_file, "a file of prompts, one a line");
  command.add_option("--max-prompts", flags.max_prompts, "of the file, from its beginning");
  command.add_option("--prompt-prefix", flags.prompt_prefix,
                     "in front of every prompt, e.g. of a chat template; \\n is a line break");
  command.add_option("--prompt-suffix", flags.prompt_suffix, "behind every prompt");
  command.add_option("--max-new-tokens", flags.max_new_tokens, "tokens to write");
  command.add_flag("--ignore-eos", flags.ignore_eos, "write on behind an end-of-text token");
}

void AddBenchmarkRealModel(CLI::App& command, RealModelFlags& flags) {
  command.add_option("--real-model-dir", flags.model.folder,
                     "real-model: folder with an ONNX decoder, tokenizer.json and config.json");
  AddModel(command, flags.model);
  command
      .add_option("--builtin-prompts", flags.builtin_prompts,
                  "real-model: explanation, rewrite, classification, extraction, reasoning, code, "
                  "all (which it is without prompts and texts)")
      ->delimiter(',');
  command.add_option("--real-eval-mode", flags.mode,
                     "real-model: exact, quantized or compare (default)");
  command.add_option("--top-k", flags.top_k, "real-model: depth of the agreement (default 5)");
  command
      .add_option("--text", flags.texts, "real-model: text files to be predicted token by token")
      ->delimiter(',');
  command.add_option("--context", flags.context, "real-model: tokens of a context (default 512)");
  command.add_option("--max-contexts", flags.max_contexts,
                     "real-model: contexts of a text (default 3; 0: all)");
  command.add_option("--first-position", flags.first_position,
                     "real-model: position of the first token (default 0)");
  command.add_flag("--layer-damage", flags.layer_damage,
                   "real-model: what each layer alone costs on texts; as many more runs as layers");
  command.add_flag("--sweep", flags.sweep,
                   "real-model: rank a grid of widths, methods and policies, with the baselines");
  command.add_option("--min-token-match", flags.min_token_match, "sweep: gate, 0 to 1");
  command.add_option("--min-top-k-agreement", flags.min_top_k_agreement, "sweep: gate, 0 to 1");
  command.add_option("--max-kl", flags.max_kl, "sweep: gate of the mean KL, nats");
  command.add_option("--output-dir", flags.output_dir,
                     "sweep: folder for results.json, summary.md and report.html");
  command.add_flag("--baselines", flags.baselines,
                   "real-model: also int8, q8_0, q4_0 and fp8 with the same exact tokens");
}

void AddBenchmark(CLI::App& app, BenchmarkOptions& options, bool& json) {
  CLI::App& command = *app.add_subcommand(
      "benchmark",
      "Quality, size and speed of methods and caches on vectors, traces, contexts, models");
  AddBenchmarkRun(command, options, json);
  AddBenchmarkMethods(command, options);
  AddBenchmarkCaches(command, options);
  AddBenchmarkRealModel(command, options.real_model);
  command.add_flag("--supported-real-models", options.supported_real_models,
                   "list the models that the exporters know by name, and end");
}

void AddGenerate(CLI::App& app, GenerateOptions& options) {
  CLI::App& command = *app.add_subcommand("generate", "Let a decoder go on from prompts");
  command
      .add_option("--model,--real-model-dir", options.model.folder,
                  "folder with an ONNX decoder, tokenizer.json and config.json")
      ->required();
  AddModel(command, options.model);
  command.add_option("--policy", options.policy,
                     "quantize the cache: safe, balanced, small, paper, peer (default: exact)");
  command.add_option("--key-bits", options.key_bits, "instead of the policy's");
  command.add_option("--value-bits", options.value_bits, "instead of the policy's");
  command.add_option("--temperature", options.temperature, "0: the likeliest token, always")
      ->capture_default_str();
  command.add_option("--top-k", options.top_k, "draw from so many likeliest tokens; 0: all")
      ->capture_default_str();
  command.add_option("--top-p", options.top_p, "and from the fewest with this share")
      ->capture_default_str();
  command.add_option("--seed", options.seed, "of draws and rotations")->capture_default_str();
  AddBackend(command, options.backend);
  AddThreads(command, options.threads);
}

void AddEncode(CLI::App& app, EncodeOptions& options) {
  CLI::App& command =
      *app.add_subcommand("encode", "Encode the rows of a safetensors tensor into a file");
  command.add_option("input", options.input, "safetensors file")->required();
  command.add_option("--tensor", options.tensor, "its tensor of rows")->required();
  command.add_option("-o,--output", options.output, "encoded-row file to write")->required();
  command.add_option("--method", options.method, "mse, prod, qjl or polar")->capture_default_str();
  command.add_option("--bits", options.bits,
                     "mse 1 to 8 (default 4), or 2.5 and 3.5 for the outlier split; prod 2 to 8 in "
                     "total (default 4); qjl: bits x dim signs (default 1)");
  command.add_option("--scale", options.scale,
                     "mse: unbiased (default), least-squares, matched or norm");
  command.add_flag("--no-scale-search", options.no_scale_search, "mse: codes of one scale only");
  command.add_option("--rotation", options.rotation,
                     "mse, prod, polar: hadamard (default) or dense");
  command.add_option("--rotation-rounds", options.rotation_rounds, "hadamard: 1 to 3 (default 2)");
  command.add_option("--scale-type", options.scale_type, "f16 or f32")->capture_default_str();
  command.add_option("--sketch", options.sketch, "prod, qjl: orthogonal (default) or gaussian");
  command.add_option("--sketch-rows", options.sketch_rows, "prod, qjl: signs a row (default dim)");
  command.add_option("--codebook", options.codebook,
                     "mse: lloyd-max (default) or uniform (8 bits)");
  command.add_option("--seed", options.seed)->capture_default_str();
  AddBackend(command, options.backend);
  AddThreads(command, options.threads);
}

void AddDecode(CLI::App& app, DecodeOptions& options) {
  CLI::App& command =
      *app.add_subcommand("decode", "Decode an encoded-row file into a safetensors file");
  command.add_option("input", options.input, "encoded-row file")->required();
  command.add_option("-o,--output", options.output, "safetensors file to write")->required();
  command.add_option("--tensor", options.tensor, "name of its tensor")->capture_default_str();
  AddBackend(command, options.backend);
  AddThreads(command, options.threads);
}

void AddOthers(CLI::App& app, Arguments& arguments) {
  CLI::App& inspect = *app.add_subcommand(
      "inspect", "What is in an encoded-row file, a trace or a safetensors file");
  inspect.add_option("input", arguments.inspect.input)->required();
  AddFormat(inspect, arguments.inspect.format, arguments.json);
  CLI::App& info = *app.add_subcommand("info", "What this build can do on this machine");
  AddFormat(info, arguments.info.format, arguments.json);
}

Result<void> RunCommand(const std::string& command, Arguments& arguments, std::ostream& out,
                        std::ostream* progress) {
  if (arguments.json) {
    arguments.benchmark.format = arguments.inspect.format = arguments.info.format = "json";
  }
  if (command == "benchmark") return RunBenchmark(arguments.benchmark, out, progress);
  if (command == "encode") return RunEncode(arguments.encode, out);
  if (command == "decode") return RunDecode(arguments.decode, out);
  if (command == "generate") return RunGenerate(arguments.generate, out);
  if (command == "inspect") return RunInspect(arguments.inspect, out);
  return RunInfo(arguments.info, out);
}

// Line breaks would make more than one line of it.
std::string OneLine(std::string text) {
  std::ranges::replace(text, '\n', ' ');
  return text;
}

}  // namespace

int RunCommandLine(const std::vector<std::string>& arguments, std::ostream& out, std::ostream& err,
                   bool err_is_terminal) {
  Arguments parsed;
  CLI::App app("TurboQuant: vector quantization for KV caches and embeddings", "turboquant");
  app.set_version_flag("--version", eval::ThisMachine().version);
  app.require_subcommand(1);
  AddBenchmark(app, parsed.benchmark, parsed.json);
  AddEncode(app, parsed.encode);
  AddDecode(app, parsed.decode);
  AddGenerate(app, parsed.generate);
  AddOthers(app, parsed);
  try {
    // CLI11 takes the arguments from the back.
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::Success& asked_for_help) {
    app.exit(asked_for_help, out, err);
    return kExitOk;
  } catch (const CLI::ParseError& error) {
    err << "turboquant: " << OneLine(error.what()) << "\n";
    return kExitBadUsage;
  }
  const std::string command = app.get_subcommands().front()->get_name();
  const Result<void> ran = RunCommand(command, parsed, out, err_is_terminal ? &err : nullptr);
  if (ran) {
    // A full disk or a closed pipe shows only here.
    if (out.flush()) return kExitOk;
    err << "turboquant " << command << ": results could not be written\n";
    return kExitFailure;
  }
  err << "turboquant " << command << ": " << OneLine(ran.error().message) << "\n";
  return ran.error().code == ErrorCode::kInvalidArgument ? kExitBadUsage : kExitFailure;
}

}  // namespace turboquant::cli
