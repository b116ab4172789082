#include "turboquant/rows_file.h"

#include <algorithm>
#include <utility>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/storage/checked_tensors.h"
#include "src/storage/rows_options.h"
#include "src/storage/rows_tensors.h"
#include "src/storage/text.h"

namespace turboquant {
namespace {

constexpr FileFormat kRowsFormat = {"turboquant.rows", 1};
constexpr std::string_view kMethodKey = "method";

Result<EncodedRowsFile> Interpret(const SafetensorsFile& container) {
  EncodedRowsFile file;
  TQ_TRY(file.options, VerifyChecked(container, kRowsFormat));
  const auto method = file.options.find(std::string(kMethodKey));
  if (method == file.options.end()) {
    return Fail(ErrorCode::kCorruptData, "the file has no 'method'");
  }
  file.method = std::move(method->second);
  file.options.erase(method);
  file.tensors.assign(container.tensors().begin(), container.tensors().end());
  TQ_CHECK(CheckRowsOptions(file.method, file.options));
  TQ_TRY(file.rows, CheckRowsTensors(file));
  return file;
}

// What a reader would refuse is the caller's fault here.
Result<void> CheckForWriting(const EncodedRowsFile& file) {
  const auto check = [&]() -> Result<void> {
    TQ_CHECK(CheckRowsOptions(file.method, file.options));
    TQ_TRY(const size_t rows, CheckRowsTensors(file));
    if (rows == file.rows) return {};
    return Fail(ErrorCode::kInvalidArgument, "the tensors hold ", rows, " rows, not ", file.rows);
  };
  Result<void> checked = check();
  if (!checked) checked.error().code = ErrorCode::kInvalidArgument;
  return checked;
}

StringMap AllOptions(const EncodedRowsFile& file) {
  StringMap metadata = file.options;
  metadata.emplace(kMethodKey, file.method);
  return metadata;
}

}  // namespace

const TensorView* EncodedRowsFile::Find(std::string_view name) const {
  const auto found = std::ranges::find(tensors, name, &TensorView::name);
  return found == tensors.end() ? nullptr : &*found;
}

Result<EncodedRowsFile> ReadEncodedRows(const std::filesystem::path& path) {
  TQ_TRY(const SafetensorsFile container, SafetensorsFile::Open(path));
  TQ_TRY(EncodedRowsFile file, InFile(path, Interpret(container)));
  file.owner = std::make_shared<const SafetensorsFile>(container);
  return file;
}

Result<EncodedRowsFile> ReadEncodedRows(std::span<const std::byte> bytes) {
  TQ_TRY(const SafetensorsFile container, SafetensorsFile::FromBytes(bytes));
  return Interpret(container);
}

Result<std::vector<std::byte>> SerializeEncodedRows(const EncodedRowsFile& file) {
  TQ_CHECK(CheckForWriting(file));
  return SerializeChecked(kRowsFormat, file.tensors, AllOptions(file));
}

Result<void> WriteEncodedRows(const std::filesystem::path& path, const EncodedRowsFile& file) {
  TQ_CHECK(CheckForWriting(file));
  return WriteChecked(path, kRowsFormat, file.tensors, AllOptions(file));
}

Result<void> WriteMseRows(const std::filesystem::path& path, const MseQuantizer& quantizer,
                          const MseRows& rows) {
  TQ_TRY(const EncodedRowsFile file, ExportRows(quantizer, rows));
  return WriteEncodedRows(path, file);
}

Result<LoadedMseRows> ReadMseRows(const std::filesystem::path& path,
                                  const ImportOptions& import_options) {
  TQ_TRY(const EncodedRowsFile file, ReadEncodedRows(path));
  return ImportMseRows(file, import_options);
}

}  // namespace turboquant
