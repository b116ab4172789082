#include <algorithm>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/storage/option_names.h"
#include "src/storage/snapshot_state.h"
#include "src/storage/tensor_elements.h"
#include "src/storage/text.h"

namespace turboquant {

Result<std::span<const std::byte>> SnapshotTensors::Get(const std::string& name, TensorType type,
                                                        std::span<const size_t> shape) {
  const TensorView* tensor = file_.Find(name);
  if (tensor == nullptr) {
    return Fail(ErrorCode::kCorruptData, "the snapshot needs tensor '", name,
                "', which is missing");
  }
  if (tensor->type != type) {
    return Fail(ErrorCode::kCorruptData, "tensor '", name, "' has dtype ",
                TensorTypeName(tensor->type), ", not ", TensorTypeName(type));
  }
  if (!std::ranges::equal(tensor->shape, shape)) {
    return Fail(ErrorCode::kCorruptData, "tensor '", name, "' has shape ", ShapeText(tensor->shape),
                ", not ", ShapeText(shape));
  }
  asked_.insert(name);
  return tensor->bytes;
}

Result<std::span<const std::byte>> SnapshotTensors::GetVector(const std::string& name,
                                                              TensorType type) {
  const TensorView* tensor = file_.Find(name);
  const bool vector = tensor != nullptr && tensor->shape.size() == 1;
  const size_t shape[] = {vector ? tensor->shape[0] : 0};
  return Get(name, type, shape);
}

Result<void> SnapshotTensors::CheckNoOthers() const {
  for (const TensorView& tensor : file_.tensors()) {
    if (asked_.contains(tensor.name)) continue;
    return Fail(ErrorCode::kCorruptData, "the snapshot has no tensor ", Quoted(tensor.name));
  }
  return {};
}

Result<std::shared_ptr<const KeyMap>> ReadKeyMap(const SnapshotMetadata& metadata,
                                                 SnapshotTensors& tensors) {
  const KeyMapKind kind = OptionOf(kKeyMapNames, metadata.Text("key_map_held"));
  if (kind == KeyMapKind::kNone) {
    if (!metadata.Flag("key_map_given")) return nullptr;
    return Fail(ErrorCode::kCorruptData, "the snapshot contradicts itself", metadata.InWhat(),
                ": key_map_given is 'true', but none is held");
  }
  const std::string prefix = metadata.prefix() + "key_map.";
  const size_t heads = metadata.Number("kv_heads");
  const size_t dim = metadata.Number("head_dim");
  const size_t shape[] = {heads, dim, dim};
  TQ_TRY(const auto center,
         tensors.Get(prefix + "center", TensorType::kF32, std::span(shape).first(2)));
  std::span<const std::byte> map;
  if (kind == KeyMapKind::kDiagonal) {
    TQ_TRY(map, tensors.Get(prefix + "scale", TensorType::kF32, std::span(shape).first(2)));
  } else if (kind == KeyMapKind::kFull) {
    TQ_TRY(map, tensors.Get(prefix + "matrix", TensorType::kF32, shape));
  }
  std::span<const std::byte> weights;
  if (metadata.Has("query_weights_held")) {
    TQ_TRY(weights,
           tensors.Get(prefix + "query_weights", TensorType::kF32, std::span(shape).first(2)));
  }
  auto made = KeyMap::FromNumbers(kind, heads, dim, ElementsOf<float>(center),
                                  ElementsOf<float>(map), ElementsOf<float>(weights));
  if (!made) {
    return Fail(ErrorCode::kCorruptData, "tensors '", prefix, "*': ", made.error().message);
  }
  return std::make_shared<const KeyMap>(*std::move(made));
}

Result<void> ReadFrequencies(const SnapshotMetadata& metadata, SnapshotTensors& tensors,
                             KvCacheOptions& options) {
  if (!options.rope) return {};
  TQ_TRY(const auto bytes,
         tensors.GetVector(metadata.prefix() + "rope.inverse_frequencies", TensorType::kF64));
  options.rope->inverse_frequencies = ElementsOf<double>(bytes);
  return {};
}

}  // namespace turboquant
