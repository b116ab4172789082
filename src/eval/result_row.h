// The rows that `turboquant benchmark` prints. Field names and meanings are documented in
// docs/cli.md and docs/benchmark.schema.json; they stay stable.
#ifndef TURBOQUANT_SRC_EVAL_RESULT_ROW_H_
#define TURBOQUANT_SRC_EVAL_RESULT_ROW_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "src/eval/attention_row.h"
#include "src/eval/cache_row.h"
#include "src/eval/position_row.h"
#include "src/eval/real_model_row.h"
#include "src/eval/sweep.h"

namespace turboquant::eval {

struct BenchmarkRow {
  // Of every workload.
  std::string workload;
  std::string method;
  double bits = 0;  // nominal
  std::string policy;
  std::string target;  // SIMD target of the timings, "plain" for loops without one, or "wgpu"
  std::optional<std::string> adapter;  // the GPU of "wgpu"
  int threads = 1;
  std::string kind = "quantizer";  // of row: which other fields there are

  // What was compressed.
  std::string source;  // "random directions", or the trace's file name
  std::optional<std::string> model;
  std::optional<uint64_t> layer;
  std::optional<uint64_t> head;
  std::optional<std::string> rope;  // "pre", "post" or "undeclared"
  std::optional<double> logit_std;
  size_t dim = 0;
  size_t samples = 0;
  size_t rows = 0;     // keys of one sample
  size_t queries = 0;  // of one sample

  // Size.
  double bits_per_coordinate = 0;  // codes, scales, signs and norms
  double bytes_per_row = 0;
  double compression_vs_f16 = 0;
  double compression_vs_f32 = 0;

  // Quality.
  double nmse = 0;
  std::optional<double> nmse_theory;  // no scale search
  double nmse_shannon = 0;            // 4^-bits_per_coordinate
  double key_mse = 0;                 // per coordinate
  double ip_bias = 0;
  double ip_variance = 0;
  double ip_rmse = 0;
  double logit_rmse = 0;
  double logit_correlation = 0;
  double softmax_kl = 0;  // nats
  double recall_at_1 = 0;
  double recall_at_5 = 0;
  double recall_at_10 = 0;
  std::string value_method;
  double value_bits = 0;
  double value_nmse = 0;
  double output_rmse = 0;
  double output_nmse = 0;

  // Time: minima over repeats.
  double encode_ns_per_row = 0;
  double decode_ns_per_row = 0;
  double prepare_ns_per_query = 0;
  double score_ns_per_row = 0;   // one query
  double score8_ns_per_row = 0;  // per row and query, eight queries at once

  std::vector<PositionRow> error_by_position;  // traces only
};

// Calls visit(name, field) for every field but error_by_position, in the order they are printed.
template <class Visit>
void VisitFields(const BenchmarkRow& row, Visit&& visit) {
  visit("workload", row.workload);
  visit("method", row.method);
  visit("bits", row.bits);
  visit("policy", row.policy);
  visit("target", row.target);
  visit("threads", row.threads);
  visit("kind", row.kind);
  visit("source", row.source);
  visit("adapter", row.adapter);
  visit("model", row.model);
  visit("layer", row.layer);
  visit("head", row.head);
  visit("rope", row.rope);
  visit("logit_std", row.logit_std);
  visit("dim", row.dim);
  visit("samples", row.samples);
  visit("rows", row.rows);
  visit("queries", row.queries);
  visit("bits_per_coordinate", row.bits_per_coordinate);
  visit("bytes_per_row", row.bytes_per_row);
  visit("compression_vs_f16", row.compression_vs_f16);
  visit("compression_vs_f32", row.compression_vs_f32);
  visit("nmse", row.nmse);
  visit("nmse_theory", row.nmse_theory);
  visit("nmse_shannon", row.nmse_shannon);
  visit("key_mse", row.key_mse);
  visit("ip_bias", row.ip_bias);
  visit("ip_variance", row.ip_variance);
  visit("ip_rmse", row.ip_rmse);
  visit("logit_rmse", row.logit_rmse);
  visit("logit_correlation", row.logit_correlation);
  visit("softmax_kl", row.softmax_kl);
  visit("recall_at_1", row.recall_at_1);
  visit("recall_at_5", row.recall_at_5);
  visit("recall_at_10", row.recall_at_10);
  visit("value_method", row.value_method);
  visit("value_bits", row.value_bits);
  visit("value_nmse", row.value_nmse);
  visit("output_rmse", row.output_rmse);
  visit("output_nmse", row.output_nmse);
  visit("encode_ns_per_row", row.encode_ns_per_row);
  visit("decode_ns_per_row", row.decode_ns_per_row);
  visit("prepare_ns_per_query", row.prepare_ns_per_query);
  visit("score_ns_per_row", row.score_ns_per_row);
  visit("score8_ns_per_row", row.score8_ns_per_row);
}

// A combination that was not asked for by name and cannot run, e.g. polar at an odd dim.
struct LeftOut {
  std::string method;
  size_t dim = 0;
  std::string reason;
};

// What the numbers were taken on.
struct Machine {
  std::string cpu;
  int cores = 0;  // hardware threads this process may use
  std::string best_target;
  std::string compiler;
  std::string version;  // of turboquant
};

Machine ThisMachine();

struct BenchmarkResult {
  std::string workload;
  bool quick = false;
  uint64_t seed = 0;
  Machine machine;
  std::vector<BenchmarkRow> rows;
  std::vector<CacheRow> cache_rows;
  std::vector<AttentionRow> attention_rows;
  std::vector<RealModelRow> real_model_rows;
  std::optional<SweepRanking> sweep;  // of the latter
  std::vector<LeftOut> left_out;
};

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_RESULT_ROW_H_
