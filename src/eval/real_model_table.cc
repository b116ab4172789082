#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "src/eval/cache_spec.h"
#include "src/eval/result_output.h"
#include "src/eval/sweep.h"

namespace turboquant::eval {
namespace {

std::string Short(const std::optional<double>& number) {
  if (!number) return "-";
  if (std::abs(*number) < 1e-4 && *number != 0.0) return fmt::format("{:.2e}", *number);
  return fmt::format("{:.4g}", *number);
}

std::string Percent(const std::optional<double>& number, const std::optional<double>& exact) {
  if (!number || !exact) return "-";
  return fmt::format("{:+.2f}", 100.0 * (*number / *exact - 1.0));
}

std::string Title(const RealModelRow& row) {
  std::string title = fmt::format("real model {}, ", row.model);
  title += row.protocol == "prompts"
               ? fmt::format("{} prompts, {} tokens written", row.samples, row.generated_tokens)
               : fmt::format("{}, teacher-forced: {} contexts of {} tokens", row.source,
                             row.samples, row.context);
  if (row.first_position != 0) title += fmt::format(", positions from {}", row.first_position);
  return title + (row.note.empty() ? "" : "\n" + row.note);
}

std::string Widths(const RealModelRow& row) {
  if (row.method != "cache") return "-";
  return WidthsName(row.key_method, row.key_bits, row.value_method, row.value_bits);
}

std::string Map(const RealModelRow& row) {
  if (row.key_map == "none") return "-";
  return row.key_map_tokens == 0 ? row.key_map + " waits"
                                 : fmt::format("{} {}", row.key_map, row.key_map_tokens);
}

void AppendRow(const RealModelRow& row, std::string& text) {
  fmt::format_to(
      std::back_inserter(text),
      "{:<14} {:<8} {:<6} {:>5} {:>6} {:<12} {:>6} {:>7} {:>6.2f} {:>9} {:>9} {:>7} {:>9} {:>9} "
      "{:>6} {:>6} {:>9} {:>6} {:>7} {:>7} {:>7}\n",
      row.method == "cache" ? row.policy : row.method, Widths(row),
      row.scale_search.empty() ? "-" : row.scale_search, row.sinks, row.window, Map(row),
      row.packed_tokens, row.exact_tokens, row.compression_vs_f16, Short(row.perplexity_exact),
      Short(row.perplexity), Percent(row.perplexity, row.perplexity_exact), Short(row.kl_mean),
      Short(row.kl_p99), Short(row.top1_agreement), Short(row.top_k_agreement),
      Short(row.logit_rmse), Short(row.token_match_rate), Short(row.mean_first_divergence),
      Short(row.decode_tokens_per_second), Short(row.exact_decode_tokens_per_second));
}

}  // namespace

std::string DamageSentence(const RealModelRow& row) {
  std::vector<LayerErrors> layers = row.layers;
  std::erase_if(layers, [](const LayerErrors& layer) { return !layer.kl_share; });
  if (layers.empty()) return {};
  // Largest shares first, equals by layer.
  std::ranges::sort(layers, [](const LayerErrors& a, const LayerErrors& b) {
    return *a.kl_share != *b.kl_share ? *a.kl_share > *b.kl_share : a.layer < b.layer;
  });
  std::string text = RealModelName(row) + ": most damage by layers";
  for (size_t l = 0; l < std::min<size_t>(3, layers.size()); ++l) {
    text += fmt::format("{} {} ({:.1f} %)", l == 0 ? "" : ",", layers[l].layer,
                        100.0 * *layers[l].kl_share);
  }
  if (!row.worst_layer_logit_correlation) return text;
  const auto worst =
      std::ranges::find(layers, row.worst_layer_logit_correlation, &LayerErrors::logit_correlation);
  return worst == layers.end()
             ? text
             : text + fmt::format("; lowest correlation of logits {:.5f}, in layer {}",
                                  *worst->logit_correlation, worst->layer);
}

std::string RealModelTables(const BenchmarkResult& result) {
  std::string text;
  const RealModelRow* previous = nullptr;
  for (const RealModelRow& row : result.real_model_rows) {
    if (previous == nullptr || previous->source != row.source) {
      text += previous == nullptr ? "" : "\n";
      text += Title(row) + "\n";
      fmt::format_to(std::back_inserter(text),
                     "{:<14} {:<8} {:<6} {:>5} {:>6} {:<12} {:>6} {:>7} {:>6} {:>9} {:>9} {:>7} "
                     "{:>9} {:>9} {:>6} "
                     "{:>6} {:>9} {:>6} {:>7} {:>7} {:>7}\n",
                     "cache", "widths", "search", "sinks", "window", "key map", "packed", "exact",
                     "x f16", "ppl exact", "ppl", "%", "kl", "kl p99", "top 1", "top k",
                     "logit err", "match", "diverge", "tok/s", "exact");
    }
    AppendRow(row, text);
    previous = &row;
  }
  for (const RealModelRow& row : result.real_model_rows) {
    const std::string damage = DamageSentence(row);
    if (!damage.empty()) text += row.source + ", " + damage + "\n";
  }
  return text.empty() ? text : text + "\n";
}

}  // namespace turboquant::eval
