// Snapshots say what docs/format.md says: their tensors decoded with the quantizers of encoded rows
// are the cache's tokens. And files of version 1 stay readable.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "src/base/half.h"
#include "tests/storage/snapshot_examples.h"
#include "turboquant/mse_quantizer.h"
#include "turboquant/qjl.h"

namespace turboquant {
namespace {

constexpr size_t kDim = 20;

// Rows of one head of a tensor [heads, tokens, ...].
std::span<const std::byte> HeadOf(const SafetensorsFile& file, const std::string& name,
                                  size_t head) {
  const TensorView* tensor = file.Find(name);
  EXPECT_NE(tensor, nullptr) << name;
  const size_t bytes = tensor->bytes.size() / kSnapshotHeads;
  return tensor->bytes.subspan(head * bytes, bytes);
}

std::vector<float> Halves(std::span<const std::byte> bytes) {
  std::vector<float> numbers(bytes.size() / 2);
  for (size_t i = 0; i < numbers.size(); ++i) {
    uint16_t bits;
    std::memcpy(&bits, bytes.data() + 2 * i, 2);
    numbers[i] = F16ToF32({bits});
  }
  return numbers;
}

// Codes and scales of one head as encoded rows of that layer, head and side; [tokens × dim].
std::vector<float> DecodeMse(const SafetensorsFile& file, const std::string& codes,
                             const std::string& scales, size_t dim, int bits, uint32_t head,
                             uint32_t side, bool rotate_back) {
  MseOptions options;
  options.dim = dim;
  options.bits = bits;
  options.rotation_rounds = 1;
  options.stream = {3, head, side};
  if (bits == 8) options.codebook = CodebookKind::kUniform;
  const MseQuantizer quantizer = *MseQuantizer::Create(options);
  const std::span<const std::byte> packed = HeadOf(file, codes, head);
  const auto rows =
      quantizer.ImportCanonical({reinterpret_cast<const uint8_t*>(packed.data()), packed.size()},
                                Halves(HeadOf(file, scales, head)));
  EXPECT_TRUE(rows) << rows.error().message;
  std::vector<float> decoded(rows->size() * dim);
  const MatrixView<float> out(decoded.data(), rows->size(), dim);
  EXPECT_TRUE(rotate_back ? quantizer.Decode(*rows, out) : quantizer.DecodeRotated(*rows, out));
  return decoded;
}

KvCache Filled(const KvCacheOptions& options, size_t tokens) {
  const TokenStream stream(options);
  KvCache cache = test::MakeCache(options);
  for (size_t first = 0; first < tokens; first += 100) stream.AppendTo(cache, first, 100);
  return cache;
}

// [token of all][head] of what the cache shows; packed ones lie behind the sinks.
void ExpectPacked(const KvCache& cache, bool values, uint32_t head,
                  const std::vector<float>& expected, double tolerance) {
  const test::Decoded decoded(cache);
  const size_t tokens = cache.view().packed_tokens;
  ASSERT_EQ(expected.size(), tokens * kDim);
  for (size_t t = 0; t < tokens; ++t) {
    const std::span<const float> row = decoded.Row(values, 4 + t, head);
    for (size_t j = 0; j < kDim; ++j) {
      ASSERT_NEAR(row[j], expected[t * kDim + j], tolerance) << "token " << t << " column " << j;
    }
  }
}

// Keys in page frames, of two pages the first of which has lost tokens.
TEST(SnapshotFormatTest, FramedKeysDecodeAsThePageSays) {
  KvCacheOptions options = SnapshotOptions(kDim);
  options.max_tokens = 330;
  options.format.values.bits = 8;
  const KvCache cache = Filled(options, 400);
  const Bytes bytes = Saved(cache);
  const SafetensorsFile file = SafetensorsFile::FromBytes(bytes).value();
  const auto number = [&](const char* name) { return std::stoul(file.metadata().at(name)); };
  const size_t first_lane = number("first_lane");
  ASSERT_EQ(number("evicted_tokens"), 70u);
  ASSERT_EQ(first_lane, 70u);
  const std::vector<double>& frequencies = options.rope->inverse_frequencies;
  for (uint32_t head = 0; head < kSnapshotHeads; ++head) {
    ExpectPacked(cache, true, head,
                 DecodeMse(file, "values.codes", "values.scales", kDim, 8, head, 1, true), 1e-5);
    std::vector<float> keys = DecodeMse(file, "keys.codes", "keys.scales", kDim, 4, head, 0, true);
    const std::span<const std::byte> centers = HeadOf(file, "key_map.center", head);
    const std::span<const std::byte> scales = HeadOf(file, "key_map.scale", head);
    for (size_t i = 0; i < keys.size(); ++i) {
      float scale;
      float center;
      std::memcpy(&scale, scales.data() + i % kDim * 4, 4);
      std::memcpy(&center, centers.data() + i % kDim * 4, 4);
      keys[i] = keys[i] / scale + center;
    }
    for (size_t t = 0; t < keys.size() / kDim; ++t) {
      const double base =
          static_cast<double>(1000 + 4 + 70 - first_lane + (first_lane + t) / 256 * 256);
      for (size_t i = 0; i < frequencies.size(); ++i) {
        float& x = keys[t * kDim + i];
        float& y = keys[t * kDim + i + frequencies.size()];
        const double cosine = std::cos(base * frequencies[i]);
        const double sine = std::sin(base * frequencies[i]);
        const double turned = x * cosine - y * sine;
        y = static_cast<float>(y * cosine + x * sine);
        x = static_cast<float>(turned);
      }
    }
    ExpectPacked(cache, false, head, keys, 2e-5);
  }
}

TEST(SnapshotFormatTest, PartsDecodeAsEncodedRowsDo) {
  KvCacheOptions options = SnapshotOptions(kDim);
  options.rope.reset();
  options.query_heads = 0;
  options.format.keys = {.method = KvMethod::kProd, .bits = 4};
  options.format.values = {.bits = 3, .outlier_channels = 6};
  const KvCache cache = Filled(options, 300);
  const Bytes bytes = Saved(cache);
  const SafetensorsFile file = SafetensorsFile::FromBytes(bytes).value();
  for (uint32_t head = 0; head < kSnapshotHeads; ++head) {
    std::vector<float> rotated =
        DecodeMse(file, "keys.codes", "keys.scales", kDim, 3, head, 0, false);
    const size_t tokens = rotated.size() / kDim;
    const QjlSketch sketch = *QjlSketch::Create({.dim = kDim, .stream = {3, head, 0}});
    const std::span<const std::byte> signs = HeadOf(file, "keys.signs", head);
    const auto rows = sketch.Import({reinterpret_cast<const uint8_t*>(signs.data()), signs.size()},
                                    Halves(HeadOf(file, "keys.residual_scales", head)));
    ASSERT_TRUE(rows) << rows.error().message;
    std::vector<float> residuals(rotated.size());
    ASSERT_TRUE(sketch.Decode(*rows, {residuals.data(), tokens, kDim}));
    for (size_t i = 0; i < rotated.size(); ++i) rotated[i] += residuals[i];
    const Rotation rotation = *Rotation::Create({.dim = kDim, .rounds = 1, .stream = {3, head, 0}});
    ASSERT_TRUE(rotation.ApplyInverse(MatrixView<const float>(rotated.data(), tokens, kDim),
                                      {rotated.data(), tokens, kDim}));
    ExpectPacked(cache, false, head, rotated, 1e-5);

    const std::vector<float> outliers =
        DecodeMse(file, "values.outlier_codes", "values.outlier_scales", 6, 4, head, 129, true);
    const std::vector<float> regular = DecodeMse(
        file, "values.regular_codes", "values.regular_scales", kDim - 6, 3, head, 1, true);
    const std::span<const std::byte> channels = HeadOf(file, "values.channels", head);
    std::vector<float> values(rotated.size());
    for (size_t t = 0; t < tokens; ++t) {
      size_t next = 0;
      for (size_t j = 0; j < kDim; ++j) {
        uint32_t channel = kDim;
        if (next < 6) std::memcpy(&channel, channels.data() + 4 * next, 4);
        values[t * kDim + j] = channel == j ? outliers[t * 6 + next] : regular[t * 14 + j - next];
        if (channel == j) ++next;
      }
    }
    ExpectPacked(cache, true, head, values, 1e-5);
  }
}

// --- Version 1 -------------------------------------------------------------------------------

// Multiples of 1/16 from -50/16 to 50/16, exact in every float type; [tokens × 1 × 8].
std::vector<float> GoldenRows(size_t tokens) {
  std::vector<float> rows(tokens * 8);
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i] = static_cast<float>(static_cast<int>(i * i * 37 % 101) - 50) / 16.0f;
  }
  return rows;
}

