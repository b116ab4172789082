#include "src/eval/baselines.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <limits>
#include <span>

#include "src/base/checked.h"
#include "src/base/failure.h"
#include "src/base/half.h"
#include "src/base/try.h"

namespace turboquant::eval {
namespace {

constexpr size_t kBlock = 32;

size_t RowCodeBytes(BaselineFormat format, size_t dim) {
  return format == BaselineFormat::kQ40 ? CeilDivide(dim, 2) : dim;
}

size_t RowBlocks(BaselineFormat format, size_t dim) {
  return format == BaselineFormat::kFp8 ? 0 : CeilDivide(dim, BaselineBlock(format, dim));
}

// The coordinate of largest magnitude, with its sign.
float Extreme(std::span<const float> block) {
  return *std::ranges::max_element(block, {}, [](float x) { return std::fabs(x); });
}

// Rounds half away from zero, as the tools do; the codes fit because the scale came from the
// extreme, except where f16 rounded a tiny scale down, hence the clamp.
uint8_t Int8Code(float coordinate, float scale) {
  const float code = scale == 0.0f ? 0.0f : std::round(coordinate / scale);
  return static_cast<uint8_t>(static_cast<int8_t>(std::clamp(code, -127.0f, 127.0f)));
}

uint8_t Q40Code(float coordinate, float scale) {
  const float code = scale == 0.0f ? 8.0f : std::floor(coordinate / scale + 8.5f);
  return static_cast<uint8_t>(std::clamp(code, 0.0f, 15.0f));
}

Result<uint16_t> BlockScale(BaselineFormat format, std::span<const float> block, size_t row) {
  const float extreme = Extreme(block);
  const float scale =
      format == BaselineFormat::kQ40 ? extreme / -8.0f : std::fabs(extreme) / 127.0f;
  const Float16 rounded = F32ToF16(scale);
  if (!std::isfinite(F16ToF32(rounded))) {
    return Fail(ErrorCode::kInvalidArgument, BaselineName(format), ": the scale ", scale,
                " of row ", row, " exceeds the largest f16");
  }
  return rounded.bits;
}

void EncodeBlock(BaselineFormat format, std::span<const float> block, float scale, size_t first,
                 std::span<uint8_t> codes) {
  for (size_t j = 0; j < block.size(); ++j) {
    if (format == BaselineFormat::kQ40) {
      const size_t position = first + j;
      const int shift = position % 2 == 0 ? 0 : 4;
      codes[position / 2] |= static_cast<uint8_t>(Q40Code(block[j], scale) << shift);
    } else {
      codes[first + j] = Int8Code(block[j], scale);
    }
  }
}

float DecodeCode(BaselineFormat format, std::span<const uint8_t> codes, size_t position) {
  switch (format) {
    case BaselineFormat::kQ40:
      return static_cast<float>((codes[position / 2] >> (position % 2 == 0 ? 0 : 4)) & 15) - 8.0f;
    case BaselineFormat::kFp8:
      return Fp8ToF32(codes[position]);
    case BaselineFormat::kInt8:
    case BaselineFormat::kQ80:
      break;
  }
  return static_cast<float>(static_cast<int8_t>(codes[position]));
}

}  // namespace

std::string_view BaselineName(BaselineFormat format) {
  constexpr std::array<std::string_view, 4> kNames = {"int8", "q8_0", "q4_0", "fp8"};
  return kNames[static_cast<size_t>(format)];
}

size_t BaselineBlock(BaselineFormat format, size_t dim) {
  return format == BaselineFormat::kInt8 ? dim : kBlock;
}

double BaselineRows::BitsPerCoordinate() const {
  if (rows == 0) return 0.0;
  return static_cast<double>(8 * codes.size() + 16 * scales.size()) /
         (static_cast<double>(rows) * static_cast<double>(dim));
}

Result<BaselineRows> EncodeBaseline(BaselineFormat format, MatrixView<const float> rows) {
  if (rows.cols == 0) return Fail(ErrorCode::kDimensionMismatch, "rows have no columns");
  BaselineRows encoded;
  encoded.format = format;
  encoded.rows = rows.rows;
  encoded.dim = rows.cols;
  const size_t code_bytes = RowCodeBytes(format, rows.cols);
  const size_t blocks = RowBlocks(format, rows.cols);
  encoded.codes.assign(rows.rows * code_bytes, 0);
  encoded.scales.reserve(rows.rows * blocks);
  for (size_t r = 0; r < rows.rows; ++r) {
    const std::span<const float> row = rows.RowSpan(r);
    const auto bad = std::ranges::find_if(row, [](float x) { return !std::isfinite(x); });
    if (bad != row.end()) {
      return Fail(ErrorCode::kNonFinite, "row ", r, " column ", bad - row.begin(),
                  " is not finite");
    }
    const std::span codes = std::span(encoded.codes).subspan(r * code_bytes, code_bytes);
    if (format == BaselineFormat::kFp8) {
      std::ranges::transform(row, codes.begin(), F32ToFp8);
      continue;
    }
    const size_t width = BaselineBlock(format, rows.cols);
    for (size_t first = 0; first < row.size(); first += width) {
      const auto block = row.subspan(first, std::min(width, row.size() - first));
      TQ_TRY(const uint16_t scale, BlockScale(format, block, r));
      encoded.scales.push_back(scale);
      EncodeBlock(format, block, F16ToF32({scale}), first, codes);
    }
  }
  return encoded;
}

void DecodeBaselineRow(const BaselineRows& encoded, size_t row, std::span<float> out) {
  assert(row < encoded.rows && out.size() == encoded.dim);
  const size_t code_bytes = RowCodeBytes(encoded.format, encoded.dim);
  const size_t blocks = RowBlocks(encoded.format, encoded.dim);
  const size_t width = BaselineBlock(encoded.format, encoded.dim);
  const auto codes = std::span(encoded.codes).subspan(row * code_bytes, code_bytes);
  for (size_t j = 0; j < encoded.dim; ++j) {
    const float scale = blocks == 0 ? 1.0f : F16ToF32({encoded.scales[row * blocks + j / width]});
    out[j] = scale * DecodeCode(encoded.format, codes, j);
  }
}

Result<void> DecodeBaseline(const BaselineRows& encoded, MatrixView<float> out) {
  if (out.rows != encoded.rows || out.cols != encoded.dim) {
    return Fail(ErrorCode::kDimensionMismatch, "output is ", out.rows, " x ", out.cols,
                ", the encoded rows are ", encoded.rows, " x ", encoded.dim);
  }
  for (size_t r = 0; r < encoded.rows; ++r) DecodeBaselineRow(encoded, r, out.RowSpan(r));
  return {};
}

uint8_t F32ToFp8(float number) {
  if (std::isnan(number)) return 0x7F;
  const uint8_t sign = std::signbit(number) ? 0x80 : 0;
  const float magnitude = std::min(std::fabs(number), 448.0f);
  // Steps are 2^-9 up to the smallest normal 2^-6, then an eighth of the power of two below.
  const int exponent = magnitude < 0x1p-6f ? -6 : std::ilogb(magnitude);
  const int steps = static_cast<int>(std::nearbyint(std::scalbn(magnitude, 3 - exponent)));
  // A mantissa that rounded up to 16 carries into the exponent by itself; 448 is exact, so that
  // never reaches the NaN code.
  const int code = (exponent + 6) * 8 + steps;
  return static_cast<uint8_t>(sign | code);
}

float Fp8ToF32(uint8_t code) {
  if ((code & 0x7F) == 0x7F) return std::numeric_limits<float>::quiet_NaN();
  const int exponent = (code >> 3) & 15;
  const int mantissa = code & 7;
  const float magnitude = exponent == 0
                              ? std::scalbn(static_cast<float>(mantissa), -9)
                              : std::scalbn(static_cast<float>(8 + mantissa), exponent - 10);
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

}  // namespace turboquant::eval
