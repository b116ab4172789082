// How results are printed.
#ifndef TURBOQUANT_SRC_CLI_PRINT_FORMAT_H_
#define TURBOQUANT_SRC_CLI_PRINT_FORMAT_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "turboquant/error.h"

namespace turboquant::cli {

enum class PrintFormat { kTable, kJson, kCsv };

// "table", "json", "csv". Errors: kInvalidArgument listing them.
[[nodiscard]] Result<PrintFormat> ParsePrintFormat(std::string_view name);

// Facts about one thing, in order: the table and CSV have a line for each, JSON an object whose
// first member is `schema`.
class FactSheet {
 public:
  explicit FactSheet(std::string schema) : schema_(std::move(schema)) {}

  void Add(std::string name, std::string text);
  void Add(std::string name, const char* text) { Add(std::move(name), std::string(text)); }
  void Add(std::string name, std::string_view text) { Add(std::move(name), std::string(text)); }
  void Add(std::string name, double number);
  void Add(std::string name, size_t count);
  void Add(std::string name, bool flag);
  void Add(std::string name, const std::vector<std::string>& texts);

  std::string Print(PrintFormat format) const;

 private:
  struct Fact {
    std::string name;
    std::string text;  // for people
    std::string json;
  };

  std::string schema_;
  std::vector<Fact> facts_;
};

}  // namespace turboquant::cli

#endif  // TURBOQUANT_SRC_CLI_PRINT_FORMAT_H_
