// Norms and radii kept as f16 or f32: of the two vectors that rows hold, only the one the type
// names is in use.
#ifndef TURBOQUANT_SRC_QUANTIZERS_STORED_NUMBERS_H_
#define TURBOQUANT_SRC_QUANTIZERS_STORED_NUMBERS_H_

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "src/base/failure.h"
#include "src/base/half.h"
#include "turboquant/mse_quantizer.h"

namespace turboquant {

inline float NumberAt(uint16_t stored) { return F16ToF32({stored}); }
inline float NumberAt(float stored) { return stored; }

// Rounds to the type of `stored`; false, and nothing stored, if the number does not fit.
inline bool StoreRounded(double number, uint16_t& stored) {
  const Float16 half = F32ToF16(static_cast<float>(number));
  if ((half.bits & 0x7C00u) == 0x7C00u) return false;
  stored = half.bits;
  return true;
}
inline bool StoreRounded(double number, float& stored) {
  const float narrowed = static_cast<float>(number);
  if (std::isinf(narrowed)) return false;
  stored = narrowed;
  return true;
}

// What there is to say where the `name` of `rows`[row] does not fit. Errors: kInvalidArgument.
inline std::unexpected<Error> DoesNotFit(std::string_view rows, size_t row, std::string_view name,
                                         double number, ScaleType type) {
  if (type == ScaleType::kF16) {
    return Fail(ErrorCode::kInvalidArgument, rows, "[", row, "] has ", name, " ", number,
                ", more than an f16 holds (65504): use ScaleType::kF32");
  }
  return Fail(ErrorCode::kInvalidArgument, rows, "[", row, "] has ", name, " ", number,
              ", more than an f32 holds");
}

// Rounds `number`, the `name` of `rows`[row], to the type of `stored`. Errors: as DoesNotFit.
template <class Stored>
Result<void> StoreNumber(std::string_view rows, size_t row, std::string_view name, double number,
                         Stored& stored) {
  if (StoreRounded(number, stored)) return {};
  return DoesNotFit(rows, row, name, number,
                    sizeof(Stored) == 2 ? ScaleType::kF16 : ScaleType::kF32);
}

// A number from outside to the type of `stored`. False where it is not exact there, not finite, or
// has a sign, be it that of -0: no encoder writes one, and equal rows have one form.
inline bool StoreExactly(float number, uint16_t& stored) {
  // Nearly all: positive normal halves, whose exponent and mantissa move as they are.
  const uint32_t bits = std::bit_cast<uint32_t>(number);
  if (bits - 0x38800000u <= 0x477FE000u - 0x38800000u && bits % 0x2000u == 0) {
    stored = static_cast<uint16_t>((bits - 0x38000000u) >> 13);
    return true;
  }
  stored = F32ToF16(number).bits;
  return stored < 0x7C00u && NumberAt(stored) == number;
}
inline bool StoreExactly(float number, float& stored) {
  stored = number;
  return std::isfinite(number) && !std::signbit(number);
}

// The same, and what is wrong with it. Errors: kCorruptData naming `at`.
template <class Stored>
Result<void> ImportNumber(std::string_view name, size_t at, float number, Stored& stored) {
  if (StoreExactly(number, stored)) return {};
  const double shown = static_cast<double>(number);
  if (!std::isfinite(number) || std::signbit(number)) {
    return Fail(ErrorCode::kCorruptData, name, "[", at, "] is ", shown,
                ", not a finite number >= 0");
  }
  return Fail(ErrorCode::kCorruptData, name, "[", at, "] is ", shown, ", which no f16 equals");
}

// use(vector) with the vector that `type` names.
template <class Halves, class Floats, class Use>
decltype(auto) WithNumbers(ScaleType type, Halves& f16, Floats& f32, const Use& use) {
  return type == ScaleType::kF16 ? use(f16) : use(f32);
}

// Appends a copy of `tail`, which may be `numbers` itself.
template <class T>
void AppendAll(std::vector<T>& numbers, const std::vector<T>& tail) {
  const size_t count = tail.size();  // before `numbers` grows
  const size_t old_size = numbers.size();
  numbers.resize(old_size + count);
  std::copy_n(tail.data(), count, numbers.data() + old_size);
}

template <class T>
void EraseFront(std::vector<T>& numbers, size_t count) {
  numbers.erase(numbers.begin(), numbers.begin() + static_cast<ptrdiff_t>(count));
}

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_QUANTIZERS_STORED_NUMBERS_H_
