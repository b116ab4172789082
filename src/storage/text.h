// Strings that come from files: quoted for messages, and numbers read strictly.
#ifndef TURBOQUANT_SRC_STORAGE_TEXT_H_
#define TURBOQUANT_SRC_STORAGE_TEXT_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "src/base/failure.h"
#include "turboquant/error.h"

namespace turboquant {

// 'name', on one line whatever it holds: control characters become ?, and what is longer than 80
// bytes is cut short.
std::string Quoted(std::string_view name);

// "2 × 3", or "scalar".
std::string ShapeText(std::span<const size_t> shape);

// Decimal digits without sign or leading zero, at most 2^64 - 1.
std::optional<uint64_t> ParseDecimal(std::string_view text);

// A finite number that is not negative, in the shortest decimal form that reads back equal, and
// back.
std::optional<double> ParseReal(std::string_view text);
std::string RealText(double number);

// An error of a file's contents, told with the file's path in front.
template <class T>
Result<T> InFile(const std::filesystem::path& path, Result<T> result) {
  if (result) return result;
  return Fail(result.error().code, "'", path.native(), "': ", result.error().message);
}

// Eight lower-case hex digits, and back.
std::optional<uint32_t> ParseHex32(std::string_view text);
std::string Hex32(uint32_t number);

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_STORAGE_TEXT_H_
