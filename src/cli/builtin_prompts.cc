#include "src/cli/builtin_prompts.h"

#include <algorithm>
#include <array>

#include "src/base/failure.h"

namespace turboquant::cli {
namespace {

// Long enough that a cache without a window has something to pack.
constexpr std::array<BuiltinPrompt, 6> kPrompts = {{
    {"explanation",
     "Explain to a student who has never programmed why a computer keeps copies of data in a small "
     "fast memory close to the processor, and name one situation in which such a copy goes wrong."},
    {"rewrite",
     "Rewrite the following note as one polite sentence for a customer: \"Parcel late again, truck "
     "broke down Tuesday, new one left this morning, should be there Friday, no refund but next "
     "delivery is free.\""},
    {"classification",
     "Decide whether each review is positive, negative or mixed.\n1. The screen is bright, but the "
     "battery is empty by noon.\n2. I would buy it again tomorrow.\n3. It broke within a week and "
     "nobody answers the telephone.\nAnswer with the number and one word for each:"},
    {"extraction",
     "List every person, place and date in this passage: \"On 14 March 1879 a boy was born in Ulm. "
     "Hermann and Pauline moved with their son to Munich in the following year, where Jakob, his "
     "uncle, opened a workshop.\""},
    {"reasoning",
     "A train leaves the harbour at 9:40 and needs 35 minutes to the market. It waits there for 12 "
     "minutes and then takes 48 minutes to the airport. A flight closes its gate at 11:20. Work "
     "out "
     "step by step how many minutes are left at the gate."},
    {"code",
     "Write a Python function that takes a list of numbers and returns the length of its longest "
     "run of rising neighbours, with a short comment on how it works and two examples of a call.\n"
     "def longest_rising_run(numbers):"},
}};

}  // namespace

std::span<const BuiltinPrompt> BuiltinPrompts() { return kPrompts; }

Result<std::vector<std::string>> FindBuiltinPrompts(const std::vector<std::string>& names) {
  std::vector<std::string> texts;
  for (const std::string& name : names) {
    std::string known;
    const size_t before = texts.size();
    for (const BuiltinPrompt& prompt : kPrompts) {
      if (name == "all" || name == prompt.name) texts.emplace_back(prompt.text);
      known += ", " + std::string(prompt.name);
    }
    if (texts.size() == before) {
      return Fail(ErrorCode::kInvalidArgument, "unknown built-in prompt \"", name, "\"; known: all",
                  known);
    }
  }
  return texts;
}

}  // namespace turboquant::cli
