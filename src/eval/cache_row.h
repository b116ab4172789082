// Rows of `turboquant benchmark` about caches: attention on what a KvCache, or a cache of rows in
// another format, keeps, against exact attention. Documented as BenchmarkRow is.
#ifndef TURBOQUANT_SRC_EVAL_CACHE_ROW_H_
#define TURBOQUANT_SRC_EVAL_CACHE_ROW_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "src/eval/position_row.h"

namespace turboquant::eval {

struct CacheRow {
  std::string workload;
  std::string method;  // "cache", or the baseline whose rows stand in for packed ones
  double bits = 0;     // nominal: the mean of keys and values
  std::string policy;  // what the options started from; "" of a baseline
  std::string target;
  int threads = 1;
  std::string kind = "cache";

  std::string source;
  std::optional<std::string> model;
  std::optional<uint64_t> layer;
  std::optional<uint64_t> head;
  std::string rope;  // "pre", "post" or "undeclared"
  size_t dim = 0;
  size_t samples = 0;
  size_t tokens = 0;   // of one sample
  size_t queries = 0;  // of one sample

  std::string key_method;
  double key_bits = 0;
  std::string value_method;
  double value_bits = 0;
  std::string scale_search;  // "auto", "on" or "off"; "" of a baseline
  std::string key_codes;     // "auto", "nearest" or "weighted"; "" of a baseline
  size_t sinks = 0;
  size_t window = 0;
  std::string key_map;        // in effect: "none", "center", "diagonal" or "full"
  size_t key_map_tokens = 0;  // it was made from; 0: the cache's own beginning, exact until then
  // The first 128 tokens behind the sinks are exact until there are as many: of a cache that makes
  // its own key map, and of a baseline beside it.
  bool waits_for_map = false;
  bool page_frames = false;
  size_t packed_tokens = 0;  // at the end of a sample
  size_t exact_tokens = 0;

  double bytes_per_token = 0;                  // packed, by the format
  double mean_bytes_per_token = 0;             // with the exact tokens of a sample
  std::optional<double> held_bytes_per_token;  // allocated, tables included
  double compression_vs_f16 = 0;               // of mean_bytes_per_token

  double softmax_kl = 0;
  double logit_rmse = 0;
  double logit_correlation = 0;
  double recall_at_1 = 0;
  double recall_at_5 = 0;
  double recall_at_10 = 0;
  double output_relative_rmse = 0;
  double output_max_error = 0;  // over the largest exact output

  std::vector<PositionRow> error_by_position;
};

template <class Visit>
void VisitFields(const CacheRow& row, Visit&& visit) {
  visit("workload", row.workload);
  visit("method", row.method);
  visit("bits", row.bits);
  visit("policy", row.policy);
  visit("target", row.target);
  visit("threads", row.threads);
  visit("kind", row.kind);
  visit("source", row.source);
  visit("model", row.model);
  visit("layer", row.layer);
  visit("head", row.head);
  visit("rope", row.rope);
  visit("dim", row.dim);
  visit("samples", row.samples);
  visit("tokens", row.tokens);
  visit("queries", row.queries);
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
  visit("packed_tokens", row.packed_tokens);
  visit("exact_tokens", row.exact_tokens);
  visit("bytes_per_token", row.bytes_per_token);
  visit("mean_bytes_per_token", row.mean_bytes_per_token);
  visit("held_bytes_per_token", row.held_bytes_per_token);
  visit("compression_vs_f16", row.compression_vs_f16);
  visit("softmax_kl", row.softmax_kl);
  visit("logit_rmse", row.logit_rmse);
  visit("logit_correlation", row.logit_correlation);
  visit("recall_at_1", row.recall_at_1);
  visit("recall_at_5", row.recall_at_5);
  visit("recall_at_10", row.recall_at_10);
  visit("output_relative_rmse", row.output_relative_rmse);
  visit("output_max_error", row.output_max_error);
}

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_CACHE_ROW_H_
