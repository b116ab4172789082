#include "src/storage/text.h"

#include <array>
#include <cassert>
#include <charconv>
#include <cmath>

namespace turboquant {

std::string Quoted(std::string_view name) {
  constexpr size_t kMaxBytes = 80;
  size_t bytes = name.size();
  if (bytes > kMaxBytes) {
    bytes = kMaxBytes;
    // Not in the middle of a character: bytes 10xxxxxx go on one.
    while (bytes > 0 && (static_cast<unsigned char>(name[bytes]) & 0xC0u) == 0x80u) --bytes;
  }
  std::string quoted = "'";
  for (const char c : name.substr(0, bytes)) {
    const unsigned char byte = static_cast<unsigned char>(c);
    quoted += byte < 0x20u || byte == 0x7Fu ? '?' : c;
  }
  quoted += bytes < name.size() ? "…'" : "'";
  return quoted;
}

std::string ShapeText(std::span<const size_t> shape) {
  if (shape.empty()) return "scalar";
  std::string text;
  for (const size_t axis : shape) {
    if (!text.empty()) text += " × ";
    text += std::to_string(axis);
  }
  return text;
}

std::optional<uint64_t> ParseDecimal(std::string_view text) {
  if (text.empty() || (text.size() > 1 && text[0] == '0')) return std::nullopt;
  uint64_t number = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (status != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::optional<double> ParseReal(std::string_view text) {
  double number = 0.0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (status != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (!std::isfinite(number) || std::signbit(number)) return std::nullopt;
  if (RealText(number) != text) return std::nullopt;  // one text for one number
  return number;
}

std::string RealText(double number) {
  std::array<char, 32> text;
  const auto [end, status] = std::to_chars(text.data(), text.data() + text.size(), number);
  assert(status == std::errc());
  (void)status;
  return {text.data(), end};
}

std::optional<uint32_t> ParseHex32(std::string_view text) {
  uint32_t number = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number, 16);
  if (status != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (Hex32(number) != text) return std::nullopt;  // other lengths, and upper case
  return number;
}

std::string Hex32(uint32_t number) {
  std::string text(8, '0');
  for (size_t digit = 8; digit-- > 0; number >>= 4) text[digit] = "0123456789abcdef"[number & 15u];
  return text;
}

}  // namespace turboquant
