// Runs a decoder on one kind of cache and reports a benchmark row.
#ifndef TURBOQUANT_SRC_ONNX_MODEL_MEASURE_H_
#define TURBOQUANT_SRC_ONNX_MODEL_MEASURE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "src/eval/cache_spec.h"
#include "src/eval/logit_errors.h"
#include "src/eval/measure.h"
#include "src/eval/method.h"
#include "src/eval/metrics.h"
#include "src/eval/real_model_row.h"
#include "src/onnx/layer_damage.h"
#include "turboquant/error.h"
#include "turboquant/onnx/decoder.h"
#include "turboquant/onnx/generation.h"
#include "turboquant/onnx/sequence.h"

namespace turboquant::eval {

// What is the same for all caches of a run.
struct ModelContext {
  const OnnxDecoder* decoder = nullptr;
  uint64_t first_position = 0;
  uint64_t seed = 42;
  Backend backend = Backend::kAuto;
  size_t top_k = 5;
  bool layer_damage = false;  // of texts; as many more runs as there are layers
  int repeats = 1;            // of each prompt
};

// The exact run over one text or prompt that the caches are compared with.
struct ExactText {
  std::vector<int64_t> tokens;
  std::vector<float> logits;  // [tokens × vocabulary]; empty: not compared
  // Keys, values and queries of the first tokens, for key maps known beforehand.
  std::optional<DecoderPast> past;
  std::vector<std::vector<float>> queries;
  KvUsage usage;  // at the end, where logits are kept
};

// The exact pass over tokens. Keeps what key maps need of the first `map_tokens`, and all logits if
// `keep_logits`. Errors: those of OnnxDecoder::Step.
[[nodiscard]] Result<ExactText> ReadExactly(const ModelContext& context,
                                            std::span<const int64_t> tokens, size_t map_tokens,
                                            bool keep_logits);

// How fast prompts were read and texts written.
class GenerationSpeed {
 public:
  void Add(size_t prompt_tokens, const Generation& generation);

  // Fills the speeds of this row.
  void Describe(RealModelRow& row) const;

 private:
  double prefill_seconds_ = 0.0;
  size_t prefill_tokens_ = 0;
  std::vector<double> step_seconds_;
};

// Keeps the shorter of the times of the prefill and of each step of two runs of the same prompt.
void KeepShortestTimes(const Generation& before, Generation& now);

// Writes `repeats` times, each time with a sequence that `start` makes, and leaves the last one in
// `sequence`. Of the prefill and of every step the shortest time is kept; the rest is of the last.
// Errors: those of `start` and Generate.
[[nodiscard]] Result<Generation> GenerateRepeatedly(
    int repeats, const std::function<Result<DecoderSequence>()>& start,
    std::span<const int64_t> prompt, const GenerationOptions& options,
    std::optional<DecoderSequence>& sequence);

// One cache, or plain format, over all samples.
class ModelMeasurement {
 public:
  // Errors: those of the baseline's rotation.
  [[nodiscard]] static Result<ModelMeasurement> Create(const CacheSpec& spec,
                                                       const ModelContext& context);

  const CacheSpec& spec() const { return spec_; }

  // Feeds the text as if token by token (in longer steps where they give the same) and compares
  // every prediction. Errors: those of the decoder and the caches.
  [[nodiscard]] Result<void> AddText(const ExactText& text, const RunContext& run);

  // Writes from a prompt, and, given what the exact run wrote, also follows that text token by
  // token. `map` is the exact pass over the prompt.
  [[nodiscard]] Result<void> AddPrompt(const ExactText& map, const GenerationOptions& options,
                                       const Generation* exact, const RunContext& run);

  // With workload, source, model, mode and protocol left empty.
  RealModelRow Row() const;

 private:
  ModelMeasurement(const CacheSpec& spec, const ModelContext& context)
      : spec_(spec), context_(context), errors_(context.top_k) {}
  [[nodiscard]] Result<QuantizedSequenceOptions> SequenceOptions(const ExactText& map,
                                                                 const RunContext& run);
  [[nodiscard]] Result<DecoderSequence> Start(const ExactText& map, const RunContext& run);
  [[nodiscard]] Result<void> Feed(const ExactText& text, const RunContext& run,
                                  DecoderSequence& sequence, LogitErrors& errors) const;
  [[nodiscard]] Result<void> AddLayers(const ExactText& text, QuantizedSequenceOptions options,
                                       const RunContext& run);
  [[nodiscard]] Result<std::vector<std::shared_ptr<const KeyMap>>> KeyMaps(
      const ExactText& map, const RunContext& run) const;
  [[nodiscard]] Result<void> FollowPrompt(const ExactText& map, const Generation& exact,
                                          const RunContext& run);
  [[nodiscard]] Result<void> Replace(size_t layer, const HeadsOutput& keys,
                                     const HeadsOutput& values);
  void NoteText(const std::vector<int64_t>& exact, const std::vector<int64_t>& written);
  void NoteSizes(const DecoderSequence& sequence);
  void DescribeCache(RealModelRow& row) const;
  void DescribeErrors(RealModelRow& row) const;

  // Of a plain format; each layer has its own, because layers run side by side.
  struct Baseline {
    std::unique_ptr<RowMethod> keys;
    std::unique_ptr<RowMethod> values;
  };

  CacheSpec spec_;
  ModelContext context_;
  LogitErrors errors_;
  std::vector<Baseline> baselines_;
  std::vector<RowErrors> key_errors_;  // of each layer
  std::vector<RowErrors> value_errors_;
  std::optional<LayerDamage> damage_;
  RealModelRow row_;  // sizes; the rest comes from the sums
  Mean match_;
  Mean first_divergence_;
  GenerationSpeed speed_;
};

// Resident memory of this process at its largest; none where the system does not say.
std::optional<double> PeakMemoryBytes();

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_ONNX_MODEL_MEASURE_H_
