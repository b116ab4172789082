// Charts as inline SVG. Colours come from the page's style sheet (classes s0 to s11, guide, axis,
// grid, line, fill), so that one drawing serves light and dark; every series also has its own
// marker shape or dash, so that colour alone never carries the meaning.
#ifndef TURBOQUANT_SRC_EVAL_SVG_CHART_H_
#define TURBOQUANT_SRC_EVAL_SVG_CHART_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace turboquant::eval {

struct ChartPoint {
  double x = 0;
  double y = 0;
  std::string label;         // shown on hover and read by screen readers
  std::string caption = {};  // written beside the marker where there is room; guides' come first
};

enum class SeriesStyle {
  kLine,     // markers joined by a line
  kMarkers,  // markers alone
  kGuide,    // dashed line without markers: a bound
};

struct ChartSeries {
  std::string name;
  SeriesStyle style = SeriesStyle::kLine;
  std::vector<ChartPoint> points;
};

// What does not belong on a logarithmic axis (zero or negative) is not drawn.
struct LineChart {
  std::string title;
  std::string description;  // one sentence for screen readers
  std::string x_label;
  std::string y_label;
  bool log_x = false;
  bool log_y = false;
  std::vector<ChartSeries> series;
};

std::string RenderLineChart(const LineChart& chart);

// One line per row, a marker per column, on a logarithmic axis: several numbers of many methods.
struct DotChart {
  std::string title;
  std::string description;
  std::string x_label;
  std::string unit;  // behind the numbers of labels, with a space in front
  std::vector<std::string> columns;
  struct Row {
    std::string name;
    std::vector<double> numbers;  // one for each column; <= 0 is not drawn
  };
  std::vector<Row> rows;
};

std::string RenderDotChart(const DotChart& chart);

// & < > " ' as entities.
std::string EscapeHtml(std::string_view text);

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_SVG_CHART_H_
