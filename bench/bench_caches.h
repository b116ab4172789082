// Caches that the benchmarks share.
#ifndef TURBOQUANT_BENCH_BENCH_CACHES_H_
#define TURBOQUANT_BENCH_BENCH_CACHES_H_

#include <algorithm>
#include <utility>

#include "bench/bench_rows.h"
#include "turboquant/kv_cache.h"

namespace turboquant::bench {

struct Shape {
  size_t head_dim;
  size_t kv_heads;
  size_t query_heads;
  size_t tokens;
};

// With a pool of pages, as engines that hold long contexts have.
inline KvCacheOptions Options(const Shape& shape, KvSideOptions keys, KvSideOptions values) {
  KvCacheOptions options;
  options.page_pool = *PagePool::Create();
  options.format.head_dim = shape.head_dim;
  options.format.kv_heads = shape.kv_heads;
  options.format.keys = keys;
  options.format.values = values;
  options.sinks = 0;
  options.window = 0;
  options.key_map = KeyMapKind::kNone;
  return options;
}

inline KvSideOptions Side(int64_t bits) {
  if (bits == 16) return {.method = KvMethod::kF16};
  if (bits == 32) return {.method = KvMethod::kF32};
  return {.bits = static_cast<int>(bits), .scale_search = false};
}

// A cache of `tokens` random tokens. Encoding is the slow part, so that of 512 is repeated.
inline KvCache Fill(const KvCacheOptions& options, size_t tokens) {
  auto cache = KvCache::Create(options);
  const size_t width = options.format.kv_heads * options.format.head_dim;
  constexpr size_t kChunk = 512;
  const auto keys = NormalRows(kChunk, width, 1);
  const auto values = NormalRows(kChunk, width, 2);
  for (size_t t = 0; t < tokens; t += kChunk) {
    const size_t count = std::min(kChunk, tokens - t);
    const auto view = [&](const std::vector<float>& rows) {
      return HeadsView::TokenMajor(rows.data(), count, options.format.kv_heads,
                                   options.format.head_dim);
    };
    (void)cache->Append(view(keys), view(values));
  }
  return *std::move(cache);
}

}  // namespace turboquant::bench

#endif  // TURBOQUANT_BENCH_BENCH_CACHES_H_