// Without frames and maps, which depend on the platform's sine.
DecoderCache GoldenCache() {
  DecoderCacheOptions options;
  options.layers = 3;
  options.layer.format = {.head_dim = 8, .kv_heads = 1};
  options.layer.sinks = 1;
  options.layer.window = 2;
  options.layer.max_tokens = 68;
  options.layer.exact_type = RowType::kF16;
  options.overrides = {
      {.layer = 1,
       .keys = KvSideOptions{.method = KvMethod::kProd, .bits = 3},
       .values = KvSideOptions{.bits = 8}},
      {.layer = 2,
       .keys = KvSideOptions{.bits = 2, .outlier_channels = 2},
       .values = KvSideOptions{.method = KvMethod::kF16}},
  };
  DecoderCache cache = *DecoderCache::Create(options);
  const std::vector<float> rows = GoldenRows(70);
  const HeadsView tokens = HeadsView::TokenMajor(rows.data(), 70, 1, 8);
  for (size_t layer = 0; layer < 3; ++layer) {
    EXPECT_TRUE(cache.layer(layer).Append(tokens, tokens));
    EXPECT_TRUE(cache.layer(layer).Truncate(10));
  }
  return cache;
}

TEST(SnapshotGoldenTest, VersionOneStaysReadable) {
  const auto path = std::filesystem::path(TURBOQUANT_SOURCE_DIR) / "tests" / "storage" / "golden" /
                    "kv_v1_decoder.safetensors";
  std::ifstream stream(path, std::ios::binary);
  const std::vector<char> chars{std::istreambuf_iterator<char>(stream), {}};
  const Bytes golden = BytesOf(chars);
  const auto read = ReadDecoderCache(golden);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(SerializeDecoderCache(*read).value(), golden);
  EXPECT_EQ(SerializeDecoderCache(GoldenCache()).value(), golden) << "equal calls, equal bytes";
  for (size_t layer = 0; layer < 3; ++layer) {
    const KvCache& cache = read->layer(layer);
    EXPECT_EQ(cache.size(), 10u);
    EXPECT_EQ(cache.view().first_lane, 2u);
    const test::Decoded decoded(cache);
    EXPECT_EQ(decoded.keys[3], GoldenRows(1)[3]) << "a sink";
  }
}

// With frames and an estimated full map: read, and answered as when it was written.
TEST(SnapshotGoldenTest, MapsOfVersionOneStayReadable) {
  const auto path =
      std::filesystem::path(TURBOQUANT_SOURCE_DIR) / "fuzz" / "corpus" / "snapshot" / "full_map";
  std::ifstream stream(path, std::ios::binary);
  const std::vector<char> chars{std::istreambuf_iterator<char>(stream), {}};
  const auto read = ReadKvCache(BytesOf(chars));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->key_map()->kind(), KeyMapKind::kFull);
  EXPECT_EQ(Saved(*read), BytesOf(chars));
}

}  // namespace
}  // namespace turboquant
