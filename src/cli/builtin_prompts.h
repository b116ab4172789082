// Prompts for decoders where none are given: one of each kind of task.
#ifndef TURBOQUANT_SRC_CLI_BUILTIN_PROMPTS_H_
#define TURBOQUANT_SRC_CLI_BUILTIN_PROMPTS_H_

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "turboquant/error.h"

namespace turboquant::cli {

struct BuiltinPrompt {
  std::string_view name;
  std::string_view text;
};

// explanation, rewrite, classification, extraction, reasoning, code.
std::span<const BuiltinPrompt> BuiltinPrompts();

// Texts of the prompts with these names, in this order; "all" is all of them. Errors:
// kInvalidArgument listing the names.
[[nodiscard]] Result<std::vector<std::string>> FindBuiltinPrompts(
    const std::vector<std::string>& names);

}  // namespace turboquant::cli

#endif  // TURBOQUANT_SRC_CLI_BUILTIN_PROMPTS_H_
