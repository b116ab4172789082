#include "turboquant/safetensors.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "src/base/failure.h"
#include "src/base/half.h"
#include "src/base/mapped_file.h"
#include "src/base/try.h"
#include "src/storage/safetensors_header.h"
#include "src/storage/tensor_elements.h"
#include "src/storage/text.h"

namespace turboquant {
namespace {

struct TypeRow {
  TensorType type;
  std::string_view name;
  size_t bytes;
};

constexpr std::array<TypeRow, 15> kTypes = {{
    {TensorType::kBool, "BOOL", 1},
    {TensorType::kU8, "U8", 1},
    {TensorType::kI8, "I8", 1},
    {TensorType::kF8E4M3, "F8_E4M3", 1},
    {TensorType::kF8E5M2, "F8_E5M2", 1},
    {TensorType::kU16, "U16", 2},
    {TensorType::kI16, "I16", 2},
    {TensorType::kF16, "F16", 2},
    {TensorType::kBF16, "BF16", 2},
    {TensorType::kU32, "U32", 4},
    {TensorType::kI32, "I32", 4},
    {TensorType::kF32, "F32", 4},
    {TensorType::kU64, "U64", 8},
    {TensorType::kI64, "I64", 8},
    {TensorType::kF64, "F64", 8},
}};

TensorType ParseTensorType(std::string_view name) {
  const auto row = std::ranges::find(kTypes, name, &TypeRow::name);
  return row == kTypes.end() ? TensorType::kUnknown : row->type;
}

constexpr size_t kLengthBytes = 8;  // the header's length, in front of it

// The header's text and the bytes behind it.
struct Parts {
  std::string_view header;
  std::span<const std::byte> body;
};

Result<Parts> SplitFile(std::span<const std::byte> bytes) {
  if (bytes.size() < kLengthBytes) {
    return Fail(ErrorCode::kCorruptData, "the file has ", bytes.size(),
                " bytes, a safetensors file at least 8");
  }
  const uint64_t length = LoadElement<uint64_t>(bytes, 0);
  if (length > kMaxHeaderBytes) {
    return Fail(ErrorCode::kCorruptData, "the header claims ", length, " bytes, more than ",
                kMaxHeaderBytes);
  }
  if (length > bytes.size() - kLengthBytes) {
    return Fail(ErrorCode::kCorruptData, "the header claims ", length, " bytes, the file has ",
                bytes.size() - kLengthBytes, " behind its length");
  }
  const std::span<const std::byte> header = bytes.subspan(kLengthBytes, length);
  return Parts{{reinterpret_cast<const char*>(header.data()), header.size()},
               bytes.subspan(kLengthBytes + length)};
}

// Every byte of the body belongs to exactly one tensor.
Result<void> CheckOffsets(const SafetensorsHeader& header, size_t body_bytes) {
  using Entry = std::pair<const std::string, HeaderTensor>;
  std::vector<const Entry*> in_order;
  for (const Entry& entry : header.tensors) in_order.push_back(&entry);
  std::ranges::sort(in_order, {}, [](const Entry* entry) {
    return std::pair(entry->second.begin, entry->second.end);
  });
  size_t expected = 0;
  for (const Entry* entry : in_order) {
    const auto& [name, tensor] = *entry;
    if (tensor.end < tensor.begin || tensor.end > body_bytes) {
      return Fail(ErrorCode::kCorruptData, "tensor ", Quoted(name), " has data_offsets ",
                  tensor.begin, " to ", tensor.end, ", the file has ", body_bytes,
                  " bytes of tensors");
    }
    if (tensor.begin != expected) {
      return Fail(ErrorCode::kCorruptData, "tensor ", Quoted(name), " begins at ", tensor.begin,
                  tensor.begin < expected ? ", inside the tensor before it, which ends at "
                                          : ", which leaves a hole behind ",
                  expected);
    }
    expected = tensor.end;
  }
  if (expected != body_bytes) {
    return Fail(ErrorCode::kCorruptData, "the tensors end at ", expected, ", the file has ",
                body_bytes, " bytes of tensors");
  }
  return {};
}

Result<TensorView> MakeView(const std::string& name, HeaderTensor& tensor,
                            std::span<const std::byte> body, UnknownTensors unknown) {
  TensorView view{name, ParseTensorType(tensor.dtype), std::move(tensor.shape),
                  body.subspan(tensor.begin, tensor.end - tensor.begin)};
  if (view.type == TensorType::kUnknown) {
    if (unknown == UnknownTensors::kKeep) return view;
    return Fail(ErrorCode::kUnsupported, "tensor ", Quoted(name), " has dtype ",
                Quoted(tensor.dtype), ", which this build does not know");
  }
  const std::optional<size_t> elements = ElementCount(view.shape);
  const std::optional<size_t> bytes =
      elements ? CheckedMultiply(*elements, TensorTypeBytes(view.type)) : std::nullopt;
  if (!bytes) {
    return Fail(ErrorCode::kCorruptData, "tensor ", Quoted(name), " has shape ",
                ShapeText(view.shape), ", whose size overflows");
  }
  if (*bytes != view.bytes.size()) {
    return Fail(ErrorCode::kCorruptData, "tensor ", Quoted(name), " of ", tensor.dtype,
                " with shape ", ShapeText(view.shape), " needs ", *bytes, " bytes and has ",
                view.bytes.size());
  }
  return view;
}

template <class Stored, class Convert>
std::vector<float> ConvertAll(std::span<const std::byte> bytes, const Convert& convert) {
  std::vector<float> floats(bytes.size() / sizeof(Stored));
  for (size_t i = 0; i < floats.size(); ++i) floats[i] = convert(LoadElement<Stored>(bytes, i));
  return floats;
}

Result<std::vector<float>> NarrowAll(const TensorView& tensor) {
  std::vector<float> floats(tensor.bytes.size() / sizeof(double));
  for (size_t i = 0; i < floats.size(); ++i) {
    const double wide = LoadElement<double>(tensor.bytes, i);
    floats[i] = static_cast<float>(wide);
    if (std::isinf(floats[i]) && !std::isinf(wide)) {
      return Fail(ErrorCode::kInvalidArgument, "tensor ", Quoted(tensor.name), " has ", wide,
                  " at element ", i, ", beyond the range of f32");
    }
  }
  return floats;
}

}  // namespace

std::string_view TensorTypeName(TensorType type) {
  const auto row = std::ranges::find(kTypes, type, &TypeRow::type);
  return row == kTypes.end() ? "unknown" : row->name;
}

size_t TensorTypeBytes(TensorType type) {
  const auto row = std::ranges::find(kTypes, type, &TypeRow::type);
  return row == kTypes.end() ? 0 : row->bytes;
}

Result<SafetensorsFile> SafetensorsFile::Open(const std::filesystem::path& path,
                                              UnknownTensors unknown) {
  TQ_TRY(MappedFile mapped, MappedFile::Open(path));
  const auto mapping = std::make_shared<const MappedFile>(std::move(mapped));
  return InFile(path, Parse(mapping->bytes(), unknown, mapping));
}

Result<SafetensorsFile> SafetensorsFile::FromBytes(std::span<const std::byte> bytes,
                                                   UnknownTensors unknown) {
  return Parse(bytes, unknown, nullptr);
}

Result<SafetensorsFile> SafetensorsFile::Parse(std::span<const std::byte> bytes,
                                               UnknownTensors unknown,
                                               std::shared_ptr<const void> mapping) {
  TQ_TRY(const Parts parts, SplitFile(bytes));
  TQ_TRY(SafetensorsHeader header, ParseHeader(parts.header));
  TQ_CHECK(CheckOffsets(header, parts.body.size()));
  auto contents = std::make_shared<Contents>();
  contents->mapping = std::move(mapping);
  contents->metadata = std::move(header.metadata);
  contents->tensors.reserve(header.tensors.size());
  for (auto& [name, tensor] : header.tensors) {
    TQ_TRY(TensorView view, MakeView(name, tensor, parts.body, unknown));
    contents->tensors.push_back(std::move(view));
  }
  return SafetensorsFile(std::move(contents));
}

const TensorView* SafetensorsFile::Find(std::string_view name) const {
  const auto found = std::ranges::lower_bound(contents_->tensors, name, {}, &TensorView::name);
  return found != contents_->tensors.end() && found->name == name ? &*found : nullptr;
}

Result<std::vector<float>> ReadFloats(const TensorView& tensor) {
  switch (tensor.type) {
    case TensorType::kF64:
      return NarrowAll(tensor);
    case TensorType::kF32:
      return ConvertAll<float>(tensor.bytes, [](float element) { return element; });
    case TensorType::kF16:
      return ConvertAll<uint16_t>(tensor.bytes, [](uint16_t bits) { return F16ToF32({bits}); });
    case TensorType::kBF16:
      return ConvertAll<uint16_t>(tensor.bytes, [](uint16_t bits) { return BF16ToF32({bits}); });
    default:
      return Fail(ErrorCode::kUnsupported, "tensor ", Quoted(tensor.name), " has dtype ",
                  TensorTypeName(tensor.type), "; floats must be F64, F32, F16 or BF16");
  }
}

}  // namespace turboquant
