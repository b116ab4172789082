// The tokenizer of a build without cargo.
#include "src/base/failure.h"
#include "turboquant/onnx/tokenizer.h"

namespace turboquant {

struct Tokenizer::State {};

Result<Tokenizer> Tokenizer::Load(const std::filesystem::path& file) {
  return Fail(ErrorCode::kUnavailable, "'", file.native(),
              "' cannot be read: this build has no tokenizer, because cargo was not found");
}

size_t Tokenizer::vocabulary() const { return 0; }

Result<std::vector<int64_t>> Tokenizer::Encode(std::string_view, bool) const {
  return Fail(ErrorCode::kUnavailable, "this build has no tokenizer");
}

Result<std::string> Tokenizer::Decode(std::span<const int64_t>) const {
  return Fail(ErrorCode::kUnavailable, "this build has no tokenizer");
}

}  // namespace turboquant
