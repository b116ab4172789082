// What a measurement says in its row.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <numeric>
#include <string>

#include "src/onnx/model_measure.h"

namespace turboquant::eval {
namespace {

double Median(std::vector<double> numbers) {
  std::ranges::sort(numbers);
  return numbers[numbers.size() / 2];
}

}  // namespace

std::optional<double> PeakMemoryBytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::strtod(line.c_str() + 6, nullptr) * 1024.0;
  }
  return std::nullopt;
}

void ModelMeasurement::NoteSizes(const DecoderSequence& sequence) {
  const DecoderConfig& config = context_.decoder->config();
  const DecoderCache& cache = *sequence.cache();
  const KvUsage usage = sequence.Usage();
  row_.packed_tokens = row_.exact_tokens = 0;
  row_.kv_bytes = 0.0;
  for (size_t l = 0; l < config.layers; ++l) {
    const KvView view = cache.layer(l).view();
    const size_t exact_tokens = view.sinks.count + view.window.count;
    double packed_bytes = cache.layer(l).format().BytesPerToken();
    if (spec_.baseline) {
      const double bits = baselines_[l].keys->BitsPerCoordinate();
      packed_bytes = 2.0 * bits * static_cast<double>(config.head_dim * config.kv_heads) / 8.0;
    }
    const double exact_bytes = static_cast<double>(usage.f16_bytes) /
                               static_cast<double>(usage.tokens * config.layers) *
                               (cache.layer(l).options().exact_type == RowType::kF32 ? 2.0 : 1.0);
    row_.kv_bytes += static_cast<double>(view.packed_tokens) * packed_bytes +
                     static_cast<double>(exact_tokens) * exact_bytes;
    row_.packed_tokens = view.packed_tokens;
    row_.exact_tokens = exact_tokens;
  }
  const KvView view = cache.layer(0).view();
  row_.key_map = KeyMapKindName(view.key_map == nullptr || spec_.baseline ? KeyMapKind::kNone
                                                                          : view.key_map->kind());
  row_.page_frames = !spec_.baseline && view.rotary_dim != 0;
  row_.target = spec_.baseline ? "plain" : BackendName(cache.layer(0).format().backend());
  row_.kv_bytes_f16 = static_cast<double>(usage.f16_bytes);
  row_.kv_bytes_f32 = static_cast<double>(usage.f32_bytes);
  row_.kv_bytes_allocated = static_cast<double>(usage.bytes);
  row_.kv_bytes_held = static_cast<double>(usage.held_bytes);
  row_.compression_vs_f16 = row_.kv_bytes_f16 / row_.kv_bytes;
}

void GenerationSpeed::Add(size_t prompt_tokens, const Generation& generation) {
  prefill_seconds_ += generation.prefill_seconds;
  prefill_tokens_ += prompt_tokens;
  step_seconds_.insert(step_seconds_.end(), generation.step_seconds.begin(),
                       generation.step_seconds.end());
}

void GenerationSpeed::Describe(RealModelRow& row) const {
  if (prefill_tokens_ > 0) {
    row.prefill_tokens_per_second = static_cast<double>(prefill_tokens_) / prefill_seconds_;
  }
  if (step_seconds_.empty()) return;
  const double seconds = std::accumulate(step_seconds_.begin(), step_seconds_.end(), 0.0);
  row.decode_tokens_per_second = static_cast<double>(step_seconds_.size()) / seconds;
  row.step_milliseconds = 1e3 * Median(step_seconds_);
}

void ModelMeasurement::DescribeCache(RealModelRow& row) const {
  DescribeCacheSpec(spec_, row);
  row.waits_for_map = spec_.WaitsForMap() && !context_.decoder->config().rope.empty();
  row.queries = row.key_map != "none" && context_.decoder->has_queries();
}

void ModelMeasurement::DescribeErrors(RealModelRow& row) const {
  row.predictions = errors_.count();
  if (errors_.count() > 0) {
    row.cross_entropy_exact = errors_.cross_entropy_exact();
    row.cross_entropy = errors_.cross_entropy();
    row.perplexity_exact = std::exp(*row.cross_entropy_exact);
    row.perplexity = std::exp(*row.cross_entropy);
    row.kl_mean = errors_.kl_mean();
    row.kl_median = errors_.KlQuantile(0.5);
    row.kl_p99 = errors_.KlQuantile(0.99);
    row.top1_agreement = errors_.top1_agreement();
    row.top_k_agreement = errors_.top_k_agreement();
    row.logit_rmse = errors_.rmse();
    row.logit_max_error = errors_.max_error();
  }
  Mean keys;
  Mean values;
  for (size_t l = 0; l < key_errors_.size(); ++l) {
    if (key_errors_[l].relative.count() == 0) continue;
    row.layers.push_back({l, key_errors_[l].relative.Value(), value_errors_[l].relative.Value()});
    keys.Add(row.layers.back().key_nmse);
    values.Add(row.layers.back().value_nmse);
  }
  if (keys.count() == 0) return;
  row.key_nmse = keys.Value();
  row.value_nmse = values.Value();
  if (damage_) damage_->Describe(row);
}

RealModelRow ModelMeasurement::Row() const {
  RealModelRow row = row_;
  row.first_position = context_.first_position;
  row.top_k = context_.top_k;
  DescribeCache(row);
  DescribeErrors(row);
  if (match_.count() > 0) {
    row.token_match_rate = match_.Value();
    row.diverged_share =
        static_cast<double>(first_divergence_.count()) / static_cast<double>(row.samples);
    if (first_divergence_.count() > 0) row.mean_first_divergence = first_divergence_.Value();
  }
  speed_.Describe(row);
  return row;
}

}  // namespace turboquant::eval
