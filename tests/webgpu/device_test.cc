#include "turboquant/webgpu/device.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <fstream>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "src/quantizers/mse_core.h"
#include "src/webgpu/gpu.h"
#include "src/webgpu/segments.h"
#include "src/webgpu/shader_constants.h"
#include "tests/support/expect_error.h"
#include "tests/support/no_vulkan_driver.h"
#include "tests/support/temporary_folder.h"
#include "tests/webgpu/software_device.h"

namespace turboquant {
namespace {

using test::FailsWith;

constexpr char kDouble[] = R"(
@group(0) @binding(0) var<uniform> parameters: array<vec4u, 2>;
@group(0) @binding(1) var<storage, read_write> words: array<u32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < parameters[0].x) { words[id.x] = 2u * words[id.x] + parameters[1].w; }
})";

TEST(WebGpuLibraryTest, AbsenceIsUnavailableAndNamesThePlace) {
  const test::TemporaryFolder folder;
  EXPECT_TRUE(FailsWith(WebGpuDevice::Create({.library = folder / "none.so"}),
                        ErrorCode::kUnavailable, "none.so"));
  EXPECT_TRUE(FailsWith(WebGpuDevice::Create({.library = folder / ""}), ErrorCode::kUnavailable,
                        folder / ""));
}

TEST(WebGpuLibraryTest, AFileThatIsNoLibraryIsUnavailable) {
  const test::TemporaryFolder folder;
  std::ofstream(folder / "libwgpu_native.so") << "no library";
  EXPECT_TRUE(FailsWith(WebGpuDevice::Create({.library = folder / ""}), ErrorCode::kUnavailable,
                        "libwgpu_native.so"));
}

TEST(WebGpuLibraryTest, AnotherLibraryIsNotWgpuNative) {
  EXPECT_TRUE(FailsWith(WebGpuDevice::Create({.library = "libz.so.1"}), ErrorCode::kUnavailable,
                        "not wgpu-native"));
}

TEST(WebGpuLibraryTest, ALimitThatServesNothingIsRefused) {
  EXPECT_TRUE(FailsWith(WebGpuDevice::Create({.max_buffer_bytes = 100}),
                        ErrorCode::kInvalidArgument, "100"));
}

using WebGpuDeviceTest = WebGpuTest;

TEST_F(WebGpuDeviceTest, SaysWhatItIs) {
  const WebGpuAdapter& adapter = device().adapter();
  EXPECT_FALSE(adapter.name.empty());
  EXPECT_FALSE(adapter.driver.empty());
  EXPECT_EQ(adapter.backend == "Vulkan" || adapter.backend == "Metal" || adapter.backend == "D3D12",
            true)
      << adapter.backend;
  EXPECT_NE(adapter.library.find(" 29."), std::string::npos) << adapter.library;
  EXPECT_GE(device().limits().max_buffer_bytes, size_t{128} << 20);  // WebGPU's own least
  EXPECT_GE(device().limits().workgroup_bytes, 16384u);
  EXPECT_GE(device().limits().max_groups, 65535u);
  EXPECT_GE(device().limits().storage_buffers, 8u);
}

TEST_F(WebGpuDeviceTest, WithoutADriverThereIsNoGpu) {
  const test::NoVulkanDriver no_driver;
  EXPECT_TRUE(FailsWith(WebGpuDevice::Create(), ErrorCode::kUnavailable, "driver"));
}

TEST_F(WebGpuDeviceTest, HardwareAndSoftwareAreToldApart) {
  const auto software = WebGpuDevice::Create({.adapter = WebGpuAdapterChoice::kSoftware});
  const auto hardware = WebGpuDevice::Create({.adapter = WebGpuAdapterChoice::kHardware});
  if (software) {
    EXPECT_TRUE(software->adapter().software);
  } else {
    EXPECT_TRUE(FailsWith(software, ErrorCode::kUnavailable, "software"));
  }
  if (hardware) {
    EXPECT_FALSE(hardware->adapter().software);
  } else {
    EXPECT_TRUE(FailsWith(hardware, ErrorCode::kUnavailable, "hardware"));
  }
  EXPECT_TRUE(software || hardware);
  EXPECT_EQ(device().adapter().software, !hardware);
}

