// A KV cache at 4 bits: append, attend, and how far that is from attention over f16 rows.
#include "turboquant/kv_cache.h"

#include <cmath>
#include <cstdio>
#include <vector>

#include "examples/example_rows.h"

using turboquant::HeadsOutput;
using turboquant::HeadsView;
using turboquant::KvCache;
using turboquant::KvMethod;

namespace {

constexpr size_t kTokens = 1000;
constexpr size_t kKvHeads = 2;
constexpr size_t kQueryHeads = 8;
constexpr size_t kHeadDim = 64;

// Attention of one query token over `tokens`, cached as `options` say. Empty on failure.
std::vector<float> Attend(const turboquant::KvCacheOptions& options, const ExampleRows& keys,
                          const ExampleRows& values, const ExampleRows& queries) {
  auto cache = KvCache::Create(options);
  if (!cache) return {};
  const auto tokens = [](const ExampleRows& rows) {
    return HeadsView::TokenMajor(rows.values.data(), kTokens, kKvHeads, kHeadDim);
  };
  if (!cache->Append(tokens(keys), tokens(values))) return {};
  std::vector<float> out(kQueryHeads * kHeadDim);
  const auto query = HeadsView::TokenMajor(queries.values.data(), 1, kQueryHeads, kHeadDim);
  const auto done =
      cache->Attend(query, {}, HeadsOutput::TokenMajor(out.data(), 1, kQueryHeads, kHeadDim));
  if (!done) return {};
  const auto stats = cache->Stats();
  std::printf("%s:\n  %zu tokens, %zu of them packed, %.1f bytes a token of its pages\n",
              Describe(options).c_str(), stats.tokens, stats.packed_tokens,
              cache->format().BytesPerToken());
  return out;
}

}  // namespace

int main() {
  const ExampleRows keys = NormalRows(kTokens * kKvHeads, kHeadDim, /*seed=*/1);
  const ExampleRows values = NormalRows(kTokens * kKvHeads, kHeadDim, /*seed=*/2);
  const ExampleRows queries = NormalRows(kQueryHeads, kHeadDim, /*seed=*/3);

  const auto balanced = turboquant::PolicyOptions("balanced", kHeadDim, kKvHeads);
  if (!balanced) return 1;
  turboquant::KvCacheOptions f16 = *balanced;
  f16.format.keys.method = KvMethod::kF16;
  f16.format.values.method = KvMethod::kF16;

  const std::vector<float> packed = Attend(*balanced, keys, values, queries);
  const std::vector<float> exact = Attend(f16, keys, values, queries);
  if (packed.empty() || exact.empty()) return 1;
  double error = 0.0;
  double norm = 0.0;
  for (size_t i = 0; i < packed.size(); ++i) {
    error += std::pow(packed[i] - exact[i], 2);
    norm += std::pow(exact[i], 2);
  }
  const double relative = std::sqrt(error / norm);
  std::printf("relative error of the output: %.3f\n", relative);
  return relative > 0.01 && relative < 0.3 ? 0 : 1;
}
