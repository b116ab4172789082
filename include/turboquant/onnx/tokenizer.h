// Text to token ids and back, by Hugging Face tokenizers' own library.
#ifndef TURBOQUANT_ONNX_TOKENIZER_H_
#define TURBOQUANT_ONNX_TOKENIZER_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "turboquant/error.h"

namespace turboquant {

// Immutable; copies share the tables; safe to share between threads.
class Tokenizer {
 public:
  // Reads a tokenizer.json. Errors: kModel for a file that is none, naming it; kUnavailable where
  // this build has no tokenizer (it takes cargo).
  [[nodiscard]] static Result<Tokenizer> Load(const std::filesystem::path& file);

  size_t vocabulary() const;  // one more than the largest id

  // Ids of the text. With `special`, the tokens that the file's template puts around a text are
  // added. Errors: kInvalidArgument for text that is not UTF-8; kModel if the tokenizer fails.
  [[nodiscard]] Result<std::vector<int64_t>> Encode(std::string_view text,
                                                    bool special = true) const;

  // Text of the ids, without special tokens. Errors: kInvalidArgument for an id that is none.
  [[nodiscard]] Result<std::string> Decode(std::span<const int64_t> ids) const;

 private:
  struct State;
  explicit Tokenizer(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  std::shared_ptr<const State> state_;
};

// Text of tokens that come one by one. A token may end within a character, or change the text in
// front of it, so text comes only when it is final.
class TokenTextStream {
 public:
  explicit TokenTextStream(Tokenizer tokenizer) : tokenizer_(std::move(tokenizer)) {}

  // What the token adds to the text; empty while a character is incomplete.
  [[nodiscard]] Result<std::string> Add(int64_t token);

 private:
  Tokenizer tokenizer_;
  std::vector<int64_t> tokens_;  // the last ones: those told in the last call, and those behind
  size_t told_ = 0;              // of tokens_
};

}  // namespace turboquant

#endif  // TURBOQUANT_ONNX_TOKENIZER_H_
