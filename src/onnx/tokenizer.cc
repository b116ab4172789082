#include "turboquant/onnx/tokenizer.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "src/base/failure.h"
#include "src/base/mapped_file.h"
#include "src/base/try.h"
#include "src/onnx/tokenizer/tokenizer_c.h"

namespace turboquant {

struct Tokenizer::State {
  std::unique_ptr<TqTokenizer, void (*)(TqTokenizer*)> tokenizer = {nullptr, tq_tokenizer_free};
  size_t vocabulary = 0;
  std::string file;  // for messages
};

namespace {

constexpr ptrdiff_t kNotUtf8 = -1;

const uint8_t* Bytes(const void* bytes) { return static_cast<const uint8_t*>(bytes); }

// The library's reason in one line.
std::string Reason(std::span<const uint8_t> text) {
  std::string reason(text.begin(), text.end());
  std::ranges::replace_if(reason, [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
  return reason;
}

}  // namespace

Result<Tokenizer> Tokenizer::Load(const std::filesystem::path& path) {
  const Result<MappedFile> file = MappedFile::Open(path);
  if (!file) return Fail(ErrorCode::kModel, file.error().message);
  const std::span<const std::byte> bytes = file->bytes();
  if (bytes.empty()) return Fail(ErrorCode::kModel, "'", path.native(), "' is empty");
  std::array<uint8_t, 160> error{};
  size_t error_size = 0;
  auto state = std::make_shared<State>();
  state->file = path.native();
  state->tokenizer.reset(tq_tokenizer_load(Bytes(bytes.data()), bytes.size(), error.data(),
                                           error.size(), &error_size));
  if (state->tokenizer == nullptr) {
    const size_t shown = std::min(error_size, error.size());
    return Fail(ErrorCode::kModel, "'", state->file,
                "' is no tokenizer: ", Reason(std::span(error).first(shown)));
  }
  state->vocabulary = tq_tokenizer_vocabulary(state->tokenizer.get());
  return Tokenizer(std::move(state));
}

size_t Tokenizer::vocabulary() const { return state_->vocabulary; }

Result<std::vector<int64_t>> Tokenizer::Encode(std::string_view text, bool special) const {
  std::vector<uint32_t> ids(text.size() + 16);
  const auto encode = [&] {
    return tq_tokenizer_encode(state_->tokenizer.get(), Bytes(text.empty() ? "" : text.data()),
                               text.size(), special, ids.data(), ids.size());
  };
  ptrdiff_t count = encode();
  if (count > static_cast<ptrdiff_t>(ids.size())) {  // a template or normalizer made it longer
    ids.resize(static_cast<size_t>(count));
    count = encode();
  }
  if (count == kNotUtf8) return Fail(ErrorCode::kInvalidArgument, "the text is not UTF-8");
  if (count < 0) return Fail(ErrorCode::kModel, "'", state_->file, "' cannot encode the text");
  return std::vector<int64_t>(ids.begin(), ids.begin() + count);
}

Result<std::string> Tokenizer::Decode(std::span<const int64_t> tokens) const {
  std::vector<uint32_t> ids;
  for (const int64_t token : tokens) {
    if (token < 0 || token > std::numeric_limits<uint32_t>::max()) {
      return Fail(ErrorCode::kInvalidArgument, "token ", token, " is no id");
    }
    ids.push_back(static_cast<uint32_t>(token));
  }
  if (ids.empty()) return std::string();
  std::string text(8 * ids.size() + 16, '\0');
  const auto decode = [&] {
    return tq_tokenizer_decode(state_->tokenizer.get(), ids.data(), ids.size(),
                               /*skip_special=*/true, reinterpret_cast<uint8_t*>(text.data()),
                               text.size());
  };
  ptrdiff_t size = decode();
  if (size > static_cast<ptrdiff_t>(text.size())) {
    text.resize(static_cast<size_t>(size));
    size = decode();
  }
  if (size < 0) return Fail(ErrorCode::kModel, "'", state_->file, "' cannot decode the tokens");
  text.resize(static_cast<size_t>(size));
  return text;
}

}  // namespace turboquant
