#include <fmt/format.h>

#include <cmath>
#include <iterator>

#include "src/eval/cache_spec.h"
#include "src/eval/result_output.h"

namespace turboquant::eval {
namespace {

// Three significant digits, short enough for a column.
std::string Short(double number) {
  if (number == 0.0) return "0";
  return std::abs(number) < 1e-4 ? fmt::format("{:.2e}", number) : fmt::format("{:.3g}", number);
}

std::string Nanoseconds(double number) {
  return number < 10.0 ? fmt::format("{:.2f}", number) : fmt::format("{:.0f}", number);
}

template <class... Parts>
void Append(std::string& text, fmt::format_string<Parts...> format, Parts&&... parts) {
  fmt::format_to(std::back_inserter(text), format, std::forward<Parts>(parts)...);
}

void AppendTable(const RowGroup& group, std::string& text) {
  Append(text, "{}\n", group.title);
  Append(text,
         "{:<18} {:>5} {:>6} {:>5} {:>9} {:>9} {:>9} {:>9} {:>9} {:>5} {:>5} {:>5} {:>9} "
         "{:>7} {:>7} {:>7} {:>7}  {}\n",
         "method", "bits", "true", "x f16", "nmse", "theory", "ip bias", "kl", "logit err", "r@1",
         "r@5", "r@10", "out err", "enc ns", "dec ns", "score", "score8", "target");
  for (const BenchmarkRow* row : group.rows) {
    Append(text,
           "{:<18} {:>5} {:>6.4g} {:>5.2f} {:>9} {:>9} {:>9} {:>9} {:>9} {:>5.3f} {:>5.3f} "
           "{:>5.3f} {:>9} {:>7} {:>7} {:>7} {:>7}  {}\n",
           SeriesName(*row), row->bits, row->bits_per_coordinate, row->compression_vs_f16,
           Short(row->nmse), row->nmse_theory ? Short(*row->nmse_theory) : "-", Short(row->ip_bias),
           Short(row->softmax_kl), Short(row->logit_rmse), row->recall_at_1, row->recall_at_5,
           row->recall_at_10, Short(row->output_rmse), Nanoseconds(row->encode_ns_per_row),
           Nanoseconds(row->decode_ns_per_row), Nanoseconds(row->score_ns_per_row),
           Nanoseconds(row->score8_ns_per_row), row->target);
  }
  text += '\n';
}

std::string MapName(const CacheRow& row) {
  if (row.key_map == "none") return row.waits_for_map ? "- waits" : "-";
  return row.waits_for_map ? row.key_map + " waits"
                           : fmt::format("{} {}", row.key_map, row.key_map_tokens);
}

void AppendTable(const CacheGroup& group, std::string& text) {
  Append(text, "{}\n", group.title);
  Append(
      text,
      "{:<14} {:<8} {:<6} {:>5} {:>6} {:<12} {:>7} {:>7} {:>7} {:>5} {:>9} {:>9} {:>8} {:>5} {:>5} "
      "{:>5} {:>9} {:>9}  {}\n",
      "cache", "widths", "search", "sinks", "window", "key map", "B/token", "mean", "held", "x f16",
      "kl", "logit err", "corr", "r@1", "r@5", "r@10", "out err", "out max", "target");
  for (const CacheRow* row : group.rows) {
    const bool ours = row->method == "cache";
    Append(
        text,
        "{:<14} {:<8} {:<6} {:>5} {:>6} {:<12} {:>7.4g} {:>7.4g} {:>7} {:>5.2f} {:>9} {:>9} "
        "{:>8.5f} "
        "{:>5.3f} {:>5.3f} {:>5.3f} {:>9} {:>9}  {}\n",
        ours ? row->policy : row->method,
        ours ? WidthsName(row->key_method, row->key_bits, row->value_method, row->value_bits) : "-",
        row->scale_search.empty() ? "-" : row->scale_search, row->sinks, row->window, MapName(*row),
        row->bytes_per_token, row->mean_bytes_per_token,
        row->held_bytes_per_token ? fmt::format("{:.4g}", *row->held_bytes_per_token) : "-",
        row->compression_vs_f16, Short(row->softmax_kl), Short(row->logit_rmse),
        row->logit_correlation, row->recall_at_1, row->recall_at_5, row->recall_at_10,
        Short(row->output_relative_rmse), Short(row->output_max_error), row->target);
  }
  text += '\n';
}

void AppendTable(const AttentionGroup& group, std::string& text) {
  Append(text, "{}\n", group.title);
  Append(text,
         "{:<10} {:<8} {:<9} {:>7} {:>8} {:>6} {:>8} {:>7} {:>7} {:>7} {:>7} {:>7} {:>9}  {}\n",
         "cache", "widths", "key map", "tokens", "B/token", "x f16", "ns", "f16 ns", "f32 ns",
         "read ns", "f16/ns", "ns/read", "max err", "target");
  for (const AttentionRow* row : group.rows) {
    Append(text,
           "{:<10} {:<8} {:<9} {:>7} {:>8.5g} {:>6.2f} {:>8.3g} {:>7.3g} {:>7.3g} {:>7.3g} "
           "{:>7.2f} {:>7.2f} {:>9}  {}\n",
           row->policy,
           WidthsName(row->key_method, row->key_bits, row->value_method, row->value_bits),
           row->key_map == "none" ? "-" : row->key_map, row->tokens, row->bytes_per_token,
           row->compression_vs_f16, row->attention_ns_per_query_token,
           row->f16_attention_ns_per_query_token, row->f32_attention_ns_per_query_token,
           row->memory_floor_ns_per_query_token,
           row->f16_attention_ns_per_query_token / row->attention_ns_per_query_token,
           row->attention_ns_per_query_token / row->memory_floor_ns_per_query_token,
           Short(row->max_error), row->target);
  }
  text += '\n';
}

std::string Legend(const BenchmarkResult& result) {
  std::string text;
  if (!result.rows.empty()) {
    text +=
        "true: bits per coordinate with scales, signs and norms. theory: without scale search.\n"
        "kl: of attention weights, nats. logit err and out err: root mean square. Times: ns per "
        "row, shortest of several runs;\nscore: one query, score8: per query, eight at once. "
        "Baselines and \"plain\" targets are straightforward loops, not tuned code.\n";
  }
  if (!result.cache_rows.empty()) {
    text +=
        "Caches: key map, and the first tokens it is made from (waits: its own beginning, exact "
        "until "
        "then). B/token: packed, with\nscales; mean: with the exact f32 tokens; held: all that is "
        "allocated; x f16: of the mean. kl: of attention weights,\nnats. out err: relative root "
        "mean square of attention outputs; out max: largest error over the largest output.\n";
  }
  if (!result.attention_rows.empty()) {
    text +=
        "Attention: ns per query head and cached token, one query token, shortest of several runs. "
        "f16, f32: our own attention\non such rows. read: the packed bytes, only read. f16/ns: "
        "times faster than f16. max err: against double over the decoded cache.\n";
  }
  if (!result.real_model_rows.empty()) {
    text +=
        "Real model: packed, exact: tokens of a layer at the end of a sample; x f16: of packed and "
        "exact tokens' bytes. ppl, kl (nats),\ntop 1, top k, logit err: fed the exact text. match, "
        "diverge (first other token): free-running. tok/s: decode, quantization included.\n";
  }
  return text;
}

}  // namespace

std::string ToTable(const BenchmarkResult& result) {
  if (result.sweep) return SweepTable(*result.sweep);
  std::string text;
  for (const RowGroup& group : GroupRows(result)) AppendTable(group, text);
  for (const CacheGroup& group : GroupCaches(result)) AppendTable(group, text);
  for (const AttentionGroup& group : GroupAttention(result)) AppendTable(group, text);
  text += RealModelTables(result);
  for (const LeftOut& left_out : result.left_out) {
    Append(text, "left out: {} at dim {}: {}\n", left_out.method, left_out.dim, left_out.reason);
  }
  text += Legend(result);
  Append(text, "{}, {} threads available, best target {}, {}, turboquant {}\n", result.machine.cpu,
         result.machine.cores, result.machine.best_target, result.machine.compiler,
         result.machine.version);
  return text;
}

}  // namespace turboquant::eval
