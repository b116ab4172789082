#include "turboquant/webgpu/mse_quantizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/expect_error.h"
#include "tests/support/random_rows.h"
#include "tests/webgpu/software_device.h"

namespace turboquant {
namespace {

using test::FailsWith;
using test::NormalRows;
using test::Rows;

using WebGpuMseTest = WebGpuTest;

// A sanitizer takes a driver in software, which compiles every shader, ten times as long.
constexpr bool kSanitized =
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    true;
#else
    false;
#endif

bool LongTests() { return std::getenv("TURBOQUANT_LONG_TESTS") != nullptr; }

// How the rows of a device differ from the CPU's.
struct Differences {
  size_t codes = 0;        // compared
  size_t other_codes = 0;  // that differ
  size_t rows = 0;
  size_t other_scales = 0;
};

void Compare(const MseRows& actual, const MseRows& expected, Differences& differences) {
  ASSERT_EQ(actual.size(), expected.size());
  std::vector<uint8_t> a(actual.dim());
  std::vector<uint8_t> b(actual.dim());
  for (size_t r = 0; r < actual.size(); ++r) {
    ASSERT_TRUE(actual.Codes(r, a));
    ASSERT_TRUE(expected.Codes(r, b));
    for (size_t j = 0; j < a.size(); ++j) differences.other_codes += a[j] != b[j];
    // A scale is rounded from numbers that agree to 2^-30: one step apart at most.
    const double step = actual.scale_type() == ScaleType::kF16 ? 0x1p-10 : 0x1p-22;
    const double scale = static_cast<double>(expected.ScaleOf(r));
    ASSERT_NEAR(actual.ScaleOf(r), scale, step * scale) << "row " << r;
    differences.other_scales += actual.ScaleOf(r) != expected.ScaleOf(r);
  }
  differences.codes += actual.size() * actual.dim();
  differences.rows += actual.size();
}

// Encodes on the device and on the CPU.
void EncodeBoth(const WebGpuDevice& device, const MseOptions& options, const Rows& rows,
                Differences& differences) {
  const auto gpu = WebGpuMseQuantizer::Create(device, options);
  ASSERT_TRUE(gpu) << gpu.error().message;
  const auto on_device = gpu->Encode(rows.view());
  ASSERT_TRUE(on_device) << on_device.error().message;
  ASSERT_EQ(on_device->size(), rows.rows);
  const auto actual = gpu->Download(*on_device);
  ASSERT_TRUE(actual) << actual.error().message;
  const auto expected = gpu->host().Encode(rows.view());
  ASSERT_TRUE(expected) << expected.error().message;
  Compare(*actual, *expected, differences);
}

void ExpectEqualButForRounding(const Differences& found) {
  testing::Test::RecordProperty("other_codes", std::to_string(found.other_codes));
  testing::Test::RecordProperty("other_scales", std::to_string(found.other_scales));
  EXPECT_LT(static_cast<double>(found.other_codes), 1e-4 * static_cast<double>(found.codes))
      << found.other_codes << " of " << found.codes;
  EXPECT_LE(found.other_scales, 1 + found.rows / 500) << " of " << found.rows;
}

// The dims of the kernels' tests; the widths take turns. A driver in software takes one to
// three seconds to compile an encoder, so all widths of each are for long runs.
TEST_F(WebGpuMseTest, CodesAreTheCpusAtEveryDim) {
  const std::vector<size_t> dims = {2,   3,   4,    5,    7,    8,    9,    15,  16,  17,
                                    31,  32,  33,   47,   48,   63,   64,   65,  80,  96,
                                    97,  112, 127,  128,  129,  160,  192,  255, 256, 257,
                                    384, 576, 1023, 1024, 1536, 2048, 2049, 4100};
  Differences all;
  int next_bits = 1;
  const auto encode = [&](size_t dim, int turns) {
    for (int turn = 0; turn < turns; ++turn) {
      SCOPED_TRACE("dim " + std::to_string(dim) + ", bits " + std::to_string(next_bits));
      EncodeBoth(device(), {.dim = dim, .bits = next_bits}, NormalRows(37, dim, dim), all);
      next_bits = next_bits % 8 + 1;
    }
  };
  for (const size_t dim : dims) {
    if (!kSanitized || dim % 32 == 1) encode(dim, LongTests() ? 8 : 1);
  }
  ExpectEqualButForRounding(all);
}

TEST_F(WebGpuMseTest, CodesAreTheCpusAtEveryWidth) {
  Differences all;
  for (int bits = kSanitized ? 7 : 1; bits <= 8; ++bits) {
    SCOPED_TRACE("bits " + std::to_string(bits));
    EncodeBoth(device(), {.dim = 80, .bits = bits}, NormalRows(100, 80, 5), all);
  }
  ExpectEqualButForRounding(all);
}

TEST_F(WebGpuMseTest, EveryScaleTypeCodebookAndRoundIsTheCpus) {
  Differences all;
  const Rows rows = NormalRows(64, 48, 3);
  for (const Scale scale : {Scale::kNorm, Scale::kMatched, Scale::kLeastSquares}) {
    EncodeBoth(device(), {.dim = 48, .bits = 3, .scale = scale, .scale_type = ScaleType::kF32},
               rows, all);
  }
  EncodeBoth(device(), {.dim = 48, .bits = 8, .codebook = CodebookKind::kUniform}, rows, all);
  EncodeBoth(device(), {.dim = 48, .bits = 2, .scale_search = true, .rotation_rounds = 1}, rows,
             all);
  EncodeBoth(device(), {.dim = 48, .bits = 4, .scale_search = false, .rotation_rounds = 3}, rows,
             all);
  const std::vector<double> centroids = {-2.0, -0.5, 0.25, 3.0};
  const auto custom = Codebook::FromCentroids(48, centroids);
  ASSERT_TRUE(custom);
  EncodeBoth(device(),
             {.dim = 48, .bits = 2, .codebook = CodebookKind::kCustom, .custom_codebook = *custom},
             rows, all);
  // f32 scales are rounded from 31 bits: a hundredth may differ by their last.
  EXPECT_EQ(all.other_codes, 0u);
  EXPECT_LE(all.other_scales, all.rows / 20);
}

TEST_F(WebGpuMseTest, SeedsAndStreamsAreTheCpus) {
  Differences all;
  const Rows rows = NormalRows(20, 64, 3);
  EncodeBoth(device(), {.dim = 64, .bits = 4, .seed = 7}, rows, all);
  EncodeBoth(device(), {.dim = 64, .bits = 4, .stream = {3, 2, 1}}, rows, all);
  ExpectEqualButForRounding(all);
}

// Zeros, subnormals, the largest floats, one-hot rows: norms that floats cannot hold on the way.
TEST_F(WebGpuMseTest, RowsOfExtremeNormAreTheCpus) {
  Rows rows = NormalRows(16, 32, 11);
  const float factors[] = {0.0f,     0x1p-149f, 0x1p-130f, 0x1p-100f, 0x1p-41f,
                           0x1p-39f, 0x1p39f,   0x1p41f,   0x1p100f,  0x1p120f};
  for (size_t r = 0; r < std::size(factors); ++r) {
    for (float& x : rows[r]) x = std::ldexp(std::round(std::ldexp(x, 10)), -10) * factors[r];
  }
  std::ranges::fill(rows[10], 0.0f);
  rows[10][5] = -3.0f;
  std::ranges::fill(rows[11], 0x1p-149f);
  std::ranges::fill(rows[12], std::numeric_limits<float>::max() / 64);
  Differences all;
  EncodeBoth(device(), {.dim = 32, .bits = 4, .scale_type = ScaleType::kF32}, rows, all);
  EXPECT_EQ(all.other_codes, 0u);
}

TEST_F(WebGpuMseTest, ScalesOfSubnormalHalvesAreTheCpus) {
  Rows rows = NormalRows(200, 32, 12);
  for (size_t r = 0; r < rows.rows; ++r) {
    for (float& x : rows[r]) x *= std::ldexp(1.0f, -12 - static_cast<int>(r % 20));
  }
  const auto gpu = WebGpuMseQuantizer::Create(device(), {.dim = 32, .bits = 4});
  ASSERT_TRUE(gpu) << gpu.error().message;
  const auto actual = gpu->Download(*gpu->Encode(rows.view()));
  const auto expected = gpu->host().Encode(rows.view());
  ASSERT_TRUE(actual && expected);
  size_t subnormal = 0;
  for (size_t r = 0; r < rows.rows; ++r) {
    EXPECT_EQ(actual->ScaleOf(r), expected->ScaleOf(r)) << r;
    subnormal += expected->ScaleOf(r) > 0.0f && expected->ScaleOf(r) < 0x1p-14f;
  }
  EXPECT_GT(subnormal, 50u);
}

TEST_F(WebGpuMseTest, HalvesAndStridedRowsAreRead) {
  const Rows rows = NormalRows(5, 16, 2);
  std::vector<BFloat16> halves(5 * 20);
  for (size_t r = 0; r < 5; ++r) {
    for (size_t j = 0; j < 16; ++j) {
      halves[r * 20 + j].bits = static_cast<uint16_t>(std::bit_cast<uint32_t>(rows[r][j]) >> 16);
    }
  }
  const MatrixView<const BFloat16> view(halves.data(), 5, 16, 20);
  const auto gpu = WebGpuMseQuantizer::Create(device(), {.dim = 16, .bits = 4});
  ASSERT_TRUE(gpu) << gpu.error().message;
  const auto encoded = gpu->Encode(view);
  ASSERT_TRUE(encoded) << encoded.error().message;
  const auto actual = gpu->Download(*encoded);
  ASSERT_TRUE(actual);
  Differences differences;
  Compare(*actual, *gpu->host().Encode(view), differences);
  EXPECT_EQ(differences.other_codes, 0u);
}

TEST_F(WebGpuMseTest, RowsGrowShrinkAndTravel) {
  const Rows rows = NormalRows(700, 24, 4);
  const auto gpu = WebGpuMseQuantizer::Create(device(), {.dim = 24, .bits = 5});
  ASSERT_TRUE(gpu) << gpu.error().message;
  WebGpuMseRows on_device = gpu->MakeRows();
  EXPECT_EQ(on_device.size(), 0u);
  EXPECT_EQ(on_device.HeldBytes(), 0u);
  ASSERT_TRUE(gpu->Append(rows.view().Slice(0, 5), on_device));
  ASSERT_TRUE(gpu->Append(rows.view().Slice(5, 600), on_device));
  ASSERT_TRUE(on_device.Truncate(11));
  ASSERT_TRUE(gpu->Append(rows.view().Slice(11, 689), on_device));
  ASSERT_TRUE(gpu->Append(rows.view().Slice(0, 0), on_device));
  ASSERT_EQ(on_device.size(), 700u);
  EXPECT_EQ(on_device.HeldBytes() > 0, true);
  EXPECT_TRUE(FailsWith(on_device.Truncate(701), ErrorCode::kInvalidArgument, "701"));
  const auto expected = gpu->host().Encode(rows.view());
  ASSERT_TRUE(expected);
  const auto there_and_back = gpu->Download(*gpu->Upload(*expected), Tiling::kValues);
  ASSERT_TRUE(there_and_back);
  EXPECT_EQ(there_and_back->tiling(), Tiling::kValues);
  Differences differences;
  Compare(*gpu->Download(on_device), *expected, differences);
  Compare(*there_and_back, *expected, differences);
  EXPECT_EQ(differences.other_codes + differences.other_scales, 0u);
}

// Scores are (float(integer sum) · factor) · scale on both: they differ by factors, which the
// device rounds from 31 bits and not from 53.
void ExpectScoresAndDecodes(const WebGpuDevice& device, const MseOptions& options, size_t n,
                            size_t queries, int digits) {
  SCOPED_TRACE("dim " + std::to_string(options.dim) + ", bits " + std::to_string(options.bits));
  const Rows rows = NormalRows(n, options.dim, 21);
  Rows asked = NormalRows(queries, options.dim, 22);
  for (float& x : asked[0]) x *= 0x1p50f;
  const auto gpu = WebGpuMseQuantizer::Create(device, options);
  ASSERT_TRUE(gpu) << gpu.error().message;
  const auto encoded = gpu->host().Encode(rows.view());
  ASSERT_TRUE(encoded);
  const auto on_device = gpu->Upload(*encoded);
  ASSERT_TRUE(on_device) << on_device.error().message;
  const auto prepared = gpu->Prepare(asked.view(), {.digits = digits});
  ASSERT_TRUE(prepared) << prepared.error().message;
  EXPECT_EQ(prepared->size(), queries);
  Rows actual(queries, n);
  Rows expected(queries, n);
  const auto scored = gpu->Score(*prepared, *on_device, actual.view());
  ASSERT_TRUE(scored) << scored.error().message;
  ASSERT_TRUE(gpu->host().Score(*gpu->host().Prepare(asked.view(), {.digits = digits}), *encoded,
                                expected.view()));
  size_t equal = 0;
  for (size_t i = 0; i < actual.values.size(); ++i) {
    EXPECT_NEAR(actual.values[i], expected.values[i], 0x1p-22 * std::fabs(expected.values[i]));
    equal += actual.values[i] == expected.values[i];
  }
  EXPECT_GT(equal, actual.values.size() / 2);
  Rows decoded(n, options.dim);
  Rows decoded_here(n, options.dim);
  ASSERT_TRUE(gpu->Decode(*on_device, decoded.view()));
  ASSERT_TRUE(gpu->host().Decode(*encoded, decoded_here.view()));
  for (size_t r = 0; r < n; ++r) {
    const double norm = test::Norm(decoded_here[r]);
    for (size_t j = 0; j < options.dim; ++j) {
      ASSERT_NEAR(decoded[r][j], decoded_here[r][j], 0x1p-22 * norm) << r << ", " << j;
    }
  }
}

TEST_F(WebGpuMseTest, ScoresAndDecodesAreTheCpus) {
  for (int bits = kSanitized ? 7 : 1; bits <= 8; ++bits) {
    ExpectScoresAndDecodes(device(), {.dim = 48, .bits = bits}, 37, 6, 2);
  }
  ExpectScoresAndDecodes(device(), {.dim = 2, .bits = 3}, 3, 1, 2);
  ExpectScoresAndDecodes(device(), {.dim = 33, .bits = 6, .scale_type = ScaleType::kF32}, 20, 9, 1);
  ExpectScoresAndDecodes(device(), {.dim = 65, .bits = 8, .codebook = CodebookKind::kUniform}, 66,
                         3, 1);
  ExpectScoresAndDecodes(device(), {.dim = 2500, .bits = 7}, 5, 2, 2);  // sums beyond 32 bits
}

// A buffer holds 4096 bytes: 256 rows of codes, 8 rows of floats, 8 queries, 256 scores of four.
TEST_F(WebGpuMseTest, BatchesBeyondTheBuffersAreSplit) {
  const auto small = WebGpuDevice::Create({.max_buffer_bytes = 4096});
  ASSERT_TRUE(small) << small.error().message;
  Differences all;
  EncodeBoth(*small, {.dim = 128, .bits = 1}, NormalRows(300, 128, 4), all);
  ExpectEqualButForRounding(all);
  ExpectScoresAndDecodes(*small, {.dim = 128, .bits = 1}, 300, 19, 2);
  EXPECT_TRUE(FailsWith(WebGpuMseQuantizer::Create(*small, {.dim = 1025, .bits = 2}),
                        ErrorCode::kUnsupported, "4096"));
  EXPECT_TRUE(FailsWith(WebGpuMseQuantizer::Create(*small, {.dim = 384, .bits = 8}),
                        ErrorCode::kUnsupported, "4096"));
}

TEST_F(WebGpuMseTest, OutputsGoToRowsOfAnyStride) {
  const auto gpu = WebGpuMseQuantizer::Create(device(), {.dim = 20, .bits = 4});
  ASSERT_TRUE(gpu) << gpu.error().message;
  const auto encoded = gpu->Encode(NormalRows(21, 20, 6).view());
  const auto queries = gpu->Prepare(NormalRows(3, 20, 7).view());
  Rows decoded(21, 20), scores(3, 21);
  ASSERT_TRUE(gpu->Decode(*encoded, decoded.view()));
  ASSERT_TRUE(gpu->Score(*queries, *encoded, scores.view()));
  std::vector<float> apart(21 * 25, 7.0f), scores_apart(3 * 30, 7.0f);
  ASSERT_TRUE(gpu->Decode(*encoded, {apart.data(), 21, 20, 25}));
  ASSERT_TRUE(gpu->Score(*queries, *encoded, {scores_apart.data(), 3, 21, 30}));
  for (size_t i = 0; i < apart.size(); ++i) {
    EXPECT_EQ(apart[i], i % 25 < 20 ? decoded[i / 25][i % 25] : 7.0f) << i;
  }
  for (size_t i = 0; i < scores_apart.size(); ++i) {
    EXPECT_EQ(scores_apart[i], i % 30 < 21 ? scores[i / 30][i % 30] : 7.0f) << i;
  }
}

TEST_F(WebGpuMseTest, AMillionRows) {
  if (!LongTests()) GTEST_SKIP() << "a million rows of 128: set TURBOQUANT_LONG_TESTS";
  Differences all;
  EncodeBoth(device(), {.dim = 128, .bits = 4}, NormalRows(1000000, 128, 4), all);
  ExpectEqualButForRounding(all);
}

TEST_F(WebGpuMseTest, NothingInGivesNothingOut) {
  const auto gpu = WebGpuMseQuantizer::Create(device(), {.dim = 16, .bits = 4});
  ASSERT_TRUE(gpu) << gpu.error().message;
  const Rows none(0, 16);
  const Rows one = NormalRows(1, 16, 1);
  const auto encoded = gpu->Encode(none.view());
  ASSERT_TRUE(encoded) << encoded.error().message;
  EXPECT_EQ(gpu->Download(*encoded)->size(), 0u);
  EXPECT_TRUE(gpu->Decode(*encoded, {nullptr, 0, 16}));
  EXPECT_TRUE(gpu->Score(*gpu->Prepare(one.view()), *encoded, {nullptr, 1, 0}));
  EXPECT_TRUE(gpu->Score(*gpu->Prepare(none.view()), *gpu->Encode(one.view()), {nullptr, 0, 1}));
}

TEST_F(WebGpuMseTest, ThreadsShareADevice) {
  const auto gpu = WebGpuMseQuantizer::Create(device(), {.dim = 32, .bits = 4});
  ASSERT_TRUE(gpu) << gpu.error().message;
  const Rows rows = NormalRows(100, 32, 1);
  const auto expected = gpu->host().Encode(rows.view());
  std::vector<Differences> found(4);
  std::vector<std::thread> threads;
  for (Differences& differences : found) {
    threads.emplace_back([&] {
      const auto encoded = gpu->Encode(rows.view());
      ASSERT_TRUE(encoded) << encoded.error().message;
      Compare(*gpu->Download(*encoded), *expected, differences);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Differences& differences : found) {
    EXPECT_EQ(differences.rows, 100u);
    EXPECT_EQ(differences.other_codes, 0u);
  }
}

}  // namespace
}  // namespace turboquant
