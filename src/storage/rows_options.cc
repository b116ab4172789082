#include "src/storage/rows_options.h"

#include <bit>
#include <set>
#include <span>
#include <string>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/storage/option_rules.h"
#include "src/storage/text.h"

namespace turboquant {
namespace {

using Rule = OptionRule;
using Kind = OptionKind;

constexpr uint64_t kMaxDim = 65536;
constexpr uint64_t kMaxStream = (1u << 20) - 1;

// Rules that several methods share.
constexpr Rule kCommon[] = {
    {"dim", Kind::kNumber, 2, kMaxDim},      {"head", Kind::kNumber, 0, kMaxStream},
    {"layer", Kind::kNumber, 0, kMaxStream}, {"scale_type", Kind::kChoice, 0, 0, "f16|f32"},
    {"seed", Kind::kNumber, 0, UINT64_MAX},  {"side", Kind::kNumber, 0, 255},
};
constexpr Rule kRotation[] = {
    {"rotation", Kind::kChoice, 0, 0, "hadamard|dense"},
    {"rotation_rounds", Kind::kNumber, 1, 3, "", "rotation", "hadamard"},
};
constexpr Rule kScale[] = {
    {"scale", Kind::kChoice, 0, 0, "norm|matched|least-squares|unbiased"},
};
constexpr Rule kDensity[] = {
    {"codebook_density", Kind::kChoice, 0, 0, "auto|sphere|gaussian", "codebook", "lloyd-max"},
};
constexpr Rule kSketch[] = {
    {"sketch", Kind::kChoice, 0, 0, "gaussian|orthogonal"},
    {"sketch_rows", Kind::kNumber, 1, 64 * kMaxDim},
};

// Rules of one method each.
constexpr Rule kMse[] = {
    {"bits", Kind::kNumber, 1, 8},
    {"codebook", Kind::kChoice, 0, 0, "lloyd-max|uniform|custom"},
    {"codebook_crc32", Kind::kHex},
    {"scale_search", Kind::kChoice, 0, 0, "true|false"},
};
constexpr Rule kProd[] = {
    {"bits", Kind::kNumber, 2, 8},
    {"codebook", Kind::kChoice, 0, 0, "lloyd-max|custom"},
    {"codebook_crc32", Kind::kHex},
};
constexpr Rule kPolar[] = {
    {"form", Kind::kChoice, 0, 0, "blocks|full"},
    {"level_bits", Kind::kLevelBits},
};
constexpr Rule kOutlier[] = {
    {"bits", Kind::kNumber, 1, 7},
    {"codebook_density", Kind::kChoice, 0, 0, "auto|sphere|gaussian"},
    {"outlier_codebook_crc32", Kind::kHex},
    {"outlier_dim", Kind::kNumber, 2, kMaxDim - 2},
    {"regular_codebook_crc32", Kind::kHex},
    {"scale_search", Kind::kChoice, 0, 0, "auto|true|false"},
};

using RuleGroups = std::vector<std::span<const Rule>>;

std::optional<RuleGroups> RulesOf(std::string_view method) {
  if (method == "mse") return RuleGroups{kCommon, kRotation, kScale, kDensity, kMse};
  if (method == "prod") return RuleGroups{kCommon, kRotation, kSketch, kDensity, kProd};
  if (method == "qjl") return RuleGroups{kCommon, kSketch};
  if (method == "polar") return RuleGroups{kCommon, kRotation, kPolar};
  if (method == "outlier") return RuleGroups{kCommon, kRotation, kScale, kOutlier};
  return std::nullopt;
}

// Bounds that depend on other options.
Result<void> CheckTogether(std::string_view method, const RowsOptions& options) {
  const uint64_t dim = options.Number("dim");
  if (options.Has("sketch_rows") && options.Number("sketch_rows") > 64 * dim) {
    return Fail(ErrorCode::kCorruptData, "option 'sketch_rows' is ", options.Number("sketch_rows"),
                ", more than 64 times dim ", dim);
  }
  if (method == "mse" && options.Text("codebook") == "uniform" && options.Number("bits") != 8) {
    return Fail(ErrorCode::kCorruptData, "option 'bits' is ", options.Number("bits"),
                ", a uniform codebook has 8");
  }
  if (method == "outlier") {
    const uint64_t outlier_dim = options.Number("outlier_dim");
    if (dim < 4 || outlier_dim > dim - 2) {
      return Fail(ErrorCode::kCorruptData, "option 'outlier_dim' is ", outlier_dim, " of dim ", dim,
                  ", at least 2 channels must be left over");
    }
    if (options.Number("side") > 127) {
      return Fail(ErrorCode::kCorruptData, "option 'side' is ", options.Number("side"),
                  ", of an outlier split at most 127");
    }
  }
  if (method == "polar") {
    const bool full = options.Text("form") == "full";
    const size_t levels = full ? static_cast<size_t>(std::countr_zero(dim)) : 4;
    if (full ? !std::has_single_bit(dim) : dim % 16 != 0) {
      return Fail(ErrorCode::kCorruptData, "option 'dim' is ", dim, ", no ",
                  full ? "power of two, which form full" : "multiple of 16, which form blocks",
                  " needs");
    }
    if (ParseLevelBits(options.Text("level_bits"))->size() != levels) {
      return Fail(ErrorCode::kCorruptData, "option 'level_bits' is ",
                  Quoted(options.Text("level_bits")), ", not of ", levels, " levels");
    }
  }
  return {};
}

}  // namespace

uint64_t RowsOptions::Number(std::string_view name) const { return *ParseDecimal(Text(name)); }
uint32_t RowsOptions::Hex(std::string_view name) const { return *ParseHex32(Text(name)); }

Result<void> CheckRowsOptions(std::string_view method, const StringMap& options) {
  const std::optional<RuleGroups> groups = RulesOf(method);
  if (!groups) return Fail(ErrorCode::kUnsupported, "method ", Quoted(method), " is unknown");
  const std::string owner = "method " + std::string(method);
  std::set<std::string> expected;
  for (const std::span<const Rule> rules : *groups) {
    TQ_CHECK(CheckOptionRules(owner, rules, "", options, expected));
  }
  TQ_CHECK(CheckNoOthers(owner, options, expected));
  return CheckTogether(method, RowsOptions(options));
}

}  // namespace turboquant
