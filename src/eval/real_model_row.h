// Rows of `turboquant benchmark --workload real-model`. Documented as BenchmarkRow is.
#ifndef TURBOQUANT_SRC_EVAL_REAL_MODEL_ROW_H_
#define TURBOQUANT_SRC_EVAL_REAL_MODEL_ROW_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace turboquant::eval {

// Packed tokens of one layer against what they were before.
struct LayerErrors {
  size_t layer = 0;
  double key_nmse = 0;
  double value_nmse = 0;
  // With --layer-damage, when only this layer's packed tokens are seen as they are.
  std::optional<double> kl_mean = {};
  std::optional<double> kl_share = {};           // of the sum over layers
  std::optional<double> logit_correlation = {};  // of attention; unset without queries
};

struct RealModelRow {
  std::string workload;
  std::string method;  // "exact", "cache", or a plain format
  double bits = 0;     // nominal: the mean of keys and values
  std::string policy;
  std::string target;
  int threads = 1;
  std::string kind = "real-model";

  std::string source;  // "prompts", or the text's file name
  std::string model;
  std::string mode;      // "exact", "quantized", "compare"
  std::string protocol;  // "teacher-forced" or "prompts"
  uint64_t first_position = 0;
  size_t samples = 0;      // contexts or prompts
  size_t context = 0;      // tokens of the longest
  size_t predictions = 0;  // that the errors are over
  std::string key_method;
  double key_bits = 0;
  std::string value_method;
  double value_bits = 0;
  std::string scale_search;  // "auto", "on" or "off"; "" of a baseline and an exact cache
  std::string key_codes;     // "auto", "nearest" or "weighted"; "" as above
  size_t sinks = 0;
  size_t window = 0;
  std::string key_map;
  size_t key_map_tokens = 0;
  bool waits_for_map = false;
  bool page_frames = false;
  bool queries = false;  // the map knows the queries
  std::string note;      // why there are no frames or queries

  // Over the exact text's tokens.
  std::optional<double> perplexity_exact;
  std::optional<double> perplexity;
  std::optional<double> cross_entropy_exact;
  std::optional<double> cross_entropy;
  std::optional<double> kl_mean;
  std::optional<double> kl_median;
  std::optional<double> kl_p99;
  std::optional<double> top1_agreement;
  std::optional<double> top_k_agreement;
  size_t top_k = 0;
  std::optional<double> logit_rmse;
  std::optional<double> logit_max_error;
  std::optional<double> key_nmse;  // of packed tokens, mean over layers
  std::optional<double> value_nmse;
  std::optional<double> worst_layer_logit_correlation;

  // Free-running, from prompts.
  size_t generated_tokens = 0;
  std::optional<double> token_match_rate;
  std::optional<double> mean_first_divergence;  // token, from 1; of prompts that diverged
  std::optional<double> diverged_share;         // of the prompts

  // At the end of the last sample.
  size_t packed_tokens = 0;
  size_t exact_tokens = 0;
  double kv_bytes = 0;
  double kv_bytes_f16 = 0;
  double kv_bytes_f32 = 0;
  double kv_bytes_allocated = 0;
  double kv_bytes_held = 0;
  double compression_vs_f16 = 0;

  std::optional<double> prefill_tokens_per_second;
  std::optional<double> decode_tokens_per_second;
  std::optional<double> exact_decode_tokens_per_second;
  std::optional<double> step_milliseconds;  // median of the decode steps
  std::optional<double> exact_step_milliseconds;
  std::optional<double> decode_time_ratio;  // of all decode steps, over the exact run's
  std::optional<double> peak_memory_bytes;  // of the process so far

  std::vector<LayerErrors> layers;
};

// What was run: the first of the fields.
template <class Visit>
void VisitSetup(const RealModelRow& row, Visit& visit) {
  visit("workload", row.workload);
  visit("method", row.method);
  visit("bits", row.bits);
  visit("policy", row.policy);
  visit("target", row.target);
  visit("threads", row.threads);
  visit("kind", row.kind);
  visit("source", row.source);
  visit("model", row.model);
  visit("mode", row.mode);
  visit("protocol", row.protocol);
  visit("first_position", row.first_position);
  visit("samples", row.samples);
  visit("context", row.context);
  visit("predictions", row.predictions);
  visit("key_method", row.key_method);
  visit("key_bits", row.key_bits);
  visit("value_method", row.value_method);
  visit("value_bits", row.value_bits);
  visit("scale_search", row.scale_search);
  visit("key_codes", row.key_codes);
  visit("sinks", row.sinks);
  visit("window", row.window);
  visit("key_map", row.key_map);
  visit("key_map_tokens", row.key_map_tokens);
  visit("waits_for_map", row.waits_for_map);
  visit("page_frames", row.page_frames);
  visit("queries", row.queries);
  visit("note", row.note);
}

template <class Visit>
void VisitFields(const RealModelRow& row, Visit&& visit) {
  VisitSetup(row, visit);
  visit("perplexity_exact", row.perplexity_exact);
  visit("perplexity", row.perplexity);
  visit("cross_entropy_exact", row.cross_entropy_exact);
  visit("cross_entropy", row.cross_entropy);
  visit("kl_mean", row.kl_mean);
  visit("kl_median", row.kl_median);
  visit("kl_p99", row.kl_p99);
  visit("top1_agreement", row.top1_agreement);
  visit("top_k_agreement", row.top_k_agreement);
  visit("top_k", row.top_k);
  visit("logit_rmse", row.logit_rmse);
  visit("logit_max_error", row.logit_max_error);
  visit("key_nmse", row.key_nmse);
  visit("value_nmse", row.value_nmse);
  visit("worst_layer_logit_correlation", row.worst_layer_logit_correlation);
  visit("generated_tokens", row.generated_tokens);
  visit("token_match_rate", row.token_match_rate);
  visit("mean_first_divergence", row.mean_first_divergence);
  visit("diverged_share", row.diverged_share);
  visit("packed_tokens", row.packed_tokens);
  visit("exact_tokens", row.exact_tokens);
  visit("kv_bytes", row.kv_bytes);
  visit("kv_bytes_f16", row.kv_bytes_f16);
  visit("kv_bytes_f32", row.kv_bytes_f32);
  visit("kv_bytes_allocated", row.kv_bytes_allocated);
  visit("kv_bytes_held", row.kv_bytes_held);
  visit("compression_vs_f16", row.compression_vs_f16);
  visit("prefill_tokens_per_second", row.prefill_tokens_per_second);
  visit("decode_tokens_per_second", row.decode_tokens_per_second);
  visit("exact_decode_tokens_per_second", row.exact_decode_tokens_per_second);
  visit("step_milliseconds", row.step_milliseconds);
  visit("exact_step_milliseconds", row.exact_step_milliseconds);
  visit("decode_time_ratio", row.decode_time_ratio);
  visit("peak_memory_bytes", row.peak_memory_bytes);
}

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_REAL_MODEL_ROW_H_
