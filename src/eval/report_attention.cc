#include <fmt/format.h>

#include <algorithm>

#include "src/eval/report_sections.h"
#include "src/eval/svg_chart.h"

namespace turboquant::eval {
namespace {

// The point goes to the series of that name, once for each length.
void AddPoint(LineChart& chart, const std::string& name, SeriesStyle style, size_t tokens,
              double nanoseconds) {
  auto series = std::ranges::find(chart.series, name, &ChartSeries::name);
  if (series == chart.series.end()) {
    series = chart.series.insert(series, ChartSeries{name, style, {}});
  }
  const double x = static_cast<double>(tokens);
  if (std::ranges::find(series->points, x, &ChartPoint::x) != series->points.end()) return;
  series->points.push_back(
      {x, nanoseconds, fmt::format("{}, {} tokens: {:.3g} ns", name, tokens, nanoseconds)});
}

std::string TimeChart(const AttentionGroup& group) {
  LineChart chart;
  chart.title = "Time of attention against the length of the context";
  chart.description =
      "Nanoseconds per query head and cached token for packed widths, for the library's own "
      "attention on f16 and f32 rows, and for reading the packed bytes alone. Lower is better.";
  chart.x_label = "tokens in the cache";
  chart.y_label = "ns per query head and token";
  chart.log_x = true;
  chart.log_y = true;
  for (const AttentionRow* row : group.rows) {
    AddPoint(chart, CacheName(*row), SeriesStyle::kLine, row->tokens,
             row->attention_ns_per_query_token);
  }
  for (const AttentionRow* row : group.rows) {
    AddPoint(chart, "f16", SeriesStyle::kLine, row->tokens, row->f16_attention_ns_per_query_token);
    AddPoint(chart, "f32", SeriesStyle::kLine, row->tokens, row->f32_attention_ns_per_query_token);
  }
  for (const AttentionRow* row : group.rows) {
    AddPoint(chart, "read " + CacheName(*row), SeriesStyle::kGuide, row->tokens,
             row->memory_floor_ns_per_query_token);
  }
  for (ChartSeries& series : chart.series) std::ranges::sort(series.points, {}, &ChartPoint::x);
  return RenderLineChart(chart);
}

std::string BytesChart(const AttentionGroup& group) {
  DotChart chart;
  chart.title = "Time against f16 and the plain read";
  chart.description = "Nanoseconds per query head and token of each cache at each length.";
  chart.x_label = "ns per query head and token";
  chart.columns = {"plain read", "packed", "f16", "f32"};
  for (const AttentionRow* row : group.rows) {
    chart.rows.push_back(
        {fmt::format("{} at {}", CacheName(*row), row->tokens),
         {row->memory_floor_ns_per_query_token, row->attention_ns_per_query_token,
          row->f16_attention_ns_per_query_token, row->f32_attention_ns_per_query_token}});
  }
  chart.unit = " ns";
  return RenderDotChart(chart);
}

std::string Numbers(const AttentionGroup& group) {
  std::vector<std::vector<std::string>> rows;
  for (const AttentionRow* row : group.rows) {
    rows.push_back({CacheName(*row), fmt::format("{}", row->tokens), Cell(row->bytes_per_token),
                    Cell(row->compression_vs_f16), Cell(row->attention_ns_per_query_token),
                    Cell(row->f16_attention_ns_per_query_token),
                    Cell(row->f32_attention_ns_per_query_token),
                    Cell(row->memory_floor_ns_per_query_token),
                    Cell(row->f16_attention_ns_per_query_token / row->attention_ns_per_query_token),
                    Cell(row->attention_ns_per_query_token / row->memory_floor_ns_per_query_token),
                    Cell(row->max_error), row->target});
  }
  return NumbersTable(
      {"cache", "tokens", "bytes per token", "against f16", "ns", "f16 ns", "f32 ns",
       "plain read ns", "times faster than f16", "times the plain read", "largest error", "target"},
      rows);
}

}  // namespace

std::string AttentionSection(const AttentionGroup& group) {
  const std::string figures =
      Figure(TimeChart(group), "Time against the length of the context",
             "One query token; shortest of several runs. f16 and f32: the library&#39;s own "
             "attention on such rows. Dashed: the packed bytes, only read.") +
      Figure(BytesChart(group), "The same, cache by cache",
             "How far packed attention is from reading its bytes, and from unpacked rows.");
  return ChartSection(group.title, figures, Numbers(group));
}

}  // namespace turboquant::eval
