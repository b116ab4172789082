// The JSON in front of a safetensors file.
#ifndef TURBOQUANT_SRC_STORAGE_SAFETENSORS_HEADER_H_
#define TURBOQUANT_SRC_STORAGE_SAFETENSORS_HEADER_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "turboquant/error.h"
#include "turboquant/safetensors.h"

namespace turboquant {

inline constexpr size_t kMaxHeaderBytes = 100'000'000;  // as the format's other readers
inline constexpr std::string_view kMetadataKey = "__metadata__";

struct HeaderTensor {
  std::string dtype;
  std::vector<size_t> shape;
  size_t begin = 0;  // offsets into the bytes behind the header
  size_t end = 0;
};

struct SafetensorsHeader {
  std::map<std::string, HeaderTensor, std::less<>> tensors;
  StringMap metadata;
};

// Strict: one object, names once each, a tensor's three fields and no others, unsigned numbers.
// Sizes and offsets are not yet compared with anything. Errors: kCorruptData naming the tensor or
// the byte of the header.
[[nodiscard]] Result<SafetensorsHeader> ParseHeader(std::string_view json);

// The header's text, keys ascending, without padding. Names and values must be UTF-8: ParseHeader
// of the text tells.
std::string FormatHeader(const SafetensorsHeader& header);

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_STORAGE_SAFETENSORS_HEADER_H_
