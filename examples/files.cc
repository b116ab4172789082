// Writes encoded rows to a file and reads them back: the file alone is enough to rebuild the
// quantizer. It is a safetensors file, so other tools open it too. A damaged file is refused.
#include <cstdio>
#include <expected>
#include <filesystem>
#include <fstream>

#include "examples/example_rows.h"
#include "turboquant/mse_quantizer.h"
#include "turboquant/rows_file.h"

using turboquant::MseQuantizer;
using turboquant::Result;

namespace {

Result<void> Write(const std::filesystem::path& path, const ExampleRows& rows) {
  const auto quantizer = MseQuantizer::Create({.dim = rows.dim, .bits = 3, .seed = 7});
  if (!quantizer) return std::unexpected(quantizer.error());
  const auto encoded = quantizer->Encode(rows.view());
  if (!encoded) return std::unexpected(encoded.error());
  return turboquant::WriteMseRows(path, *quantizer, *encoded);
}

// The relative error of the rows in the file.
Result<double> ReadAndCompare(const std::filesystem::path& path, const ExampleRows& rows) {
  const auto loaded = turboquant::ReadMseRows(path);
  if (!loaded) return std::unexpected(loaded.error());
  ExampleRows decoded(loaded->rows.size(), loaded->rows.dim());
  if (const auto done = loaded->quantizer.Decode(loaded->rows, decoded.view()); !done) {
    return std::unexpected(done.error());
  }
  return RelativeError(rows, decoded);
}

// Flips one bit of the last byte.
void Damage(const std::filesystem::path& path) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(-1, std::ios::end);
  const int byte = file.get();
  file.seekp(-1, std::ios::end);
  file.put(static_cast<char>(byte ^ 1));
}

int Run(const std::filesystem::path& path) {
  const ExampleRows rows = NormalRows(500, 128, /*seed=*/1);
  if (const auto written = Write(path, rows); !written) {
    std::fprintf(stderr, "%s\n", written.error().message.c_str());
    return 1;
  }
  const auto error = ReadAndCompare(path, rows);
  if (!error) {
    std::fprintf(stderr, "%s\n", error.error().message.c_str());
    return 1;
  }
  std::printf("%zu rows in %zu bytes, error %.4f\n", rows.rows,
              static_cast<size_t>(std::filesystem::file_size(path)), *error);

  Damage(path);
  const auto damaged = ReadAndCompare(path, rows);
  if (damaged) return 1;
  std::printf("damaged: %s\n", damaged.error().message.c_str());
  return *error < 0.036 ? 0 : 1;
}

}  // namespace

int main() {
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / "turboquant_example_rows.safetensors";
  const int exit_code = Run(path);
  std::filesystem::remove(path);
  return exit_code;
}
