#include "src/webgpu/library.h"

#include <dlfcn.h>

#include <string>
#include <string_view>
#include <type_traits>

#include "src/base/failure.h"
#include "src/base/shared_library.h"
#include "src/base/try.h"

namespace turboquant::webgpu {
namespace {

// The structs of webgpu.h change from one major version to the next.
constexpr uint32_t kMajorVersion = 29;

#ifdef __APPLE__
constexpr std::string_view kLibraryNames[] = {"libwgpu_native.dylib",
                                              "libwgpu_native-release.dylib"};
#else
constexpr std::string_view kLibraryNames[] = {"libwgpu_native.so", "libwgpu_native-release.so"};
#endif

#ifdef TURBOQUANT_WEBGPU_DIR
constexpr std::string_view kBuildFolder = TURBOQUANT_WEBGPU_DIR;
#else
constexpr std::string_view kBuildFolder;
#endif

std::string VersionText(uint32_t version) {
  std::string text;
  for (int shift = 24; shift >= 0; shift -= 8) {
    text += std::to_string(version >> shift & 0xFFu);
    if (shift > 0) text += '.';
  }
  return text;
}

Result<std::shared_ptr<const Library>> Bind(void* handle, const std::filesystem::path& path) {
  auto library = std::make_shared<Library>();
  library->path = path;
  std::string_view missing;
  const auto find = [&](std::string_view name, auto& function) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(
        dlsym(handle, std::string(name).c_str()));
    if (function == nullptr && missing.empty()) missing = name;
  };
  // First the version: another one lacks functions because it is another one.
  find("wgpuGetVersion", library->GetVersion);
  if (library->GetVersion == nullptr) {
    return Fail(ErrorCode::kUnavailable, "'", path.native(), "' is not wgpu-native");
  }
  const uint32_t version = library->GetVersion();
  library->version = VersionText(version);
  if (version >> 24 != kMajorVersion) {
    return Fail(ErrorCode::kUnsupported, "wgpu-native must be version ", kMajorVersion, ", '",
                path.native(), "' is ", library->version);
  }
#define TQ_WEBGPU_FIND(name) find("wgpu" #name, library->name);
  TQ_WEBGPU_FUNCTIONS(TQ_WEBGPU_FIND)
#undef TQ_WEBGPU_FIND
  if (!missing.empty()) {
    return Fail(ErrorCode::kUnsupported, "'", path.native(), "' (wgpu-native ", library->version,
                ") lacks ", missing);
  }
  library->SetLogLevel(WGPULogLevel_Off);  // what matters comes back as an error
  return library;
}

}  // namespace

Result<std::shared_ptr<const Library>> LoadLibrary(const WebGpuDeviceOptions& options) {
  const LibraryNames names = {"wgpu-native", kLibraryNames, {}, kBuildFolder};
  TQ_TRY(const SharedLibrary found, LoadSharedLibrary(names, options.library, options.folders));
  return Bind(found.handle, found.path);
}

}  // namespace turboquant::webgpu
