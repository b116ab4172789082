#include "src/eval/svg_chart.h"

#include <cmath>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/eval/svg_axis.h"

namespace turboquant::eval {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(SvgAxisTest, MapsLinearlyAndKeepsEverythingInside) {
  const SvgAxis axis({2, 8, 4}, false, 100, 200);
  EXPECT_GT(axis.Position(2), 100);
  EXPECT_LT(axis.Position(8), 200);
  EXPECT_NEAR(axis.Position(5), 150, 1e-9);
  ASSERT_GE(axis.ticks().size(), 4u);
  for (const auto& tick : axis.ticks()) EXPECT_EQ(std::fmod(tick.number, 1.0), 0.0);
}

TEST(SvgAxisTest, LogarithmicAxesHidePointsThatHaveNoLogarithm) {
  const SvgAxis axis({0.0, -1.0, 1e-4, 1e2, std::nan("")}, true, 300, 0);
  EXPECT_FALSE(axis.Shows(0.0));
  EXPECT_FALSE(axis.Shows(-1.0));
  EXPECT_FALSE(axis.Shows(std::numeric_limits<double>::infinity()));
  EXPECT_NEAR(axis.Position(0.1), 150, 1e-9);  // the middle of 1e-4 and 1e2
  EXPECT_EQ(axis.ticks().size(), 7u);
  EXPECT_EQ(axis.ticks().front().label, "0.0001");
}

TEST(SvgAxisTest, OneNumberOrNoneStillHasARange) {
  EXPECT_TRUE(std::isfinite(SvgAxis({3}, false, 0, 10).Position(3)));
  EXPECT_TRUE(std::isfinite(SvgAxis({}, true, 0, 10).Position(3)));
}

TEST(SvgChartTest, DrawsLinesMarkersAndGuides) {
  LineChart chart;
  chart.title = "t<1>";
  chart.series = {{"a", SeriesStyle::kLine, {{1, 1, "first"}, {2, 2, ""}}},
                  {"b", SeriesStyle::kMarkers, {{1, 2, ""}}},
                  {"c", SeriesStyle::kGuide, {{1, 1, ""}, {2, 1, ""}}}};
  const std::string svg = RenderLineChart(chart);
  EXPECT_THAT(svg, HasSubstr("<title>t&lt;1&gt;</title>"));
  EXPECT_THAT(svg, HasSubstr("<title>first</title>"));
  EXPECT_THAT(svg, HasSubstr("class=\"line s0\""));
  EXPECT_THAT(svg, HasSubstr("class=\"line guide"));
  EXPECT_THAT(svg, Not(HasSubstr("class=\"line s1\" d=")));
  EXPECT_TRUE(svg.ends_with("</svg>\n"));
}

TEST(SvgChartTest, PointsAreNamedWhereThereIsRoom) {
  // "crowded" lies among markers on all sides; "first" and "last" have room.
  LineChart chart;
  chart.series = {{"a", SeriesStyle::kMarkers, {{0, 0, "", "first"}, {10, 10, "", "last"}}}};
  for (double x = 4.0; x <= 6.0; x += 0.1) {
    for (double y = 4.0; y <= 6.0; y += 0.1) chart.series[0].points.push_back({x, y, "", ""});
  }
  chart.series[0].points.push_back({5, 5, "", "crowded<"});
  const std::string svg = RenderLineChart(chart);
  EXPECT_THAT(svg, HasSubstr(">first</text>"));
  EXPECT_THAT(svg, HasSubstr(">last</text>"));
  EXPECT_THAT(svg, Not(HasSubstr("crowded")));
  chart.series[0].points.resize(2);
  chart.series[0].points.push_back({5, 5, "", "crowded<"});
  EXPECT_THAT(RenderLineChart(chart), HasSubstr("crowded&lt;</text>"));
}

TEST(SvgChartTest, AGuidesPointsAreNamedFirstAndOnce) {
  // Three markers in the last corner, where two such names have room.
  LineChart chart;
  chart.series = {{"a", SeriesStyle::kMarkers, {{1, 1, "", std::string(60, 'a')}}},
                  {"b", SeriesStyle::kMarkers, {{1, 1, "", std::string(60, 'b')}}},
                  {"c", SeriesStyle::kMarkers, {{1, 1, "", std::string(60, 'c')}}},
                  {"d", SeriesStyle::kMarkers, {{0, 0, "", ""}}}};
  std::string svg = RenderLineChart(chart);
  EXPECT_THAT(svg, HasSubstr("aaa</text>"));
  EXPECT_THAT(svg, HasSubstr("bbb</text>"));
  EXPECT_THAT(svg, Not(HasSubstr("ccc</text>")));
  chart.series.push_back({"best", SeriesStyle::kGuide, chart.series[2].points});
  svg = RenderLineChart(chart);
  EXPECT_THAT(svg, HasSubstr("ccc</text>"));
  EXPECT_THAT(svg, HasSubstr("aaa</text>"));
  EXPECT_THAT(svg, Not(HasSubstr("bbb</text>")));
  EXPECT_EQ(svg.find("ccc</text>"), svg.rfind("ccc</text>"));
}

TEST(SvgChartTest, LongNamesHaveRoom) {
  LineChart chart;
  chart.series = {{std::string(20, 'n'), SeriesStyle::kLine, {{1, 1, ""}}}};
  EXPECT_THAT(RenderLineChart(chart), HasSubstr("viewBox=\"0 0 760 "));
  chart.series[0].name = std::string(40, 'n');
  EXPECT_THAT(RenderLineChart(chart), HasSubstr("viewBox=\"0 0 892 "));
}

TEST(SvgChartTest, DotChartsHaveAMarkerForEachPositiveNumber) {
  DotChart chart;
  chart.columns = {"encode", "decode"};
  chart.unit = " ns";
  chart.rows = {{"mse 4", {50, 0}}, {"fp8", {100, 200}}};
  const std::string svg = RenderDotChart(chart);
  size_t labels = 0;
  for (size_t at = svg.find(" ns</title>"); at != std::string::npos;
       at = svg.find(" ns</title>", at + 1)) {
    ++labels;
  }
  EXPECT_EQ(labels, 3u);
  EXPECT_THAT(svg, HasSubstr("mse 4, encode: 50 ns"));
}

}  // namespace
}  // namespace turboquant::eval
