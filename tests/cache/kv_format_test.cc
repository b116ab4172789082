#include "turboquant/kv_format.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "src/cache/kv_parts.h"
#include "tests/support/expect_error.h"

namespace turboquant {
namespace {

using test::FailsWith;

KvFormat MakeFormat(const KvFormatOptions& options) {
  auto format = KvFormat::Create(options);
  EXPECT_TRUE(format) << format.error().message;
  return *std::move(format);
}

TEST(KvFormatTest, BytesPerTokenAndHead) {
  struct Row {
    KvSideOptions side;
    double bytes;  // of one side, token and head at head_dim 128
  };
  const Row rows[] = {
      {{.bits = 1}, 18},
      {{.bits = 2}, 34},
      {{.bits = 3}, 50},
      {{.bits = 4}, 66},
      {{.bits = 5}, 82},
      {{.bits = 6}, 98},
      {{.bits = 7}, 114},
      {{.bits = 8}, 130},
      {{.method = KvMethod::kF16}, 256},
      {{.method = KvMethod::kF32}, 512},
      // 32 channels of 4 bits and 96 of 3, a scale each.
      {{.bits = 3, .outlier_channels = 32}, 16 + 36 + 4},
  };
  for (const Row& row : rows) {
    const KvFormat format =
        MakeFormat({.head_dim = 128, .kv_heads = 3, .keys = row.side, .values = row.side});
    EXPECT_EQ(format.BytesPerToken(), 3 * 2 * row.bytes) << row.side.bits;
    EXPECT_EQ(format.PageBytes(), 3 * 256 * 2 * static_cast<size_t>(row.bytes));
  }
  // 3 bits of codes, 1 of signs, a scale each.
  const KvFormat prod = MakeFormat({.head_dim = 128,
                                    .kv_heads = 1,
                                    .keys = {.method = KvMethod::kProd, .bits = 4},
                                    .values = {.bits = 4}});
  EXPECT_EQ(prod.BytesPerToken(), 50 + 18 + 66);
}

std::vector<KvFormatOptions> Shapes() {
  std::vector<KvFormatOptions> shapes;
  for (const size_t dim : {2, 3, 16, 40, 64, 80, 128, 200}) {
    for (int bits = 1; bits <= 8; ++bits) {
      shapes.push_back(
          {.head_dim = dim, .kv_heads = 2, .keys = {.bits = bits}, .values = {.bits = bits}});
      if (bits > 1) {
        shapes.push_back({.head_dim = dim,
                          .kv_heads = 2,
                          .keys = {.method = KvMethod::kProd, .bits = bits},
                          .values = {.method = KvMethod::kF16}});
      }
    }
    if (dim < 40) continue;
    shapes.push_back({.head_dim = dim,
                      .kv_heads = 2,
                      .keys = {.bits = 2, .outlier_channels = 10},
                      .values = {.bits = 7, .outlier_channels = 32}});
  }
  return shapes;
}

TEST(KvFormatTest, PartsFollowEachOtherAtMultiplesOf64) {
  for (const KvFormatOptions& options : Shapes()) {
    const KvFormat format = MakeFormat(options);
    const KvFormat::Parts& parts = format.parts();
    size_t end = 0;
    for (const KvSide* side : {&parts.keys, &parts.values}) {
      if (side->exact()) {
        EXPECT_EQ(side->exact_offset, end);
        end += 256 * side->exact_row_bytes;
      }
      size_t channels = 0;
      for (const KvPart& part : side->parts) {
        EXPECT_EQ(part.blocks_offset, end);
        EXPECT_GE(part.scales_offset, part.blocks_offset + part.blocks_bytes);
        EXPECT_EQ(part.blocks_offset % 64, 0u);
        EXPECT_EQ(part.scales_offset % 64, 0u);
        EXPECT_GE(8 * part.blocks_bytes, 256 * part.dim * static_cast<size_t>(part.bits));
        EXPECT_EQ(part.first_channel, part.signs ? 0 : channels);
        channels += part.signs ? 0 : part.dim;
        end = part.scales_offset + 512;
        EXPECT_EQ(part.cores.size(), options.kv_heads);
        EXPECT_EQ(part.score.dim, part.dim);
        EXPECT_EQ(part.score.bits, part.bits);
      }
      EXPECT_EQ(channels, side->exact() ? 0 : options.head_dim);
    }
    EXPECT_EQ(format.HeadBytes(), end);
    EXPECT_EQ(format.HeadBytes() % 64, 0u);
  }
}

TEST(KvFormatTest, DefaultsAreFilledIn) {
  for (int bits = 1; bits <= 8; ++bits) {
    const KvFormat format = MakeFormat({.head_dim = 64, .kv_heads = 1, .keys = {.bits = bits}});
    EXPECT_EQ(format.options().keys.scale_search, bits >= 3 && bits <= 7) << bits;
    const MseCore& core = format.parts().keys.parts[0].cores[0];
    EXPECT_EQ(core.codebook().kind(), bits == 8 ? CodebookKind::kUniform : CodebookKind::kLloydMax);
    EXPECT_EQ(format.parts().keys.parts[0].score.int8_levels, bits <= 4 || bits == 8);
  }
  const KvFormat prod =
      MakeFormat({.head_dim = 64, .kv_heads = 1, .keys = {.method = KvMethod::kProd, .bits = 4}});
  const MseOptions& first_stage = prod.parts().keys.parts[0].cores[0].options();
  EXPECT_EQ(first_stage.bits, 3);
  EXPECT_EQ(first_stage.scale, Scale::kNorm);
  EXPECT_EQ(first_stage.scale_search, false);
  const std::vector<int16_t>& sign_levels = prod.parts().keys.parts[1].sign_levels;
  EXPECT_EQ(sign_levels[0], 127);
  EXPECT_EQ(sign_levels[1], -127);
  EXPECT_NE(prod.backend(), Backend::kAuto);
}

TEST(KvFormatTest, NoTwoRotationsAreAlike) {
  const KvSideOptions side = {.bits = 2, .outlier_channels = 32};
  std::set<std::vector<uint32_t>> masks;
  for (const uint32_t layer : {0, 1}) {
    const KvFormat format =
        MakeFormat({.head_dim = 64, .kv_heads = 3, .keys = side, .values = side, .layer = layer});
    for (const KvSide* of : {&format.parts().keys, &format.parts().values}) {
      for (const KvPart& part : of->parts) {
        for (const MseCore& core : part.cores) {
          const auto bits = core.rotation().sign_masks();
          masks.insert({bits.begin(), bits.end()});
        }
      }
    }
  }
  EXPECT_EQ(masks.size(), 2u * 2 * 2 * 3);
}

TEST(KvFormatTest, HeadsShareTables) {
  const KvFormatOptions options = {.head_dim = 128, .kv_heads = 1};
  KvFormatOptions many = options;
  many.kv_heads = 33;
  const size_t one = MakeFormat(options).HeldBytes();
  const size_t all = MakeFormat(many).HeldBytes();
  const KvFormat format = MakeFormat(options);
  const MseCore& core = format.parts().keys.parts[0].cores[0];
  EXPECT_EQ(all - one, 32 * 2 * (sizeof(MseCore) + core.RotationBytes()));
}

TEST(KvFormatTest, FingerprintIsOfWhatDecidesTheBytes) {
  const KvFormatOptions options = {.head_dim = 64, .kv_heads = 2};
  const uint64_t own = MakeFormat(options).fingerprint();
  EXPECT_EQ(MakeFormat(options).fingerprint(), own);
  const auto changed = [&](auto change) {
    KvFormatOptions other = options;
    change(other);
    return MakeFormat(other).fingerprint() != own;
  };
  EXPECT_TRUE(changed([](auto& o) { o.head_dim = 128; }));
  EXPECT_TRUE(changed([](auto& o) { o.kv_heads = 3; }));
  EXPECT_TRUE(changed([](auto& o) { o.keys.bits = 3; }));
  EXPECT_TRUE(changed([](auto& o) { o.values.bits = 3; }));
  EXPECT_TRUE(changed([](auto& o) { o.keys.method = KvMethod::kProd; }));
  EXPECT_TRUE(changed([](auto& o) { o.values.method = KvMethod::kF16; }));
  EXPECT_TRUE(changed([](auto& o) { o.keys.outlier_channels = 8; }));
  EXPECT_TRUE(changed([](auto& o) { o.rotation = RotationKind::kDense; }));
  EXPECT_TRUE(changed([](auto& o) { o.rotation_rounds = 2; }));
  EXPECT_TRUE(changed([](auto& o) { o.seed = 43; }));
  EXPECT_TRUE(changed([](auto& o) { o.layer = 1; }));
  // The encoder's affairs.
  EXPECT_FALSE(changed([](auto& o) { o.keys.scale = Scale::kMatched; }));
  EXPECT_FALSE(changed([](auto& o) { o.keys.scale_search = false; }));
  EXPECT_FALSE(changed([](auto& o) { o.backend = Backend::kScalar; }));
}

TEST(KvFormatTest, RefusesWhatItCannotDo) {
  struct Row {
    std::string culprit;
    void (*change)(KvFormatOptions&);
  };
  const Row rows[] = {
      {"head_dim must be 2 to 1024, got 1", [](auto& o) { o.head_dim = 1; }},
      {"head_dim must be 2 to 1024, got 1025", [](auto& o) { o.head_dim = 1025; }},
      {"kv_heads must be 1 to 1024, got 0", [](auto& o) { o.kv_heads = 0; }},
      {"kv_heads must be 1 to 1024, got 1025", [](auto& o) { o.kv_heads = 1025; }},
      {"layer must be below 1048576, got 1048576", [](auto& o) { o.layer = 1u << 20; }},
      {"keys.bits must be 1 to 8, got 0", [](auto& o) { o.keys.bits = 0; }},
      {"values.bits must be 1 to 8, got 9", [](auto& o) { o.values.bits = 9; }},
      {"keys.bits of kProd must be 2 to 8 in total, got 1",
       [](auto& o) { o.keys = {.method = KvMethod::kProd, .bits = 1}; }},
      {"values.method must not be kProd", [](auto& o) { o.values.method = KvMethod::kProd; }},
      {"keys.method 9 is none of", [](auto& o) { o.keys.method = static_cast<KvMethod>(9); }},
      {"keys.scale 4 is none of", [](auto& o) { o.keys.scale = static_cast<Scale>(4); }},
      {"values.sketch 7 is neither", [](auto& o) { o.values.sketch = static_cast<SketchKind>(7); }},
      {"keys.scale_search is not for 8 bits",
       [](auto& o) { o.keys = {.bits = 8, .scale_search = true}; }},
      {"keys.outlier_channels need method kMse of at most 7 bits",
       [](auto& o) { o.keys = {.bits = 8, .outlier_channels = 2}; }},
      {"keys.outlier_channels need method kMse",
       [](auto& o) { o.keys = {.method = KvMethod::kProd, .outlier_channels = 2}; }},
      {"values.outlier_channels must leave at least 2 channels of head_dim 64 to both parts, got 1",
       [](auto& o) { o.values.outlier_channels = 1; }},
      {"values.outlier_channels must leave at least 2 channels of head_dim 64 to both parts, got "
       "63",
       [](auto& o) { o.values.outlier_channels = 63; }},
      {"rotation 5 is neither", [](auto& o) { o.rotation = static_cast<RotationKind>(5); }},
      {"rotation_rounds must be 1 to 3, got 0", [](auto& o) { o.rotation_rounds = 0; }},
      {"rotation_rounds must be 1 to 3, got 4", [](auto& o) { o.rotation_rounds = 4; }},
  };
  for (const Row& row : rows) {
    KvFormatOptions options = {.head_dim = 64, .kv_heads = 2};
    row.change(options);
    EXPECT_TRUE(FailsWith(KvFormat::Create(options), ErrorCode::kInvalidArgument, row.culprit));
  }
  const auto missing = KvFormat::Create({.head_dim = 64, .kv_heads = 2, .backend = Backend::kAmx});
  if (kernels::FindKernels(Backend::kAmx) == nullptr) {
    EXPECT_TRUE(FailsWith(missing, ErrorCode::kUnavailable, "amx"));
  }
}

}  // namespace
}  // namespace turboquant
