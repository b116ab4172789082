#include "src/eval/svg_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "src/eval/svg_axis.h"
#include "src/eval/svg_captions.h"

namespace turboquant::eval {
namespace {

constexpr double kWidth = 760;
constexpr double kPlotLeft = 84;
constexpr double kPlotRight = 540;
constexpr double kPlotTop = 14;
constexpr double kPlotBottom = 330;
constexpr double kHeight = 380;
constexpr double kLegendLeft = 560;
constexpr size_t kColours = 12;

template <class... Parts>
void Append(std::string& svg, fmt::format_string<Parts...> format, Parts&&... parts) {
  fmt::format_to(std::back_inserter(svg), format, std::forward<Parts>(parts)...);
}

std::string Open(double width, double height, const std::string& title,
                 const std::string& description) {
  return fmt::format(
      "<svg viewBox=\"0 0 {} {}\" role=\"img\" xmlns=\"http://www.w3.org/2000/svg\">\n"
      "<title>{}</title><desc>{}</desc>\n",
      width, height, EscapeHtml(title), EscapeHtml(description));
}

// Six shapes and twelve colours, shifted against each other after each round of colours: no two of
// the first 72 series look alike.
void AppendMarker(std::string& svg, size_t series, double x, double y, const std::string& label) {
  Append(svg, "<g class=\"s{}\" transform=\"translate({:.1f} {:.1f})\">", series % kColours, x, y);
  switch ((series + series / kColours) % 6) {
    case 0:
      svg += "<circle r=\"4.5\" class=\"fill\"/>";
      break;
    case 1:
      svg += "<rect x=\"-4\" y=\"-4\" width=\"8\" height=\"8\" class=\"fill\"/>";
      break;
    case 2:
      svg += "<path d=\"M0-5.5 5 4H-5Z\" class=\"fill\"/>";
      break;
    case 3:
      svg += "<path d=\"M0-5.5 5.5 0 0 5.5-5.5 0Z\" class=\"fill\"/>";
      break;
    case 4:
      svg += "<path d=\"M-4-4 4 4M-4 4 4-4\" class=\"line\"/>";
      break;
    default:
      svg += "<circle r=\"4\" class=\"line\"/>";
      break;
  }
  if (!label.empty()) svg += "<title>" + EscapeHtml(label) + "</title>";
  svg += "</g>\n";
}

void AppendAxes(std::string& svg, const SvgAxis& x, const SvgAxis& y, const LineChart& chart) {
  for (const SvgAxis::Tick& tick : x.ticks()) {
    const double at = x.Position(tick.number);
    Append(svg, "<path class=\"grid\" d=\"M{:.1f} {}V{}\"/>", at, kPlotTop, kPlotBottom);
    Append(svg, "<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n", at,
           kPlotBottom + 18, tick.label);
  }
  for (const SvgAxis::Tick& tick : y.ticks()) {
    const double at = y.Position(tick.number);
    Append(svg, "<path class=\"grid\" d=\"M{} {:.1f}H{}\"/>", kPlotLeft, at, kPlotRight);
    Append(svg, "<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n", kPlotLeft - 8,
           at + 4, tick.label);
  }
  Append(svg, "<path class=\"axis\" d=\"M{} {}V{}H{}\"/>\n", kPlotLeft, kPlotTop, kPlotBottom,
         kPlotRight);
  Append(svg, "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
         (kPlotLeft + kPlotRight) / 2, kPlotBottom + 40, EscapeHtml(chart.x_label));
  Append(svg, "<text transform=\"translate(16 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
         (kPlotTop + kPlotBottom) / 2, EscapeHtml(chart.y_label));
}

// Guides are grey; their dashes tell three neighbours apart.
std::string LineClass(const ChartSeries& series, size_t number) {
  constexpr std::string_view kDashes[] = {"guide", "guide dotted", "guide dashed"};
  if (series.style == SeriesStyle::kGuide) return std::string(kDashes[number % 3]);
  return fmt::format("s{}", number % kColours);
}

void AppendLine(std::string& svg, const ChartSeries& series, size_t number, const SvgAxis& x,
                const SvgAxis& y) {
  std::string path;
  for (const ChartPoint& point : series.points) {
    if (!x.Shows(point.x) || !y.Shows(point.y)) continue;
    Append(path, "{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x.Position(point.x),
           y.Position(point.y));
  }
  if (path.empty()) return;
  Append(svg, "<path class=\"line {}\" d=\"{}\"/>\n", LineClass(series, number), path);
}

void AppendLegendEntry(std::string& svg, const ChartSeries& series, size_t number, double y) {
  const bool guide = series.style == SeriesStyle::kGuide;
  if (series.style != SeriesStyle::kMarkers) {
    Append(svg, "<path class=\"line {}\" d=\"M{} {}h24\"/>", LineClass(series, number), kLegendLeft,
           y);
  }
  if (!guide) AppendMarker(svg, number, kLegendLeft + 12, y, "");
  Append(svg, "<text x=\"{}\" y=\"{}\">{}</text>\n", kLegendLeft + 32, y + 4,
         EscapeHtml(series.name));
}

// A guide's points are those of other series, chosen: their names are wanted most.
std::string Captions(const LineChart& chart, const SvgAxis& x, const SvgAxis& y) {
  std::vector<MarkerName> markers;
  for (const bool guides : {true, false}) {
    for (const ChartSeries& series : chart.series) {
      if ((series.style == SeriesStyle::kGuide) != guides) continue;
      for (const ChartPoint& point : series.points) {
        if (!x.Shows(point.x) || !y.Shows(point.y) || (guides && point.caption.empty())) continue;
        markers.push_back({x.Position(point.x), y.Position(point.y), point.caption});
      }
    }
  }
  return RenderCaptions(markers, {kPlotLeft, kLegendLeft - 8, kPlotTop, kPlotBottom});
}

constexpr double kLetter = 7.3;  // width on average, at 13 pixels

// Room for the legend, if it is wider than usual.
double Width(const LineChart& chart) {
  size_t longest = 0;
  for (const ChartSeries& series : chart.series) longest = std::max(longest, series.name.size());
  return std::max(kWidth, kLegendLeft + 40 + kLetter * static_cast<double>(longest));
}

// Room for the names of a dot chart's rows.
double NamesWidth(const DotChart& chart) {
  size_t longest = 0;
  for (const DotChart::Row& row : chart.rows) longest = std::max(longest, row.name.size());
  return std::clamp(kLetter * static_cast<double>(longest) + 16.0, 200.0, 400.0);
}

std::vector<double> Numbers(const LineChart& chart, double ChartPoint::* coordinate) {
  std::vector<double> numbers;
  for (const ChartSeries& series : chart.series) {
    for (const ChartPoint& point : series.points) numbers.push_back(point.*coordinate);
  }
  return numbers;
}

}  // namespace

std::string EscapeHtml(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string RenderLineChart(const LineChart& chart) {
  const SvgAxis x(Numbers(chart, &ChartPoint::x), chart.log_x, kPlotLeft, kPlotRight);
  const SvgAxis y(Numbers(chart, &ChartPoint::y), chart.log_y, kPlotBottom, kPlotTop);
  const double legend_end = kPlotTop + 20 * static_cast<double>(chart.series.size());
  std::string svg =
      Open(Width(chart), std::max(kHeight, legend_end), chart.title, chart.description);
  AppendAxes(svg, x, y, chart);
  for (size_t i = 0; i < chart.series.size(); ++i) {
    const ChartSeries& series = chart.series[i];
    if (series.style != SeriesStyle::kMarkers) AppendLine(svg, series, i, x, y);
    for (const ChartPoint& point : series.points) {
      if (series.style == SeriesStyle::kGuide) break;
      if (!x.Shows(point.x) || !y.Shows(point.y)) continue;
      AppendMarker(svg, i, x.Position(point.x), y.Position(point.y), point.label);
    }
    AppendLegendEntry(svg, series, i, kPlotTop + 10 + 20 * static_cast<double>(i));
  }
  return svg + Captions(chart, x, y) + "</svg>\n";
}

std::string RenderDotChart(const DotChart& chart) {
  constexpr double kLine = 20;
  constexpr double kTop = 40;
  const double bottom = kTop + kLine * static_cast<double>(chart.rows.size());
  std::vector<double> numbers;
  for (const DotChart::Row& row : chart.rows) {
    numbers.insert(numbers.end(), row.numbers.begin(), row.numbers.end());
  }
  const double names = NamesWidth(chart);
  const SvgAxis axis(numbers, true, names, kWidth - 20);
  std::string svg = Open(kWidth, bottom + 50, chart.title, chart.description);
  for (const SvgAxis::Tick& tick : axis.ticks()) {
    const double at = axis.Position(tick.number);
    Append(svg, "<path class=\"grid\" d=\"M{:.1f} {}V{}\"/>", at, kTop, bottom);
    Append(svg, "<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n", at, bottom + 18,
           tick.label);
  }
  Append(svg, "<path class=\"axis\" d=\"M{} {}V{}H{}\"/>\n", names, kTop, bottom, kWidth - 20);
  Append(svg, "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
         (names + kWidth - 20) / 2, bottom + 40, EscapeHtml(chart.x_label));
  const double columns_apart = std::min(
      130.0, (kWidth - names) / static_cast<double>(std::max<size_t>(1, chart.columns.size())));
  for (size_t c = 0; c < chart.columns.size(); ++c) {
    const double left = names + columns_apart * static_cast<double>(c);
    AppendMarker(svg, c, left, 18, "");
    Append(svg, "<text x=\"{}\" y=\"22\">{}</text>\n", left + 12, EscapeHtml(chart.columns[c]));
  }
  for (size_t r = 0; r < chart.rows.size(); ++r) {
    const DotChart::Row& row = chart.rows[r];
    const double y = kTop + kLine * (static_cast<double>(r) + 0.5);
    Append(svg, "<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n", names - 8, y + 4,
           EscapeHtml(row.name));
    for (size_t c = 0; c < row.numbers.size(); ++c) {
      if (!axis.Shows(row.numbers[c])) continue;
      AppendMarker(
          svg, c, axis.Position(row.numbers[c]), y,
          fmt::format("{}, {}: {:.3g}{}", row.name, chart.columns[c], row.numbers[c], chart.unit));
    }
  }
  return svg + "</svg>\n";
}

}  // namespace turboquant::eval
