// Caches of all kinds to be saved, and what must be the same of two of them.
#ifndef TURBOQUANT_TESTS_STORAGE_SNAPSHOT_EXAMPLES_H_
#define TURBOQUANT_TESTS_STORAGE_SNAPSHOT_EXAMPLES_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/cache/cache_support.h"
#include "tests/storage/storage_testing.h"
#include "turboquant/snapshot.h"

namespace turboquant {

inline constexpr size_t kSnapshotHeads = 2;
inline constexpr size_t kSnapshotQueryHeads = 4;

// A cache of 2 KV heads with diagonal map and page frames, the sinks and windows of which are
// small.
inline KvCacheOptions SnapshotOptions(size_t head_dim = 20) {
  KvCacheOptions options;
  options.format.head_dim = head_dim;
  options.format.kv_heads = kSnapshotHeads;
  options.format.layer = 3;
  options.window = 16;
  options.rope = RopeParameters::FromTheta(10000.0, head_dim / 4 * 2);
  options.query_heads = kSnapshotQueryHeads;
  options.first_position = 1000;
  return options;
}

// A stream of tokens with queries: the same for the same seed.
class TokenStream {
 public:
  explicit TokenStream(const KvCacheOptions& options, size_t tokens = 1600, uint64_t seed = 5)
      : tokens_(tokens, options.format.kv_heads, options.format.head_dim, seed),
        queries_(test::NormalRows(tokens * kSnapshotQueryHeads, options.format.head_dim, 99)) {}

  // Tokens [first, first + count), observed before if the cache wants queries.
  void AppendTo(KvCache& cache, size_t first, size_t count) const {
    if (cache.options().query_heads != 0) {
      ASSERT_TRUE(cache.ObserveQueries(Queries().Slice(first, count)));
    }
    test::Append(cache, tokens_, first, count);
  }
  HeadsView Queries() const {
    return HeadsView::TokenMajor(queries_.values.data(), queries_.rows / kSnapshotQueryHeads,
                                 kSnapshotQueryHeads, tokens_.dim);
  }
  const test::Tokens& tokens() const { return tokens_; }

 private:
  test::Tokens tokens_;
  test::Rows queries_;
};

// All that a caller can see of a cache; bit for bit.
struct CacheAnswers {
  std::vector<float> outputs;  // of attention with one digit, then with two
  std::vector<float> keys;
  std::vector<float> values;
  std::vector<uint64_t> numbers;

  explicit CacheAnswers(const KvCache& cache, const HeadsView& queries) {
    const test::Decoded decoded(cache);
    keys = decoded.keys;
    values = decoded.values;
    const KvView view = cache.view();
    numbers = {cache.size(),
               cache.next_position(),
               view.sinks.count,
               view.packed_tokens,
               view.window.count,
               view.first_lane,
               view.first_position,
               view.packed_position,
               view.pages.size(),
               view.rotary_dim,
               cache.key_map() == nullptr ? 0 : cache.key_map()->fingerprint(),
               cache.format().fingerprint(),
               cache.Stats().key_map_ready};
    const HeadsView few = queries.Slice(0, 3);
    const size_t count = few.tokens * few.heads * few.dim;
    outputs.resize(2 * count);
    for (const int digits : {1, 2}) {
      AttendOptions options;
      options.digits = digits;
      options.causal = false;
      float* out = outputs.data() + (digits == 2 ? count : 0);
      const auto done =
          cache.Attend(few, options, HeadsOutput::TokenMajor(out, few.tokens, few.heads, few.dim));
      EXPECT_TRUE(done) << done.error().message;
    }
  }
  bool operator==(const CacheAnswers&) const = default;
};

inline Bytes Saved(const KvCache& cache) {
  auto bytes = SerializeKvCache(cache);
  EXPECT_TRUE(bytes) << bytes.error().message;
  return bytes.value_or(Bytes{});
}

}  // namespace turboquant

#endif  // TURBOQUANT_TESTS_STORAGE_SNAPSHOT_EXAMPLES_H_
