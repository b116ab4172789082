// Any bytes as a snapshot: as they are, and with the checksums put right, so that the checks behind
// them are reached.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/storage/checked_tensors.h"
#include "src/storage/text.h"
#include "turboquant/snapshot.h"

namespace {

using turboquant::DecoderCache;
using turboquant::HeadsOutput;
using turboquant::HeadsView;
using turboquant::KvCache;
using turboquant::SafetensorsFile;

void Require(bool holds) {
  if (!holds) __builtin_trap();
}

// The same tensors and options under fresh checksums, in the order of the writer.
std::optional<std::vector<std::byte>> Resealed(std::span<const std::byte> bytes) {
  const auto container = SafetensorsFile::FromBytes(bytes);
  if (!container) return std::nullopt;
  turboquant::StringMap options;
  for (const auto& [key, text] : container->metadata()) {
    if (!turboquant::IsCheckKey(key)) options.emplace(key, text);
  }
  auto sealed = turboquant::SerializeChecked({"turboquant.kv", 1}, container->tensors(), options);
  if (!sealed) return std::nullopt;
  return std::move(*sealed);
}

// Whether the options of the file make caches that cost little: what is asked for is made.
bool IsCheap(std::span<const std::byte> bytes) {
  const auto container = SafetensorsFile::FromBytes(bytes);
  if (!container) return true;
  const auto ends_with = [](std::string_view key, std::string_view name) {
    return key == name || (key.ends_with(name) && key[key.size() - name.size() - 1] == '.');
  };
  for (const auto& [key, text] : container->metadata()) {
    const uint64_t number = turboquant::ParseDecimal(text).value_or(0);
    if (ends_with(key, "head_dim") && number > 64) return false;
    if ((ends_with(key, "kv_heads") || ends_with(key, "layers")) && number > 4) return false;
  }
  return true;
}

// A loaded cache works like any other.
void Use(KvCache& cache) {
  const size_t heads = cache.options().format.kv_heads;
  const size_t dim = cache.options().format.head_dim;
  const std::vector<float> row(heads * dim, 0.5f);
  std::vector<float> output(heads * dim);
  const HeadsView token = HeadsView::TokenMajor(row.data(), 1, heads, dim);
  const HeadsOutput out = HeadsOutput::TokenMajor(output.data(), 1, heads, dim);
  (void)cache.Append(token, token);
  (void)cache.Attend(token, {}, out);
  if (cache.size() != 0) Require(cache.Reconstruct(cache.size() - 1, 1, out, out).has_value());
  Require(cache.Truncate(cache.size() / 2).has_value());
  const auto saved = turboquant::SerializeKvCache(cache);
  Require(saved.has_value() && turboquant::ReadKvCache(*saved).has_value());
  cache.Clear();
}

// What is accepted is what is written again: nothing of the file is lost or made up.
void Read(std::span<const std::byte> bytes) {
  if (!IsCheap(bytes)) return;
  if (auto cache = turboquant::ReadKvCache(bytes)) {
    Require(turboquant::SerializeKvCache(*cache).value() == Resealed(bytes).value());
    Use(*cache);
  } else {
    Require(!cache.error().message.empty());
  }
  if (auto decoder = turboquant::ReadDecoderCache(bytes)) {
    Require(turboquant::SerializeDecoderCache(*decoder).value() == Resealed(bytes).value());
    for (size_t layer = 0; layer < decoder->layers(); ++layer) Use(decoder->layer(layer));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const auto input = std::as_bytes(std::span(bytes, size));
  Read(input);
  if (const auto sealed = Resealed(input)) Read(*sealed);
  return 0;
}
