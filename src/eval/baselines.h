// What people use today, plainly implemented so that tables can show it beside TurboQuant. The
// formats are those of the tools they are named after; the code is not, and its speed says nothing
// about theirs.
#ifndef TURBOQUANT_SRC_EVAL_BASELINES_H_
#define TURBOQUANT_SRC_EVAL_BASELINES_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "turboquant/error.h"
#include "turboquant/matrix_view.h"

namespace turboquant::eval {

enum class BaselineFormat {
  kInt8,  // one f16 scale a row (largest magnitude / 127) and an int8 per coordinate
  kQ80,   // the same per block of 32 coordinates, as q8_0 of GGUF files
  kQ40,   // per block of 32: f16 scale (the value of largest magnitude / -8), 4 bits, as q4_0
  kFp8,   // float8 e4m3 (OCP), no scale, saturating at 448
};

// "int8", "q8_0", "q4_0", "fp8".
std::string_view BaselineName(BaselineFormat format);

// Coordinates that share a scale: 32, dim for kInt8. A row's last block may be shorter.
size_t BaselineBlock(BaselineFormat format, size_t dim);

// Rows in one of these formats, as parallel arrays.
struct BaselineRows {
  BaselineFormat format = BaselineFormat::kInt8;
  size_t rows = 0;
  size_t dim = 0;
  std::vector<uint8_t> codes;    // [rows × code bytes of a row]; q4_0: two codes a byte, low first
  std::vector<uint16_t> scales;  // binary16 bits, [rows × blocks]; none for kFp8

  // codes and scales, in bits per coordinate.
  double BitsPerCoordinate() const;
};

// Errors: kNonFinite naming row and column; kInvalidArgument naming the row whose scale exceeds
// f16; kDimensionMismatch for zero columns.
[[nodiscard]] Result<BaselineRows> EncodeBaseline(BaselineFormat format,
                                                  MatrixView<const float> rows);

// Row `row` < encoded.rows into out, of encoded.dim floats.
void DecodeBaselineRow(const BaselineRows& encoded, size_t row, std::span<float> out);

// out [encoded.rows × encoded.dim]. Errors: kDimensionMismatch.
[[nodiscard]] Result<void> DecodeBaseline(const BaselineRows& encoded, MatrixView<float> out);

// float8 e4m3: 1 sign, 4 exponent (bias 7), 3 mantissa bits; 0x7F and 0xFF are NaN, no infinity.
// Rounds to nearest even, saturates at +-448.
uint8_t F32ToFp8(float number);
float Fp8ToF32(uint8_t code);

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_BASELINES_H_
