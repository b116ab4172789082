#include "src/cache/kv_parts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "src/base/aligned_bytes.h"
#include "src/base/half.h"
#include "src/kernels/line_layout.h"
#include "tests/support/random_rows.h"
#include "turboquant/outlier_quantizer.h"
#include "turboquant/prod_quantizer.h"

namespace turboquant {
namespace {

using test::Rows;

constexpr size_t kHead = 1;
constexpr uint32_t kLayer = 5;

KvFormat MakeFormat(size_t dim, const KvSideOptions& keys, const KvSideOptions& values,
                    RotationKind rotation = RotationKind::kHadamard) {
  auto format = KvFormat::Create({.head_dim = dim,
                                  .kv_heads = 2,
                                  .keys = keys,
                                  .values = values,
                                  .rotation = rotation,
                                  .layer = kLayer});
  EXPECT_TRUE(format) << format.error().message;
  return *std::move(format);
}

MseOptions SameAs(const KvFormat& format, bool values) {
  const KvFormatOptions& options = format.options();
  const KvSideOptions& side = values ? options.values : options.keys;
  MseOptions mse;
  mse.dim = options.head_dim;
  mse.bits = side.bits;
  mse.scale = side.scale;
  mse.scale_search = side.scale_search;
  mse.codebook = side.bits == 8 ? CodebookKind::kUniform : CodebookKind::kLloydMax;
  mse.rotation = options.rotation;
  mse.rotation_rounds = options.rotation_rounds;
  mse.seed = options.seed;
  mse.stream = {options.layer, kHead, values ? 1u : 0u};
  return mse;
}

// Rows with extremes among them: a zero row, tiny and large norms, a one-hot row.
Rows MixedRows(size_t count, size_t dim) {
  Rows rows = test::NormalRows(count, dim, 3);
  std::ranges::fill(rows[1], 0.0f);
  for (float& x : rows[2]) x *= 1e-4f;
  for (float& x : rows[3]) x *= 100.0f;
  std::ranges::fill(rows[4], 0.0f);
  rows[4][dim - 1] = 3.0f;
  return rows;
}

// Encodes at an odd lane and decodes again.
Rows RoundTrip(const KvFormat& format, bool values, const Rows& rows) {
  const KvSide& side = values ? format.parts().values : format.parts().keys;
  AlignedBytes bytes(format.HeadBytes());
  constexpr size_t kLane = 37;
  const auto done = EncodeTokens(side, values, kHead, rows.view(), kLane, bytes.data());
  EXPECT_TRUE(done) << done.error().message;
  Rows decoded(rows.rows, rows.dim);
  DecodeTokens(side, values, kHead, bytes.data(), kLane, rows.rows, decoded.view());
  return decoded;
}

TEST(KvPartsTest, MseTokensAreRowsOfTheQuantizer) {
  for (const RotationKind rotation : {RotationKind::kHadamard, RotationKind::kDense}) {
    for (const size_t dim : {2, 40, 64, 128}) {
      for (int bits = 1; bits <= 8; ++bits) {
        for (const Scale scale : {Scale::kUnbiased, Scale::kNorm}) {
          const KvSideOptions side = {.bits = bits, .scale = scale};
          const KvFormat format = MakeFormat(dim, side, side, rotation);
          const Rows rows = MixedRows(70, dim);
          for (const bool values : {false, true}) {
            const auto quantizer = MseQuantizer::Create(SameAs(format, values));
            ASSERT_TRUE(quantizer) << quantizer.error().message;
            const auto encoded = quantizer->Encode(rows.view());
            Rows expected(rows.rows, dim);
            ASSERT_TRUE(encoded && quantizer->Decode(*encoded, expected.view()));
            EXPECT_EQ(RoundTrip(format, values, rows).values, expected.values)
                << dim << " dims " << bits << " bits";
          }
        }
      }
    }
  }
}

TEST(KvPartsTest, ProdTokensAreRowsOfTheQuantizer) {
  for (const SketchKind sketch : {SketchKind::kOrthogonal, SketchKind::kGaussian}) {
    for (const size_t dim : {9, 64, 80, 128}) {
      for (const int bits : {2, 3, 4, 8}) {
        const KvSideOptions side = {.method = KvMethod::kProd, .bits = bits, .sketch = sketch};
        const KvFormat format = MakeFormat(dim, side, {});
        const auto quantizer = ProdQuantizer::Create({.dim = dim,
                                                      .bits = bits,
                                                      .sketch = sketch,
                                                      .rotation_rounds = 1,
                                                      .stream = {kLayer, kHead, 0}});
        ASSERT_TRUE(quantizer) << quantizer.error().message;
        const Rows rows = MixedRows(30, dim);
        const auto encoded = quantizer->Encode(rows.view());
        Rows expected(rows.rows, dim);
        ASSERT_TRUE(encoded && quantizer->Decode(*encoded, expected.view()));
        const Rows decoded = RoundTrip(format, /*values=*/false, rows);
        double largest = 0.0;
        for (size_t r = 0; r < rows.rows; ++r) {
          // Scale and residual norm are rounded once each by the quantizer, their product once
          // here: 3 half steps of 2^-11 of the sign part, plus float noise; subnormal scales more.
          const double norm = test::Norm(rows[r]);
          const double error = std::sqrt(test::SquaredDistance(decoded[r], expected[r]));
          EXPECT_LE(error, 2e-3 * norm + 1e-6) << "row " << r;
          if (norm > 0.01) largest = std::max(largest, error / norm);
        }
        EXPECT_GT(largest, 0.0);  // not the same arithmetic
      }
    }
  }
}

TEST(KvPartsTest, OutlierTokensAreRowsOfTheQuantizer) {
  constexpr size_t kDim = 128;
  constexpr size_t kOutliers = 32;
  for (const int bits : {1, 2, 3, 7}) {
    const KvSideOptions side = {.bits = bits, .outlier_channels = kOutliers};
    const KvFormat format = MakeFormat(kDim, side, side);
    // In the order of the parts, the first channels are the outliers.
    std::vector<uint32_t> channels;
    for (uint32_t c = 0; c < kOutliers; ++c) channels.push_back(c);
    const Rows rows = MixedRows(40, kDim);
    for (const bool values : {false, true}) {
      OutlierOptions options = {.dim = kDim, .bits = bits, .outlier_channels = channels};
      options.rotation_rounds = 1;
      options.stream = {kLayer, kHead, values ? 1u : 0u};
      if (bits == 7) {
        // The outliers' 8 bits are the uniform codebook here; the others still agree.
        const MseOptions rest = {
            .dim = kDim - kOutliers, .bits = bits, .rotation_rounds = 1, .stream = options.stream};
        const auto quantizer = MseQuantizer::Create(rest);
        ASSERT_TRUE(quantizer);
        const MatrixView<const float> view = rows.view();
        const auto encoded = quantizer->Encode(
            MatrixView<const float>(view.data + kOutliers, rows.rows, rest.dim, kDim));
        Rows expected(rows.rows, rest.dim);
        ASSERT_TRUE(encoded && quantizer->Decode(*encoded, expected.view()));
        const Rows decoded = RoundTrip(format, values, rows);
        for (size_t r = 0; r < rows.rows; ++r) {
          EXPECT_TRUE(std::ranges::equal(decoded[r].subspan(kOutliers), expected[r]));
        }
        continue;
      }
      const auto quantizer = OutlierQuantizer::Create(options);
      ASSERT_TRUE(quantizer) << quantizer.error().message;
      const auto encoded = quantizer->Encode(rows.view());
      Rows expected(rows.rows, kDim);
      ASSERT_TRUE(encoded && quantizer->Decode(*encoded, expected.view()));
      EXPECT_EQ(RoundTrip(format, values, rows).values, expected.values) << bits;
    }
  }
}

TEST(KvPartsTest, UnquantizedTokensComeBack) {
  const Rows rows = MixedRows(20, 40);
  const KvFormat format = MakeFormat(40, {.method = KvMethod::kF32}, {.method = KvMethod::kF16});
  EXPECT_EQ(RoundTrip(format, /*values=*/false, rows).values, rows.values);
  const Rows halves = RoundTrip(format, /*values=*/true, rows);
  for (size_t i = 0; i < rows.values.size(); ++i) {
    EXPECT_EQ(halves.values[i], F16ToF32(F32ToF16(rows.values[i])));
  }
}

TEST(KvPartsTest, RefusesWhatF16DoesNotHold) {
  const KvFormat format = MakeFormat(8, {.bits = 4}, {.method = KvMethod::kF16});
  Rows rows = test::NormalRows(3, 8, 1);
  AlignedBytes bytes(format.HeadBytes());
  rows[2][5] = 65520.0f;
  const auto values =
      EncodeTokens(format.parts().values, true, kHead, rows.view(), 0, bytes.data());
  ASSERT_FALSE(values);
  EXPECT_EQ(values.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(values.error().message,
            "rows[2] is 65520 at column 5, beyond what an f16 holds (65504)");
  rows[2][5] = 1e6f;
  const auto keys = EncodeTokens(format.parts().keys, false, kHead, rows.view(), 0, bytes.data());
  ASSERT_FALSE(keys);
  EXPECT_EQ(keys.error().code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(keys.error().message.starts_with("rows[2] has scale ")) << keys.error().message;
}

std::vector<std::byte> Copy(const AlignedBytes& bytes) {
  return {bytes.data(), bytes.data() + bytes.size()};
}

TEST(KvPartsTest, ClearedLanesAreAsIfNeverWritten) {
  const KvSideOptions sides[] = {{.bits = 1},
                                 {.bits = 3},
                                 {.bits = 4},
                                 {.bits = 6},
                                 {.bits = 8},
                                 {.method = KvMethod::kF16},
                                 {.bits = 2, .outlier_channels = 8}};
  for (const KvSideOptions& options : sides) {
    const KvFormat format = MakeFormat(40, options, options);
    const Rows rows = test::NormalRows(256, 40, 4);
    for (const bool values : {false, true}) {
      const KvSide& side = values ? format.parts().values : format.parts().keys;
      for (const auto& [first, count] :
           {std::pair<size_t, size_t>{0, 256}, {0, 1}, {255, 1}, {17, 100}, {64, 64}, {70, 3}}) {
        AlignedBytes bytes(format.HeadBytes());
        ASSERT_TRUE(EncodeTokens(side, values, kHead, rows.view(), 0, bytes.data()));
        ClearTokens(side, values, first, count, bytes.data());
        AlignedBytes expected(format.HeadBytes());
        ASSERT_TRUE(
            EncodeTokens(side, values, kHead, rows.view().Slice(0, first), 0, expected.data()));
        ASSERT_TRUE(EncodeTokens(side, values, kHead,
                                 rows.view().Slice(first + count, 256 - first - count),
                                 first + count, expected.data()));
        EXPECT_EQ(Copy(bytes), Copy(expected)) << options.bits << " " << first << " " << count;
      }
    }
  }
}

TEST(KvPartsTest, PreparedQueriesScoreTheDecodedKeys) {
  const KvSideOptions sides[] = {{.bits = 1},
                                 {.bits = 4},
                                 {.bits = 5},
                                 {.bits = 8},
                                 {.method = KvMethod::kProd, .bits = 3},
                                 {.bits = 3, .outlier_channels = 8}};
  for (const KvSideOptions& options : sides) {
    for (const size_t dim : {40, 128}) {
      const KvFormat format = MakeFormat(dim, options, {});
      const KvSide& side = format.parts().keys;
      const Rows keys = MixedRows(32, dim);
      AlignedBytes bytes(format.HeadBytes());
      ASSERT_TRUE(EncodeTokens(side, false, kHead, keys.view(), 0, bytes.data()));
      Rows decoded(32, dim);
      DecodeTokens(side, false, kHead, bytes.data(), 0, 32, decoded.view());
      for (const float length : {1.0f, 1e-20f, 1e18f}) {
        Rows query = test::NormalRows(1, dim, 9);
        for (float& x : query.values) x *= length;
        std::vector<double> scores(32);
        for (const KvPart& part : side.parts) {
          std::vector<int8_t> high(kernels::PaddedDim(part.dim));
          std::vector<int8_t> low(kernels::PaddedDim(part.dim));
          std::vector<float> scratch(2 * query.values.size());
          const double factor = PreparePartQuery(part, kHead, query.values.data(),
                                                 {high.data(), low.data()}, scratch.data());
          const auto* scales = reinterpret_cast<const uint16_t*>(bytes.data() + part.scales_offset);
          const float one = 1.0f;
          std::vector<float> sums(256);
          format.parts().kernels->score_keys(
              part.score, {reinterpret_cast<const uint8_t*>(bytes.data() + part.blocks_offset), 16},
              {scales, nullptr}, {high.data(), low.data(), high.size(), 1, &one}, sums.data(), 256);
          for (size_t r = 0; r < 32; ++r) scores[r] += factor * static_cast<double>(sums[r]);
        }
        for (size_t r = 0; r < 32; ++r) {
          const double exact = test::Dot(query[0], decoded[r]);
          const double bound = 3e-4 * test::Norm(query[0]) * test::Norm(decoded[r]);
          EXPECT_NEAR(scores[r], exact, bound) << options.bits << " row " << r;
        }
      }
    }
  }
}

TEST(KvPartsTest, UnrotatedSumsAreSumsOfDecodedValues) {
  for (const KvSideOptions& options :
       {KvSideOptions{.bits = 3}, {.bits = 8}, {.bits = 2, .outlier_channels = 8}}) {
    const KvFormat format = MakeFormat(40, {}, options);
    const KvSide& side = format.parts().values;
    const Rows values = test::NormalRows(10, 40, 6);
    AlignedBytes bytes(format.HeadBytes());
    ASSERT_TRUE(EncodeTokens(side, true, kHead, values.view(), 0, bytes.data()));
    Rows decoded(10, 40);
    DecodeTokens(side, true, kHead, bytes.data(), 0, 10, decoded.view());
    std::vector<float> row(40);
    for (const KvPart& part : side.parts) {
      std::vector<uint8_t> codes(part.dim);
      std::vector<float> sums(part.dim);
      const auto* scales = reinterpret_cast<const uint16_t*>(bytes.data() + part.scales_offset);
      auto* blocks = reinterpret_cast<uint8_t*>(bytes.data() + part.blocks_offset);
      for (size_t t = 0; t < 10; ++t) {
        format.parts().kernels->unpack_codes({blocks, part.dim, part.bits, true}, t, 1,
                                             codes.data());
        for (size_t j = 0; j < part.dim; ++j) {
          sums[j] += F16ToF32({scales[t]}) * static_cast<float>(part.score.levels[codes[j]]);
        }
      }
      UnrotatePartSums(part, kHead, sums.data(), row.data());
    }
    for (size_t j = 0; j < 40; ++j) {
      float sum = 0.0f;
      for (size_t t = 0; t < 10; ++t) sum += decoded[t][j];
      EXPECT_NEAR(row[j], sum, 1e-5) << j;
    }
  }
}

}  // namespace
}  // namespace turboquant
