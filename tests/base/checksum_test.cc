#include "src/base/checksum.h"

#include <gtest/gtest.h>

#include <string_view>
#include <vector>

namespace turboquant {
namespace {

std::span<const std::byte> BytesOf(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// The definition, one bit at a time.
uint32_t SlowCrc32(std::span<const std::byte> bytes) {
  uint32_t crc = 0xFFFFFFFFu;
  for (const std::byte byte : bytes) {
    crc ^= static_cast<uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1u) ? 0xEDB88320u : 0u);
  }
  return ~crc;
}

TEST(Crc32Test, EqualsThePublishedCheckValue) {
  EXPECT_EQ(Crc32(BytesOf("123456789")), 0xCBF43926u);
  EXPECT_EQ(Crc32({}), 0u);
}

TEST(Crc32Test, EqualsTheDefinitionAtEveryLength) {
  std::vector<std::byte> bytes;
  for (unsigned length = 0; length < 300; ++length) {
    EXPECT_EQ(Crc32(bytes), SlowCrc32(bytes)) << "length=" << length;
    bytes.push_back(static_cast<std::byte>(length * 37u + 11u));
  }
}

TEST(Crc32Test, GoesOnBehindEarlierBytesAlsoWhenThereAreNone) {
  const auto all = BytesOf("the quick brown fox");
  for (size_t cut = 0; cut <= all.size(); ++cut) {
    EXPECT_EQ(Crc32(all.subspan(cut), Crc32(all.first(cut))), Crc32(all)) << "cut=" << cut;
  }
  EXPECT_EQ(Crc32({}, 0x12345678u), 0x12345678u);
}

}  // namespace
}  // namespace turboquant
