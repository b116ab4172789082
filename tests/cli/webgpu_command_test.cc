#include "src/cli/webgpu_command.h"

#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/cli/benchmark_command.h"
#include "src/cli/command_line.h"
#include "src/cli/info_command.h"
#include "tests/support/expect_error.h"
#include "tests/support/no_vulkan_driver.h"

namespace turboquant::cli {
namespace {

using test::FailsWith;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// Lavapipe's LLVM leaks what it holds whenever the driver is unloaded: this one keeps it loaded.
const auto* const kKeepsTheDriverLoaded = new Result<eval::MethodMaker>(MakeWebGpuMethods());

BenchmarkOptions OnTheGpu() {
  BenchmarkOptions options;
  options.backend = "wgpu";
  options.dims = {32};
  options.tokens = {48};
  options.queries = 3;
  options.samples = 1;
  options.repeats = 1;
  options.bits = {3};
  options.format = "json";
  return options;
}

TEST(WebGpuCommandTest, BenchmarkRowsSayWhichGpu) {
  std::ostringstream out;
  const Result<void> ran = RunBenchmark(OnTheGpu(), out, nullptr);
  if (!ran && ran.error().code == ErrorCode::kUnavailable) GTEST_SKIP() << ran.error().message;
  ASSERT_TRUE(ran) << ran.error().message;
  const auto rows = nlohmann::json::parse(out.str())["rows"];
  ASSERT_EQ(rows.size(), 2u);
  BenchmarkOptions here = OnTheGpu();
  here.backend = "scalar";
  here.methods = {"mse", "prod"};
  here.policies = {"default"};
  std::ostringstream cpu_out;
  ASSERT_TRUE(RunBenchmark(here, cpu_out, nullptr));
  const auto cpu_rows = nlohmann::json::parse(cpu_out.str())["rows"];
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(rows[i]["target"], "wgpu");
    EXPECT_FALSE(rows[i]["adapter"].get<std::string>().empty());
    EXPECT_TRUE(cpu_rows[i]["adapter"].is_null());
    EXPECT_EQ(rows[i]["method"], cpu_rows[i]["method"]);
    EXPECT_EQ(rows[i]["bits_per_coordinate"], cpu_rows[i]["bits_per_coordinate"]);
    EXPECT_NEAR(rows[i]["nmse"], cpu_rows[i]["nmse"], 1e-5);
    EXPECT_NEAR(rows[i]["softmax_kl"], cpu_rows[i]["softmax_kl"], 1e-4);
  }
}

TEST(WebGpuCommandTest, WhatTheGpuHasNotIsNoCpuRun) {
  BenchmarkOptions options = OnTheGpu();
  options.workload = "attention";
  options.dims.clear();
  options.queries.reset();
  options.samples.reset();
  options.bits.clear();
  std::ostringstream out;
  EXPECT_TRUE(FailsWith(RunBenchmark(options, out, nullptr), ErrorCode::kInvalidArgument, "wgpu"));
  options = OnTheGpu();
  options.methods = {"qjl"};
  const Result<void> ran = RunBenchmark(options, out, nullptr);
  if (!ran && ran.error().code == ErrorCode::kUnavailable) GTEST_SKIP() << ran.error().message;
  EXPECT_TRUE(FailsWith(ran, ErrorCode::kUnsupported, "qjl"));
  EXPECT_EQ(out.str(), "");
}

TEST(WebGpuCommandTest, WithoutADriverThereIsOneLineAndExitCodeOne) {
  const test::NoVulkanDriver no_driver;
  std::ostringstream out;
  std::ostringstream err;
  EXPECT_EQ(RunCommandLine({"benchmark", "--backend", "wgpu", "--quick"}, out, err, false), 1);
  EXPECT_EQ(out.str(), "");
  const std::string line = err.str();
  EXPECT_THAT(line, StartsWith("turboquant benchmark: "));
  EXPECT_THAT(line, EndsWith("\n"));
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1) << line;
  std::ostringstream facts;
  ASSERT_TRUE(RunInfo({.format = "json"}, facts));
  EXPECT_TRUE(nlohmann::json::parse(facts.str())["gpu"].is_string());
}

TEST(WebGpuCommandTest, InfoNamesTheAdapter) {
  std::ostringstream out;
  ASSERT_TRUE(RunInfo({.format = "json"}, out));
  const auto facts = nlohmann::json::parse(out.str());
  if (!facts.contains("gpu_driver")) GTEST_SKIP() << facts["gpu"].get<std::string>();
  EXPECT_THAT(facts["gpu_library"].get<std::string>(), HasSubstr("29."));
  EXPECT_GT(facts["gpu_max_buffer_bytes"].get<uint64_t>(), 0u);
}

}  // namespace
}  // namespace turboquant::cli
