// Any bytes: reading them fails, or what was read is written and read again as it was.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "turboquant/safetensors.h"

namespace {

using turboquant::SafetensorsFile;
using turboquant::TensorType;

void Require(bool holds) {
  if (!holds) __builtin_trap();
}

// Reads every byte, so that a view beyond the input is found by the sanitizers.
void TouchAll(const SafetensorsFile& file) {
  unsigned sum = 0;
  for (const auto& tensor : file.tensors()) {
    for (const std::byte byte : tensor.bytes) sum += static_cast<unsigned>(byte);
    (void)turboquant::ReadFloats(tensor);
  }
  volatile unsigned kept = sum;
  (void)kept;
}

void RequireRoundTrip(const SafetensorsFile& file) {
  const auto written = turboquant::SerializeSafetensors(file.tensors(), file.metadata());
  Require(written.has_value());
  const auto again = SafetensorsFile::FromBytes(*written);
  Require(again.has_value());
  Require(again->metadata() == file.metadata());
  Require(std::ranges::equal(again->tensors(), file.tensors(), [](const auto& a, const auto& b) {
    return a.name == b.name && a.type == b.type && a.shape == b.shape &&
           std::ranges::equal(a.bytes, b.bytes);
  }));
  Require(turboquant::SerializeSafetensors(again->tensors(), again->metadata()) == *written);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const auto input = std::as_bytes(std::span(bytes, size));
  if (const auto file = SafetensorsFile::FromBytes(input)) {
    TouchAll(*file);
    RequireRoundTrip(*file);
  }
  const auto kept = SafetensorsFile::FromBytes(input, turboquant::UnknownTensors::kKeep);
  if (kept) TouchAll(*kept);
  return 0;
}
