#include "src/storage/safetensors_writer.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "src/base/failure.h"
#include "src/base/mapped_file.h"
#include "src/base/try.h"
#include "src/storage/tensor_elements.h"
#include "src/storage/text.h"

namespace turboquant {
namespace {

constexpr size_t kBodyAlignment = 8;

Result<void> CheckTensor(const TensorView& tensor) {
  if (tensor.name == kMetadataKey) {
    return Fail(ErrorCode::kInvalidArgument, "a tensor cannot be named ", Quoted(kMetadataKey));
  }
  if (tensor.type == TensorType::kUnknown) {
    return Fail(ErrorCode::kInvalidArgument, "tensor ", Quoted(tensor.name), " has no known type");
  }
  const std::optional<size_t> elements = ElementCount(tensor.shape);
  const std::optional<size_t> bytes =
      elements ? CheckedMultiply(*elements, TensorTypeBytes(tensor.type)) : std::nullopt;
  if (bytes != tensor.bytes.size()) {
    return Fail(ErrorCode::kInvalidArgument, "tensor ", Quoted(tensor.name), " of ",
                TensorTypeName(tensor.type), " with shape ", ShapeText(tensor.shape), " has ",
                tensor.bytes.size(), " bytes");
  }
  return {};
}

// A text is valid in a header if our own reader takes it.
Result<void> CheckUtf8(std::string_view what, const std::string& text) {
  if (ParseHeader(FormatHeader({.tensors = {}, .metadata = {{text, ""}}}))) return {};
  return Fail(ErrorCode::kInvalidArgument, what, " ", Quoted(text), " is not UTF-8");
}

Result<void> CheckMetadata(const StringMap& metadata) {
  for (const auto& [key, text] : metadata) {
    TQ_CHECK(CheckUtf8("metadata key", key));
    TQ_CHECK(CheckUtf8("metadata text", text));
  }
  return {};
}

// Length and header, padded with spaces.
Result<std::vector<std::byte>> FormatHead(const SafetensorsHeader& header) {
  std::string text = FormatHeader(header);
  text.resize(RoundUp(text.size(), kBodyAlignment), ' ');
  if (text.size() > kMaxHeaderBytes) {
    return Fail(ErrorCode::kInvalidArgument, "the header would have ", text.size(),
                " bytes, more than ", kMaxHeaderBytes);
  }
  const uint64_t length = text.size();
  std::vector<std::byte> head(sizeof(length) + text.size());
  std::memcpy(head.data(), &length, sizeof(length));
  std::memcpy(head.data() + sizeof(length), text.data(), text.size());
  return head;
}

}  // namespace

Result<FileLayout> LayOut(std::span<const TensorView> tensors, const StringMap& metadata) {
  TQ_CHECK(CheckMetadata(metadata));
  std::vector<const TensorView*> in_order;
  for (const TensorView& tensor : tensors) {
    TQ_CHECK(CheckTensor(tensor));
    TQ_CHECK(CheckUtf8("tensor name", tensor.name));
    in_order.push_back(&tensor);
  }
  std::ranges::sort(in_order, {}, [](const TensorView* tensor) {
    return std::pair(-static_cast<int>(TensorTypeBytes(tensor->type)),
                     std::string_view(tensor->name));
  });
  FileLayout layout{.header = {.tensors = {}, .metadata = metadata}, .body = {}};
  size_t offset = 0;
  for (const TensorView* tensor : in_order) {
    const std::optional<size_t> end = CheckedAdd(offset, tensor->bytes.size());
    if (!end) return Fail(ErrorCode::kInvalidArgument, "the tensors' bytes overflow a size");
    const HeaderTensor entry{std::string(TensorTypeName(tensor->type)), tensor->shape, offset,
                             *end};
    if (!layout.header.tensors.emplace(tensor->name, entry).second) {
      return Fail(ErrorCode::kInvalidArgument, "tensor ", Quoted(tensor->name), " is given twice");
    }
    layout.body.push_back(tensor->bytes);
    offset = *end;
  }
  return layout;
}

Result<std::vector<std::byte>> Serialize(const FileLayout& layout) {
  TQ_TRY(std::vector<std::byte> bytes, FormatHead(layout.header));
  for (const auto piece : layout.body) bytes.insert(bytes.end(), piece.begin(), piece.end());
  return bytes;
}

Result<void> Write(const std::filesystem::path& path, const FileLayout& layout) {
  TQ_TRY(const std::vector<std::byte> head, FormatHead(layout.header));
  std::vector<std::span<const std::byte>> pieces = {head};
  pieces.insert(pieces.end(), layout.body.begin(), layout.body.end());
  return WriteFileAtomically(path, pieces);
}

Result<std::vector<std::byte>> SerializeSafetensors(std::span<const TensorView> tensors,
                                                    const StringMap& metadata) {
  TQ_TRY(const FileLayout layout, LayOut(tensors, metadata));
  return Serialize(layout);
}

Result<void> WriteSafetensors(const std::filesystem::path& path,
                              std::span<const TensorView> tensors, const StringMap& metadata) {
  TQ_TRY(const FileLayout layout, LayOut(tensors, metadata));
  return Write(path, layout);
}

}  // namespace turboquant
