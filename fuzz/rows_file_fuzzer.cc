// Any bytes as an encoded-row file: as they are, and with the checksums put right, so that the
// checks behind them are reached.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "src/storage/checked_tensors.h"
#include "turboquant/rows_file.h"

namespace {

using turboquant::EncodedRowsFile;
using turboquant::SafetensorsFile;

void Require(bool holds) {
  if (!holds) __builtin_trap();
}

// Imported where that is cheap: what passed as a file must make rows or fail cleanly.
void Import(const EncodedRowsFile& file) {
  constexpr size_t kSmallDim = 128;
  if (std::stoul(file.options.at("dim")) > kSmallDim) return;
  if (file.method == "mse") {
    if (const auto loaded = turboquant::ImportMseRows(file)) {
      Require(loaded->rows.size() == file.rows);
      const auto exported = turboquant::ExportRows(loaded->quantizer, loaded->rows);
      Require(exported.has_value());
      const auto written = turboquant::SerializeEncodedRows(*exported);
      Require(written.has_value());
      Require(*written == turboquant::SerializeEncodedRows(file).value());
    }
  } else if (file.method == "prod") {
    (void)turboquant::ImportProdRows(file);
  } else if (file.method == "qjl") {
    (void)turboquant::ImportSignRows(file);
  } else if (file.method == "polar") {
    (void)turboquant::ImportPolarRows(file);
  } else {
    (void)turboquant::ImportOutlierRows(file);
  }
}

void Read(std::span<const std::byte> bytes) {
  const auto file = turboquant::ReadEncodedRows(bytes);
  if (!file) {
    Require(!file.error().message.empty());
    return;
  }
  const auto written = turboquant::SerializeEncodedRows(*file);
  Require(written.has_value());
  const auto again = turboquant::ReadEncodedRows(*written);
  Require(again.has_value());
  Require(again->rows == file->rows && again->options == file->options);
  Import(*file);
}

// The same tensors and options under fresh checksums.
std::optional<std::vector<std::byte>> Resealed(std::span<const std::byte> bytes) {
  const auto container = SafetensorsFile::FromBytes(bytes);
  if (!container) return std::nullopt;
  turboquant::StringMap options;
  for (const auto& [key, text] : container->metadata()) {
    if (!turboquant::IsCheckKey(key)) options.emplace(key, text);
  }
  auto sealed = turboquant::SerializeChecked({"turboquant.rows", 1}, container->tensors(), options);
  if (!sealed) return std::nullopt;
  return std::move(*sealed);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const auto input = std::as_bytes(std::span(bytes, size));
  Read(input);
  if (const auto sealed = Resealed(input)) Read(*sealed);
  return 0;
}
