#include "src/onnx/real_model_workload.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string_view>
#include <utility>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/eval/logit_errors.h"
#include "src/onnx/model_measure.h"

namespace turboquant::eval {
namespace {

constexpr std::array<std::string_view, 3> kModes = {"exact", "quantized", "compare"};

// The exact run over all samples.
class ExactMeasurement {
 public:
  void AddText(const ExactText& text, size_t vocabulary) {
    for (size_t t = 0; t + 1 < text.tokens.size(); ++t) {
      const auto logits = std::span(text.logits).subspan(t * vocabulary, vocabulary);
      cross_entropy_.Add(Predict(logits, static_cast<size_t>(text.tokens[t + 1])).cross_entropy);
    }
    AddSample(text.tokens.size());
    NoteSizes(text.usage);
  }

  void AddPrompt(size_t prompt_tokens, const Generation& generation,
                 const DecoderSequence& sequence) {
    speed_.Add(prompt_tokens, generation);
    row_.generated_tokens += generation.tokens.size();
    AddSample(prompt_tokens + generation.tokens.size());
    NoteSizes(sequence.Usage());
  }

  void NoteSizes(const KvUsage& usage) {
    row_.exact_tokens = usage.tokens;
    row_.kv_bytes = row_.kv_bytes_allocated = static_cast<double>(usage.bytes);
    row_.kv_bytes_f16 = static_cast<double>(usage.f16_bytes);
    row_.kv_bytes_f32 = static_cast<double>(usage.f32_bytes);
    row_.kv_bytes_held = static_cast<double>(usage.held_bytes);
    row_.compression_vs_f16 = row_.kv_bytes_f16 / row_.kv_bytes;
  }

  RealModelRow Row(const ModelContext& context) const {
    RealModelRow row = row_;
    row.method = "exact";
    row.target = "plain";
    const bool half = context.decoder->past_type() == RowType::kF16;
    row.key_method = row.value_method = half ? "f16" : "f32";
    row.bits = row.key_bits = row.value_bits = half ? 16 : 32;
    row.key_map = "none";
    row.first_position = context.first_position;
    row.top_k = context.top_k;
    row.predictions = cross_entropy_.count();
    if (row.predictions > 0) {
      row.cross_entropy = row.cross_entropy_exact = cross_entropy_.Value();
      row.perplexity = row.perplexity_exact = std::exp(cross_entropy_.Value());
    }
    speed_.Describe(row);
    row.exact_decode_tokens_per_second = row.decode_tokens_per_second;
    row.exact_step_milliseconds = row.step_milliseconds;
    return row;
  }

 private:
  void AddSample(size_t tokens) {
    row_.context = std::max(row_.context, tokens);
    ++row_.samples;
  }

  RealModelRow row_;
  Mean cross_entropy_;
  GenerationSpeed speed_;
};

std::string Note(const DecoderConfig& config, bool queries) {
  std::string note = config.rope_note;
  if (!queries) {
    note += note.empty() ? "" : "; ";
    note += "the decoder gives no queries, so key maps are centres only";
  }
  return note;
}

std::string Name(const CacheSpec& spec) {
  if (spec.baseline) return std::string(MethodName(*spec.baseline));
  const KvFormatOptions& format = spec.options.format;
  return spec.policy + " " +
         WidthsName(KvMethodName(format.keys.method), NominalBits(format.keys),
                    KvMethodName(format.values.method), NominalBits(format.values));
}

// Everything of one run over prompts, or over one text.
class RealModelRun {
 public:
  RealModelRun(const RealModelOptions& options, const ModelContext& context, const RunContext& run)
      : options_(options), context_(context), run_(run) {}

  Result<void> Start() {
    if (options_.mode == RealModelMode::kExact) return {};
    for (const CacheSpec& spec : options_.caches) {
      TQ_TRY(ModelMeasurement measurement, ModelMeasurement::Create(spec, context_));
      measurements_.push_back(std::move(measurement));
    }
    return {};
  }

