// A language model from a folder writes on, once with exact keys and values and once with a cache
// of 4 bits, and both texts are printed. usage: decoder BUNDLE PROMPT
#include "turboquant/onnx/decoder.h"

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "turboquant/onnx/bundle.h"
#include "turboquant/onnx/generation.h"
#include "turboquant/onnx/runtime.h"
#include "turboquant/onnx/sequence.h"
#include "turboquant/onnx/tokenizer.h"

using turboquant::DecoderBundle;
using turboquant::DecoderSequence;
using turboquant::ErrorCode;
using turboquant::OnnxDecoder;
using turboquant::OnnxRuntime;
using turboquant::Result;
using turboquant::Tokenizer;

namespace {

constexpr size_t kNewTokens = 16;
constexpr int kUnavailable = 77;  // what ctest takes for a skip

// The sequence's text behind the prompt.
Result<std::string> Continue(Result<DecoderSequence>& sequence, const Tokenizer& tokenizer,
                             const std::vector<int64_t>& prompt) {
  if (!sequence) return std::unexpected(sequence.error());
  const auto written = Generate(*sequence, prompt, {.max_new_tokens = kNewTokens});
  if (!written) return std::unexpected(written.error());
  return tokenizer.Decode(written->tokens);
}

// Packed bytes of one token of all layers.
double PackedBytesPerToken(const DecoderSequence& sequence) {
  double bytes = 0.0;
  for (size_t layer = 0; layer < sequence.cache()->layers(); ++layer) {
    bytes += sequence.cache()->layer(layer).format().BytesPerToken();
  }
  return bytes;
}

Result<bool> Compare(const std::filesystem::path& folder, const std::string& prompt) {
  const auto bundle = DecoderBundle::Open(folder);
  if (!bundle) return std::unexpected(bundle.error());
  const auto tokenizer = Tokenizer::Load(bundle->tokenizer());
  if (!tokenizer) return std::unexpected(tokenizer.error());
  const auto runtime = OnnxRuntime::Load();  // looks where programs have it: nothing links it
  if (!runtime) return std::unexpected(runtime.error());
  const auto decoder = OnnxDecoder::Load(*runtime, *bundle, {.threads = 2});
  if (!decoder) return std::unexpected(decoder.error());
  const auto ids = tokenizer->Encode(prompt);
  if (!ids) return std::unexpected(ids.error());

  Result<DecoderSequence> exact = DecoderSequence::Exact(*decoder);
  const auto exact_text = Continue(exact, *tokenizer, *ids);
  if (!exact_text) return std::unexpected(exact_text.error());

  const auto policy =
      turboquant::PolicyOptions("balanced", bundle->config().head_dim, bundle->config().kv_heads);
  if (!policy) return std::unexpected(policy.error());
  turboquant::QuantizedSequenceOptions options = {.cache = *policy};
  options.cache.window = 0;  // pack every token at once, where texts are as short as here
  options.cache.key_map = turboquant::KeyMapKind::kNone;
  Result<DecoderSequence> quantized = DecoderSequence::Quantized(*decoder, options);
  const auto text = Continue(quantized, *tokenizer, *ids);
  if (!text) return std::unexpected(text.error());

  const double share = PackedBytesPerToken(*quantized) * static_cast<double>(exact->tokens()) /
                       static_cast<double>(exact->Usage().f16_bytes);
  std::printf("exact:  %s\n4 bits: %s\n%.0f %% of the bytes of f16\n", exact_text->c_str(),
              text->c_str(), 100.0 * share);
  return share < 0.35;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: decoder BUNDLE PROMPT\n");
    return 2;
  }
  const auto good = Compare(argv[1], argv[2]);
  if (!good) {
    std::fprintf(stderr, "%s\n", good.error().message.c_str());
    return good.error().code == ErrorCode::kUnavailable ? kUnavailable : 1;
  }
  return *good ? 0 : 1;
}
