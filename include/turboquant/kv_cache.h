// The KV cache of one attention layer: exact sinks, packed pages, an exact recent window.
#ifndef TURBOQUANT_KV_CACHE_H_
#define TURBOQUANT_KV_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "turboquant/attention.h"
#include "turboquant/error.h"
#include "turboquant/heads_view.h"
#include "turboquant/key_map.h"
#include "turboquant/kv_format.h"
#include "turboquant/page_pool.h"
#include "turboquant/parallel_for.h"

namespace turboquant {

struct KvCacheOptions {
  KvFormatOptions format = {};
  size_t sinks = 4;    // first tokens, kept exact for ever
  size_t window = 64;  // newest tokens kept exact: `window` to `window` + 63; 0: none
  // The oldest behind the sinks are evicted beyond; 0: no limit. Where so few are visible that
  // nothing is ever packed (fewer than sinks + window + 64, or than sinks + 128 with a key map to
  // be estimated), all stay exact and no map is wanted.
  size_t max_tokens = 0;
  RowType exact_type = RowType::kF32;  // of sinks and window: kF32 or kF16
  uint64_t first_position = 0;         // of the first token, for RoPE and masks
  // Without rope no map is used, unless key_map is kCenter, which drifts: a centre of the first
  // positions is worse than none some thousand positions later.
  std::optional<RopeParameters> rope = {};
  // kNone also does without page frames.
  KeyMapKind key_map = KeyMapKind::kDiagonal;
  size_t query_heads = 0;  // of the queries that ObserveQueries is given; 0: none will be
  double key_map_shrinkage = 0.3;
  // Codes of keys are moved from the nearest ones to where the queries behind the key map see less
  // of their error: the same bytes and speed of attention, less KL, and microseconds more for every
  // key that is packed (docs/algorithm.md, "Query-weighted codes"). Needs kMse keys without outlier
  // channels, their unbiased scale, one Hadamard round, a head_dim that is a power of two and a
  // diagonal map made from observed queries: a map without queries leaves codes the nearest ones.
  // Unset: on where that holds of the options, for keys of at most 6 bits.
  std::optional<bool> query_weighted_codes = {};
  std::shared_ptr<const KeyMap> known_key_map = {};  // instead of estimating one
  // Where pages come from, for caches that grow long: shared by all layers and sequences, see
  // PagePool. Null: each is an allocation of its own.
  std::shared_ptr<PagePool> page_pool = {};
};

// Named starting points, to be changed at will; set rope, query_heads and format.layer to what the
// model has.
//   safe, balanced, small   keys 8, 4, 3 and values 4, 4, 3 bits; MSE, one Hadamard round, unbiased
//                           scale, searched at 3 and 4 bits, page frames with centre and diagonal
//                           map (with rope), 4 sinks, window 64
//   paper                   MSE 4 and 4 bits, norm scale, two Hadamard rounds, nothing exact, no
//                           map
//   peer                    keys Prod 4 bits (Gaussian sketch), values MSE 4 bits, norm scale,
//                           dense rotation, nothing exact, no map
// Errors: kInvalidArgument listing the names.
[[nodiscard]] Result<KvCacheOptions> PolicyOptions(std::string_view name, size_t head_dim,
                                                   size_t kv_heads);

// One line that names every option that matters, e.g. "keys mse 4 bits, values mse 4 bits, ...".
std::string Describe(const KvCacheOptions& options);

// What forks share (pages, tables, an estimated key map) counts in each of them; a known key map is
// its owner's.
struct KvCacheStats {
  size_t tokens;           // visible
  size_t packed_tokens;    // of them in pages
  size_t exact_tokens;     // sinks and window
  size_t code_bytes;       // pages without scales, as allocated
  size_t scale_bytes;      // of pages, as allocated
  size_t exact_bytes;      // sinks and window, as allocated
  size_t scratch_bytes;    // kept between calls
  size_t quantizer_bytes;  // tables, rotations, key map
  size_t other_bytes;      // lists of pages, turns of frames
  size_t total_bytes;      // the sum: what the cache holds allocated
  size_t f16_bytes;        // keys and values of the visible tokens as f16, and as f32
  size_t f32_bytes;
  bool key_map_ready;  // or none is wanted
};

// Written by one thread at a time; const calls may run at the same time as each other.
//
// Key statistics, when a map is wanted and none is given, are taken once: when an Append ends with
// at least 128 tokens behind the sinks (all are exact until then), from the first min(count, 512).
// They stay until Clear. Outlier channels are chosen when tokens are first packed, from the first
// two pages at most of what that Append packs.
class KvCache {
 public:
  // Errors: kInvalidArgument naming the option, kUnavailable for the backend.
  [[nodiscard]] static Result<KvCache> Create(const KvCacheOptions& options);