  Result<void> AddText(std::span<const int64_t> tokens, const std::string& label) {
    Tell(label + ", exact");
    TQ_TRY(const ExactText text,
           ReadExactly(context_, tokens, context_.layer_damage ? tokens.size() : MapTokens(),
                       /*keep_logits=*/true));
    exact_.AddText(text, context_.decoder->vocabulary());
    return ForEachCache(label, [&](ModelMeasurement& m) { return m.AddText(text, run_); });
  }

  Result<void> AddPrompt(std::span<const int64_t> tokens, const std::string& label) {
    GenerationOptions generation = options_.generation;
    std::optional<Generation> exact;
    if (options_.mode != RealModelMode::kQuantized) {
      Tell(label + ", exact");
      generation.keep_logits = options_.mode == RealModelMode::kCompare;
      std::optional<DecoderSequence> sequence;
      const auto start = [&]() -> Result<DecoderSequence> {
        return DecoderSequence::Exact(*context_.decoder, context_.first_position);
      };
      TQ_TRY(exact, GenerateRepeatedly(context_.repeats, start, tokens, generation, sequence));
      exact_.AddPrompt(tokens.size(), *exact, *sequence);
      generation.keep_logits = false;
    }
    if (measurements_.empty()) return {};
    TQ_TRY(const ExactText map, ReadExactly(context_, tokens, MapTokens(), /*keep_logits=*/false));
    return ForEachCache(label, [&](ModelMeasurement& m) {
      return m.AddPrompt(map, generation, exact ? &*exact : nullptr, run_);
    });
  }

  void AddRows(const std::string& source, const std::string& protocol, BenchmarkResult& result) {
    std::vector<RealModelRow> rows;
    const RealModelRow exact = exact_.Row(context_);
    if (exact.samples > 0) rows.push_back(exact);
    for (const ModelMeasurement& measurement : measurements_) {
      rows.push_back(measurement.Row());
      rows.back().exact_decode_tokens_per_second = exact.decode_tokens_per_second;
      rows.back().exact_step_milliseconds = exact.step_milliseconds;
      const std::optional<double> speed = rows.back().decode_tokens_per_second;
      if (speed && exact.decode_tokens_per_second) {
        rows.back().decode_time_ratio = *exact.decode_tokens_per_second / *speed;
      }
    }
    for (RealModelRow& row : rows) {
      row.workload = "real-model";
      row.source = source;
      row.protocol = protocol;
      row.model = context_.decoder->config().model;
      row.mode = kModes[static_cast<size_t>(options_.mode)];
      row.threads = run_.threads;
      row.note = Note(context_.decoder->config(), context_.decoder->has_queries());
      row.peak_memory_bytes = PeakMemoryBytes();
      result.real_model_rows.push_back(std::move(row));
    }
  }

 private:
  // Tokens of the exact pass that the maps of any cache are made from.
  size_t MapTokens() const {
    size_t tokens = 0;
    if (options_.mode == RealModelMode::kExact) return tokens;
    for (const CacheSpec& spec : options_.caches) {
      if (spec.options.key_map != KeyMapKind::kNone) tokens = std::max(tokens, spec.key_map_tokens);
    }
    return tokens;
  }

  void Tell(const std::string& what) const {
    if (run_.progress) run_.progress(what);
  }

  template <class Add>
  Result<void> ForEachCache(const std::string& label, Add add) {
    for (ModelMeasurement& measurement : measurements_) {
      const std::string name = Name(measurement.spec());
      std::string what = label;
      what += ", " + name;
      Tell(what);
      Result<void> added = add(measurement);
      if (added) continue;
      added.error().message.insert(0, name + ": ");
      return added;
    }
    return {};
  }

