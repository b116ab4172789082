#include "src/eval/report.h"

#include <fmt/format.h>

#include "src/eval/report_sections.h"
#include "src/eval/result_output.h"
#include "src/eval/svg_chart.h"

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
svg .caption { fill: var(--soft); font-size: 11px; }
.axis { stroke: var(--soft); fill: none; } .grid { stroke: var(--rule); fill: none; }
.line { stroke: currentColor; fill: none; stroke-width: 2; } .fill { fill: currentColor; }
.guide { color: var(--soft); stroke-dasharray: 9 4; } .dotted { stroke-dasharray: 2 4; }
.dashed { stroke-dasharray: 12 3 2 3; }
.s0 { color: var(--c0); } .s1 { color: var(--c1); } .s2 { color: var(--c2); }
.s3 { color: var(--c3); } .s4 { color: var(--c4); } .s5 { color: var(--c5); }
.s6 { color: var(--c6); } .s7 { color: var(--c7); } .s8 { color: var(--c8); }
.s9 { color: var(--c9); } .s10 { color: var(--c10); } .s11 { color: var(--c11); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid var(--rule);
  font-variant-numeric: tabular-nums; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
)";

std::string_view Introduction(std::string_view workload) {
  if (workload == "trace") {
    return "Recorded keys, values and queries, with their real norms and causal attention.";
  }
  if (workload == "attention") {
    return "One query token attends to a cache of random tokens: how long it takes, against the "
           "length of the context.";
  }
  if (workload == "real-model") {
    return "A decoder whose keys and values are kept in quantized caches, against the same decoder "
           "with an exact one.";
  }
  return "Independent random directions, the input of the theory; not the data of any model.";
}

}  // namespace

std::string Figure(const std::string& svg, std::string_view title, std::string_view caption) {
  if (svg.empty()) return {};
  return fmt::format("<figure><h3>{}</h3>\n{}<figcaption>{}</figcaption></figure>\n", title, svg,
                     caption);
}

std::string ChartSection(std::string_view title, const std::string& figures,
                         const std::string& numbers) {
  return fmt::format("<section><h2>{}</h2><div class=\"charts\">\n{}</div>\n{}</section>\n",
                     EscapeHtml(title), figures, numbers);
}

std::string NumbersTable(const std::vector<std::string_view>& columns,
                         const std::vector<std::vector<std::string>>& rows) {
  std::string html =
      "<details open><summary>The numbers</summary><div class=\"scroll\"><table><thead><tr>";
  for (const std::string_view column : columns) {
    html += fmt::format("<th scope=\"col\">{}</th>", column);
  }
  html += "</tr></thead><tbody>\n";
  for (const std::vector<std::string>& row : rows) {
    html += "<tr>";
    for (const std::string& cell : row) html += fmt::format("<td>{}</td>", EscapeHtml(cell));
    html += "</tr>\n";
  }
  return html + "</tbody></table></div></details>\n";
}

std::string Cell(double number) {
  return number >= 1000.0 ? fmt::format("{:.0f}", number) : fmt::format("{:.4g}", number);
}

std::string RenderReport(const BenchmarkResult& result) {
  const Machine& machine = result.machine;
  std::string html = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>TurboQuant benchmark: {0}</title>\n<style>{1}</style></head><body>\n"
      "<h1>TurboQuant benchmark: {0}</h1>\n"
      "<p>{2}{3}</p>\n<p>Measured on {4}, {5} threads available, best target {6}, built with {7}, "
      "turboquant {8}, seed {9}.</p>\n",
      EscapeHtml(result.workload), kStyle, Introduction(result.workload),
      result.quick ? " A quick run: fewer and smaller samples." : "", EscapeHtml(machine.cpu),
      machine.cores, EscapeHtml(machine.best_target), EscapeHtml(machine.compiler),
      EscapeHtml(machine.version), result.seed);
  html += RealModelSections(result);
  html += CacheOverview(result);
  for (const CacheGroup& group : GroupCaches(result)) html += CacheSection(group);
  for (const AttentionGroup& group : GroupAttention(result)) html += AttentionSection(group);
  for (const RowGroup& group : GroupRows(result)) html += MethodSection(group);
  for (const LeftOut& left_out : result.left_out) {
    html += fmt::format("<p>Left out: {} at dim {}: {}.</p>\n", EscapeHtml(left_out.method),
                        left_out.dim, EscapeHtml(left_out.reason));
  }
  return html + "</body></html>\n";
}

}  // namespace turboquant::eval
