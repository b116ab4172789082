#include "turboquant/webgpu/prod_quantizer.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/expect_error.h"
#include "tests/support/random_rows.h"
#include "tests/webgpu/software_device.h"

namespace turboquant {
namespace {

using test::FailsWith;
using test::NormalRows;
using test::Rows;

using WebGpuProdTest = WebGpuTest;

struct Differences {
  size_t codes = 0;  // compared, and as many signs or more
  size_t other_codes = 0;
  size_t signs = 0;
  size_t other_signs = 0;
};

void Compare(const ProdRows& actual, const ProdRows& expected, Differences& differences) {
  ASSERT_EQ(actual.size(), expected.size());
  std::vector<uint8_t> a(actual.dim());
  std::vector<uint8_t> b(actual.dim());
  for (size_t r = 0; r < actual.size(); ++r) {
    ASSERT_TRUE(actual.codes().Codes(r, a));
    ASSERT_TRUE(expected.codes().Codes(r, b));
    for (size_t j = 0; j < a.size(); ++j) differences.other_codes += a[j] != b[j];
    ASSERT_EQ(actual.codes().ScaleOf(r), expected.codes().ScaleOf(r));
    // The residual of float directions: 1e-7 of the unit row beside 2^-11 of a half.
    ASSERT_NEAR(actual.residuals().NormOf(r), expected.residuals().NormOf(r),
                2e-6 + 0x1p-10 * expected.residuals().NormOf(r));
    for (size_t byte = 0; byte < actual.residuals().RowBytes(); ++byte) {
      const int other = actual.residuals().SignsOf(r)[byte] ^ expected.residuals().SignsOf(r)[byte];
      differences.other_signs += static_cast<size_t>(std::popcount(static_cast<unsigned>(other)));
    }
  }
  differences.codes += actual.size() * actual.dim();
  differences.signs += actual.size() * actual.residuals().sketch_rows();
}

// Rows of the CPU on the device: their scores and decodes.
void ExpectScoresAndDecodes(const WebGpuProdQuantizer& gpu, const ProdRows& encoded,
                            const Rows& rows) {
  const size_t queries = 5;
  const Rows asked = NormalRows(queries, rows.dim, 77);
  const auto on_device = gpu.Upload(encoded);
  ASSERT_TRUE(on_device) << on_device.error().message;
  Rows decoded(rows.rows, rows.dim);
  Rows decoded_here(rows.rows, rows.dim);
  const auto done = gpu.Decode(*on_device, decoded.view());
  ASSERT_TRUE(done) << done.error().message;
  ASSERT_TRUE(gpu.host().Decode(encoded, decoded_here.view()));
  for (size_t r = 0; r < rows.rows; ++r) {
    for (size_t j = 0; j < rows.dim; ++j) {
      ASSERT_NEAR(decoded[r][j], decoded_here[r][j], 1e-5 * test::Norm(rows[r])) << r << ", " << j;
    }
  }
  Rows actual(queries, rows.rows);
  const auto prepared = gpu.Prepare(asked.view());
  ASSERT_TRUE(prepared) << prepared.error().message;
  const auto scored = gpu.Score(*prepared, *on_device, actual.view());
  ASSERT_TRUE(scored) << scored.error().message;
  // The CPU's own scores differ by more: it rounds queries to digits, the device does not.
  for (size_t q = 0; q < queries; ++q) {
    for (size_t r = 0; r < rows.rows; ++r) {
      const double bound = 1e-5 * test::Norm(asked[q]) * test::Norm(rows[r]);
      ASSERT_NEAR(actual[q][r], test::Dot(asked[q], decoded_here[r]), bound) << q << ", " << r;
    }
  }
}

void ExpectTheCpus(const WebGpuDevice& device, const ProdOptions& options, size_t n,
                   Differences& differences) {
  SCOPED_TRACE("dim " + std::to_string(options.dim) + ", bits " + std::to_string(options.bits));
  Rows rows = NormalRows(n, options.dim, 5);
  std::ranges::fill(rows[1], 0.0f);
  for (float& x : rows[2]) x *= 3e-4f;
  const auto gpu = WebGpuProdQuantizer::Create(device, options);
  ASSERT_TRUE(gpu) << gpu.error().message;
  const auto on_device = gpu->Encode(rows.view());
  ASSERT_TRUE(on_device) << on_device.error().message;
  const auto actual = gpu->Download(*on_device);
  ASSERT_TRUE(actual) << actual.error().message;
  const auto expected = gpu->host().Encode(rows.view());
  ASSERT_TRUE(expected);
  Compare(*actual, *expected, differences);
  ExpectScoresAndDecodes(*gpu, *expected, rows);
}

void ExpectEqualButForRounding(const Differences& found) {
  testing::Test::RecordProperty("other_codes", std::to_string(found.other_codes));
  testing::Test::RecordProperty("other_signs", std::to_string(found.other_signs));
  EXPECT_LT(static_cast<double>(found.other_codes), 1e-4 * static_cast<double>(found.codes));
  EXPECT_LT(static_cast<double>(found.other_signs), 1e-4 * static_cast<double>(found.signs))
      << found.other_signs << " of " << found.signs;
}

TEST_F(WebGpuProdTest, OrthogonalSketchesAreTheCpus) {
  Differences all;
  ExpectTheCpus(device(), {.dim = 128, .bits = 4}, 100, all);
  ExpectTheCpus(device(), {.dim = 80, .bits = 3, .rotation_rounds = 1}, 100, all);
  ExpectTheCpus(device(), {.dim = 16, .bits = 2}, 40, all);  // a dense matrix
  ExpectTheCpus(device(), {.dim = 33, .bits = 8, .sketch_rows = 100}, 20, all);
  ExpectEqualButForRounding(all);
}

TEST_F(WebGpuProdTest, GaussianSketchesAreTheCpus) {
  Differences all;
  ExpectTheCpus(device(), {.dim = 64, .bits = 3, .sketch = SketchKind::kGaussian}, 100, all);
  ExpectTheCpus(device(),
                {.dim = 20,
                 .bits = 5,
                 .sketch = SketchKind::kGaussian,
                 .sketch_rows = 70,
                 .scale_type = ScaleType::kF32},
                40, all);
  ExpectEqualButForRounding(all);
}

TEST_F(WebGpuProdTest, BatchesBeyondTheBuffersAreSplit) {
  const auto small = WebGpuDevice::Create({.max_buffer_bytes = 4096});
  ASSERT_TRUE(small) << small.error().message;
  Differences all;
  ExpectTheCpus(*small, {.dim = 64, .bits = 3}, 300, all);
  ExpectEqualButForRounding(all);
  EXPECT_TRUE(FailsWith(
      WebGpuProdQuantizer::Create(*small, {.dim = 64, .bits = 3, .sketch = SketchKind::kGaussian}),
      ErrorCode::kUnsupported, "64 × 64"));
}

TEST_F(WebGpuProdTest, FailedCallsChangeNothing) {
  const auto gpu = WebGpuProdQuantizer::Create(device(), {.dim = 16, .bits = 3});
  ASSERT_TRUE(gpu) << gpu.error().message;
  Rows rows = NormalRows(40, 16, 8);
  WebGpuProdRows kept = gpu->MakeRows();
  ASSERT_TRUE(gpu->Append(rows.view().Slice(0, 7), kept));
  ASSERT_TRUE(gpu->Append(rows.view().Slice(0, 0), kept));
  EXPECT_EQ(kept.size(), 7u);
  rows[13][2] = std::numeric_limits<float>::quiet_NaN();
  const auto done = gpu->Append(rows.view(), kept);
  EXPECT_TRUE(FailsWith(done, ErrorCode::kNonFinite, "rows[13]"));
  EXPECT_EQ(kept.size(), 7u);
  EXPECT_TRUE(FailsWith(gpu->Prepare(rows.view()), ErrorCode::kNonFinite, "queries[13]"));
  const Rows wide = NormalRows(2, 17, 1);
  EXPECT_TRUE(FailsWith(gpu->Encode(wide.view()), ErrorCode::kDimensionMismatch, "17"));
  EXPECT_TRUE(FailsWith(gpu->Prepare(wide.view()), ErrorCode::kDimensionMismatch, "17"));
  EXPECT_TRUE(FailsWith(kept.Truncate(8), ErrorCode::kInvalidArgument, "8"));
  Rows out(3, 16);
  EXPECT_TRUE(FailsWith(gpu->Decode(kept, out.view()), ErrorCode::kDimensionMismatch, "3"));
  EXPECT_TRUE(FailsWith(gpu->Score(*gpu->Prepare(out.view()), kept, out.view()),
                        ErrorCode::kDimensionMismatch, "7"));
  const auto other = WebGpuProdQuantizer::Create(device(), {.dim = 16, .bits = 3, .seed = 9});
  EXPECT_TRUE(FailsWith(other->Download(kept), ErrorCode::kInvalidArgument, "seed"));
  EXPECT_TRUE(FailsWith(WebGpuProdQuantizer::Create(
                            device(), {.dim = 16, .bits = 3, .rotation = RotationKind::kDense}),
                        ErrorCode::kUnsupported, "dense"));
  WebGpuDevice doomed = device();
  doomed.Destroy();
  EXPECT_TRUE(FailsWith(gpu->Encode(wide.view().Slice(0, 0)), ErrorCode::kDimensionMismatch, "17"));
  EXPECT_TRUE(FailsWith(gpu->Append(rows.view(), kept), ErrorCode::kUnavailable, "destroyed"));
}

}  // namespace
}  // namespace turboquant