TEST_F(WebGpuDeviceTest, KernelsRunAndBuffersAreGivenBack) {
  webgpu::Gpu& gpu = *device().gpu();
  std::vector<uint32_t> words(1000);
  std::iota(words.begin(), words.end(), 0u);
  std::vector<uint32_t> doubled(words.size());
  const Result<void> ran = gpu.Guarded([&]() -> Result<void> {
    TQ_TRY(const webgpu::Buffer buffer, gpu.MakeBuffer("words", std::as_bytes(std::span(words))));
    EXPECT_EQ(device().HeldBytes(), 4000u);
    TQ_CHECK(gpu.Run({"double", kDouble}, {999, 0, 0, 0, 0, 0, 0, 7}, {&buffer}, 16));
    return gpu.Read(buffer, 0, std::as_writable_bytes(std::span(doubled)));
  });
  ASSERT_TRUE(ran) << ran.error().message;
  for (uint32_t i = 0; i < 999; ++i) EXPECT_EQ(doubled[i], 2 * i + 7);
  EXPECT_EQ(doubled[999], 999u);
  EXPECT_EQ(device().HeldBytes(), 0u);
}

// A dispatch has a thread for every row, and so many groups of threads only.
TEST_F(WebGpuDeviceTest, ASegmentHasNoMoreRowsThanADispatchHasThreads) {
  const webgpu::Gpu& gpu = *device().gpu();
  const auto rows = webgpu::Segments::LargestSegment(gpu, {.block_bytes = 16});
  ASSERT_TRUE(rows) << rows.error().message;
  EXPECT_LE(*rows, size_t{gpu.limits().max_groups} * webgpu::kThreads);
  EXPECT_GE(*rows, 4096u);
}

// Every workgroup's rows fit what any WebGPU device has, unless one row alone does not.
TEST(GroupShapeTest, FitsTheMemoryOfAWorkgroup) {
  constexpr size_t kLimit = 16384;
  for (const size_t dim : {2u, 20u, 64u, 80u, 127u, 128u, 256u, 1023u, 1024u, 2049u, 4100u}) {
    for (int bits = 1; bits <= 8; ++bits) {
      const auto core = MseCore::Create({.dim = dim, .bits = bits});
      ASSERT_TRUE(core) << core.error().message;
      const webgpu::GroupShape shape = webgpu::ChooseGroupShape(*core, 4, kLimit);
      const size_t bytes = webgpu::WorkgroupBytes(*core, 4, shape);
      EXPECT_TRUE(bytes <= kLimit || (shape.rows == 1 && !shape.codebook)) << dim << " " << bits;
      EXPECT_TRUE(std::has_single_bit(shape.rows));
      EXPECT_TRUE(dim != 128 || bits >= 6 || shape.rows == 8) << bits;
    }
  }
}

TEST_F(WebGpuDeviceTest, WhatIsSentArrivesWhole) {
  webgpu::Gpu& gpu = *device().gpu();
  std::vector<uint32_t> words(50000);
  const Result<void> done = gpu.Guarded([&]() -> Result<void> {
    TQ_TRY(const webgpu::Buffer buffer, gpu.MakeBuffer("words", words.size() * 4));
    // More often than there is staging memory, and growing.
    for (uint32_t round = 1; round <= 5; ++round) {
      const size_t bytes = words.size() / 5 * round * 4;
      TQ_CHECK(gpu.Upload(buffer, bytes, [&](std::span<std::byte> to) {
        const std::vector<uint32_t> sent(to.size() / 4, round);
        std::ranges::copy(std::as_bytes(std::span(sent)), to.begin());
      }));
      std::ranges::fill(words, 0);
      TQ_CHECK(gpu.Read(buffer, 0, std::as_writable_bytes(std::span(words))));
      EXPECT_EQ(static_cast<size_t>(std::ranges::count(words, round)), bytes / 4);
    }
    return {};
  });
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(device().HeldBytes(), 0u);
}

TEST_F(WebGpuDeviceTest, AShaderThatIsNoneIsRefusedWithItsReason) {
  webgpu::Gpu& gpu = *device().gpu();
  const auto compile = [&](std::string wgsl) {
    return gpu.Guarded([&]() -> Result<void> {
      TQ_CHECK(gpu.FindKernel("broken", wgsl));
      return {};
    });
  };
  EXPECT_TRUE(FailsWith(compile("fn main() { nonsense }"), ErrorCode::kUnsupported, "broken"));
  EXPECT_TRUE(compile(kDouble)) << "the device must be usable afterwards";
}

TEST_F(WebGpuDeviceTest, ABufferBeyondTheLimitIsUnsupported) {
  const auto small = WebGpuDevice::Create({.max_buffer_bytes = 4096});
  ASSERT_TRUE(small) << small.error().message;
  EXPECT_EQ(small->limits().max_buffer_bytes, 4096u);
  const auto done = small->gpu()->Guarded([&]() -> Result<void> {
    TQ_TRY(const webgpu::Buffer buffer, small->gpu()->MakeBuffer("rows", 4100));
    return {};
  });
  EXPECT_TRUE(FailsWith(done, ErrorCode::kUnsupported, "4100"));
}

