#include "turboquant/onnx/bundle.h"

#include <array>
#include <string>
#include <string_view>
#include <system_error>

#include "src/base/failure.h"
#include "src/base/mapped_file.h"
#include "src/base/try.h"
#include "src/onnx/decoder_config.h"

namespace turboquant {
namespace {

namespace fs = std::filesystem;

// In this order: a merged decoder serves prefill and decode, the others may serve both too.
constexpr std::array<std::string_view, 4> kDecoders = {"decoder_model_merged.onnx",
                                                       "decoder_with_past_model.onnx",
                                                       "decoder_model.onnx", "model.onnx"};

constexpr size_t kMaxConfigBytes = size_t{1} << 20;

bool Exists(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

Result<std::string> ReadConfig(const fs::path& path) {
  const Result<MappedFile> file = MappedFile::Open(path);
  if (!file) return Fail(ErrorCode::kModel, file.error().message);
  const std::span<const std::byte> bytes = file->bytes();
  if (bytes.size() > kMaxConfigBytes) {
    return Fail(ErrorCode::kModel, "'", path.native(), "' has ", bytes.size(),
                " bytes, more than any configuration");
  }
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

Result<fs::path> FindDecoder(const fs::path& folder) {
  std::string names;
  for (const std::string_view name : kDecoders) {
    if (Exists(folder / name)) return folder / name;
    names += (names.empty() ? "" : ", ") + std::string(name);
  }
  return Fail(ErrorCode::kModel, "'", folder.native(), "' has none of ", names);
}

}  // namespace

Result<DecoderBundle> DecoderBundle::Open(const fs::path& folder) {
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) {
    return Fail(ErrorCode::kModel, "'", folder.native(), "' is no folder");
  }
  DecoderBundle bundle;
  TQ_TRY(bundle.decoder_, FindDecoder(folder));
  bundle.tokenizer_ = folder / "tokenizer.json";
  if (!Exists(bundle.tokenizer_)) {
    return Fail(ErrorCode::kModel, "'", folder.native(), "' has no tokenizer.json");
  }
  TQ_TRY(const std::string config, ReadConfig(folder / "config.json"));
  std::string generation;
  if (fs::exists(folder / "generation_config.json", ignored)) {
    TQ_TRY(generation, ReadConfig(folder / "generation_config.json"));
    if (generation.empty())
      generation.assign(1, ' ');  // a file without an object, not an absent file
  }
  fs::path last = folder.filename();
  if (last.empty()) last = folder.parent_path().filename();  // "folder/"
  const Result<DecoderConfig> parsed = ParseDecoderConfig(config, generation, last.native());
  if (!parsed) {
    return Fail(parsed.error().code, "'", folder.native(), "': ", parsed.error().message);
  }
  bundle.config_ = *parsed;
  return bundle;
}

}  // namespace turboquant
