#include "src/webgpu/library.h"

#include <dlfcn.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <string_view>
#include <system_error>
#include <vector>

#include "src/base/failure.h"

namespace turboquant::webgpu {
namespace {

namespace fs = std::filesystem;

// The structs of webgpu.h change from one major version to the next.
constexpr uint32_t kMajorVersion = 29;

#ifdef __APPLE__
constexpr std::string_view kLibraryNames[] = {"libwgpu_native.dylib",
                                              "libwgpu_native-release.dylib"};
#else
constexpr std::string_view kLibraryNames[] = {"libwgpu_native.so", "libwgpu_native-release.so"};
#endif

std::optional<fs::path> LibraryIn(const fs::path& folder) {
  std::error_code ignored;
  for (const std::string_view name : kLibraryNames) {
    if (fs::exists(folder / name, ignored)) return folder / name;
  }
  return std::nullopt;
}

// Where the code that runs this lies: a program's folder, or that of a library.
std::optional<fs::path> OwnFolder() {
  Dl_info found;
  if (dladdr(reinterpret_cast<const void*>(&OwnFolder), &found) == 0 || !found.dli_fname) {
    return std::nullopt;
  }
  std::error_code failed;
  const fs::path self = fs::canonical(found.dli_fname, failed);
  if (failed) return std::nullopt;
  return self.parent_path();
}

std::vector<fs::path> UsualFolders() {
  std::vector<fs::path> folders;
  if (const std::optional<fs::path> own = OwnFolder()) {
    folders.push_back(*own);
    folders.push_back(own->parent_path() / "lib");
  }
#ifdef TURBOQUANT_WEBGPU_DIR
  folders.emplace_back(TURBOQUANT_WEBGPU_DIR);
#endif
  return folders;
}

std::string VersionText(uint32_t version) {
  std::string text;
  for (int shift = 24; shift >= 0; shift -= 8) {
    text += std::to_string(version >> shift & 0xFFu);
    if (shift > 0) text += '.';
  }
  return text;
}

Result<std::shared_ptr<const Library>> Bind(void* handle, const fs::path& path) {
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

void* Open(const fs::path& path) { return dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL); }

std::string LastLoaderError() {
  const char* message = dlerror();
  return message == nullptr ? "no reason given" : message;
}

Result<std::shared_ptr<const Library>> LoadGiven(const fs::path& given) {
  std::error_code ignored;
  fs::path path = given;
  if (fs::is_directory(given, ignored)) {
    const std::optional<fs::path> inside = LibraryIn(given);
    if (!inside) {
      return Fail(ErrorCode::kUnavailable, "no wgpu-native library in '", given.native(), "'");
    }
    path = *inside;
  }
  void* handle = Open(path);
  if (handle == nullptr) {
    return Fail(ErrorCode::kUnavailable, "wgpu-native cannot be loaded: ", LastLoaderError());
  }
  return Bind(handle, path);
}

Result<std::shared_ptr<const Library>> LoadFound(std::vector<fs::path> folders) {
  std::ranges::copy(UsualFolders(), std::back_inserter(folders));
  std::string looked;
  for (const fs::path& folder : folders) {
    if (const std::optional<fs::path> path = LibraryIn(folder)) {
      if (void* handle = Open(*path)) return Bind(handle, *path);
      looked += "'" + path->native() + "' (" + LastLoaderError() + "), ";
    } else {
      looked += "'" + folder.native() + "', ";
    }
  }
  for (const std::string_view name : kLibraryNames) {
    if (void* handle = Open(name)) return Bind(handle, name);
  }
  return Fail(ErrorCode::kUnavailable, "no wgpu-native library found; looked in ", looked,
              "and for ", kLibraryNames[0], " on the system's library path");
}

}  // namespace

Result<std::shared_ptr<const Library>> LoadLibrary(const WebGpuDeviceOptions& options) {
  return options.library.empty() ? LoadFound(options.folders) : LoadGiven(options.library);
}

}  // namespace turboquant::webgpu