  const RealModelOptions& options_;
  const ModelContext& context_;
  const RunContext& run_;
  ExactMeasurement exact_;
  std::vector<ModelMeasurement> measurements_;
};

Result<void> RunPrompts(const RealModelOptions& options, const ModelContext& context,
                        const Tokenizer& tokenizer, const RunContext& run,
                        BenchmarkResult& result) {
  RealModelRun all(options, context, run);
  TQ_CHECK(all.Start());
  for (size_t i = 0; i < options.prompts.size(); ++i) {
    TQ_TRY(const std::vector<int64_t> tokens,
           tokenizer.Encode(options.prompt_prefix + options.prompts[i] + options.prompt_suffix));
    if (tokens.empty()) {
      return Fail(ErrorCode::kInvalidArgument, "prompt ", i + 1, " has no tokens");
    }
    TQ_CHECK(all.AddPrompt(tokens, "prompt " + std::to_string(i + 1) + " of " +
                                       std::to_string(options.prompts.size())));
  }
  all.AddRows("prompts", "prompts", result);
  return {};
}

Result<void> RunText(const RealModelOptions& options, const ModelContext& context,
                     const Tokenizer& tokenizer, const RealModelText& text, const RunContext& run,
                     BenchmarkResult& result) {
  // What a template puts in front of a text (Gemma's begin-of-text token) begins every context.
  TQ_TRY(const std::vector<int64_t> front, tokenizer.Encode("", /*special=*/true));
  TQ_TRY(const std::vector<int64_t> tokens, tokenizer.Encode(text.text, /*special=*/false));
  const size_t own = options.context - std::min(options.context, front.size());
  const size_t whole = own == 0 ? 0 : tokens.size() / own;
  const size_t contexts = options.max_contexts == 0 ? whole : std::min(whole, options.max_contexts);
  if (contexts == 0) {
    return Fail(ErrorCode::kInvalidArgument, "'", text.name, "' has ", tokens.size(),
                " tokens, less than one context of ", options.context);
  }
  RealModelRun all(options, context, run);
  TQ_CHECK(all.Start());
  for (size_t c = 0; c < contexts; ++c) {
    std::vector<int64_t> one = front;
    const auto first = tokens.begin() + static_cast<std::ptrdiff_t>(c * own);
    one.insert(one.end(), first, first + static_cast<std::ptrdiff_t>(own));
    TQ_CHECK(all.AddText(
        one, text.name + ", context " + std::to_string(c + 1) + " of " + std::to_string(contexts)));
  }
  all.AddRows(text.name, "teacher-forced", result);
  return {};
}

Result<void> Check(const RealModelOptions& options, const OnnxDecoder& decoder,
                   const Tokenizer& tokenizer) {
  if (options.prompts.empty() && options.texts.empty()) {
    return Fail(ErrorCode::kInvalidArgument, "neither prompts nor texts given");
  }
  if (options.mode != RealModelMode::kExact && options.caches.empty()) {
    return Fail(ErrorCode::kInvalidArgument, "no caches given");
  }
  if (options.repeats < 1) {
    return Fail(ErrorCode::kInvalidArgument, "repeats must be 1 or more, got ", options.repeats);
  }
  if (options.context < 2) {
    return Fail(ErrorCode::kInvalidArgument, "context must be 2 or more, got ", options.context);
  }
  if (options.top_k == 0) {
    return Fail(ErrorCode::kInvalidArgument, "top_k must be 1 or more, got 0");
  }
  if (tokenizer.vocabulary() > decoder.vocabulary()) {
    return Fail(ErrorCode::kModel, "tokenizer.json has ids up to ", tokenizer.vocabulary() - 1,
                ", the decoder a vocabulary of ", decoder.vocabulary());
  }
  return {};
}

}  // namespace

Result<void> RunRealModel(const RealModelOptions& options, const OnnxDecoder& decoder,
                          const Tokenizer& tokenizer, const RunContext& run,
                          BenchmarkResult& result) {
  TQ_CHECK(Check(options, decoder, tokenizer));
  const ModelContext context = {&decoder,        options.first_position, options.seed,
                                options.backend, options.top_k,          options.layer_damage,
                                options.repeats};
  if (!options.prompts.empty()) {
    TQ_CHECK(RunPrompts(options, context, tokenizer, run, result));
  }
  for (const RealModelText& text : options.texts) {
    TQ_CHECK(RunText(options, context, tokenizer, text, run, result));
  }
  return {};
}

}  // namespace turboquant::eval
