#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "src/eval/report_sections.h"
#include "src/eval/svg_chart.h"
#include "src/eval/sweep.h"

namespace turboquant::eval {
namespace {

std::string Cells(const std::optional<double>& number) { return number ? Cell(*number) : "-"; }

// Rows of one source. Of a result, which must outlive them.
std::vector<const RealModelRow*> OfSource(const BenchmarkResult& result,
                                          const std::string& source) {
  std::vector<const RealModelRow*> rows;
  for (const RealModelRow& row : result.real_model_rows) {
    if (row.source == source) rows.push_back(&row);
  }
  return rows;
}

// What nothing else beats in both: each point has a lower KL than all that are smaller.
ChartSeries Frontier(const std::vector<ChartSeries>& series) {
  ChartSeries frontier{"frontier", SeriesStyle::kGuide, {}};
  std::vector<ChartPoint> points;
  for (const ChartSeries& one : series) {
    points.insert(points.end(), one.points.begin(), one.points.end());
  }
  std::ranges::sort(points, [](const ChartPoint& a, const ChartPoint& b) {
    return a.x != b.x ? a.x < b.x : a.y < b.y;
  });
  for (const ChartPoint& point : points) {
    if (frontier.points.empty() || point.y < frontier.points.back().y) {
      frontier.points.push_back(point);
    }
  }
  return frontier;
}

// What is written beside a point: "balanced K4V4", "q4_0 w64" with a window.
std::string PointName(const RealModelRow& row) {
  const std::string name = RealModelName(row);
  return name.substr(0, name.find(',')) +
         (row.window == 0 ? std::string() : fmt::format(" w{}", row.window));
}

// Our caches and the plain formats are two series, so that the frontier of each is seen.
std::string KlChart(const std::vector<const RealModelRow*>& rows) {
  LineChart chart;
  chart.title = "KL divergence against bytes";
  chart.description =
      "Mean KL divergence of the next token's distribution, in nats, against the true bytes of "
      "keys and values per token. Lower and further left is better.";
  chart.x_label = "bytes of keys and values per token";
  chart.y_label = "mean KL, nats";
  chart.log_x = true;
  chart.log_y = true;
  chart.series = {{"TurboQuant", SeriesStyle::kMarkers, {}},
                  {"plain formats", SeriesStyle::kMarkers, {}}};
  for (const RealModelRow* row : rows) {
    if (!row->kl_mean || row->method == "exact") continue;
    const double tokens = static_cast<double>(row->packed_tokens + row->exact_tokens);
    chart.series[row->method == "cache" ? 0 : 1].points.push_back(
        {row->kv_bytes / tokens, *row->kl_mean,
         fmt::format("{}: {:.0f} bytes a token, KL {:.3g}", RealModelName(*row),
                     row->kv_bytes / tokens, *row->kl_mean),
         PointName(*row)});
  }
  std::erase_if(chart.series, [](const ChartSeries& series) { return series.points.empty(); });
  for (ChartSeries& series : chart.series) std::ranges::sort(series.points, {}, &ChartPoint::x);
  if (chart.series.empty()) return {};
  ChartSeries frontier = Frontier(chart.series);
  if (frontier.points.size() > 1) chart.series.push_back(std::move(frontier));
  return RenderLineChart(chart);
}

std::string Numbers(const std::vector<const RealModelRow*>& rows) {
  std::vector<std::vector<std::string>> cells;
  for (const RealModelRow* row : rows) {
    cells.push_back(
        {RealModelName(*row), row->key_map, fmt::format("{}", row->packed_tokens),
         fmt::format("{}", row->exact_tokens), Cell(row->kv_bytes), Cell(row->compression_vs_f16),
         Cells(row->perplexity_exact), Cells(row->perplexity), Cells(row->kl_mean),
         Cells(row->kl_p99), Cells(row->top1_agreement), Cells(row->top_k_agreement),
         Cells(row->logit_rmse), Cells(row->token_match_rate), Cells(row->mean_first_divergence),
         Cells(row->decode_tokens_per_second), Cells(row->exact_decode_tokens_per_second)});
  }
  return NumbersTable(
      {"cache", "key map", "packed tokens", "exact tokens", "bytes", "against f16",
       "exact perplexity", "perplexity", "mean KL", "99 % KL", "top 1", "top k", "logit error",
       "token match", "first divergence", "tokens per second", "exact"},
      cells);
}

std::string SweepSection(const SweepRanking& ranking) {
  std::vector<std::vector<std::string>> cells;
  for (const SweepEntry& entry : ranking.entries) {
    cells.push_back({entry.name, Cell(entry.bytes_per_token), Cell(entry.compression_vs_f16),
                     Cells(entry.kl_mean), Cells(entry.top_k_agreement),
                     Cells(entry.token_match_rate), Cells(entry.perplexity_change),
                     entry.missed.empty() ? "passes" : entry.missed});
  }
  return ChartSection("Ranking: what passes the gates, smallest first", "",
                      NumbersTable({"cache", "bytes per token", "against f16", "mean KL", "top k",
                                    "token match", "perplexity change", "gates"},
                                   cells));
}

}  // namespace

std::string RealModelSections(const BenchmarkResult& result) {
  std::string html;
  if (result.sweep) html += SweepSection(*result.sweep);
  std::vector<std::string> seen;
  for (const RealModelRow& row : result.real_model_rows) {
    if (std::ranges::find(seen, row.source) != seen.end()) continue;
    seen.push_back(row.source);
    const std::vector<const RealModelRow*> rows = OfSource(result, row.source);
    const std::string figures =
        Figure(KlChart(rows), "Quality against size",
               "Every prediction of the exact text; scales and exact tokens count as bytes.");
    html += ChartSection(fmt::format("{}: {}, {} samples of up to {} tokens", row.model, row.source,
                                     row.samples, row.context),
                         figures, Numbers(rows));
    for (const RealModelRow* one : rows) {
      const std::string damage = DamageSentence(*one);
      if (!damage.empty()) html += fmt::format("<p>{}.</p>\n", EscapeHtml(damage));
    }
    if (!row.note.empty()) html += fmt::format("<p>{}.</p>\n", EscapeHtml(row.note));
  }
  return html;
}

}  // namespace turboquant::eval
