#include "src/eval/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "src/eval/result_output.h"
#include "src/eval/svg_chart.h"
#include "src/eval/theory.h"

namespace turboquant::eval {
namespace {

// Colours with a contrast of 4.5 or more against their background, light and dark.
constexpr std::string_view kStyle = R"(
:root { color-scheme: light dark; --page: #ffffff; --ink: #1b1f24; --soft: #57606a; --rule: #d8dee4;
  --c0: #0550ae; --c1: #a6410b; --c2: #08673b; --c3: #7b2fa8; --c4: #9a1b4b; --c5: #5c5a00;
  --c6: #006b75; --c7: #7a3e1d; --c8: #4b4f8a; --c9: #4d5258; --c10: #8a2a7a; --c11: #2f6b1d; }
@media (prefers-color-scheme: dark) { :root { --page: #12161b; --ink: #e6edf3; --soft: #a3adb8;
  --rule: #333c46; --c0: #79b8ff; --c1: #ffa657; --c2: #56d498; --c3: #d2a8ff; --c4: #ff8fb1;
  --c5: #e3d26a; --c6: #62d6e0; --c7: #e0a585; --c8: #aab0ff; --c9: #c0c8d0; --c10: #f29be0;
  --c11: #9ad97c; } }
body { background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
  margin: 0 auto; max-width: 100rem; padding: 1.5rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; } h3 { font-size: 1rem; }
p, figcaption { color: var(--soft); max-width: 60rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 36rem), 1fr));
  gap: 1.5rem; align-items: start; }
figure { margin: 0; } svg { width: 100%; height: auto; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
.axis { stroke: var(--soft); fill: none; } .grid { stroke: var(--rule); fill: none; }
.line { stroke: currentColor; fill: none; stroke-width: 2; } .fill { fill: currentColor; }
.guide { color: var(--soft); stroke-dasharray: 9 4; } .dotted { stroke-dasharray: 2 4; }
.s0 { color: var(--c0); } .s1 { color: var(--c1); } .s2 { color: var(--c2); }
.s3 { color: var(--c3); } .s4 { color: var(--c4); } .s5 { color: var(--c5); }
.s6 { color: var(--c6); } .s7 { color: var(--c7); } .s8 { color: var(--c8); }
.s9 { color: var(--c9); } .s10 { color: var(--c10); } .s11 { color: var(--c11); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid var(--rule);
  font-variant-numeric: tabular-nums; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
)";

std::string PointLabel(const BenchmarkRow& row, std::string_view quantity, double number) {
  return fmt::format("{} {} bits ({:.4g} true): {} {:.4g}", SeriesName(row), row.bits,
                     row.bits_per_coordinate, quantity, number);
}

// One series for each method and policy, its points in order of true bits.
std::vector<ChartSeries> SeriesOverBits(const RowGroup& group, double BenchmarkRow::* quantity,
                                        std::string_view name) {
  std::vector<ChartSeries> all;
  for (const BenchmarkRow* row : group.rows) {
    const std::string series_name = SeriesName(*row);
    auto series = std::ranges::find(all, series_name, &ChartSeries::name);
    if (series == all.end()) {
      series = all.insert(all.end(), ChartSeries{series_name, SeriesStyle::kMarkers, {}});
    }
    const double number = row->*quantity;
    series->points.push_back({row->bits_per_coordinate, number, PointLabel(*row, name, number)});
    if (series->points.size() > 1) series->style = SeriesStyle::kLine;
  }
  for (ChartSeries& series : all) std::ranges::sort(series.points, {}, &ChartPoint::x);
  return all;
}

ChartSeries Bound(std::string name, double (*bound)(double), double low, double high) {
  ChartSeries series{std::move(name), SeriesStyle::kGuide, {}};
  series.points = {{low, bound(low), ""}, {high, bound(high), ""}};
  return series;
}

std::string DistortionChart(const RowGroup& group) {
  LineChart chart;
  chart.title = "Distortion against true bits";
  chart.description =
      "Normalized squared error of decoded keys for each method, with Shannon's limit and the "
      "TurboQuant paper's bound as dashed lines. Lower is better.";
  chart.x_label = "true bits per coordinate (scales included)";
  chart.y_label = "NMSE of keys";
  chart.log_y = true;
  chart.series = SeriesOverBits(group, &BenchmarkRow::nmse, "NMSE");
  const auto [least, most] =
      std::ranges::minmax(group.rows, {}, &BenchmarkRow::bits_per_coordinate);
  chart.series.push_back(Bound("Shannon limit 4^-b", ShannonNmse, least->bits_per_coordinate,
                               most->bits_per_coordinate));
  chart.series.push_back(Bound("paper bound 2.7207 4^-b", PaperBoundNmse,
                               least->bits_per_coordinate, most->bits_per_coordinate));
  return RenderLineChart(chart);
}

std::string KlChart(const RowGroup& group) {
  LineChart chart;
  chart.title = "KL divergence of attention weights against true bits";
  chart.description =
      "KL divergence in nats between exact and quantized attention weights for each method. Lower "
      "is better.";
  chart.x_label = "true bits per coordinate (scales included)";
  chart.y_label = "KL of attention weights, nats";
  chart.log_y = true;
  chart.series = SeriesOverBits(group, &BenchmarkRow::softmax_kl, "KL");
  return RenderLineChart(chart);
}

// The library's own choice at every width beside three formats in use; all methods would be a
// thicket.
bool ShownByPosition(const BenchmarkRow& row) {
  return row.policy == "default" && !row.error_by_position.empty() &&
         (row.method == "mse" || row.method == "fp8" || row.method == "q8_0" ||
          row.method == "q4_0-hadamard");
}

std::string PositionChart(const RowGroup& group) {
  LineChart chart;
  chart.title = "Error by position of the query";
  chart.description =
      "KL divergence in nats of attention weights by position of the query, for TurboQuant-MSE at "
      "each width and three formats in use. Lower is better.";
  chart.x_label = "position of the query (middle of its range)";
  chart.y_label = "KL of attention weights, nats";
  chart.log_x = true;
  chart.log_y = true;
  for (const BenchmarkRow* row : group.rows) {
    if (!ShownByPosition(*row)) continue;
    ChartSeries series{fmt::format("{} {}", row->method, row->bits), SeriesStyle::kLine, {}};
    for (const PositionRow& position : row->error_by_position) {
      if (!position.softmax_kl) continue;
      const double middle = static_cast<double>(position.first + position.last + 2) / 2.0;
      series.points.push_back({middle, *position.softmax_kl,
                               fmt::format("{}, positions {} to {}: KL {:.4g}", series.name,
                                           position.first, position.last, *position.softmax_kl)});
    }
    chart.series.push_back(std::move(series));
  }
  return chart.series.empty() ? std::string() : RenderLineChart(chart);
}

std::string TimeChart(const RowGroup& group) {
  DotChart chart;
  chart.title = "Time per row";
  chart.description = "Nanoseconds per row to encode, decode and score, for each method.";
  chart.x_label = "nanoseconds per row";
  chart.columns = {"encode", "decode", "score, 1 query", "score, 8 queries"};
  for (const BenchmarkRow* row : group.rows) {
    chart.rows.push_back({fmt::format("{} {} [{}]", SeriesName(*row), row->bits, row->target),
                          {row->encode_ns_per_row, row->decode_ns_per_row, row->score_ns_per_row,
                           row->score8_ns_per_row}});
  }
  return RenderDotChart(chart);
}

std::string Figure(const std::string& svg, std::string_view title, std::string_view caption) {
  if (svg.empty()) return {};
  return fmt::format("<figure><h3>{}</h3>\n{}<figcaption>{}</figcaption></figure>\n", title, svg,
                     caption);
}

std::string Cell(double number) {
  return number >= 1000.0 ? fmt::format("<td>{:.0f}</td>", number)
                          : fmt::format("<td>{:.4g}</td>", number);
}

std::string Numbers(const RowGroup& group) {
  std::string html =
      "<details open><summary>The numbers</summary><div class=\"scroll\"><table><thead><tr>"
      "<th scope=\"col\">method</th>";
  for (const std::string_view column :
       {"bits", "true bits", "against f16", "NMSE", "theory", "Shannon", "bias", "KL", "logit RMSE",
        "recall@1", "recall@5", "recall@10", "output RMSE", "encode ns", "decode ns", "score ns",
        "score ns (8)"}) {
    html += fmt::format("<th scope=\"col\">{}</th>", column);
  }
  html += "</tr></thead><tbody>\n";
  for (const BenchmarkRow* row : group.rows) {
    html += fmt::format("<tr><td>{}</td>", EscapeHtml(SeriesName(*row)));
    html += Cell(row->bits) + Cell(row->bits_per_coordinate) + Cell(row->compression_vs_f16) +
            Cell(row->nmse) + (row->nmse_theory ? Cell(*row->nmse_theory) : "<td>-</td>") +
            Cell(row->nmse_shannon) + Cell(row->ip_bias) + Cell(row->softmax_kl) +
            Cell(row->logit_rmse) + Cell(row->recall_at_1) + Cell(row->recall_at_5) +
            Cell(row->recall_at_10) + Cell(row->output_rmse) + Cell(row->encode_ns_per_row) +
            Cell(row->decode_ns_per_row) + Cell(row->score_ns_per_row) +
            Cell(row->score8_ns_per_row) + "</tr>\n";
  }
  return html + "</tbody></table></div></details>\n";
}

std::string Section(const RowGroup& group) {
  std::string html =
      fmt::format("<section><h2>{}</h2><div class=\"charts\">\n", EscapeHtml(group.title));
  html += Figure(DistortionChart(group), "Distortion against true bits",
                 "Squared error of decoded keys over their squared norm. No code can lie below "
                 "Shannon&#39;s limit on random directions.");
  html += Figure(KlChart(group), "Attention divergence against true bits",
                 "How far the attention weights computed on quantized keys are from the exact "
                 "ones.");
  html += Figure(PositionChart(group), "Error by position",
                 "Queries further into the text see more keys.");
  html += Figure(TimeChart(group), "Time per row",
                 "Shortest of several runs; scores are per row and query. Targets marked plain are "
                 "straightforward loops, there for their quality and not for their speed.");
  return html + "</div>\n" + Numbers(group) + "</section>\n";
}

}  // namespace

std::string RenderReport(const BenchmarkResult& result) {
  const Machine& machine = result.machine;
  std::string html = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>TurboQuant benchmark: {0}</title>\n<style>{1}</style></head><body>\n"
      "<h1>TurboQuant benchmark: {0}</h1>\n"
      "<p>{2}{3}</p>\n<p>Measured on {4}, {5} threads available, best target {6}, built with {7}, "
      "turboquant {8}, seed {9}.</p>\n",
      EscapeHtml(result.workload), kStyle,
      result.workload == "trace" ? "Recorded keys, values and queries, with their real norms and "
                                   "causal attention."
                                 : "Independent random directions, the input of the theory; not "
                                   "the data of any model.",
      result.quick ? " A quick run: fewer and smaller samples." : "", EscapeHtml(machine.cpu),
      machine.cores, EscapeHtml(machine.best_target), EscapeHtml(machine.compiler),
      EscapeHtml(machine.version), result.seed);
  for (const RowGroup& group : GroupRows(result)) html += Section(group);
  for (const LeftOut& left_out : result.left_out) {
    html += fmt::format("<p>Left out: {} at dim {}: {}.</p>\n", EscapeHtml(left_out.method),
                        left_out.dim, EscapeHtml(left_out.reason));
  }
  return html + "</body></html>\n";
}

}  // namespace turboquant::eval
