#include "turboquant/onnx/runtime.h"

#include <dlfcn.h>

#include <memory>
#include <string_view>
#include <utility>

#include "src/base/failure.h"
#include "src/base/shared_library.h"
#include "src/base/try.h"
#include "src/onnx/ort.h"

namespace turboquant {
namespace {

// The floor, not the version of the headers: a library answers every version up to its own.
constexpr uint32_t kApiVersion = 17;

#ifdef __APPLE__
constexpr std::string_view kLibraryNames[] = {"libonnxruntime.dylib"};
constexpr std::string_view kVersionedPrefix = "libonnxruntime.1";
#else
constexpr std::string_view kLibraryNames[] = {"libonnxruntime.so.1", "libonnxruntime.so"};
constexpr std::string_view kVersionedPrefix = "libonnxruntime.so.";
#endif

#ifdef TURBOQUANT_ONNXRUNTIME_DIR
constexpr std::string_view kBuildFolder = TURBOQUANT_ONNXRUNTIME_DIR;
#else
constexpr std::string_view kBuildFolder;
#endif

// Its messages would go to standard error; what matters comes back as a status.
void ORT_API_CALL DropMessage(void*, OrtLoggingLevel, const char*, const char*, const char*,
                              const char*) {}

Result<OnnxRuntime::State> Start(void* library, const std::filesystem::path& path) {
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

}  // namespace

Result<OnnxRuntime> OnnxRuntime::Load(const OnnxRuntimeOptions& options) {
  const LibraryNames names = {"ONNX Runtime", kLibraryNames, kVersionedPrefix, kBuildFolder};
  TQ_TRY(const SharedLibrary found, LoadSharedLibrary(names, options.library, options.folders));
  TQ_TRY(State state, Start(found.handle, found.path));
  return OnnxRuntime(std::make_shared<const State>(std::move(state)));
}

std::string_view OnnxRuntime::version() const { return state_->version; }

const std::filesystem::path& OnnxRuntime::library() const { return state_->library; }

}  // namespace turboquant
