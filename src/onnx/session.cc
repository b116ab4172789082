#include "src/onnx/session.h"

#include <numeric>
#include <utility>

#include "src/base/failure.h"
#include "src/base/try.h"

namespace turboquant::ort {
namespace {

OnnxElement FromOrt(ONNXTensorElementDataType type) {
  switch (type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
      return OnnxElement::kF32;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16:
      return OnnxElement::kF16;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64:
      return OnnxElement::kI64;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32:
      return OnnxElement::kI32;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL:
      return OnnxElement::kBool;
    default:
      return OnnxElement::kOther;
  }
}

ONNXTensorElementDataType ToOrt(OnnxElement element) {
  switch (element) {
    case OnnxElement::kF32:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    case OnnxElement::kF16:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
    case OnnxElement::kI64:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
    case OnnxElement::kI32:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
    case OnnxElement::kBool:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL;
    case OnnxElement::kOther:
      break;
  }
  return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
}

Result<void> Check(const OrtApi& api, OrtStatus* status, std::string_view tried) {
  return ort::Check(api, status, ErrorCode::kModel, tried);
}

// Sequences and maps, which are no tensors, keep the element kOther and no shape.
Result<void> Describe(const OrtApi& api, const OrtTypeInfo& type, OnnxTensor& tensor) {
  const OrtTensorTypeAndShapeInfo* shaped = nullptr;
  TQ_CHECK(Check(api, api.CastTypeInfoToTensorInfo(&type, &shaped), tensor.name));
  if (shaped == nullptr) return {};
  ONNXTensorElementDataType element = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  TQ_CHECK(Check(api, api.GetTensorElementType(shaped, &element), tensor.name));
  tensor.element = FromOrt(element);
  size_t rank = 0;
  TQ_CHECK(Check(api, api.GetDimensionsCount(shaped, &rank), tensor.name));
  tensor.shape.resize(rank);
  return Check(api, api.GetDimensions(shaped, tensor.shape.data(), rank), tensor.name);
}

// The functions that list inputs, or outputs.
struct Listing {
  decltype(OrtApi::SessionGetInputCount) count;
  decltype(OrtApi::SessionGetInputName) name;
  decltype(OrtApi::SessionGetInputTypeInfo) type;
};

Result<std::vector<OnnxTensor>> List(const OrtApi& api, const OrtSession& session,
                                     const Listing& listing) {
  OrtAllocator* allocator = nullptr;  // the runtime's own, never released
  TQ_CHECK(Check(api, api.GetAllocatorWithDefaultOptions(&allocator), "the graph"));
  size_t count = 0;
  TQ_CHECK(Check(api, listing.count(&session, &count), "the graph"));
  std::vector<OnnxTensor> tensors(count);
  for (size_t i = 0; i < count; ++i) {
    char* name = nullptr;
    TQ_CHECK(Check(api, listing.name(&session, i, allocator, &name), "the graph"));
    tensors[i].name = name;
    TQ_CHECK(Check(api, api.AllocatorFree(allocator, name), "the graph"));
    OrtTypeInfo* type = nullptr;
    TQ_CHECK(Check(api, listing.type(&session, i, &type), tensors[i].name));
    const Owned<OrtTypeInfo> owned(type, api.ReleaseTypeInfo);
    TQ_CHECK(Describe(api, *owned, tensors[i]));
  }
  return tensors;
}

}  // namespace

size_t ElementBytes(OnnxElement element) {
  switch (element) {
    case OnnxElement::kI64:
      return 8;
    case OnnxElement::kF16:
      return 2;
    case OnnxElement::kBool:
      return 1;
    default:
      return 4;
  }
}

Result<Session> OpenSession(const OnnxRuntime& runtime, const std::filesystem::path& model,
                            int threads) {
  const OrtApi& api = *runtime.state().api;
  const std::string name = "'" + model.native() + "'";
  OrtSessionOptions* made = nullptr;
  TQ_CHECK(Check(api, api.CreateSessionOptions(&made), name));
  const Owned<OrtSessionOptions> options(made, api.ReleaseSessionOptions);
  TQ_CHECK(Check(api, api.SetIntraOpNumThreads(options.get(), threads), name));
  // Shapes change with every step, so there is no pattern; and threads that spin between steps take
  // the cores that quantization wants.
  TQ_CHECK(Check(api, api.DisableMemPattern(options.get()), name));
  TQ_CHECK(Check(
      api, api.AddSessionConfigEntry(options.get(), "session.intra_op.allow_spinning", "0"), name));
  OrtSession* session = nullptr;
  TQ_CHECK(Check(
      api, api.CreateSession(runtime.state().env, model.c_str(), options.get(), &session), name));
  return Session(session, api.ReleaseSession);
}

Result<std::vector<OnnxTensor>> Inputs(const OrtApi& api, const OrtSession& session) {
  return List(api, session,
              {api.SessionGetInputCount, api.SessionGetInputName, api.SessionGetInputTypeInfo});
}

Result<std::vector<OnnxTensor>> Outputs(const OrtApi& api, const OrtSession& session) {
  return List(api, session,
              {api.SessionGetOutputCount, api.SessionGetOutputName, api.SessionGetOutputTypeInfo});
}

Result<Run> Run::Create(const OrtApi& api, OrtSession& session) {
  OrtIoBinding* binding = nullptr;
  TQ_CHECK(Check(api, api.CreateIoBinding(&session, &binding), "a run"));
  Binding owned(binding, api.ReleaseIoBinding);
  OrtMemoryInfo* memory = nullptr;
  TQ_CHECK(
      Check(api, api.CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory), "a run"));
  return Run(api, session, std::move(owned), {memory, api.ReleaseMemoryInfo});
}

Result<Value> Run::MakeValue(const std::string& name, OnnxElement element,
                             std::span<const int64_t> shape, void* elements) const {
  size_t bytes = ElementBytes(element);
  for (const int64_t size : shape) bytes *= static_cast<size_t>(size);
  OrtValue* value = nullptr;
  TQ_CHECK(Check(*api_,
                 api_->CreateTensorWithDataAsOrtValue(memory_.get(), elements, bytes, shape.data(),
                                                      shape.size(), ToOrt(element), &value),
                 name));
  return Value(value, api_->ReleaseValue);
}

Result<void> Run::BindInput(const std::string& name, OnnxElement element,
                            std::span<const int64_t> shape, void* elements) {
  TQ_TRY(const Value value, MakeValue(name, element, shape, elements));
  return Check(*api_, api_->BindInput(binding_.get(), name.c_str(), value.get()), name);
}

Result<void> Run::BindOutput(const std::string& name, OnnxElement element,
                             std::span<const int64_t> shape, void* elements) {
  TQ_TRY(const Value value, MakeValue(name, element, shape, elements));
  return Check(*api_, api_->BindOutput(binding_.get(), name.c_str(), value.get()), name);
}

Result<void> Run::Go() {
  return Check(*api_, api_->RunWithBinding(session_, nullptr, binding_.get()), "the graph");
}

}  // namespace turboquant::ort
