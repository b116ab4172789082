#include <string_view>
#include <utility>

#include "src/base/try.h"
#include "turboquant/onnx/tokenizer.h"

namespace turboquant {
namespace {

// What decoders put in place of bytes that are no character, or not yet.
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

}  // namespace

Result<std::string> TokenTextStream::Add(int64_t token) {
  tokens_.push_back(token);
  // Decoders treat the first token apart (a leading space goes), so the new text is what the tokens
  // add to those that were told last.
  TQ_TRY(const std::string before, tokenizer_.Decode(std::span(tokens_).first(told_)));
  TQ_TRY(const std::string text, tokenizer_.Decode(tokens_));
  if (text.ends_with(kReplacement) || !text.starts_with(before)) return std::string();
  std::string added = text.substr(before.size());
  tokens_.erase(tokens_.begin(), tokens_.begin() + static_cast<std::ptrdiff_t>(told_));
  told_ = tokens_.size();
  return added;
}

}  // namespace turboquant
