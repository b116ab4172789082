#include "src/base/aligned_bytes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>

namespace turboquant {
namespace {

uintptr_t Address(const AlignedBytes& bytes) { return reinterpret_cast<uintptr_t>(bytes.data()); }

TEST(AlignedBytesTest, ZeroAndAlignedAtAnySize) {
  for (const size_t size : {size_t{1}, size_t{63}, size_t{4096}, 2 * kHugePageBytes - 1,
                            2 * kHugePageBytes, 3 * kHugePageBytes + 4097}) {
    const AlignedBytes bytes(size);
    EXPECT_EQ(bytes.size(), size);
    EXPECT_EQ(Address(bytes) % 64, 0u) << size;
    EXPECT_TRUE(size < 2 * kHugePageBytes || Address(bytes) % kHugePageBytes == 0) << size;
    const std::span all(bytes.data(), size);
    EXPECT_TRUE(std::ranges::all_of(all, [](std::byte b) { return b == std::byte{0}; })) << size;
  }
}

TEST(AlignedBytesTest, CopiesAndMoves) {
  AlignedBytes bytes(2 * kHugePageBytes);
  bytes.data()[bytes.size() - 1] = std::byte{7};
  AlignedBytes copy = bytes;
  bytes.data()[bytes.size() - 1] = std::byte{9};
  EXPECT_EQ(copy.data()[copy.size() - 1], std::byte{7});
  const AlignedBytes moved = std::move(copy);
  EXPECT_EQ(moved.data()[moved.size() - 1], std::byte{7});
  EXPECT_EQ(AlignedBytes().data(), nullptr);
}

}  // namespace
}  // namespace turboquant
