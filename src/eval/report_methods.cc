#include <fmt/format.h>

#include <algorithm>

#include "src/eval/report_sections.h"
#include "src/eval/svg_chart.h"
#include "src/eval/theory.h"

namespace turboquant::eval {
namespace {

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
  chart.unit = " ns";
  chart.columns = {"encode", "decode", "score, 1 query", "score, 8 queries"};
  for (const BenchmarkRow* row : group.rows) {
    chart.rows.push_back({fmt::format("{} {} [{}]", SeriesName(*row), row->bits, row->target),
                          {row->encode_ns_per_row, row->decode_ns_per_row, row->score_ns_per_row,
                           row->score8_ns_per_row}});
  }
  return RenderDotChart(chart);
}

std::string Numbers(const RowGroup& group) {
  std::vector<std::vector<std::string>> rows;
  for (const BenchmarkRow* row : group.rows) {
    rows.push_back({SeriesName(*row), Cell(row->bits), Cell(row->bits_per_coordinate),
                    Cell(row->compression_vs_f16), Cell(row->nmse),
                    row->nmse_theory ? Cell(*row->nmse_theory) : "-", Cell(row->nmse_shannon),
                    Cell(row->ip_bias), Cell(row->softmax_kl), Cell(row->logit_rmse),
                    Cell(row->recall_at_1), Cell(row->recall_at_5), Cell(row->recall_at_10),
                    Cell(row->output_rmse), Cell(row->encode_ns_per_row),
                    Cell(row->decode_ns_per_row), Cell(row->score_ns_per_row),
                    Cell(row->score8_ns_per_row)});
  }
  return NumbersTable({"method", "bits", "true bits", "against f16", "NMSE", "theory", "Shannon",
                       "bias", "KL", "logit RMSE", "recall@1", "recall@5", "recall@10",
                       "output RMSE", "encode ns", "decode ns", "score ns", "score ns (8)"},
                      rows);
}

}  // namespace

std::string MethodSection(const RowGroup& group) {
  std::string html =
      Figure(DistortionChart(group), "Distortion against true bits",
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
  return ChartSection(group.title, html, Numbers(group));
}

}  // namespace turboquant::eval
