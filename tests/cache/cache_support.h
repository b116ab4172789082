// Tokens for the caches of tests, and what a cache holds as values that tests compare.
#ifndef TURBOQUANT_TESTS_CACHE_CACHE_SUPPORT_H_
#define TURBOQUANT_TESTS_CACHE_CACHE_SUPPORT_H_

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <tuple>
#include <vector>

#include "tests/support/random_rows.h"
#include "turboquant/kv_cache.h"

namespace turboquant::test {

// Keys and values of `tokens` tokens, [tokens × heads × dim] each.
struct Tokens {
  size_t heads;
  size_t dim;
  Rows keys;
  Rows values;

  Tokens(size_t tokens, size_t heads_in, size_t dim_in, uint64_t seed = 1)
      : heads(heads_in),
        dim(dim_in),
        keys(NormalRows(tokens * heads_in, dim_in, 2 * seed)),
        values(NormalRows(tokens * heads_in, dim_in, 2 * seed + 1)) {}

  size_t count() const { return keys.rows / heads; }
  HeadsView Keys() const { return HeadsView::TokenMajor(keys.values.data(), count(), heads, dim); }
  HeadsView Values() const {
    return HeadsView::TokenMajor(values.values.data(), count(), heads, dim);
  }
  std::span<const float> Row(bool of_values, size_t token, size_t head) const {
    return (of_values ? values : keys)[token * heads + head];
  }
};

inline KvCache MakeCache(const KvCacheOptions& options) {
  auto cache = KvCache::Create(options);
  EXPECT_TRUE(cache) << cache.error().message;
  return *std::move(cache);
}

// Appends tokens [first, first + count).
inline void Append(KvCache& cache, const Tokens& tokens, size_t first, size_t count,
                   const ParallelFor& parallel_for = {}) {
  const auto done = cache.Append(tokens.Keys().Slice(first, count),
                                 tokens.Values().Slice(first, count), parallel_for);
  ASSERT_TRUE(done) << done.error().message;
}

// All visible tokens, [tokens × heads × dim].
struct Decoded {
  size_t heads;
  size_t dim;
  std::vector<float> keys;
  std::vector<float> values;

  explicit Decoded(const KvCache& cache)
      : heads(cache.options().format.kv_heads), dim(cache.options().format.head_dim) {
    const size_t tokens = cache.size();
    keys.resize(tokens * heads * dim);
    values.resize(tokens * heads * dim);
    const auto done =
        cache.Reconstruct(0, tokens, HeadsOutput::TokenMajor(keys.data(), tokens, heads, dim),
                          HeadsOutput::TokenMajor(values.data(), tokens, heads, dim));
    EXPECT_TRUE(done) << done.error().message;
  }
  std::span<const float> Row(bool of_values, size_t token, size_t head) const {
    const std::vector<float>& all = of_values ? values : keys;
    return std::span(all).subspan((token * heads + head) * dim, dim);
  }
};

inline std::vector<std::vector<std::byte>> PagesOf(const KvCache& cache) {
  std::vector<std::vector<std::byte>> pages;
  const size_t bytes = cache.format().PageBytes();
  for (const KvPage& page : cache.view().pages) {
    pages.emplace_back(page.bytes, page.bytes + bytes);
  }
  return pages;
}

// What a cache shows, but for addresses and allocated bytes.
struct CacheContents {
  std::vector<std::vector<std::byte>> pages;
  std::vector<float> keys;
  std::vector<float> values;
  std::vector<uint64_t> numbers;
  std::vector<uint16_t> channels;

  explicit CacheContents(const KvCache& cache) : pages(PagesOf(cache)) {
    const Decoded decoded(cache);
    keys = decoded.keys;
    values = decoded.values;
    const KvView view = cache.view();
    numbers = {cache.size(),        cache.next_position(),  view.sinks.count,
               view.packed_tokens,  view.window.count,      view.first_lane,
               view.first_position, view.packed_position,   view.pages.size(),
               view.rotary_dim,     view.key_map != nullptr};
    const size_t count = decoded.heads * decoded.dim;
    for (const uint16_t* side : {view.key_channels, view.value_channels}) {
      if (side != nullptr) channels.insert(channels.end(), side, side + count);
    }
  }
  bool operator==(const CacheContents&) const = default;
};

inline std::vector<size_t> StatsNumbers(const KvCacheStats& stats) {
  return {stats.tokens,       stats.packed_tokens, stats.exact_tokens,  stats.code_bytes,
          stats.scale_bytes,  stats.exact_bytes,   stats.scratch_bytes, stats.quantizer_bytes,
          stats.other_bytes,  stats.total_bytes,   stats.f16_bytes,     stats.f32_bytes,
          stats.key_map_ready};
}

}  // namespace turboquant::test

#endif  // TURBOQUANT_TESTS_CACHE_CACHE_SUPPORT_H_
