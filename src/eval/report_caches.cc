#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "src/eval/cache_spec.h"
#include "src/eval/report_sections.h"
#include "src/eval/svg_chart.h"

namespace turboquant::eval {
namespace {

// Policies that differ in widths only are points of one line.
std::string SeriesOf(const CacheRow& row) {
  std::string name = row.method;
  if (row.method == "cache" && (row.policy == "paper" || row.policy == "peer")) name = row.policy;
  name += fmt::format(", {} + {}", row.sinks, row.window);
  name += ChoicesInName(row.policy, row.scale_search, row.key_codes);
  if (row.key_map != "none") name += ", " + row.key_map;
  return row.waits_for_map ? name + ", waiting" : name;
}

LineChart OverBytes(const CacheGroup& group, double CacheRow::* quantity, std::string_view name) {
  LineChart chart;
  chart.x_label = "true bytes per token (key and value; scales and exact tokens included)";
  chart.log_y = true;
  for (const CacheRow* row : group.rows) {
    const std::string series_name = SeriesOf(*row);
    auto series = std::ranges::find(chart.series, series_name, &ChartSeries::name);
    if (series == chart.series.end()) {
      series = chart.series.insert(series, ChartSeries{series_name, SeriesStyle::kMarkers, {}});
    }
    const double number = row->*quantity;
    series->points.push_back({row->mean_bytes_per_token, number,
                              fmt::format("{}: {:.4g} bytes, {} {:.4g}", CacheName(*row),
                                          row->mean_bytes_per_token, name, number)});
    if (series->points.size() > 1) series->style = SeriesStyle::kLine;
  }
  for (ChartSeries& series : chart.series) std::ranges::sort(series.points, {}, &ChartPoint::x);
  return chart;
}

std::string KlChart(const CacheGroup& group) {
  LineChart chart = OverBytes(group, &CacheRow::softmax_kl, "KL");
  chart.title = "KL divergence of attention weights against true bytes per token";
  chart.description =
      "KL divergence in nats between exact and cached attention weights for each cache and for "
      "formats in use with the same exact tokens. Lower and further left is better.";
  chart.y_label = "KL of attention weights, nats";
  return RenderLineChart(chart);
}

std::string OutputChart(const CacheGroup& group) {
  LineChart chart = OverBytes(group, &CacheRow::output_relative_rmse, "output error");
  chart.title = "Error of attention outputs against true bytes per token";
  chart.description =
      "Relative root mean square error of attention outputs for each cache and for formats in use "
      "with the same exact tokens. Lower and further left is better.";
  chart.y_label = "relative error of outputs";
  return RenderLineChart(chart);
}

std::string Numbers(const CacheGroup& group) {
  std::vector<std::vector<std::string>> rows;
  for (const CacheRow* row : group.rows) {
    rows.push_back({CacheName(*row), Cell(row->bytes_per_token), Cell(row->mean_bytes_per_token),
                    row->held_bytes_per_token ? Cell(*row->held_bytes_per_token) : "-",
                    Cell(row->compression_vs_f16), Cell(row->softmax_kl), Cell(row->logit_rmse),
                    Cell(row->logit_correlation), Cell(row->recall_at_1), Cell(row->recall_at_5),
                    Cell(row->recall_at_10), Cell(row->output_relative_rmse),
                    Cell(row->output_max_error)});
  }
  return NumbersTable(
      {"cache", "bytes per packed token", "per token", "allocated", "against f16", "KL",
       "logit RMSE", "correlation", "top 1", "top 5", "top 10", "output error", "largest"},
      rows);
}

std::string HeadLabel(const CacheRow& row) {
  std::string label;
  if (row.layer) label += fmt::format("layer {}", *row.layer);
  if (row.head) label += fmt::format("{}head {}", label.empty() ? "" : ", ", *row.head);
  return label.empty() ? row.source : label;
}

// A marker for each head; of many heads, their mean and the worst.
DotChart ByPolicy(const std::vector<CacheGroup>& heads, double CacheRow::* quantity) {
  constexpr size_t kMostHeads = 4;
  DotChart chart;
  const bool each = heads.size() <= kMostHeads;
  for (size_t h = 0; h < heads.size(); ++h) {
    if (each) chart.columns.push_back(HeadLabel(*heads[h].rows.front()));
    for (const CacheRow* row : heads[h].rows) {
      const std::string name = CacheName(*row);
      auto known = std::ranges::find(chart.rows, name, &DotChart::Row::name);
      if (known == chart.rows.end()) known = chart.rows.insert(known, {name, {}});
      known->numbers.resize(std::max(known->numbers.size(), h + 1));
      known->numbers[h] = row->*quantity;
    }
  }
  if (each) return chart;
  chart.columns = {"mean of the heads", "worst head"};
  for (DotChart::Row& row : chart.rows) {
    double sum = 0.0;
    for (const double number : row.numbers) sum += number;
    row.numbers = {sum / static_cast<double>(row.numbers.size()),
                   *std::ranges::max_element(row.numbers)};
  }
  return chart;
}

}  // namespace

std::string CacheOverview(const BenchmarkResult& result) {
  const std::vector<CacheGroup> heads = GroupCaches(result);
  if (heads.empty()) return {};
  DotChart kl = ByPolicy(heads, &CacheRow::softmax_kl);
  kl.title = "KL divergence of attention weights by policy";
  kl.description = "KL divergence in nats of each cache and format, one marker for each head.";
  kl.x_label = "KL of attention weights, nats";
  DotChart output = ByPolicy(heads, &CacheRow::output_relative_rmse);
  output.title = "Error of attention outputs by policy";
  output.description =
      "Relative root mean square error of attention outputs, one marker for each head.";
  output.x_label = "relative error of outputs";
  return ChartSection(
      "Caches: error by policy",
      Figure(
          RenderDotChart(kl), "Attention divergence by policy",
          "Sinks + window: exact tokens. Formats of other tools have the same ones. Waiting: the "
          "first 128 tokens, too, are exact until a key map is made from them.") +
          Figure(RenderDotChart(output), "Output error by policy",
                 "Root mean square error of attention outputs over their root mean square."),
      "");
}

std::string CacheSection(const CacheGroup& group) {
  const std::string figures =
      Figure(KlChart(group), "Attention divergence against bytes",
             "Each query attends when the cache holds the tokens up to its own. Sinks + window: "
             "exact tokens, whose bytes count.") +
      Figure(OutputChart(group), "Output error against bytes",
             "Of the same queries: keys and values together.");
  return ChartSection(group.title, figures, Numbers(group));
}

}  // namespace turboquant::eval
