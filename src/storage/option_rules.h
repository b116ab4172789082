// Rules for the options in a file's metadata: which there must be, and what they may say.
#ifndef TURBOQUANT_SRC_STORAGE_OPTION_RULES_H_
#define TURBOQUANT_SRC_STORAGE_OPTION_RULES_H_

#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "turboquant/error.h"
#include "turboquant/safetensors.h"

namespace turboquant {

enum class OptionKind {
  kNumber,     // decimal, min to max
  kReal,       // finite, not negative, in its shortest form
  kChoice,     // one of the choices
  kHex,        // eight lower-case hex digits
  kLevelBits,  // see ParseLevelBits
};

struct OptionRule {
  std::string_view name;
  OptionKind kind;
  uint64_t min = 0;
  uint64_t max = 0;
  std::string_view choices = "";  // "a|b"
  // Only beside this text of an option, and then always.
  std::string_view beside = "";
  std::string_view text = "";
  bool may_lack = false;  // what files from before the option don't have
};

// Checks the options whose names are prefix + a rule's name, adding the full names of those that
// there must be to `expected`. Errors: kCorruptData naming an option that is missing or out of its
// range; `owner` is whose option is missing.
[[nodiscard]] Result<void> CheckOptionRules(std::string_view owner,
                                            std::span<const OptionRule> rules,
                                            std::string_view prefix, const StringMap& options,
                                            std::set<std::string>& expected);

// Errors: kCorruptData for an option that is none of `expected`.
[[nodiscard]] Result<void> CheckNoOthers(std::string_view owner, const StringMap& options,
                                         const std::set<std::string>& expected);

// "4,2,2,2" as numbers from 1 to 8; nullopt for anything else.
std::optional<std::vector<int>> ParseLevelBits(std::string_view text);

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_STORAGE_OPTION_RULES_H_
