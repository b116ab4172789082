#include <fmt/format.h>

#include <algorithm>
#include <concepts>
#include <map>
#include <string_view>
#include <vector>

#include "src/eval/result_output.h"

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

// Columns in the order in which kinds of rows bring them, and the fields of each row.
class CsvTable {
 public:
  template <class Row>
  void AddColumns(const std::vector<Row>& rows) {
    if (rows.empty()) return;
    VisitFields(rows.front(), [&](std::string_view name, const auto&) {
      if (std::ranges::find(columns_, name) == columns_.end()) columns_.emplace_back(name);
    });
  }

  template <class Row>
  void AddRows(const std::vector<Row>& rows) {
    for (const Row& row : rows) {
      auto& fields = rows_.emplace_back();
      VisitFields(row, [&](std::string_view name, const auto& field) {
        fields[std::string(name)] = CsvField(field);
      });
    }
  }

  std::string Text() const {
    std::string text = fmt::format("{}\n", fmt::join(columns_, ","));
    for (const auto& fields : rows_) {
      for (size_t i = 0; i < columns_.size(); ++i) {
        if (i > 0) text += ',';
        const auto field = fields.find(columns_[i]);
        if (field != fields.end()) text += field->second;
      }
      text += '\n';
    }
    return text;
  }

 private:
  std::vector<std::string> columns_;
  std::vector<std::map<std::string, std::string>> rows_;
};

}  // namespace

std::string ToCsv(const BenchmarkResult& result) {
  CsvTable table;
  const bool none = result.rows.empty() && result.cache_rows.empty() &&
                    result.attention_rows.empty() && result.real_model_rows.empty();
  table.AddColumns(none ? std::vector<BenchmarkRow>(1) : result.rows);
  table.AddColumns(result.cache_rows);
  table.AddColumns(result.attention_rows);
  table.AddColumns(result.real_model_rows);
  table.AddRows(result.rows);
  table.AddRows(result.cache_rows);
  table.AddRows(result.attention_rows);
  table.AddRows(result.real_model_rows);
  return table.Text();
}

}  // namespace turboquant::eval
