// ONNX Runtime, loaded when a program first wants it and never linked.
#ifndef TURBOQUANT_ONNX_RUNTIME_H_
#define TURBOQUANT_ONNX_RUNTIME_H_

#include <filesystem>
#include <memory>
#include <string_view>
#include <vector>

#include "turboquant/error.h"

namespace turboquant {

struct OnnxRuntimeOptions {
  // The library or the folder it lies in; given, nothing else is tried.
  std::filesystem::path library = {};
  // Folders to look into before the usual places, e.g. onnxruntime/capi of a Python environment.
  std::vector<std::filesystem::path> folders = {};
};

// Copies share the library, which stays loaded to the end of the process: its threads would not
// outlive it. Safe to share between threads.
class OnnxRuntime {
 public:
  // Looks in options.folders, beside the program or library this code is part of, in the folder
  // that this build was told of, and on the system's library path. Any version from 1.17 on serves.
  // Errors: kUnavailable naming every place looked at; kUnsupported for an older library.
  [[nodiscard]] static Result<OnnxRuntime> Load(const OnnxRuntimeOptions& options = {});

  std::string_view version() const;              // "1.32.0"
  const std::filesystem::path& library() const;  // the file, or the name the system resolved

  // For the library's own use.
  struct State;
  const State& state() const { return *state_; }

 private:
  explicit OnnxRuntime(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  std::shared_ptr<const State> state_;
};

}  // namespace turboquant

#endif  // TURBOQUANT_ONNX_RUNTIME_H_
