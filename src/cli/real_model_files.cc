#include "src/cli/real_model_files.h"

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <utility>

#include "src/base/failure.h"
#include "src/base/mapped_file.h"
#include "src/base/try.h"
#include "turboquant/onnx/bundle.h"
#include "turboquant/onnx/runtime.h"

namespace turboquant::cli {
namespace {

constexpr const char* kLibraryVariable = "TURBOQUANT_ONNXRUNTIME";

OnnxRuntimeOptions RuntimeOptions(const ModelFlags& flags) {
  OnnxRuntimeOptions options;
  options.library = flags.onnxruntime;
  if (!options.library.empty()) return options;
  if (const char* library = std::getenv(kLibraryVariable)) options.library = library;
  return options;
}

}  // namespace

Result<LoadedModel> LoadModel(const ModelFlags& flags, int threads) {
  if (flags.folder.empty()) {
    return Fail(ErrorCode::kInvalidArgument, "no decoder given: --real-model-dir FOLDER");
  }
  TQ_TRY(const DecoderBundle bundle, DecoderBundle::Open(flags.folder));
  TQ_TRY(Tokenizer tokenizer, Tokenizer::Load(bundle.tokenizer()));
  TQ_TRY(const OnnxRuntime runtime, OnnxRuntime::Load(RuntimeOptions(flags)));
  TQ_TRY(OnnxDecoder decoder, OnnxDecoder::Load(runtime, bundle, {.threads = threads}));
  if (tokenizer.vocabulary() > decoder.vocabulary()) {
    return Fail(ErrorCode::kModel, "'", bundle.tokenizer().native(), "' has ids up to ",
                tokenizer.vocabulary() - 1, ", the decoder a vocabulary of ", decoder.vocabulary());
  }
  return LoadedModel{std::move(decoder), std::move(tokenizer)};
}

Result<std::string> ReadTextFile(const std::string& path) {
  TQ_TRY(const MappedFile file, MappedFile::Open(path));
  return std::string(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
}

Result<std::vector<std::string>> ReadPrompts(const ModelFlags& flags, size_t most) {
  if (flags.max_prompts == 0) {
    return Fail(ErrorCode::kInvalidArgument, "--max-prompts must be 1 or more, got 0");
  }
  std::vector<std::string> prompts = flags.prompts;
  if (flags.prompts_file.empty()) return prompts;
  TQ_TRY(const std::string text, ReadTextFile(flags.prompts_file));
  std::istringstream lines(text);
  most = flags.max_prompts.value_or(most);
  for (std::string line; most > 0 && std::getline(lines, line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty()) continue;
    prompts.push_back(line);
    --most;
  }
  if (prompts.size() == flags.prompts.size()) {
    return Fail(ErrorCode::kInvalidArgument, "'", flags.prompts_file, "' has no prompts");
  }
  return prompts;
}

std::string Unescaped(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      plain += text[i];
      continue;
    }
    ++i;
    switch (text[i]) {
      case 'n':
        plain += '\n';
        break;
      case 't':
        plain += '\t';
        break;
      case '\\':
        plain += '\\';
        break;
      default:
        plain += '\\';
        plain += text[i];
    }
  }
  return plain;
}

}  // namespace turboquant::cli
