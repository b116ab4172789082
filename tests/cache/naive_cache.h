// A KV cache of plain vectors: which tokens a KvCache shows, at which positions, which of them are
// exact, and what they are.
#ifndef TURBOQUANT_TESTS_CACHE_NAIVE_CACHE_H_
#define TURBOQUANT_TESTS_CACHE_NAIVE_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tests/support/random_rows.h"
#include "turboquant/kv_cache.h"

namespace turboquant::test {

// What is wrong, if anything.
using Complaint = std::optional<std::string>;

// Relative squared errors of packed values, which no frame or map touches.
using PackingErrors = Sample;

class NaiveCache {
 public:
  explicit NaiveCache(const KvCacheOptions& options);

  // Keys, then values, of all heads: [2 × kv_heads × head_dim], as the cache is given them.
  using Token = std::vector<float>;
  void Append(std::span<const Token> tokens);
  void Truncate(size_t n);
  void Clear();

  size_t size() const { return tokens_.size(); }
  uint64_t next_position() const;

  // Counts, positions and lanes.
  Complaint CompareShape(const KvCache& cache) const;

  // Visible tokens [first, first + count). Exact ones are equal bit for bit. Packed ones are near
  // what came, and from then on always the same bits.
  Complaint CompareTokens(const KvCache& cache, size_t first, size_t count, PackingErrors& errors);

  // Attends with queries [query tokens × query heads], the first at `position`, and compares with
  // attention in double over what CompareTokens has seen of all tokens.
  Complaint CompareAttention(const KvCache& cache, const Rows& queries, size_t query_tokens,
                             uint64_t position, const AttendOptions& options) const;

 private:
  struct Entry {
    uint64_t position;
    std::shared_ptr<const Token> exact;
    std::shared_ptr<const Token> packed;  // as decoded when first seen
  };
  size_t heads() const { return options_.format.kv_heads; }
  size_t dim() const { return options_.format.head_dim; }
  bool Packs() const;
  bool WantsMap() const;
  bool IsPacked(size_t token) const { return token >= sinks_ && token < sinks_ + packed_; }
  void PackAndEvict();
  Complaint CompareToken(size_t token, const Token& shown, PackingErrors& errors);
  std::vector<double> AttendInDouble(std::span<const float> query, size_t head, uint64_t position,
                                     const AttendOptions& options) const;

  KvCacheOptions options_;
  bool has_map_ = false;
  std::vector<Entry> tokens_;
  size_t sinks_ = 0;
  size_t packed_ = 0;
  size_t end_lane_ = 0;
  uint64_t evicted_ = 0;
};

}  // namespace turboquant::test

#endif  // TURBOQUANT_TESTS_CACHE_NAIVE_CACHE_H_
