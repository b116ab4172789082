// The caches of three layers: one layer with more bits, a rollback, a shared prefix, a snapshot.
#include "turboquant/decoder_cache.h"

#include <cstdio>
#include <filesystem>
#include <vector>

#include "examples/example_rows.h"
#include "turboquant/snapshot.h"

using turboquant::DecoderCache;
using turboquant::DecoderCacheOptions;
using turboquant::HeadsOutput;
using turboquant::HeadsView;
using turboquant::KvCache;

namespace {

constexpr size_t kLayers = 3;
constexpr size_t kKvHeads = 2;
constexpr size_t kHeadDim = 64;

bool AppendTokens(DecoderCache& cache, size_t tokens, unsigned seed) {
  for (size_t layer = 0; layer < kLayers; ++layer) {
    const unsigned layer_seed = seed + 10 * static_cast<unsigned>(layer);
    const ExampleRows keys = NormalRows(tokens * kKvHeads, kHeadDim, layer_seed);
    const ExampleRows values = NormalRows(tokens * kKvHeads, kHeadDim, layer_seed + 1);
    const auto view = [&](const ExampleRows& rows) {
      return HeadsView::TokenMajor(rows.values.data(), tokens, kKvHeads, kHeadDim);
    };
    if (!cache.layer(layer).Append(view(keys), view(values))) return false;
  }
  return true;
}

std::vector<float> Output(const KvCache& cache) {
  const ExampleRows query = NormalRows(kKvHeads, kHeadDim, /*seed=*/99);
  std::vector<float> out(kKvHeads * kHeadDim);
  const auto queries = HeadsView::TokenMajor(query.values.data(), 1, kKvHeads, kHeadDim);
  const auto done =
      cache.Attend(queries, {}, HeadsOutput::TokenMajor(out.data(), 1, kKvHeads, kHeadDim));
  return done ? out : std::vector<float>();
}

}  // namespace

int main() {
  const auto policy = turboquant::PolicyOptions("small", kHeadDim, kKvHeads);
  if (!policy) return 1;
  DecoderCacheOptions options = {.layers = kLayers, .layer = *policy};
  // For long contexts: pages of all layers (and other sequences) in slabs of huge pages.
  const auto pool = turboquant::PagePool::Create();
  if (!pool) return 1;
  options.layer.page_pool = *pool;
  options.overrides = {{.layer = 1, .values = turboquant::KvSideOptions{.bits = 5}}};
  auto cache = DecoderCache::Create(options);
  if (!cache || !AppendTokens(*cache, 500, /*seed=*/1)) return 1;

  // Two continuations of one prompt share its packed pages until one of them writes there.
  DecoderCache other = cache->Fork();
  if (!AppendTokens(*cache, 20, /*seed=*/2) || !AppendTokens(other, 30, /*seed=*/3)) return 1;
  // Speculative tokens that were refused.
  if (!cache->Truncate(510)) return 1;

  const auto path = std::filesystem::temp_directory_path() / "turboquant_example.safetensors";
  if (!SaveDecoderCache(path, *cache)) return 1;
  const auto loaded = turboquant::LoadDecoderCache(path, options);
  std::filesystem::remove(path);
  if (!loaded) {
    std::fprintf(stderr, "%s\n", loaded.error().message.c_str());
    return 1;
  }
  const bool same = Output(loaded->layer(1)) == Output(cache->layer(1));
  std::printf("%zu and %zu tokens; the loaded cache attends %s\n", cache->size(), other.size(),
              same ? "bit for bit alike" : "otherwise");
  return same && loaded->size() == 510 && other.size() == 530 ? 0 : 1;
}