TEST_F(WebGpuDeviceTest, FaultsOfOursAreErrorsAndNeverEndTheProcess) {
  webgpu::Gpu& gpu = *device().gpu();
  const Result<void> done = gpu.Guarded([&]() -> Result<void> {
    TQ_TRY(const webgpu::Buffer buffer, gpu.MakeBuffer("words", 16));
    gpu.Write(buffer, 8, std::vector<std::byte>(16));  // past the end
    return {};
  });
  EXPECT_TRUE(FailsWith(done, ErrorCode::kInternal, "refused"));
  const Result<void> bound = gpu.Guarded([&]() -> Result<void> {
    TQ_TRY(const webgpu::Buffer buffer, gpu.MakeBuffer("words", 16));
    return gpu.Run({"double", kDouble}, {4}, {&buffer, &buffer}, 1);  // one too many
  });
  EXPECT_TRUE(FailsWith(bound, ErrorCode::kInternal, "double"));
  std::vector<std::byte> beyond(32);
  const Result<void> read = gpu.Guarded([&]() -> Result<void> {
    TQ_TRY(const webgpu::Buffer buffer, gpu.MakeBuffer("words", 16));
    return gpu.Read(buffer, 0, beyond);
  });
  EXPECT_TRUE(FailsWith(read, ErrorCode::kInternal, "reading back"));
  EXPECT_TRUE(gpu.Guarded([]() -> Result<void> { return {}; }));
}

// Lets the process map only so many bytes more while it lives.
class MemoryLimit {
 public:
  explicit MemoryLimit(size_t more) {
    getrlimit(RLIMIT_AS, &before_);
    size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    rlimit limit = before_;
    limit.rlim_cur = pages * static_cast<size_t>(sysconf(_SC_PAGESIZE)) + more;
    setrlimit(RLIMIT_AS, &limit);
  }
  ~MemoryLimit() { setrlimit(RLIMIT_AS, &before_); }

 private:
  rlimit before_{};
};

TEST_F(WebGpuDeviceTest, MemoryThatIsOutIsUnavailable) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's own memory is beyond any limit";
#endif
  if (!device().adapter().software) GTEST_SKIP() << "only software takes the process's memory";
  webgpu::Gpu& gpu = *device().gpu();
  std::vector<webgpu::Buffer> buffers;
  const Result<void> done = gpu.Guarded([&]() -> Result<void> {
    const MemoryLimit limit(size_t{512} << 20);
    for (int i = 0; i < 8; ++i) {
      TQ_TRY(webgpu::Buffer buffer, gpu.MakeBuffer("the batch", size_t{128} << 20));
      buffers.push_back(std::move(buffer));
    }
    return {};
  });
  EXPECT_TRUE(FailsWith(done, ErrorCode::kUnavailable, "bytes for the batch"));
  EXPECT_LT(buffers.size(), 5u);
  buffers.clear();
  EXPECT_EQ(device().HeldBytes(), 0u);
  EXPECT_TRUE(gpu.Guarded([&]() -> Result<void> {
    TQ_TRY(const webgpu::Buffer buffer, gpu.MakeBuffer("a smaller one", 4096));
    return {};
  }));
}

TEST_F(WebGpuDeviceTest, ADestroyedDeviceFailsEveryCall) {
  webgpu::Gpu& gpu = *device().gpu();
  WebGpuDevice other = device();
  std::vector<uint32_t> words(4);
  const Result<void> done = gpu.Guarded([&]() -> Result<void> {
    TQ_TRY(const webgpu::Buffer buffer, gpu.MakeBuffer("words", 16));
    other.Destroy();
    gpu.Write(buffer, 0, std::as_bytes(std::span(words)));
    EXPECT_TRUE(FailsWith(gpu.Run({"double", kDouble}, {4}, {&buffer}, 1), ErrorCode::kUnavailable,
                          "lost"));
    return gpu.Read(buffer, 0, std::as_writable_bytes(std::span(words)));
  });
  EXPECT_TRUE(FailsWith(done, ErrorCode::kUnavailable, "lost"));
  EXPECT_TRUE(FailsWith(gpu.Guarded([]() -> Result<void> { return {}; }), ErrorCode::kUnavailable,
                        "destroyed"));
  other.Destroy();  // once more changes nothing
}

}  // namespace
}  // namespace turboquant
