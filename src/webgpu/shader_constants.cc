#include "src/webgpu/shader_constants.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>

#include "src/base/checked.h"
#include "src/kernels/kernels.h"
#include "src/kernels/line_layout.h"

namespace turboquant::webgpu {
namespace {

void AddRotation(const MseCore& core, Constants& constants) {
  const size_t dim = core.options().dim;
  const size_t power = std::bit_floor(dim);
  constants.Word("kThreads", kThreads)
      .Word("kDim", dim)
      .Word("kPower", power)
      .Float("kInverseRoot", 1.0 / std::sqrt(static_cast<double>(power)))
      .Word("kCellsPerThread", CeilDivide(dim, kThreads))
      .Word("kMasksPerRound", power == dim ? dim : dim + power)
      .Word("kRounds", static_cast<uint64_t>(core.options().rotation_rounds));
}

void AddPacking(const MseCore& core, Constants& constants) {
  const size_t bits = static_cast<size_t>(core.options().bits);
  const size_t quads = CeilDivide(core.options().dim, 4);
  const size_t first_run = kernels::FirstRunBits(bits);
  const size_t lines = BlockLines(core);
  constants.Word("kBits", bits)
      .Word("kCodes", uint64_t{1} << bits)
      .Word("kFirstRun", first_run)
      .Word("kSecondRun", std::max<size_t>(bits - first_run, 1))  // 1: never used
      .Word("kFirstLines", kernels::RunLines(first_run, quads))
      .Word("kLines", lines)
      .Word("kQuads", quads)
      .Word("kBlockWords", 16 * lines);
}

}  // namespace

Constants& Constants::Word(std::string_view name, uint64_t value) {
  text_ += "const " + std::string(name) + " = " + std::to_string(value) + "u;\n";
  return *this;
}

Constants& Constants::Flag(std::string_view name, bool value) {
  text_ += "const " + std::string(name) + (value ? " = true;\n" : " = false;\n");
  return *this;
}

Constants& Constants::Float(std::string_view name, double value) {
  char digits[64];
  const auto end = std::to_chars(digits, digits + sizeof(digits), static_cast<float>(value));
  text_ += "const " + std::string(name) + " = " + std::string(digits, end.ptr) + "f;\n";
  return *this;
}

Constants& Constants::Real(std::string_view name, double value) {
  int exponent = 0;
  uint64_t mantissa = 0;
  if (value > 0.0) {
    mantissa = static_cast<uint64_t>(std::ldexp(std::frexp(value, &exponent), 32));
    exponent -= 32;
  }
  text_ += "const " + std::string(name) + " = Real(" + std::to_string(mantissa) + "u, " +
           std::to_string(exponent) + ");\n";
  return *this;
}

size_t BlockLines(const MseCore& core) {
  return kernels::CodeLines(static_cast<size_t>(core.options().bits),
                            CeilDivide(core.options().dim, 4));
}

Constants MseConstants(const MseCore& core) {
  const MseOptions& options = core.options();
  const double root_dim = std::sqrt(static_cast<double>(options.dim));
  const double tolerance = static_cast<double>(options.unit_norm_tolerance);
  Constants constants;
  AddRotation(core, constants);
  AddPacking(core, constants);
  constants.Word("kCandidates", static_cast<uint64_t>(core.encode_plan().candidates))
      .Flag("kWideLevels", !core.score_plan().int8_levels)
      .Word("kScaleNorm", static_cast<uint64_t>(Scale::kNorm))
      .Word("kScaleMatched", static_cast<uint64_t>(Scale::kMatched))
      .Word("kScaleUnbiased", static_cast<uint64_t>(Scale::kUnbiased))
      .Word("kScale", static_cast<uint64_t>(options.scale))
      .Flag("kHalfScales", options.scale_type == ScaleType::kF16)
      .Flag("kRequireUnitNorm", options.require_unit_norm)
      .Real("kSmallestNorm", std::max(0.0, 1.0 - tolerance))
      .Real("kLargestNorm", 1.0 + tolerance)
      .Real("kGridGain", kernels::kGridPerSigma * root_dim / core.growth())
      .Real("kSigmaStep", core.sigma_step())
      .Real("kInnerStep", core.sigma_step() / (kernels::kGridPerSigma * root_dim))
      .Real("kQueryStep", core.sigma_step() / core.growth())
      .Float("kDecodeStep", core.sigma_step() / core.growth());
  return constants;
}

}  // namespace turboquant::webgpu
