#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/eval/method.h"

namespace turboquant::eval {
namespace {

struct MethodFacts {
  MethodKind kind;
  std::string_view name;
  int least_bits;     // whole widths least_bits to 8; 0: not by whole widths
  double fixed_bits;  // of methods that have one rate only, else 0
  bool has_policies;
};

constexpr std::array kMethods = {
    MethodFacts{MethodKind::kMse, "mse", 1, 0, true},
    MethodFacts{MethodKind::kOutlier, "outlier", 0, 0, true},
    MethodFacts{MethodKind::kProd, "prod", 2, 0, true},
    MethodFacts{MethodKind::kQjl, "qjl", 1, 0, true},
    MethodFacts{MethodKind::kPolar, "polar", 0, 3.875, false},
    MethodFacts{MethodKind::kInt8, "int8", 0, 8, false},
    MethodFacts{MethodKind::kInt8Hadamard, "int8-hadamard", 0, 8, false},
    MethodFacts{MethodKind::kQ80, "q8_0", 0, 8, false},
    MethodFacts{MethodKind::kQ80Hadamard, "q8_0-hadamard", 0, 8, false},
    MethodFacts{MethodKind::kQ40, "q4_0", 0, 4, false},
    MethodFacts{MethodKind::kQ40Hadamard, "q4_0-hadamard", 0, 4, false},
    MethodFacts{MethodKind::kFp8, "fp8", 0, 8, false},
};

constexpr std::array<std::pair<Policy, std::string_view>, 3> kPolicies = {{
    {Policy::kDefault, "default"},
    {Policy::kNoSearch, "no-search"},
    {Policy::kPaper, "paper"},
}};

const MethodFacts& FactsOf(MethodKind kind) { return kMethods[static_cast<size_t>(kind)]; }

bool HasWidth(const MethodFacts& facts, double bits) {
  if (facts.kind == MethodKind::kOutlier) return bits == 2.5 || bits == 3.5;
  return facts.least_bits > 0 && bits == std::floor(bits) && bits >= facts.least_bits && bits <= 8;
}

std::string WidthsOf(const MethodFacts& facts) {
  if (facts.kind == MethodKind::kOutlier) return "2.5 and 3.5";
  const std::string whole = std::to_string(facts.least_bits) + " to 8";
  return facts.kind == MethodKind::kMse ? whole + ", 2.5 and 3.5" : whole;
}

// Search only exists where the MSE quantizer chooses the codes alone.
bool HasPolicy(const MethodFacts& facts, Policy policy) {
  if (policy == Policy::kDefault) return true;
  if (!facts.has_policies) return false;
  return policy == Policy::kPaper || facts.kind == MethodKind::kMse ||
         facts.kind == MethodKind::kOutlier;
}

void AddPolicies(const MethodFacts& facts, double bits, std::span<const Policy> policies,
                 std::vector<MethodSpec>& specs) {
  const auto add = [&](Policy policy) {
    const MethodSpec spec{facts.kind, bits, policy};
    if (std::ranges::find(specs, spec) == specs.end()) specs.push_back(spec);
  };
  if (!facts.has_policies) return add(Policy::kDefault);
  for (const Policy policy : policies) {
    // A method without this choice runs as its default does.
    add(HasPolicy(facts, policy) ? policy : Policy::kDefault);
  }
}

}  // namespace

std::vector<MethodKind> AllMethods() {
  std::vector<MethodKind> kinds;
  for (const MethodFacts& facts : kMethods) kinds.push_back(facts.kind);
  return kinds;
}

std::string_view MethodName(MethodKind kind) { return FactsOf(kind).name; }

std::string_view PolicyName(Policy policy) { return kPolicies[static_cast<size_t>(policy)].second; }

Result<MethodKind> ParseMethod(std::string_view name) {
  std::string known;
  for (const MethodFacts& facts : kMethods) {
    if (facts.name == name) return facts.kind;
    known += known.empty() ? "" : ", ";
    known += facts.name;
  }
  return Fail(ErrorCode::kInvalidArgument, "unknown method \"", name, "\"; known: ", known);
}

Result<Policy> ParsePolicy(std::string_view name) {
  for (const auto& [policy, known] : kPolicies) {
    if (known == name) return policy;
  }
  return Fail(ErrorCode::kInvalidArgument, "unknown policy \"", name,
              "\"; known: default, no-search, paper");
}

bool IsBaseline(MethodKind kind) { return kind >= MethodKind::kInt8; }

double FixedBits(MethodKind kind) { return FactsOf(kind).fixed_bits; }

bool IsSketch(MethodKind kind) { return kind == MethodKind::kProd || kind == MethodKind::kQjl; }

MethodSpec ValueMethod(const MethodSpec& keys) {
  if (!IsSketch(keys.kind)) return keys;
  return {MethodKind::kMse, keys.bits, keys.policy};
}

Result<std::vector<MethodSpec>> ExpandMethods(std::span<const MethodKind> methods,
                                              std::span<const double> bits,
                                              std::span<const Policy> policies,
                                              MissingWidth missing) {
  std::vector<MethodSpec> specs;
  const std::vector<MethodKind> kinds =
      methods.empty() ? AllMethods() : std::vector(methods.begin(), methods.end());
  for (const MethodKind kind : kinds) {
    const MethodFacts& facts = FactsOf(kind);
    if (facts.fixed_bits > 0) {
      AddPolicies(facts, facts.fixed_bits, policies, specs);
      continue;
    }
    for (const double width : bits) {
      const MethodFacts& split = FactsOf(MethodKind::kOutlier);
      const bool means_split = kind == MethodKind::kMse && HasWidth(split, width);
      if (HasWidth(facts, width) || means_split) {
        AddPolicies(means_split ? split : facts, width, policies, specs);
      } else if (missing == MissingWidth::kError) {
        return Fail(ErrorCode::kInvalidArgument, "method ", facts.name, " has no width of ", width,
                    " bits; it has ", WidthsOf(facts));
      }
    }
  }
  if (specs.empty()) {
    return Fail(ErrorCode::kInvalidArgument, "no method has any of the widths asked for");
  }
  return specs;
}

}  // namespace turboquant::eval
