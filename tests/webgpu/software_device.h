// A device for the tests: software where there is any, which is what CI has.
#ifndef TURBOQUANT_TESTS_WEBGPU_SOFTWARE_DEVICE_H_
#define TURBOQUANT_TESTS_WEBGPU_SOFTWARE_DEVICE_H_

#include <gtest/gtest.h>

#include <optional>
#include <utility>

#include "turboquant/webgpu/device.h"

namespace turboquant {

// Lavapipe's LLVM leaks what it holds whenever the driver is unloaded: this one keeps it loaded.
inline const auto* const kKeepsTheDriverLoaded = new Result<WebGpuDevice>(WebGpuDevice::Create());

// Tests that need a device; skipped, with the reason, where there is none.
class WebGpuTest : public testing::Test {
 protected:
  void SetUp() override {
    Result<WebGpuDevice> found = WebGpuDevice::Create();
    if (!found) GTEST_SKIP() << found.error().message;
    device_.emplace(*std::move(found));
  }
  const WebGpuDevice& device() const { return *device_; }

 private:
  std::optional<WebGpuDevice> device_;
};

}  // namespace turboquant

#endif  // TURBOQUANT_TESTS_WEBGPU_SOFTWARE_DEVICE_H_
