// What a cache does to keys before it packs them, so that fewer bits lose less: page frames, a
// centre and a balanced map (docs/algorithm.md, "Page frames and key maps").
//
// Page p holds 256 packed tokens; its base s is the position of the first. A key k becomes
//   A (R_-s k - m),   R_s RoPE's rotation by s,
// and a query q meets it as (A^-T R_-s q) · y + (R_-s q) · m: exact algebra, whatever m and A are.
// De-rotation makes the statistics of keys the same on every page; m and A estimated on the first
// few hundred tokens then serve the whole context, where post-RoPE constants drift with position.
#ifndef TURBOQUANT_KEY_MAP_H_
#define TURBOQUANT_KEY_MAP_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "turboquant/error.h"
#include "turboquant/heads_view.h"

namespace turboquant {

enum class RopePairing {
  kHalf,         // coordinate i turns with i + rotary_dim / 2
  kInterleaved,  // coordinate 2 i turns with 2 i + 1
};

// How keys and queries were turned by their positions. An empty list of frequencies declares that
// they were not: all pages then share one frame.
struct RopeParameters {
  std::vector<double> inverse_frequencies;  // radians a position, rotary_dim / 2 of them
  RopePairing pairing = RopePairing::kHalf;

  size_t rotary_dim() const { return 2 * inverse_frequencies.size(); }

  // The usual ones: theta^(-2 i / rotary_dim). rotary_dim is even, theta > 0.
  static RopeParameters FromTheta(double theta, size_t rotary_dim,
                                  RopePairing pairing = RopePairing::kHalf);

  bool operator==(const RopeParameters&) const = default;
};

enum class KeyMapKind {
  kNone,      // keys are packed as they come
  kCenter,    // m only
  kDiagonal,  // m and a diagonal A: head_dim numbers more, no time
  kFull,      // m and a full A: 2 head_dim² numbers a head, a matrix product a query and page
};

// Centres and maps of the KV heads of one layer. Immutable; safe to share between threads.
class KeyMap {
 public:
  KeyMapKind kind() const { return kind_; }
  size_t kv_heads() const { return kv_heads_; }
  size_t head_dim() const { return head_dim_; }

  // Of one head < kv_heads(); empty where the kind has none.
  std::span<const float> center(size_t head) const { return Part(center_, head, head_dim_); }
  std::span<const float> scale(size_t head) const { return Part(scale_, head, head_dim_); }
  std::span<const float> inverse_scale(size_t head) const {
    return Part(inverse_scale_, head, head_dim_);
  }
  // The diagonal of the second moment of mapped queries, shrunk, with mean 1: what an error of each
  // coordinate of a mapped key costs. Empty unless query-weighted codes are wanted.
  std::span<const float> query_weights(size_t head) const {
    return Part(query_weights_, head, head_dim_);
  }
  // A and A^-T, row-major [head_dim × head_dim].
  std::span<const float> matrix(size_t head) const {
    return Part(matrix_, head, head_dim_ * head_dim_);
  }
  std::span<const float> inverse_transpose(size_t head) const {
    return Part(inverse_transpose_, head, head_dim_ * head_dim_);
  }

  // From numbers of another process. `center` is [kv_heads × head_dim]; `map` is empty (kCenter),
  // [kv_heads × head_dim] positive scales (kDiagonal) or [kv_heads × head_dim²] matrices (kFull),
  // whose inverse is computed here. `query_weights` is empty or, with kDiagonal, [kv_heads ×
  // head_dim] positive numbers. Errors: kInvalidArgument for kNone; kDimensionMismatch;
  // kCorruptData for numbers that are not finite, scales or weights that are not positive or
  // matrices that are singular.
  [[nodiscard]] static Result<KeyMap> FromNumbers(KeyMapKind kind, size_t kv_heads, size_t head_dim,
                                                  std::span<const float> center,
                                                  std::span<const float> map,
                                                  std::span<const float> query_weights = {});

  size_t HeldBytes() const;

  // Identity for snapshots.
  uint64_t fingerprint() const { return fingerprint_; }

 private:
  friend class KeyMapEstimator;
  KeyMap() = default;
  static std::span<const float> Part(const std::vector<float>& all, size_t head, size_t count) {
    return all.empty() ? std::span<const float>() : std::span(all).subspan(head * count, count);
  }

  KeyMapKind kind_ = KeyMapKind::kNone;
  size_t kv_heads_ = 0;
  size_t head_dim_ = 0;
  std::vector<float> center_;
  std::vector<float> scale_;
  std::vector<float> inverse_scale_;
  std::vector<float> query_weights_;
  std::vector<float> matrix_;
  std::vector<float> inverse_transpose_;
  uint64_t fingerprint_ = 0;
};

struct KeyMapOptions {
  KeyMapKind kind = KeyMapKind::kDiagonal;
  size_t kv_heads = 0;
  size_t query_heads = 0;  // a multiple of kv_heads; 0: no queries will be given
  size_t head_dim = 0;
  RopeParameters rope = {};
  size_t sinks = 4;              // tokens in front that no page holds
  uint64_t first_position = 0;   // of the first token
  double shrinkage = 0.3;        // lambda: C + lambda tr(C)/d I
  float attention_scale = 0.0f;  // logits = scale · <q, k>; 0: 1/sqrt(head_dim)
  bool query_weights = false;    // estimated as well; kDiagonal only
};

// Estimates a KeyMap from the beginning of a sequence: m and the covariance Ck from keys in their
// pages' frames, Cq from queries in the frames of the pages at or before them. Both are weighted by
// w_ij = p_ij² |v_j - o_i|², the first-order error of attention's output (p the attention weight of
// query i on token j, o_i its output): worth 10 to 15 % of the map's gain. Then
//   AᵀA ~ Ck^-1/2 (Ck^1/2 Cq Ck^1/2)^1/2 Ck^-1/2, or for a diagonal A  a_j ~ (Cq_jj / Ck_jj)^1/4,
// with head_dim as the trace of A. m is the plain mean. Of more than 256 tokens the weights come
// from 256 queries, evenly spaced. Where nothing is to be learnt (all keys equal, queries zero) A
// is the identity. One thread: for 512 tokens of 32 query heads and head_dim 128 about 0.1 s
// (kDiagonal) or 0.25 s (kFull).
class KeyMapEstimator {
 public:
  // Errors: kInvalidArgument naming the option.
  [[nodiscard]] static Result<KeyMapEstimator> Create(const KeyMapOptions& options);

  // keys and values [tokens × kv_heads × head_dim], queries [tokens × query_heads × head_dim], the
  // tokens of a sequence from its first on; `queries` may be empty (data null): then a map of any
  // kind is centre only. Where not every token's queries are at hand, `query_tokens` says which
  // token asked each row of `queries`, ascending. Errors: kDimensionMismatch; kInvalidArgument with
  // fewer than sinks + 2 tokens, for query_tokens out of order or range, or where logits overflow
  // float; kNonFinite naming token, head and column.
  [[nodiscard]] Result<KeyMap> Estimate(const HeadsView& keys, const HeadsView& values,
                                        const HeadsView& queries,
                                        std::span<const size_t> query_tokens = {}) const;

 private:
  explicit KeyMapEstimator(const KeyMapOptions& options) : options_(options) {}
  KeyMapOptions options_;
};

}  // namespace turboquant

#endif  // TURBOQUANT_KEY_MAP_H_
