#include "src/storage/checked_tensors.h"

#include <string>

#include "src/base/checksum.h"
#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/storage/safetensors_header.h"
#include "src/storage/safetensors_writer.h"
#include "src/storage/tensor_elements.h"
#include "src/storage/text.h"

namespace turboquant {
namespace {

constexpr std::string_view kOurFormats = "turboquant.";

// The byte string under header_crc32, as a running checksum.
class HeaderChecksum {
 public:
  void AddNumber(uint64_t number) { crc_ = Crc32(std::as_bytes(std::span(&number, 1)), crc_); }
  void AddText(std::string_view text) {
    AddNumber(text.size());
    crc_ = Crc32(std::as_bytes(std::span(text.data(), text.size())), crc_);
  }
  uint32_t value() const { return crc_; }

 private:
  uint32_t crc_ = 0;
};

uint32_t HeaderCrc(const SafetensorsHeader& header) {
  HeaderChecksum checksum;
  checksum.AddNumber(header.tensors.size());
  for (const auto& [name, tensor] : header.tensors) {
    checksum.AddText(name);
    checksum.AddText(tensor.dtype);
    checksum.AddNumber(tensor.shape.size());
    for (const size_t axis : tensor.shape) checksum.AddNumber(axis);
    checksum.AddNumber(tensor.begin);
    checksum.AddNumber(tensor.end);
  }
  const bool has_crc = header.metadata.contains(std::string(kHeaderCrcKey));
  checksum.AddNumber(header.metadata.size() - (has_crc ? 1 : 0));
  for (const auto& [key, text] : header.metadata) {
    if (key == kHeaderCrcKey) continue;
    checksum.AddText(key);
    checksum.AddText(text);
  }
  return checksum.value();
}

// The header of a file that was read. The tensors fill the body without holes, so the first of
// their bytes is the body's.
SafetensorsHeader HeaderOf(const SafetensorsFile& file) {
  const std::byte* body = nullptr;
  for (const TensorView& tensor : file.tensors()) {
    if (!body || tensor.bytes.data() < body) body = tensor.bytes.data();
  }
  SafetensorsHeader header{.tensors = {}, .metadata = file.metadata()};
  for (const TensorView& tensor : file.tensors()) {
    const size_t begin = static_cast<size_t>(tensor.bytes.data() - body);
    header.tensors.emplace(
        tensor.name, HeaderTensor{std::string(TensorTypeName(tensor.type)), tensor.shape, begin,
                                  begin + tensor.bytes.size()});
  }
  return header;
}

Result<FileLayout> LayOutChecked(const FileFormat& format, std::span<const TensorView> tensors,
                                 const StringMap& metadata) {
  StringMap all = metadata;
  all.emplace(kFormatKey, format.name);
  all.emplace(kVersionKey, std::to_string(format.version));
  for (const TensorView& tensor : tensors) {
    all.emplace(std::string(kTensorCrcPrefix) + tensor.name, Hex32(Crc32(tensor.bytes)));
  }
  TQ_TRY(FileLayout layout, LayOut(tensors, all));
  layout.header.metadata.emplace(kHeaderCrcKey, Hex32(HeaderCrc(layout.header)));
  return layout;
}

const std::string* FindText(const StringMap& metadata, std::string_view key) {
  const auto found = metadata.find(std::string(key));
  return found == metadata.end() ? nullptr : &found->second;
}

Result<void> CheckFormat(const std::string& name, const FileFormat& format) {
  if (name == format.name) return {};
  return Fail(ErrorCode::kInvalidArgument, "the file's format is ", Quoted(name), ", not ",
              Quoted(format.name));
}

Result<void> CheckVersion(const std::string& text, const FileFormat& format) {
  const std::optional<uint64_t> version = ParseDecimal(text);
  if (!version || *version == 0) {
    return Fail(ErrorCode::kCorruptData, "format_version is ", Quoted(text),
                ", not a number from 1");
  }
  if (*version > format.version) {
    return Fail(ErrorCode::kUnsupported, "format_version ", *version, " of ", format.name,
                " is newer than ", format.version, ", the newest this build reads");
  }
  return {};
}

Result<void> CheckCrc(std::string_view what, const std::string& text, uint32_t actual) {
  const std::optional<uint32_t> stored = ParseHex32(text);
  if (!stored) {
    return Fail(ErrorCode::kCorruptData, "the CRC-32 of ", what, " is ", Quoted(text),
                ", not eight lower-case hex digits");
  }
  if (*stored != actual) {
    return Fail(ErrorCode::kCorruptData, what, " has CRC-32 ", Hex32(actual), ", the file says ",
                text);
  }
  return {};
}

// Every checksum that is there: the header's first, so that a flipped shape is not told as a
// tensor's fault.
Result<void> CheckCrcs(const SafetensorsFile& file) {
  if (const std::string* text = FindText(file.metadata(), kHeaderCrcKey)) {
    TQ_CHECK(CheckCrc("the header", *text, HeaderCrc(HeaderOf(file))));
  }
  for (const auto& [key, text] : file.metadata()) {
    if (!key.starts_with(kTensorCrcPrefix)) continue;
    const std::string_view name = std::string_view(key).substr(kTensorCrcPrefix.size());
    const TensorView* tensor = file.Find(name);
    if (!tensor) {
      return Fail(ErrorCode::kCorruptData, "metadata ", Quoted(key),
                  " names no tensor of the file");
    }
    TQ_CHECK(CheckCrc("tensor " + Quoted(name), text, Crc32(tensor->bytes)));
  }
  return {};
}

}  // namespace

bool IsCheckKey(std::string_view key) {
  return key == kFormatKey || key == kVersionKey || key == kHeaderCrcKey ||
         key.starts_with(kTensorCrcPrefix);
}

Result<std::vector<std::byte>> SerializeChecked(const FileFormat& format,
                                                std::span<const TensorView> tensors,
                                                const StringMap& metadata) {
  TQ_TRY(const FileLayout layout, LayOutChecked(format, tensors, metadata));
  return Serialize(layout);
}

Result<void> WriteChecked(const std::filesystem::path& path, const FileFormat& format,
                          std::span<const TensorView> tensors, const StringMap& metadata) {
  TQ_TRY(const FileLayout layout, LayOutChecked(format, tensors, metadata));
  return Write(path, layout);
}

Result<StringMap> VerifyChecked(const SafetensorsFile& file, const FileFormat& format) {
  const std::string* name = FindText(file.metadata(), kFormatKey);
  if (!name) {
    return Fail(ErrorCode::kCorruptData, "the file has no 'format' in its metadata: it is no ",
                format.name, " file");
  }
  TQ_CHECK(CheckFormat(*name, format));
  const std::string* version = FindText(file.metadata(), kVersionKey);
  if (!version) return Fail(ErrorCode::kCorruptData, "the file has no 'format_version'");
  TQ_CHECK(CheckVersion(*version, format));
  if (!FindText(file.metadata(), kHeaderCrcKey)) {
    return Fail(ErrorCode::kCorruptData, "the file has no 'header_crc32'");
  }
  for (const TensorView& tensor : file.tensors()) {
    const std::string key = std::string(kTensorCrcPrefix) + tensor.name;
    if (!FindText(file.metadata(), key)) {
      return Fail(ErrorCode::kCorruptData, "the file has no ", Quoted(key));
    }
  }
  TQ_CHECK(CheckCrcs(file));
  StringMap rest;
  for (const auto& [key, text] : file.metadata()) {
    if (!IsCheckKey(key)) rest.emplace(key, text);
  }
  return rest;
}

Result<void> VerifyWherePresent(const SafetensorsFile& file, const FileFormat& format) {
  const std::string* name = FindText(file.metadata(), kFormatKey);
  if (name && name->starts_with(kOurFormats)) {
    TQ_CHECK(CheckFormat(*name, format));
    if (const std::string* version = FindText(file.metadata(), kVersionKey)) {
      TQ_CHECK(CheckVersion(*version, format));
    }
  }
  return CheckCrcs(file);
}

}  // namespace turboquant
