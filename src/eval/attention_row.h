// Rows of `turboquant benchmark --workload attention`. Documented as BenchmarkRow is.
#ifndef TURBOQUANT_SRC_EVAL_ATTENTION_ROW_H_
#define TURBOQUANT_SRC_EVAL_ATTENTION_ROW_H_

#include <cstddef>
#include <string>

namespace turboquant::eval {

struct AttentionRow {
  std::string workload;
  std::string method;  // "cache"
  double bits = 0;     // nominal: the mean of keys and values
  std::string policy;
  std::string target;
  int threads = 1;
  std::string kind = "attention";

  std::string source;
  std::string key_method;
  double key_bits = 0;
  std::string value_method;
  double value_bits = 0;
  std::string key_map;
  bool page_frames = false;
  size_t tokens = 0;  // in the cache, all packed
  size_t query_heads = 0;
  size_t kv_heads = 0;
  size_t head_dim = 0;
  double bytes_per_token = 0;  // of all KV heads
  double compression_vs_f16 = 0;

  // Of one query token, per query head and cached token: minima over repeats.
  double attention_ns_per_query_token = 0;
  double f16_attention_ns_per_query_token = 0;  // the library's own on f16 rows
  double f32_attention_ns_per_query_token = 0;
  double memory_floor_ns_per_query_token = 0;  // reading the same pages and nothing else

  // Of the outputs of some heads against attention in double over the decoded cache, relative to
  // the largest output.
  double max_error = 0;
};

template <class Visit>
void VisitFields(const AttentionRow& row, Visit&& visit) {
  visit("workload", row.workload);
  visit("method", row.method);
  visit("bits", row.bits);
  visit("policy", row.policy);
  visit("target", row.target);
  visit("threads", row.threads);
  visit("kind", row.kind);
  visit("source", row.source);
  visit("key_method", row.key_method);
  visit("key_bits", row.key_bits);
  visit("value_method", row.value_method);
  visit("value_bits", row.value_bits);
  visit("key_map", row.key_map);
  visit("page_frames", row.page_frames);
  visit("tokens", row.tokens);
  visit("query_heads", row.query_heads);
  visit("kv_heads", row.kv_heads);
  visit("head_dim", row.head_dim);
  visit("bytes_per_token", row.bytes_per_token);
  visit("compression_vs_f16", row.compression_vs_f16);
  visit("attention_ns_per_query_token", row.attention_ns_per_query_token);
  visit("f16_attention_ns_per_query_token", row.f16_attention_ns_per_query_token);
  visit("f32_attention_ns_per_query_token", row.f32_attention_ns_per_query_token);
  visit("memory_floor_ns_per_query_token", row.memory_floor_ns_per_query_token);
  visit("max_error", row.max_error);
}

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_ATTENTION_ROW_H_
