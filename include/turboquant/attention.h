// Attention straight on packed keys and values, wherever they lie.
#ifndef TURBOQUANT_ATTENTION_H_
#define TURBOQUANT_ATTENTION_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "turboquant/error.h"
#include "turboquant/heads_view.h"
#include "turboquant/key_map.h"
#include "turboquant/kv_format.h"
#include "turboquant/parallel_for.h"

namespace turboquant {

// 256 packed tokens of every KV head, KvFormat::PageBytes() bytes at a multiple of 64. Lanes that
// hold no token are zero, their scales too.
struct KvPage {
  const std::byte* bytes = nullptr;
  // Cosines, then sines, of the frame's turn: rotary_dim / 2 each. Null without RoPE frames.
  const float* turns = nullptr;
};

// Exact tokens: [heads] of rows; row (t, h) at t · token_stride + h · head_stride elements.
struct KvExactTokens {
  const void* keys = nullptr;
  const void* values = nullptr;
  RowType type = RowType::kF32;  // kF32 or kF16
  size_t count = 0;
  size_t token_stride = 0;
  size_t head_stride = 0;
};

// What attention reads: exact sinks, packed pages, exact window, in the order of the tokens.
// Non-owning; valid as long as whoever made it does not change.
struct KvView {
  const KvFormat* format = nullptr;
  const KeyMap* key_map = nullptr;  // null: keys were packed as they came
  RopePairing rope_pairing = RopePairing::kHalf;
  size_t rotary_dim = 0;  // of the frames; 0: pages share one frame
  // Channels in the order of the parts, [kv_heads × head_dim], of a side with outlier channels;
  // null without.
  const uint16_t* key_channels = nullptr;
  const uint16_t* value_channels = nullptr;
  KvExactTokens sinks = {};
  std::span<const KvPage> pages = {};
  size_t first_lane = 0;     // tokens of the first page that were evicted
  size_t packed_tokens = 0;  // visible ones
  KvExactTokens window = {};
  // Positions are those of causal masks, windows and biases: sinks from `first_position` on, then
  // packed tokens and window from `packed_position` on.
  uint64_t first_position = 0;
  uint64_t packed_position = 0;

  size_t tokens() const { return sinks.count + packed_tokens + window.count; }
};

struct AttendOptions {
  float scale = 0.0f;          // of the logits; 0: 1/sqrt(head_dim)
  bool causal = true;          // a query sees tokens up to its own position
  size_t sliding_window = 0;   // a query sees the last so many tokens up to its own; 0: all
  float logit_softcap = 0.0f;  // logits become cap · tanh(logit / cap); 0: they stay
  // ALiBi: slope of every query head, times (token position - query position); empty: none.
  std::span<const float> alibi_slopes = {};
  // Added to the logits: [query tokens × tokens of the view], the same for all heads; empty: none.
  MatrixView<const float> bias = {};
  // Position of the first query token; unset: the queries are those of the view's last tokens.
  std::optional<uint64_t> query_position = {};
  // 7-bit digits of queries and weights. 2: output error about 1e-3 of the largest; 1: the fast
  // mode, 1 to 3 %.
  int digits = 2;
  // Natural logarithm of the sum of exp(logits), [query tokens × query heads]; for callers that
  // merge with attention of their own. Empty: not wanted.
  std::span<float> log_sum_exp = {};
  ParallelFor parallel_for = {};
};

// outputs[t][h] = sum over visible tokens of softmax(logits) · value, for queries
// [query tokens × query_heads × head_dim], query_heads a multiple of kv_heads (query head h reads
// KV head h / (query_heads / kv_heads)). A query that sees no token has output 0 and log-sum-exp
// -infinity. The result is the same, bit for bit, on every backend and for every ParallelFor.
// Thread-safe. Errors: kDimensionMismatch, kInvalidArgument, kNonFinite naming token, head, column.
// So that logits stay finite, queries are limited to a norm of 2^40 (and 2^60 times the scale),
// biases to 2^100 (none below: lowest() hides a token as -infinity does), slopes to 2^40, positions
// to 2^62. Exact keys beyond 2^60 are the caller's affair.
[[nodiscard]] Result<void> Attend(const HeadsView& queries, const KvView& view,
                                  const AttendOptions& options, const HeadsOutput& outputs);

// logits[t · query_heads + h][token of the view]: what Attend puts through the softmax, in natural
// units, -infinity where the query does not see the token.
[[nodiscard]] Result<void> AttentionLogits(const HeadsView& queries, const KvView& view,
                                           const AttendOptions& options, MatrixView<float> logits);

}  // namespace turboquant

#endif  // TURBOQUANT_ATTENTION_H_
