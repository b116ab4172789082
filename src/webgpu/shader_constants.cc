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

constexpr size_t kCellsOfGroup = 1024;  // 16 for every thread, as a pass of rotate.wgsl takes them
constexpr size_t kMostRows = 16;        // four threads a row
constexpr size_t kMostBytes = 16 * 1024;  // what every WebGPU device has
constexpr size_t kMostTableWords = 1100;  // 6 bits with all candidates

// One word in 17 stays empty (rotate.wgsl).
size_t CellWords(size_t cells) { return cells + CeilDivide(cells, 16); }

size_t TableWords(const MseCore& core) {
  const size_t candidates = static_cast<size_t>(core.encode_plan().candidates);
  return (candidates + 1) << core.options().bits;
}

void AddRotation(const MseCore& core, const GroupShape& shape, Constants& constants) {
  const size_t dim = core.options().dim;
  const size_t power = std::bit_floor(dim);
  const size_t cells = shape.rows * dim;
  constants.Word("kThreads", kThreads)
      .Word("kDim", dim)
      .Word("kPower", power)
      .Float("kInverseRoot", 1.0 / std::sqrt(static_cast<double>(power)))
      .Word("kRows", shape.rows)
      .Word("kCells", cells)
      .Word("kCellWords", CellWords(cells))
      .Word("kCellsPerThread", CeilDivide(cells, kThreads))
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

size_t WorkgroupBytes(const MseCore& core, size_t sign_words, const GroupShape& shape) {
  const size_t items = shape.rows * static_cast<size_t>(core.encode_plan().candidates);
  const size_t partials = std::max<size_t>(items, kThreads);
  constexpr size_t kFitBytes = 24;
  constexpr size_t kRowBytes = 32;  // norm, gain, winner and the like
  return 4 * CellWords(shape.rows * core.options().dim) + 8 * kThreads + 16 * partials +
         kFitBytes * items + (kRowBytes + 4 * sign_words) * shape.rows +
         (shape.codebook ? 4 * TableWords(core) : 4);
}

GroupShape ChooseGroupShape(const MseCore& core, size_t sign_words, size_t limit) {
  limit = std::min(limit, kMostBytes);
  GroupShape shape;
  const auto fits = [&](const GroupShape& wanted) {
    return WorkgroupBytes(core, sign_words, wanted) <= limit;
  };
  const bool small_table = TableWords(core) <= kMostTableWords;
  shape.codebook = small_table && fits({1, true});
  const size_t power = std::bit_floor(core.options().dim);
  while (shape.rows < kMostRows && 2 * shape.rows * power <= kCellsOfGroup &&
         fits({2 * shape.rows, shape.codebook})) {
    shape.rows *= 2;
  }
  return shape;
}

Constants MseConstants(const MseCore& core, const GroupShape& shape) {
  const MseOptions& options = core.options();
  const double root_dim = std::sqrt(static_cast<double>(options.dim));
  const double tolerance = static_cast<double>(options.unit_norm_tolerance);
  Constants constants;
  AddRotation(core, shape, constants);
  AddPacking(core, constants);
  constants.Word("kCandidates", static_cast<uint64_t>(core.encode_plan().candidates))
      .Flag("kTableInGroup", shape.codebook)
      .Word("kTableWords", shape.codebook ? TableWords(core) : 1)
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
