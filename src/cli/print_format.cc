#include "src/cli/print_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "src/base/failure.h"

namespace turboquant::cli {
namespace {

using Json = nlohmann::ordered_json;

// File names may hold bytes that are not UTF-8; they must not make the writer throw.
std::string Dump(const Json& json, int indent = -1) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

std::string CsvText(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + '"';
}

}  // namespace

Result<PrintFormat> ParsePrintFormat(std::string_view name) {
  if (name == "table") return PrintFormat::kTable;
  if (name == "json") return PrintFormat::kJson;
  if (name == "csv") return PrintFormat::kCsv;
  return Fail(ErrorCode::kInvalidArgument, "unknown format \"", name,
              "\"; known: table, json, csv");
}

void FactSheet::Add(std::string name, std::string text) {
  std::string json = Dump(Json(text));
  facts_.push_back({std::move(name), std::move(text), std::move(json)});
}

void FactSheet::Add(std::string name, double number) {
  facts_.push_back({std::move(name), fmt::format("{:.6g}", number), Dump(Json(number))});
}

void FactSheet::Add(std::string name, size_t count) {
  facts_.push_back({std::move(name), std::to_string(count), Dump(Json(count))});
}

void FactSheet::Add(std::string name, bool flag) {
  facts_.push_back({std::move(name), flag ? "yes" : "no", Dump(Json(flag))});
}

void FactSheet::Add(std::string name, const std::vector<std::string>& texts) {
  std::string joined;
  for (const std::string& text : texts) joined += (joined.empty() ? "" : " ") + text;
  std::string json = Dump(Json(texts));
  facts_.push_back({std::move(name), std::move(joined), std::move(json)});
}

std::string FactSheet::Print(PrintFormat format) const {
  std::string printed;
  switch (format) {
    case PrintFormat::kTable: {
      size_t widest = 0;
      for (const Fact& fact : facts_) widest = std::max(widest, fact.name.size());
      for (const Fact& fact : facts_) {
        printed += fmt::format("{:<{}}  {}\n", fact.name, widest, fact.text);
      }
      break;
    }
    case PrintFormat::kCsv:
      printed = "name,value\n";
      for (const Fact& fact : facts_) {
        printed += CsvText(fact.name) + "," + CsvText(fact.text) + "\n";
      }
      break;
    case PrintFormat::kJson: {
      Json json;
      json["schema"] = schema_;
      for (const Fact& fact : facts_) json[fact.name] = Json::parse(fact.json);
      printed = Dump(json, 2) + "\n";
      break;
    }
  }
  return printed;
}

}  // namespace turboquant::cli
