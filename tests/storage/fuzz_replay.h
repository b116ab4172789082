// Fuzz targets without a fuzzer: over their corpora, and over every prefix and changes of every
// byte of a small valid file. A target traps when something it requires does not hold.
#ifndef TURBOQUANT_TESTS_STORAGE_FUZZ_REPLAY_H_
#define TURBOQUANT_TESTS_STORAGE_FUZZ_REPLAY_H_

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/storage/storage_testing.h"

namespace turboquant {

using FuzzTarget = int (*)(const uint8_t* bytes, size_t size);

// From a heap block of just this size, so that AddressSanitizer sees a read beyond it.
inline void RunTarget(FuzzTarget target, std::span<const std::byte> bytes) {
  const Bytes input(bytes.begin(), bytes.end());
  target(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

inline void ReplayCorpus(FuzzTarget target, const std::string& name) {
  const auto folder = std::filesystem::path(TURBOQUANT_SOURCE_DIR) / "fuzz" / "corpus" / name;
  size_t inputs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::vector<char> input{std::istreambuf_iterator<char>(file), {}};
    RunTarget(target, std::as_bytes(std::span(input)));
    ++inputs;
  }
  EXPECT_GT(inputs, 0u) << folder;
}

inline void RunEveryPrefix(FuzzTarget target, const Bytes& file) {
  for (size_t size = 0; size <= file.size(); ++size) {
    RunTarget(target, std::span(file).first(size));
  }
}

inline void RunEveryByteChange(FuzzTarget target, const Bytes& file,
                               std::span<const uint8_t> masks) {
  Bytes changed = file;
  for (size_t at = 0; at < file.size(); ++at) {
    for (const uint8_t mask : masks) {
      changed[at] = file[at] ^ std::byte{mask};
      RunTarget(target, changed);
    }
    changed[at] = file[at];
  }
}

inline std::vector<uint8_t> AllMasks() {
  std::vector<uint8_t> masks(255);
  for (size_t i = 0; i < masks.size(); ++i) masks[i] = static_cast<uint8_t>(i + 1);
  return masks;
}

inline constexpr uint8_t kBitMasks[] = {1, 2, 4, 8, 16, 32, 64, 128};

}  // namespace turboquant

#endif  // TURBOQUANT_TESTS_STORAGE_FUZZ_REPLAY_H_
