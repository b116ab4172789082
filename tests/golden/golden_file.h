// Reads the files that python/make_golden.py writes: floats as the hexadecimal digits of their
// bits, bytes as theirs.
#ifndef TURBOQUANT_TESTS_GOLDEN_GOLDEN_FILE_H_
#define TURBOQUANT_TESTS_GOLDEN_GOLDEN_FILE_H_

#include <gtest/gtest.h>

#include <bit>
#include <charconv>
#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/half.h"

namespace turboquant::golden {

using Json = nlohmann::json;

// The parsed file, or null and a failed test.
inline Json ReadGolden(const std::string& name) {
  std::ifstream file(TURBOQUANT_SOURCE_DIR "/tests/golden/" + name);
  Json golden = Json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (golden.is_discarded()) {
    ADD_FAILURE() << "tests/golden/" << name << " cannot be read";
    return {};
  }
  return golden;
}

inline std::string_view Text(const Json& text) { return text.get_ref<const std::string&>(); }

// Words of `digits` hexadecimal digits each.
inline std::vector<uint32_t> Words(std::string_view text, size_t digits) {
  std::vector<uint32_t> words(text.size() / digits);
  for (size_t i = 0; i < words.size(); ++i) {
    const char* first = text.data() + i * digits;
    const auto parsed = std::from_chars(first, first + digits, words[i], 16);
    if (parsed.ptr != first + digits) ADD_FAILURE() << "not hexadecimal at word " << i;
  }
  return words;
}

inline std::vector<uint8_t> Bytes(const Json& text) {
  const std::vector<uint32_t> words = Words(Text(text), 2);
  return {words.begin(), words.end()};
}

inline std::vector<float> Floats(const Json& text) {
  std::vector<float> floats;
  for (const uint32_t word : Words(Text(text), 8)) floats.push_back(std::bit_cast<float>(word));
  return floats;
}

inline std::vector<float> Halves(const Json& text) {
  std::vector<float> floats;
  for (const uint32_t word : Words(Text(text), 4)) {
    floats.push_back(F16ToF32({static_cast<uint16_t>(word)}));
  }
  return floats;
}

// Equal bits: unlike ==, tells 0 from -0 and survives NaN.
inline std::vector<uint32_t> BitsOf(const std::vector<float>& floats) {
  std::vector<uint32_t> bits;
  for (const float x : floats) bits.push_back(std::bit_cast<uint32_t>(x));
  return bits;
}

}  // namespace turboquant::golden

#endif  // TURBOQUANT_TESTS_GOLDEN_GOLDEN_FILE_H_
