// ONNX Runtime sessions and tensors, as the decoder needs them.
#ifndef TURBOQUANT_SRC_ONNX_SESSION_H_
#define TURBOQUANT_SRC_ONNX_SESSION_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "src/onnx/decoder_contract.h"
#include "src/onnx/ort.h"
#include "turboquant/error.h"

namespace turboquant::ort {

// Errors: kModel.
[[nodiscard]] Result<Session> OpenSession(const OnnxRuntime& runtime,
                                          const std::filesystem::path& model, int threads);

// Inputs, or outputs, as the graph declares them.
[[nodiscard]] Result<std::vector<OnnxTensor>> Inputs(const OrtApi& api, const OrtSession& session);
[[nodiscard]] Result<std::vector<OnnxTensor>> Outputs(const OrtApi& api, const OrtSession& session);

// Tensors of memory that someone else holds, bound by name for one run.
class Run {
 public:
  // Errors of all calls: kModel, as the runtime words them.
  [[nodiscard]] static Result<Run> Create(const OrtApi& api, OrtSession& session);

  [[nodiscard]] Result<void> BindInput(const std::string& name, OnnxElement element,
                                       std::span<const int64_t> shape, void* elements);
  [[nodiscard]] Result<void> BindOutput(const std::string& name, OnnxElement element,
                                        std::span<const int64_t> shape, void* elements);
  [[nodiscard]] Result<void> Go();

 private:
  Run(const OrtApi& api, OrtSession& session, Binding binding, Owned<OrtMemoryInfo> memory)
      : api_(&api), session_(&session), binding_(std::move(binding)), memory_(std::move(memory)) {}
  [[nodiscard]] Result<Value> MakeValue(const std::string& name, OnnxElement element,
                                        std::span<const int64_t> shape, void* elements) const;

  const OrtApi* api_;
  OrtSession* session_;
  Binding binding_;
  Owned<OrtMemoryInfo> memory_;
};

// Bytes of one element; elements of other types are never bound.
size_t ElementBytes(OnnxElement element);

}  // namespace turboquant::ort

#endif  // TURBOQUANT_SRC_ONNX_SESSION_H_
