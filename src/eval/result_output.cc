#include "src/eval/result_output.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <string_view>

namespace turboquant::eval {
namespace {

// Quoted where a comma, quote or line break would be misread.
std::string CsvField(std::string_view text) {
  if (text.find_first_of(",\"\r\n") == std::string_view::npos) return std::string(text);
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

std::string CsvField(const std::string& text) { return CsvField(std::string_view(text)); }

template <class T>
  requires std::integral<T> || std::floating_point<T>
std::string CsvField(T number) {
  return fmt::format("{}", number);
}

template <class T>
std::string CsvField(const std::optional<T>& field) {
  return field ? CsvField(*field) : std::string();
}

std::string GroupTitle(const BenchmarkRow& row) {
  std::string title = row.source;
  if (row.model) title += fmt::format(", {}", *row.model);
  if (row.layer) title += fmt::format(", layer {}", *row.layer);
  if (row.head) title += fmt::format(", head {}", *row.head);
  if (row.rope) title += fmt::format(", rope {}", *row.rope);
  title += fmt::format(": dim {}, {} rows, {} queries", row.dim, row.rows, row.queries);
  if (row.samples > 1) title += fmt::format(", {} samples", row.samples);
  if (row.logit_std) title += fmt::format(", logit std {}", *row.logit_std);
  return title;
}

// Three significant digits, short enough for a column.
std::string Short(double number) {
  if (number == 0.0) return "0";
  return std::abs(number) < 1e-4 ? fmt::format("{:.2e}", number) : fmt::format("{:.3g}", number);
}

std::string Nanoseconds(double number) {
  return number < 10.0 ? fmt::format("{:.2f}", number) : fmt::format("{:.0f}", number);
}

void AppendTable(const RowGroup& group, std::string& text) {
  fmt::format_to(std::back_inserter(text), "{}\n", group.title);
  fmt::format_to(std::back_inserter(text),
                 "{:<18} {:>5} {:>6} {:>5} {:>9} {:>9} {:>9} {:>9} {:>9} {:>5} {:>5} {:>5} {:>9} "
                 "{:>7} {:>7} {:>7} {:>7}  {}\n",
                 "method", "bits", "true", "x f16", "nmse", "theory", "ip bias", "kl", "logit err",
                 "r@1", "r@5", "r@10", "out err", "enc ns", "dec ns", "score", "score8", "target");
  for (const BenchmarkRow* row : group.rows) {
    fmt::format_to(
        std::back_inserter(text),
        "{:<18} {:>5} {:>6.4g} {:>5.2f} {:>9} {:>9} {:>9} {:>9} {:>9} {:>5.3f} {:>5.3f} {:>5.3f} "
        "{:>9} {:>7} {:>7} {:>7} {:>7}  {}\n",
        SeriesName(*row), row->bits, row->bits_per_coordinate, row->compression_vs_f16,
        Short(row->nmse), row->nmse_theory ? Short(*row->nmse_theory) : "-", Short(row->ip_bias),
        Short(row->softmax_kl), Short(row->logit_rmse), row->recall_at_1, row->recall_at_5,
        row->recall_at_10, Short(row->output_rmse), Nanoseconds(row->encode_ns_per_row),
        Nanoseconds(row->decode_ns_per_row), Nanoseconds(row->score_ns_per_row),
        Nanoseconds(row->score8_ns_per_row), row->target);
  }
  text += '\n';
}

}  // namespace

std::string SeriesName(const BenchmarkRow& row) {
  return row.policy == "default" ? row.method : fmt::format("{} ({})", row.method, row.policy);
}

std::vector<RowGroup> GroupRows(const BenchmarkResult& result) {
  std::vector<RowGroup> groups;
  for (const BenchmarkRow& row : result.rows) {
    const std::string title = GroupTitle(row);
    auto group = std::ranges::find(groups, title, &RowGroup::title);
    if (group == groups.end()) group = groups.insert(groups.end(), RowGroup{title, {}});
    group->rows.push_back(&row);
  }
  return groups;
}

std::string ToCsv(const BenchmarkResult& result) {
  std::string text;
  VisitFields(BenchmarkRow(), [&](std::string_view name, const auto&) {
    if (!text.empty()) text += ',';
    text += name;
  });
  text += '\n';
  for (const BenchmarkRow& row : result.rows) {
    bool first = true;
    VisitFields(row, [&](std::string_view, const auto& field) {
      if (!first) text += ',';
      first = false;
      text += CsvField(field);
    });
    text += '\n';
  }
  return text;
}

std::string ToTable(const BenchmarkResult& result) {
  std::string text;
  for (const RowGroup& group : GroupRows(result)) AppendTable(group, text);
  for (const LeftOut& left_out : result.left_out) {
    text +=
        fmt::format("left out: {} at dim {}: {}\n", left_out.method, left_out.dim, left_out.reason);
  }
  text += fmt::format(
      "true: bits per coordinate with scales, signs and norms. theory: without scale search.\n"
      "kl: of attention weights, nats. logit err and out err: root mean square. Times: ns per row, "
      "shortest of several runs;\nscore: one query, score8: per query, eight at once. "
      "Baselines and \"plain\" targets are straightforward loops, not tuned code.\n"
      "{}, {} threads available, best target {}, {}, turboquant {}\n",
      result.machine.cpu, result.machine.cores, result.machine.best_target, result.machine.compiler,
      result.machine.version);
  return text;
}

}  // namespace turboquant::eval
