// Tokens on their way from the window, or straight from an Append, into pages.
#ifndef TURBOQUANT_SRC_CACHE_PACK_TOKENS_H_
#define TURBOQUANT_SRC_CACHE_PACK_TOKENS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/cache/exact_tokens.h"
#include "src/cache/kv_pages.h"
#include "src/cache/kv_parts.h"
#include "turboquant/error.h"
#include "turboquant/heads_view.h"
#include "turboquant/key_map.h"
#include "turboquant/parallel_for.h"

namespace turboquant {

// |row|² of rows [heads × tokens], as the kernels sum it; null where it is not known.
struct SquaredNorms {
  const double* first;
  size_t head_stride;

  const double* At(size_t head, size_t token) const {
    return first == nullptr ? nullptr : first + head * head_stride + token;
  }
};

// Tokens that are not packed yet: those of the window, then those of an Append behind its sinks.
struct PendingTokens {
  const ExactTokens* window;
  HeadsView keys;
  HeadsView values;
  // Tokens of an f16 window are packed as f16 left them, whether or not they ever lay there: how
  // many an Append brings makes no difference.
  bool round_to_f16;
  SquaredNorms key_norms;  // of keys and values, not of the window
  SquaredNorms value_norms;

  size_t count() const { return window->count() + keys.tokens; }
  // Row of pending token i to out[dim].
  void Read(bool of_values, size_t i, size_t head, float* out) const;
};

// Where they go: pages[i] holds lanes [256 (first_page + i), ...), all counted from lane 0 of the
// cache's first page, and pending token 0 goes to first_lane. Lanes [first_lane, end_lane) that lie
// in a page of the list are written, and must be zero.
struct PageSpan {
  std::vector<PageRef> pages;
  size_t first_page;
  size_t first_lane;
  size_t end_lane;

  // Lanes of pages[i] that are written, counted from its lane 0.
  size_t Begin(size_t i) const;
  size_t End(size_t i) const;
  // The pending token that goes to lane Begin(i) of pages[i].
  size_t Token(size_t i) const;
};

struct PackFormat {
  const KvFormat::Parts* parts;
  const KeyMap* key_map;           // null: none
  bool query_weighted_codes;       // where the map has weights
  const RopeParameters* rope;      // null: no frames
  const uint16_t* key_channels;    // null: no outlier channels
  const uint16_t* value_channels;  // null: no outlier channels

  bool UsesWeights() const {
    return query_weighted_codes && key_map != nullptr && !key_map->query_weights(0).empty();
  }
};

// The channels of one side in the order of its parts, [kv_heads × head_dim]: those with the largest
// mean squares over the first tokens of the span (of at most two pages), ascending, then the
// others. The format has no channels yet.
std::vector<uint16_t> ChooseChannels(const PackFormat& format, bool values,
                                     const PendingTokens& pending, const PageSpan& span);

struct PackFailure {
  size_t token;  // pending
  size_t head;
  bool values;
  Error error;
};

// Encodes all lanes of the span. The first failure, in the order of pages, heads and sides, if any;
// lanes of the span are then in any state.
std::optional<PackFailure> PackTokens(const PackFormat& format, const PendingTokens& pending,
                                      const PageSpan& span, const ParallelFor& parallel_for);

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_CACHE_PACK_TOKENS_H_
