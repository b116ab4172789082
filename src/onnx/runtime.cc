#include "turboquant/onnx/runtime.h"

#include <dlfcn.h>

#include <algorithm>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/onnx/ort.h"

namespace turboquant {
namespace {

namespace fs = std::filesystem;

// The floor, not the version of the headers: a library answers every version up to its own.
constexpr uint32_t kApiVersion = 17;

#ifdef __APPLE__
constexpr std::string_view kLibraryNames[] = {"libonnxruntime.dylib"};
constexpr std::string_view kVersionedPrefix = "libonnxruntime.1";
#else
constexpr std::string_view kLibraryNames[] = {"libonnxruntime.so.1", "libonnxruntime.so"};
constexpr std::string_view kVersionedPrefix = "libonnxruntime.so.";
#endif

// The library in a folder, under any of the names that packages give it.
std::optional<fs::path> LibraryIn(const fs::path& folder) {
  std::error_code ignored;
  for (const std::string_view name : kLibraryNames) {
    if (fs::exists(folder / name, ignored)) return folder / name;
  }
  std::optional<fs::path> newest;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(kVersionedPrefix) && (!newest || *newest < entry.path())) {
      newest = entry.path();
    }
  }
  return newest;
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
#ifdef TURBOQUANT_ONNXRUNTIME_DIR
  folders.emplace_back(TURBOQUANT_ONNXRUNTIME_DIR);
#endif
  return folders;
}

// Its messages would go to standard error; what matters comes back as a status.
void ORT_API_CALL DropMessage(void*, OrtLoggingLevel, const char*, const char*, const char*,
                              const char*) {}

Result<OnnxRuntime::State> Start(void* library, const fs::path& path) {
  using GetBase = const OrtApiBase*(ORT_API_CALL*)();
  const auto get_base = reinterpret_cast<GetBase>(dlsym(library, "OrtGetApiBase"));
  if (get_base == nullptr) {
    return Fail(ErrorCode::kUnavailable, "'", path.native(), "' is not ONNX Runtime");
  }
  OnnxRuntime::State state;
  state.library = path;
  state.version = get_base()->GetVersionString();
  state.api = get_base()->GetApi(kApiVersion);
  if (state.api == nullptr) {
    return Fail(ErrorCode::kUnsupported, "ONNX Runtime must be 1.", kApiVersion, " or newer, '",
                path.native(), "' is ", state.version);
  }
  TQ_CHECK(ort::Check(*state.api,
                      state.api->CreateEnvWithCustomLogger(
                          DropMessage, nullptr, ORT_LOGGING_LEVEL_FATAL, "turboquant", &state.env),
                      ErrorCode::kInternal, "starting ONNX Runtime"));
  return state;
}

void* Open(const fs::path& path) { return dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL); }

std::string LastLoaderError() {
  const char* message = dlerror();
  return message == nullptr ? "no reason given" : message;
}

Result<OnnxRuntime::State> LoadGiven(const fs::path& given) {
  std::error_code ignored;
  fs::path path = given;
  if (fs::is_directory(given, ignored)) {
    const std::optional<fs::path> inside = LibraryIn(given);
    if (!inside) {
      return Fail(ErrorCode::kUnavailable, "no ONNX Runtime library in '", given.native(), "'");
    }
    path = *inside;
  }
  void* library = Open(path);
  if (library == nullptr) {
    return Fail(ErrorCode::kUnavailable, "ONNX Runtime cannot be loaded: ", LastLoaderError());
  }
  return Start(library, path);
}

Result<OnnxRuntime::State> LoadFound(std::vector<fs::path> folders) {
  std::ranges::copy(UsualFolders(), std::back_inserter(folders));
  std::string looked;
  for (const fs::path& folder : folders) {
    if (const std::optional<fs::path> path = LibraryIn(folder)) {
      if (void* library = Open(*path)) return Start(library, *path);
      looked += "'" + path->native() + "' (" + LastLoaderError() + "), ";
    } else {
      looked += "'" + folder.native() + "', ";
    }
  }
  for (const std::string_view name : kLibraryNames) {
    if (void* library = Open(name)) return Start(library, name);
  }
  return Fail(ErrorCode::kUnavailable, "no ONNX Runtime library found; looked in ", looked,
              "and for ", kLibraryNames[0], " on the system's library path");
}

}  // namespace

Result<OnnxRuntime> OnnxRuntime::Load(const OnnxRuntimeOptions& options) {
  TQ_TRY(State state,
         options.library.empty() ? LoadFound(options.folders) : LoadGiven(options.library));
  return OnnxRuntime(std::make_shared<const State>(std::move(state)));
}

std::string_view OnnxRuntime::version() const { return state_->version; }

const std::filesystem::path& OnnxRuntime::library() const { return state_->library; }

}  // namespace turboquant
