// Attention in double over what a cache shows: what Attend and AttentionLogits approximate.
#ifndef TURBOQUANT_TESTS_CACHE_ATTEND_REFERENCE_H_
#define TURBOQUANT_TESTS_CACHE_ATTEND_REFERENCE_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "tests/cache/cache_support.h"
#include "tests/support/random_rows.h"
#include "turboquant/attention.h"
#include "turboquant/kv_cache.h"

namespace turboquant::test {

inline constexpr double kHidden = -std::numeric_limits<double>::infinity();

// [tokens × heads × dim] query rows.
struct Queries {
  size_t tokens;
  size_t heads;
  size_t dim;
  Rows rows;

  // Elements N(0, deviation²): logits over N(0, 1) keys then have that deviation.
  Queries(size_t tokens_in, size_t heads_in, size_t dim_in, double deviation = 1.0,
          uint64_t seed = 77);

  HeadsView view() const { return HeadsView::TokenMajor(rows.values.data(), tokens, heads, dim); }
  std::span<const float> Row(size_t token, size_t head) const { return rows[token * heads + head]; }
};

// What one query row makes of the tokens.
struct DenseRow {
  std::vector<double> logits;   // natural; kHidden where the query does not see the token
  std::vector<double> weights;  // their softmax, 0 everywhere if nothing is seen
  double log_sum_exp;           // kHidden if nothing is seen
  std::vector<double> output;
};

// Fills weights, log_sum_exp and output from the logits.
void SoftmaxInDouble(const Decoded& decoded, size_t kv_head, DenseRow& row);

// By the words of turboquant/attention.h, from the tokens that Reconstruct gives.
class DenseAttention {
 public:
  explicit DenseAttention(const KvCache& cache);

  const Decoded& decoded() const { return decoded_; }
  size_t tokens() const { return positions_.size(); }
  int64_t position(size_t token) const { return positions_[token]; }

  // Of query (token, head). `options` as Attend is given them.
  DenseRow Attend(const Queries& queries, size_t token, size_t head,
                  const AttendOptions& options) const;

  size_t KvHead(const Queries& queries, size_t head) const {
    return head / (queries.heads / decoded_.heads);
  }

 private:
  Decoded decoded_;
  std::vector<int64_t> positions_;
  int64_t next_position_;
};

// The scale that Attend uses.
double LogitScale(const AttendOptions& options, size_t head_dim);

// Outputs and log-sum-exp of a call that must succeed.
struct Attended {
  std::vector<float> outputs;  // [query tokens × query heads × dim]
  std::vector<float> log_sum_exp;

  Attended(const KvCache& cache, const Queries& queries, AttendOptions options = {});
  Attended(const KvView& view, const HeadsView& queries, AttendOptions options = {});
  bool operator==(const Attended&) const = default;
};

// [query tokens · query heads × tokens], of a call that must succeed.
std::vector<float> LogitsOf(const KvCache& cache, const Queries& queries,
                            const AttendOptions& options);

}  // namespace turboquant::test

#endif  // TURBOQUANT_TESTS_CACHE_ATTEND_REFERENCE_H_
