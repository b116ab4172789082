#include "src/cache/canonical_lanes.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "src/base/aligned_bytes.h"
#include "src/quantizers/bit_stream.h"
#include "tests/support/random_rows.h"

namespace turboquant {
namespace {

KvFormat Format(int bits, size_t dim) {
  KvFormatOptions options;
  options.head_dim = dim;
  options.kv_heads = 1;
  options.keys.bits = bits;
  options.values.bits = bits;
  return *KvFormat::Create(options);
}

// Lanes go out as the stream that BitWriter makes of their codes, and come back as they were.
TEST(CanonicalLanesTest, StreamsHoldTheCodesInOrder) {
  constexpr size_t kFirst = 13;
  constexpr size_t kCount = 90;
  for (int bits = 1; bits <= 8; ++bits) {
    for (const size_t dim : {5, 20, 64}) {
      const KvFormat format = Format(bits, dim);
      const test::Rows rows = test::NormalRows(kCount, dim, 3);
      for (const bool values : {false, true}) {
        const KvSide& side = values ? format.parts().values : format.parts().keys;
        const KvPart& part = side.parts[0];
        AlignedBytes page(format.PageBytes());
        ASSERT_TRUE(
            EncodeTokens(side, values, 0, {rows.values.data(), kCount, dim}, kFirst, page.data()));
        const size_t row_bytes = CanonicalRowBytes(part);
        ASSERT_EQ(row_bytes, (dim * static_cast<size_t>(bits) + 7) / 8);
        std::vector<std::byte> codes(kCount * row_bytes);
        std::vector<std::byte> scales(kCount * 2);
        ExportLanes(part, values, page.data(), kFirst, kCount, codes, scales);

        std::vector<uint8_t> unpacked(kCount * dim);
        auto* blocks = reinterpret_cast<uint8_t*>(page.data() + part.blocks_offset);
        part.cores[0].kernels().unpack_codes({blocks, dim, bits, values}, kFirst, kCount,
                                             unpacked.data());
        std::vector<uint8_t> stream(row_bytes);
        for (size_t r = 0; r < kCount; ++r) {
          std::ranges::fill(stream, uint8_t{0});
          BitWriter writer(stream);
          for (size_t j = 0; j < dim; ++j) writer.Write(unpacked[r * dim + j], bits);
          ASSERT_EQ(std::memcmp(stream.data(), codes.data() + r * row_bytes, row_bytes), 0) << r;
        }

        AlignedBytes again(format.PageBytes());
        ASSERT_TRUE(ImportLanes(part, values, codes, scales, kFirst, kCount, again.data()));
        const size_t begin = part.blocks_offset;
        const size_t end = part.scales_offset + kPageTokens * 2;
        EXPECT_EQ(std::memcmp(page.data() + begin, again.data() + begin, end - begin), 0)
            << bits << " bits, dim " << dim;
      }
    }
  }
}

// A bad last row keeps the good ones before it out as well.
TEST(CanonicalLanesTest, NothingIsWrittenBeforeAnError) {
  const KvFormat format = Format(4, 32);
  const KvPart& part = format.parts().keys.parts[0];
  constexpr size_t kCount = 40;
  const std::vector<std::byte> codes(kCount * CanonicalRowBytes(part), std::byte{0x75});
  std::vector<std::byte> scales(kCount * 2, std::byte{0x3C});
  scales.back() = std::byte{0x80};  // a sign
  AlignedBytes page(format.PageBytes());
  const auto read = ImportLanes(part, /*values=*/false, codes, scales, 0, kCount, page.data());
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, ErrorCode::kCorruptData);
  EXPECT_NE(read.error().message.find("row 39 has scale"), std::string::npos)
      << read.error().message;
  const AlignedBytes untouched(format.PageBytes());
  EXPECT_EQ(std::memcmp(page.data(), untouched.data(), page.size()), 0);
}

}  // namespace
}  // namespace turboquant
