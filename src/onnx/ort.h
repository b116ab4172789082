// ONNX Runtime's C API with owners for its objects and errors as values.
#ifndef TURBOQUANT_SRC_ONNX_ORT_H_
#define TURBOQUANT_SRC_ONNX_ORT_H_

#include <onnxruntime_c_api.h>

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "src/base/failure.h"
#include "turboquant/onnx/runtime.h"

namespace turboquant {

struct OnnxRuntime::State {
  const OrtApi* api = nullptr;
  std::string version;
  std::filesystem::path library;
  OrtEnv* env = nullptr;  // the process's one, never released
};

namespace ort {

// Objects that the API's own Release functions end.
template <class T>
using Owned = std::unique_ptr<T, void(ORT_API_CALL*)(T*)>;

using Session = Owned<OrtSession>;
using Value = Owned<OrtValue>;
using Binding = Owned<OrtIoBinding>;

// An error of `code` with what was tried in front, if the status is one. Ends the status.
inline Result<void> Check(const OrtApi& api, OrtStatus* status, ErrorCode code,
                          std::string_view tried) {
  if (status == nullptr) return {};
  std::string message = api.GetErrorMessage(status);
  api.ReleaseStatus(status);
  for (char& c : message) {
    if (c == '\n') c = ' ';
  }
  return Fail(code, tried, ": ", message);
}

}  // namespace ort
}  // namespace turboquant

#endif  // TURBOQUANT_SRC_ONNX_ORT_H_
