#include <gtest/gtest.h>

#include <atomic>
#include <limits>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include "tests/support/expect_error.h"
#include "tests/support/random_rows.h"
#include "tests/webgpu/software_device.h"
#include "turboquant/webgpu/mse_quantizer.h"

namespace turboquant {
namespace {

using test::FailsWith;
using test::NormalRows;
using test::Rows;

using WebGpuMseErrorsTest = WebGpuTest;

TEST_F(WebGpuMseErrorsTest, WhatIsWrongWithRowsIsSaidAsTheCpuSaysIt) {
  Rows rows = NormalRows(40, 16, 8);
  const auto compare = [&](const MseOptions& options, ErrorCode code, std::string_view culprit) {
    const auto gpu = WebGpuMseQuantizer::Create(device(), options);
    ASSERT_TRUE(gpu) << gpu.error().message;
    WebGpuMseRows kept = gpu->MakeRows();
    const Rows good = test::UnitRows(3, 16, 1);
    ASSERT_TRUE(gpu->Append(good.view(), kept));
    const auto done = gpu->Append(rows.view(), kept);
    EXPECT_TRUE(FailsWith(done, code, culprit));
    EXPECT_EQ(kept.size(), 3u) << "a failed call leaves the rows as they were";
    const auto here = gpu->host().Encode(rows.view());
    ASSERT_FALSE(here);
    EXPECT_EQ(done.error().message, here.error().message);
  };
  compare({.dim = 16, .bits = 4, .require_unit_norm = true}, ErrorCode::kNotUnitNorm, "rows[0]");
  rows[31][7] = 1e30f;
  compare({.dim = 16, .bits = 4}, ErrorCode::kInvalidArgument, "rows[31]");
  rows[23][9] = std::numeric_limits<float>::quiet_NaN();
  compare({.dim = 16, .bits = 4}, ErrorCode::kNonFinite, "rows[23]");
  rows[22][3] = -std::numeric_limits<float>::infinity();
  compare({.dim = 16, .bits = 4}, ErrorCode::kNonFinite, "rows[22]");
  const auto gpu = WebGpuMseQuantizer::Create(device(), {.dim = 16, .bits = 4});
  EXPECT_TRUE(FailsWith(gpu->Prepare(rows.view()), ErrorCode::kNonFinite, "queries[22]"));
}

TEST_F(WebGpuMseErrorsTest, CallsThatBreakTheContractAreRefused) {
  const auto gpu = WebGpuMseQuantizer::Create(device(), {.dim = 16, .bits = 4});
  const auto other = WebGpuMseQuantizer::Create(device(), {.dim = 16, .bits = 4, .seed = 1});
  ASSERT_TRUE(gpu && other);
  const Rows wide = NormalRows(2, 17, 1);
  const Rows rows = NormalRows(2, 16, 1);
  EXPECT_TRUE(FailsWith(gpu->Encode(wide.view()), ErrorCode::kDimensionMismatch, "17"));
  EXPECT_TRUE(FailsWith(gpu->Prepare(wide.view()), ErrorCode::kDimensionMismatch, "17"));
  EXPECT_TRUE(
      FailsWith(gpu->Prepare(rows.view(), {.digits = 3}), ErrorCode::kInvalidArgument, "3"));
  const auto encoded = gpu->Encode(rows.view());
  ASSERT_TRUE(encoded);
  Rows out(3, 16);
  EXPECT_TRUE(FailsWith(gpu->Decode(*encoded, out.view()), ErrorCode::kDimensionMismatch, "3"));
  EXPECT_TRUE(FailsWith(gpu->Score(*gpu->Prepare(rows.view()), *encoded, out.view()),
                        ErrorCode::kDimensionMismatch, "3"));
  EXPECT_TRUE(FailsWith(other->Download(*encoded), ErrorCode::kInvalidArgument, "seed"));
  Rows scores(2, 2);
  EXPECT_TRUE(FailsWith(gpu->Score(*other->Prepare(rows.view()), *encoded, scores.view()),
                        ErrorCode::kInvalidArgument, "queries"));
  const auto elsewhere = WebGpuDevice::Create();
  ASSERT_TRUE(elsewhere);
  const auto far = WebGpuMseQuantizer::Create(*elsewhere, {.dim = 16, .bits = 4});
  EXPECT_TRUE(FailsWith(far->Download(*encoded), ErrorCode::kInvalidArgument, "device"));
  EXPECT_TRUE(FailsWith(WebGpuMseQuantizer::Create(
                            device(), {.dim = 16, .bits = 4, .rotation = RotationKind::kDense}),
                        ErrorCode::kUnsupported, "dense"));
  EXPECT_TRUE(FailsWith(WebGpuMseQuantizer::Create(device(), {.dim = 16, .bits = 9}),
                        ErrorCode::kInvalidArgument, "bits"));
  EXPECT_TRUE(FailsWith(WebGpuMseQuantizer::Create(device(), {.dim = 65536, .bits = 4}),
                        ErrorCode::kUnsupported, "65536"));
}

TEST_F(WebGpuMseErrorsTest, ADeviceLostAmidABatchFailsTheBatch) {
  std::optional<WebGpuDevice> doomed;
  int chunks = 0;
  Result<WebGpuDevice> made = WebGpuDevice::Create({.max_buffer_bytes = 4096, .after_chunk = [&] {
                                                      if (++chunks == 3) doomed->Destroy();
                                                    }});
  ASSERT_TRUE(made) << made.error().message;
  doomed.emplace(*std::move(made));
  const auto gpu = WebGpuMseQuantizer::Create(*doomed, {.dim = 128, .bits = 4});
  ASSERT_TRUE(gpu) << gpu.error().message;
  WebGpuMseRows kept = gpu->MakeRows();
  const Rows rows = NormalRows(100, 128, 1);
  EXPECT_TRUE(FailsWith(gpu->Append(rows.view(), kept), ErrorCode::kUnavailable, "destroyed"));
  EXPECT_EQ(chunks, 3);
  EXPECT_EQ(kept.size(), 0u);
  EXPECT_TRUE(FailsWith(gpu->Prepare(rows.view()), ErrorCode::kUnavailable, "destroyed"));
  EXPECT_TRUE(FailsWith(WebGpuMseQuantizer::Create(*doomed, {.dim = 16, .bits = 4}),
                        ErrorCode::kUnavailable, "destroyed"));
}

TEST_F(WebGpuMseErrorsTest, ADeviceLostToAnotherThreadFailsTheBatch) {
  std::atomic<int> chunks = 0;
  const auto made =
      WebGpuDevice::Create({.max_buffer_bytes = 4096, .after_chunk = [&] { ++chunks; }});
  ASSERT_TRUE(made) << made.error().message;
  WebGpuDevice doomed = *made;
  const auto gpu = WebGpuMseQuantizer::Create(doomed, {.dim = 128, .bits = 4});
  ASSERT_TRUE(gpu) << gpu.error().message;
  std::thread destroyer([&] {
    while (chunks < 5) std::this_thread::yield();
    doomed.Destroy();
  });
  const Rows rows = NormalRows(1000, 128, 1);
  Result<void> done;
  for (int i = 0; i < 1000 && done; ++i) {
    if (auto encoded = gpu->Encode(rows.view()); !encoded) {
      done = std::unexpected(std::move(encoded).error());
    }
  }
  destroyer.join();
  EXPECT_TRUE(FailsWith(done, ErrorCode::kUnavailable, "destroyed"));
}

}  // namespace
}  // namespace turboquant
