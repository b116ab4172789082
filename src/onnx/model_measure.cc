#include "src/onnx/model_measure.h"

#include <algorithm>
#include <utility>

#include "src/base/failure.h"
#include "src/base/try.h"

namespace turboquant::eval {
namespace {

// Tokens of one step of an exact pass: bounds the memory of logits that are not kept.
constexpr size_t kExactStep = 512;

std::span<const float> LogitsOf(const std::vector<float>& logits, size_t row, size_t vocabulary) {
  return std::span(logits).subspan(row * vocabulary, vocabulary);
}

// Errors of predictions [first, ...): row r of `logits` predicts tokens[first + r + 1]. The last
// token of the text predicts nothing that is known.
LogitErrors Compare(const ExactText& text, const std::vector<float>& logits, size_t first,
                    size_t vocabulary, const ModelContext& context, const RunContext& run) {
  const size_t rows = logits.size() / vocabulary;
  std::vector<LogitErrors> errors(rows, LogitErrors(context.top_k));
  const auto add = [&](size_t r) {
    const size_t t = first + r;
    if (t + 1 >= text.tokens.size()) return;
    errors[r].Add(LogitsOf(text.logits, t, vocabulary), LogitsOf(logits, r, vocabulary),
                  static_cast<size_t>(text.tokens[t + 1]));
  };
  if (run.parallel_for) {
    run.parallel_for(rows, add);
  } else {
    for (size_t r = 0; r < rows; ++r) add(r);
  }
  LogitErrors sum(context.top_k);
  for (const LogitErrors& one : errors) sum.Merge(one);
  return sum;
}

// [tokens × heads × dim], one after another.
std::vector<float> Rows(const HeadsOutput& heads) {
  std::vector<float> rows;
  for (size_t t = 0; t < heads.tokens; ++t) {
    for (size_t head = 0; head < heads.heads; ++head) {
      rows.insert(rows.end(), heads.Row(t, head), heads.Row(t, head) + heads.dim);
    }
  }
  return rows;
}

Result<void> EncodeAndDecode(RowMethod& method, const HeadsOutput& heads) {
  std::vector<float> rows = Rows(heads);
  const MatrixView<float> matrix(rows.data(), heads.tokens * heads.heads, heads.dim);
  TQ_CHECK(method.Encode(matrix, {}));
  TQ_CHECK(method.Decode(matrix, {}));
  for (size_t t = 0; t < heads.tokens; ++t) {
    for (size_t head = 0; head < heads.heads; ++head) {
      std::ranges::copy(matrix.RowSpan(t * heads.heads + head), heads.Row(t, head));
    }
  }
  return {};
}

void AddErrors(const HeadsView& exact, const HeadsOutput& now, RowErrors& errors) {
  const std::vector<float> rows = Rows(now);
  const size_t count = now.tokens * now.heads;
  AddRowErrors({static_cast<const float*>(exact.data), count, now.dim},
               {rows.data(), count, now.dim}, errors);
}

}  // namespace

Result<ExactText> ReadExactly(const ModelContext& context, std::span<const int64_t> tokens,
                              size_t map_tokens, bool keep_logits) {
  ExactText text;
  text.tokens.assign(tokens.begin(), tokens.end());
  map_tokens = std::min(map_tokens, tokens.size());
  if (map_tokens == 0 && !keep_logits) return text;
  DecoderSequence sequence = DecoderSequence::Exact(*context.decoder, context.first_position);
  DecoderStep step;
  const auto take = [&](size_t count, bool queries) -> Result<void> {
    TQ_CHECK(sequence.Step(tokens.first(count), step, queries));
    tokens = tokens.subspan(count);
    if (keep_logits) text.logits.insert(text.logits.end(), step.logits.begin(), step.logits.end());
    return {};
  };
  if (map_tokens > 0) {
    TQ_CHECK(take(map_tokens, context.decoder->has_queries()));
    text.past = sequence.past();
    text.queries = std::move(step.queries);
  }
  while (keep_logits && !tokens.empty()) {
    TQ_CHECK(take(std::min(kExactStep, tokens.size()), false));
  }
  text.usage = sequence.Usage();
  return text;
}

Result<ModelMeasurement> ModelMeasurement::Create(const CacheSpec& spec,
                                                  const ModelContext& context) {
  ModelMeasurement measurement(spec, context);
  const DecoderConfig& config = context.decoder->config();
  measurement.key_errors_.resize(config.layers);
  measurement.value_errors_.resize(config.layers);
  if (context.layer_damage) measurement.damage_.emplace(config);
  for (size_t l = 0; spec.baseline && l < config.layers; ++l) {
    MethodContext method;
    method.dim = config.head_dim;
    method.seed = context.seed;
    Baseline baseline;
    const MethodSpec format = {*spec.baseline, FixedBits(*spec.baseline), Policy::kDefault};
    TQ_TRY(baseline.keys, MakeRowMethod(format, method));
    method.values = true;
    TQ_TRY(baseline.values, MakeRowMethod(format, method));
    measurement.baselines_.push_back(std::move(baseline));
  }
  return measurement;
}

Result<std::vector<std::shared_ptr<const KeyMap>>> ModelMeasurement::KeyMaps(
    const ExactText& map, const RunContext& run) const {
  std::vector<std::shared_ptr<const KeyMap>> maps;
  const KvCacheOptions& cache = spec_.options;
  const DecoderConfig& config = context_.decoder->config();
  if (cache.key_map == KeyMapKind::kNone || spec_.key_map_tokens == 0) return maps;
  // Without frames a map would drift; with fewer tokens there is nothing to learn from.
  if (config.rope.empty() || !map.past) return maps;
  const size_t tokens = std::min(spec_.key_map_tokens, map.past->tokens());
  if (tokens < cache.sinks + 2) return maps;
  std::vector<Result<KeyMap>> made(config.layers, std::unexpected(Error{}));
  const auto estimate = [&](size_t l) {
    KeyMapOptions options;
    options.kind = cache.key_map;
    options.kv_heads = config.kv_heads;
    options.query_heads = map.queries.empty() ? 0 : config.query_heads;
    options.head_dim = config.head_dim;
    options.rope = config.rope[l];
    options.sinks = cache.sinks;
    options.first_position = context_.first_position;
    options.shrinkage = cache.key_map_shrinkage;
    options.query_weights = cache.key_map == KeyMapKind::kDiagonal;
    made[l] = [&]() -> Result<KeyMap> {
      TQ_TRY(const KeyMapEstimator estimator, KeyMapEstimator::Create(options));
      HeadsView queries;
      if (!map.queries.empty()) {
        queries = HeadsView::HeadMajor(map.queries[l].data(), map.past->tokens(),
                                       config.query_heads, config.head_dim)
                      .Slice(0, tokens);
      }
      return estimator.Estimate(map.past->keys(l).Slice(0, tokens),
                                map.past->values(l).Slice(0, tokens), queries);
    }();
  };
  if (run.parallel_for) {
    run.parallel_for(config.layers, estimate);
  } else {
    for (size_t l = 0; l < config.layers; ++l) estimate(l);
  }
  for (Result<KeyMap>& one : made) {
    if (!one) return std::unexpected(std::move(one).error());
    maps.push_back(std::make_shared<const KeyMap>(*std::move(one)));
  }
  return maps;
}

Result<QuantizedSequenceOptions> ModelMeasurement::SequenceOptions(const ExactText& map,
                                                                   const RunContext& run) {
  QuantizedSequenceOptions options;
  options.cache = spec_.options;
  options.cache.first_position = context_.first_position;
  options.cache.format.seed = context_.seed;
  options.cache.format.backend = context_.backend;
  options.parallel_for = run.parallel_for;
  TQ_TRY(options.key_maps, KeyMaps(map, run));
  if (spec_.baseline) {
    options.codec = [this](size_t layer, const HeadsOutput& keys, const HeadsOutput& values) {
      return Replace(layer, keys, values);
    };
  }
  options.on_packed = [this](size_t layer, const HeadsView& exact_keys,
                             const HeadsView& exact_values, const HeadsOutput& keys,
                             const HeadsOutput& values) {
    AddErrors(exact_keys, keys, key_errors_[layer]);
    AddErrors(exact_values, values, value_errors_[layer]);
    if (!damage_) return;
    const std::vector<float> rows = Rows(keys);
    damage_->AddKeys(layer, spec_.options.sinks, exact_keys,
                     HeadsView::TokenMajor(rows.data(), keys.tokens, keys.heads, keys.dim));
  };
  return options;
}

Result<DecoderSequence> ModelMeasurement::Start(const ExactText& map, const RunContext& run) {
  TQ_TRY(const QuantizedSequenceOptions options, SequenceOptions(map, run));
  return DecoderSequence::Quantized(*context_.decoder, options);
}

Result<void> ModelMeasurement::Replace(size_t layer, const HeadsOutput& keys,
                                       const HeadsOutput& values) {
  TQ_CHECK(EncodeAndDecode(*baselines_[layer].keys, keys));
  return EncodeAndDecode(*baselines_[layer].values, values);
}

Result<void> ModelMeasurement::AddText(const ExactText& text, const RunContext& run) {
  TQ_TRY(const QuantizedSequenceOptions options, SequenceOptions(text, run));
  TQ_TRY(DecoderSequence sequence, DecoderSequence::Quantized(*context_.decoder, options));
  TQ_CHECK(Feed(text, run, sequence, errors_));
  row_.context = std::max(row_.context, text.tokens.size());
  ++row_.samples;
  NoteSizes(sequence);
  return damage_ ? AddLayers(text, options, run) : Result<void>();
}

Result<void> ModelMeasurement::AddLayers(const ExactText& text, QuantizedSequenceOptions options,
                                         const RunContext& run) {
  options.on_packed = {};  // errors are those of the run with all layers
  for (size_t l = 0; l < context_.decoder->config().layers; ++l) {
    damage_->EndText(l, text.queries.empty() ? std::vector<float>() : text.queries[l]);
    options.only_layer = l;
    TQ_TRY(DecoderSequence sequence, DecoderSequence::Quantized(*context_.decoder, options));
    LogitErrors errors(context_.top_k);
    TQ_CHECK(Feed(text, run, sequence, errors));
    damage_->AddErrors(l, errors);
  }
  return {};
}

Result<void> ModelMeasurement::Feed(const ExactText& text, const RunContext& run,
                                    DecoderSequence& sequence, LogitErrors& errors) const {
  const size_t vocabulary = context_.decoder->vocabulary();
  DecoderStep step;
  // The last token predicts nothing that is known, so it is not fed.
  const std::span<const int64_t> tokens(text.tokens.data(), text.tokens.size() - 1);
  for (size_t first = 0; first < tokens.size();) {
    const size_t count = std::min(sequence.StepTokens(), tokens.size() - first);
    TQ_CHECK(sequence.Step(tokens.subspan(first, count), step));
    errors.Merge(Compare(text, step.logits, first, vocabulary, context_, run));
    first += count;
  }
  return {};
}

void KeepShortestTimes(const Generation& before, Generation& now) {
  now.prefill_seconds = std::min(now.prefill_seconds, before.prefill_seconds);
  const size_t steps = std::min(now.step_seconds.size(), before.step_seconds.size());
  for (size_t i = 0; i < steps; ++i) {
    now.step_seconds[i] = std::min(now.step_seconds[i], before.step_seconds[i]);
  }
}

Result<Generation> GenerateRepeatedly(int repeats,
                                      const std::function<Result<DecoderSequence>()>& start,
                                      std::span<const int64_t> prompt,
                                      const GenerationOptions& options,
                                      std::optional<DecoderSequence>& sequence) {
  Generation shortest;
  for (int r = 0; r < repeats; ++r) {
    TQ_TRY(sequence, start());
    TQ_TRY(Generation written, Generate(*sequence, prompt, options));
    if (r > 0) KeepShortestTimes(shortest, written);
    shortest = std::move(written);
  }
  return shortest;
}

Result<void> ModelMeasurement::AddPrompt(const ExactText& map, const GenerationOptions& options,
                                         const Generation* exact, const RunContext& run) {
  std::optional<DecoderSequence> last;
  TQ_TRY(const Generation written,
         GenerateRepeatedly(
             context_.repeats, [&] { return Start(map, run); }, map.tokens, options, last));
  const DecoderSequence& sequence = *last;
  row_.generated_tokens += written.tokens.size();
  speed_.Add(map.tokens.size(), written);
  row_.context = std::max(row_.context, map.tokens.size() + written.tokens.size());
  ++row_.samples;
  if (exact != nullptr) {
    NoteText(exact->tokens, written.tokens);
    TQ_CHECK(FollowPrompt(map, *exact, run));
  }
  NoteSizes(sequence);
  return {};
}

Result<void> ModelMeasurement::FollowPrompt(const ExactText& map, const Generation& exact,
                                            const RunContext& run) {
  TQ_TRY(DecoderSequence sequence, Start(map, run));
  const size_t vocabulary = context_.decoder->vocabulary();
  DecoderStep step;
  TQ_CHECK(sequence.Step(map.tokens, step));
  // The first token comes out of the prefill, which saw nothing quantized: it is left out.
  for (size_t t = 0; t + 1 < exact.tokens.size(); ++t) {
    TQ_CHECK(sequence.Step(std::span(exact.tokens).subspan(t, 1), step));
    errors_.Add(LogitsOf(exact.logits, t + 1, vocabulary), step.logits,
                static_cast<size_t>(exact.tokens[t + 1]));
  }
  return {};
}

void ModelMeasurement::NoteText(const std::vector<int64_t>& exact,
                                const std::vector<int64_t>& written) {
  const size_t longest = std::max(exact.size(), written.size());
  const size_t shared = std::min(exact.size(), written.size());
  size_t first = longest;
  for (size_t t = 0; t < longest; ++t) {
    const bool same = t < shared && exact[t] == written[t];
    match_.Add(same ? 1.0 : 0.0);
    if (!same) first = std::min(first, t);
  }
  if (first < longest) first_divergence_.Add(static_cast<double>(first + 1));
}

}  // namespace turboquant::eval
