// A machine without a GPU, for a while.
#ifndef TURBOQUANT_TESTS_SUPPORT_NO_VULKAN_DRIVER_H_
#define TURBOQUANT_TESTS_SUPPORT_NO_VULKAN_DRIVER_H_

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

namespace turboquant::test {

// Names a file that is not there as the only Vulkan driver while it lives.
class NoVulkanDriver {
 public:
  NoVulkanDriver() {
    for (const char* name : {"VK_ICD_FILENAMES", "VK_DRIVER_FILES"}) {
      const char* before = std::getenv(name);
      before_.emplace_back(name, before == nullptr ? "" : before);
      setenv(name, "/nonexistent.json", 1);
    }
  }
  ~NoVulkanDriver() {
    for (const auto& [name, value] : before_) {
      value.empty() ? unsetenv(name.c_str()) : setenv(name.c_str(), value.c_str(), 1);
    }
  }
  NoVulkanDriver(const NoVulkanDriver&) = delete;
  NoVulkanDriver& operator=(const NoVulkanDriver&) = delete;

 private:
  std::vector<std::pair<std::string, std::string>> before_;
};

}  // namespace turboquant::test

#endif  // TURBOQUANT_TESTS_SUPPORT_NO_VULKAN_DRIVER_H_
