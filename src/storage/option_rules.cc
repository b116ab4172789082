#include "src/storage/option_rules.h"

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/storage/text.h"

namespace turboquant {
namespace {

bool IsChoice(std::string_view choices, std::string_view text) {
  while (true) {
    const size_t bar = choices.find('|');
    if (text == choices.substr(0, bar)) return true;
    if (bar == choices.npos) return false;
    choices.remove_prefix(bar + 1);
  }
}

Result<void> CheckText(const OptionRule& rule, std::string_view name, const std::string& text) {
  const auto refuse = [&](const auto&... expected) {
    return Fail(ErrorCode::kCorruptData, "option '", name, "' is ", Quoted(text), ", not ",
                expected...);
  };
  switch (rule.kind) {
    case OptionKind::kNumber: {
      const std::optional<uint64_t> number = ParseDecimal(text);
      if (number && *number >= rule.min && *number <= rule.max) return {};
      return refuse("a whole number from ", rule.min, " to ", rule.max);
    }
    case OptionKind::kReal:
      if (ParseReal(text)) return {};
      return refuse("a finite number from 0 in its shortest form");
    case OptionKind::kChoice:
      if (IsChoice(rule.choices, text)) return {};
      return refuse("one of ", rule.choices);
    case OptionKind::kHex:
      if (ParseHex32(text)) return {};
      return refuse("eight lower-case hex digits");
    case OptionKind::kLevelBits:
      if (ParseLevelBits(text)) return {};
      return refuse("a list of numbers from 1 to 8");
  }
  return {};
}

}  // namespace

std::optional<std::vector<int>> ParseLevelBits(std::string_view text) {
  std::vector<int> bits;
  for (size_t i = 0; i < text.size(); i += 2) {
    const bool ends = i + 1 == text.size();
    if (text[i] < '1' || text[i] > '8' || (!ends && text[i + 1] != ',')) return std::nullopt;
    if (!ends && i + 2 == text.size()) return std::nullopt;  // a comma at the end
    bits.push_back(text[i] - '0');
  }
  if (bits.empty()) return std::nullopt;
  return bits;
}

Result<void> CheckOptionRules(std::string_view owner, std::span<const OptionRule> rules,
                              std::string_view prefix, const StringMap& options,
                              std::set<std::string>& expected) {
  for (const OptionRule& rule : rules) {
    if (!rule.beside.empty()) {
      const auto other = options.find(std::string(prefix).append(rule.beside));
      if (other == options.end() || other->second != rule.text) continue;
    }
    std::string name = std::string(prefix).append(rule.name);
    const auto found = options.find(name);
    if (found == options.end() && rule.may_lack) continue;
    if (found == options.end()) {
      return Fail(ErrorCode::kCorruptData, owner, " needs option '", name, "', which is missing");
    }
    TQ_CHECK(CheckText(rule, name, found->second));
    expected.insert(std::move(name));
  }
  return {};
}

Result<void> CheckNoOthers(std::string_view owner, const StringMap& options,
                           const std::set<std::string>& expected) {
  for (const auto& [name, text] : options) {
    if (expected.contains(name)) continue;
    return Fail(ErrorCode::kCorruptData, owner, " has no option ", Quoted(name));
  }
  return {};
}

}  // namespace turboquant