  KvCache(KvCache&&) noexcept;
  KvCache& operator=(KvCache&&) noexcept;
  ~KvCache();

  const KvCacheOptions& options() const;
  const KvFormat& format() const;
  size_t size() const;             // visible tokens
  uint64_t next_position() const;  // of the next token to be appended
  const KeyMap* key_map() const;   // null while there is none

  // Appends tokens of all heads, [tokens × kv_heads × head_dim] each, or nothing at all.
  // Errors: kDimensionMismatch; kNonFinite naming (token, head, column); kInvalidArgument for a row
  // whose norm exceeds 16,384 where it would be packed with an f16 scale, one beyond f16's range
  // with exact_type kF16, or one that, short as it is, gets a scale beyond f16 (it takes a row that
  // rotates to few coordinates, or a map that stretches it). The last may be a token of the window,
  // which the message names: only Truncate or Clear get past it.
  [[nodiscard]] Result<void> Append(const HeadsView& keys, const HeadsView& values,
                                    const ParallelFor& parallel_for = {});

  // Queries of the tokens about to be appended next, [tokens × query_heads × head_dim]: what the
  // key map is estimated from. Ignored once there is a map or none is wanted. Call before the
  // Append of the same tokens, of every one of them: where some are missing, the map is a centre
  // only. Errors: kDimensionMismatch, kNonFinite, kInvalidArgument with query_heads 0.
  [[nodiscard]] Result<void> ObserveQueries(const HeadsView& queries);

  // Keeps the first n visible tokens, at their positions; the next one takes the position of the
  // first that went. Packed tokens stay packed, the key map stays. Errors: kInvalidArgument if
  // n > size().
  [[nodiscard]] Result<void> Truncate(size_t n);

  // Forgets all tokens and the estimated key map.
  void Clear();

  // A cache with the same tokens that shares the packed pages until one of the two writes to them.
  KvCache Fork();

  // What Attend reads. Valid until the next call that is not const.
  KvView view() const;

  // As turboquant::Attend on view().
  [[nodiscard]] Result<void> Attend(const HeadsView& queries, const AttendOptions& options,
                                    const HeadsOutput& outputs) const;

  // Estimates of scale-free <query, key> for every visible token: scores [query tokens ·
  // query_heads × size()]. Errors: as Attend.
  [[nodiscard]] Result<void> Scores(const HeadsView& queries, MatrixView<float> scores) const;

  // Keys and values of visible tokens [first, first + count) as attention sees them, rotated back,
  // [count × kv_heads × head_dim]. Errors: kInvalidArgument, kDimensionMismatch.
  [[nodiscard]] Result<void> Reconstruct(size_t first, size_t count, const HeadsOutput& keys,
                                         const HeadsOutput& values) const;

  KvCacheStats Stats() const;

  // For the library's own use.
  struct State;

 private:
  friend class KvSnapshot;  // src/storage: reads and restores the state
  explicit KvCache(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace turboquant

#endif  // TURBOQUANT_KV_CACHE_H_
