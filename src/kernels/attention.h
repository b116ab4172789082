// The hot loops of attention over a cache, and what each of them means. As in kernels.h: one name,
// one definition (the plain loop in attention_reference.cc), all others equal to it bit for bit.
//
// Attention is computed block by block, a block being at most 256 tokens, with an online softmax in
// units of log2. Inside a block of packed tokens all is integer: levels times two 7-bit digits of
// the query, and levels times two 7-bit digits of the weights. How far that is from exact:
//   scores   a query coordinate is off by at most half a digit step, so a score by at most
//            (largest |rotated query coordinate| / 8127) / 2 · |k|_1, k the decoded rotated key;
//   output   a weight times its value's scale is off by at most half of (largest of them in the
//            block) / 16383, so an output coordinate by at most the sum over tokens of that, times
//            the largest |level|, before the division by the sum of weights.
// The 7-bit fast mode replaces 8127 by 63 and 16383 by 127: errors of 1 to 3 %.
#ifndef TURBOQUANT_SRC_KERNELS_ATTENTION_H_
#define TURBOQUANT_SRC_KERNELS_ATTENTION_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace turboquant::kernels {

struct RotationPlan;
struct ScorePlan;

// What is read some time after the blocks at hand: kernels prefetch it while they read those, as
// far into it as they are into theirs. Two runs of bytes, `count` in all. A hint that changes no
// result.
class ReadAhead {
 public:
  ReadAhead() = default;
  ReadAhead(const uint8_t* first, size_t first_count, const uint8_t* second = nullptr,
            size_t second_count = 0)
      : first_(Address(first)),
        second_(Address(second) - first_count),
        first_count_(first_count),
        count_(first_count + second_count) {}

  // For `lines` lines, `at` bytes into the blocks at hand. A few lines behind a run may be among
  // them.
  void Prefetch(size_t at, size_t lines) const {
    if (at >= count_) return;
    const uintptr_t from = (at < first_count_ ? first_ : second_) + at;
#pragma GCC unroll 16
    for (size_t line = 0; line < lines; ++line) {
      // A number, because no pointer may be made to what lies behind the end.
      // NOLINTNEXTLINE(performance-no-int-to-ptr)
      __builtin_prefetch(reinterpret_cast<const void*>(from + line * 64), 0, 2);  // second level
    }
  }

  // For blocks `bytes` into those at hand.
  ReadAhead From(size_t bytes) const {
    ReadAhead rest = *this;
    rest.first_ += bytes;
    rest.second_ += bytes;
    rest.first_count_ -= std::min(bytes, first_count_);
    rest.count_ -= std::min(bytes, count_);
    return rest;
  }

 private:
  static uintptr_t Address(const uint8_t* bytes) { return reinterpret_cast<uintptr_t>(bytes); }

  uintptr_t first_ = 0;
  uintptr_t second_ = 0;  // of its byte that would be at 0
  size_t first_count_ = 0;
  size_t count_ = 0;
};

struct BlocksView {
  const uint8_t* blocks;
  size_t count;
  ReadAhead ahead = {};
};

// Tokens of a softmax block; also the tokens of a page.
inline constexpr size_t kBlockTokens = 256;

// Digits of a weight: 128·high + low, both in [0, 127].
inline constexpr int kTwoWeightDigitsMax = 127 * 128 + 127;
inline constexpr int kOneWeightDigitMax = 127;

// Blocks whose largest weight times scale is below this add nothing: next to a weight of 1.
inline constexpr float kLeastWeight = 0x1p-100f;

// 2^x for x <= 0, within 2 units in the last place; 0 below -125 (and for -infinity). The
// definition, FMA by FMA: n = x rounded to nearest even, f = x - n, a polynomial of degree 6 in f,
// times 2^n by adding n to the exponent.
inline constexpr float kExp2Lowest = -125.0f;
inline constexpr float kExp2Coefficients[7] = {
    1.0f,
    6.931472028550421e-1f,
    2.402264791363012e-1f,
    5.550332471162809e-2f,
    9.618437357674640e-3f,
    1.339887440266574e-3f,
    1.535336188319500e-4f,
};

// The running softmax of one query: weights are 2^(score - max), sum is theirs.
struct SoftmaxState {
  float max;  // -infinity before the first token
  float sum;
};

// Tokens [begin, end) of a block.
struct TokenRange {
  size_t begin;
  size_t end;
  bool empty() const { return begin >= end; }
};

// Rows kept as they came: keys or values of sinks, window and unquantized caches.
enum class ExactType { kF16, kF32 };
struct ExactRows {
  const void* rows;  // row t at t · stride elements
  ExactType type;
  size_t stride;
  size_t dim;
};

// float queries, weights or sums of several query rows: row q at data + q · stride.
template <class T>
struct QueryRows {
  T* data;
  size_t stride;
};

// Queries on their way through framed_digits. Row q of their digits is at q · digit_stride; low is
// null for one digit.
struct FramedQueries {
  QueryRows<const float> rows;
  size_t count;
  int8_t* high;
  int8_t* low;
  size_t digit_stride;
  float* offsets;
  float* largest;

  const float* Query(size_t q) const { return rows.data + q * rows.stride; }
  int8_t* High(size_t q) const { return high + q * digit_stride; }
  int8_t* Low(size_t q) const { return low == nullptr ? nullptr : low + q * digit_stride; }
};

// Weights of a block as digits, row q of kBlockTokens bytes at q · kBlockTokens. low is null for
// one digit. Zero for every token that is not to be summed, up to the end of the value blocks.
struct WeightDigits {
  const uint8_t* high;
  const uint8_t* low;
};

// A page's frame: RoPE's rotation R by the position of the page's first token, a centre m and a
// diagonal a. Each pointer may be null: no such part. Coordinate pairs (i, i + rotary_dim / 2), or
// (2i, 2i + 1) if interleaved, turn by angle i; those from rotary_dim on do not.
struct FramePlan {
  size_t dim;
  size_t rotary_dim;
  bool interleaved;
  const float* cosines;  // rotary_dim / 2
  const float* sines;
  const float* center;  // dim
  const float* scale;   // dim: a for keys, 1/a for queries
};

struct AttentionKernels {
  // Of each row r of scores, [begin, end) of ranges[r] become weights 2^(score + offset - max), all
  // others of [0, RoundUp(end, 16)) become 0, where offset = offsets[r] and max is the largest of
  // states[r].max and every score + offset. keep[r] = 2^(old max - new max), what earlier sums are
  // to be multiplied by. Then
  //   states[r].sum = states[r].sum · keep[r] + sum of the weights
  // (16 accumulators, weight t to accumulator t % 16, added i with i + 8, + 4, + 2, + 1).
  // Scores in range are finite. A row whose range is empty is left as it is, with keep[r] = 1.
  // Exact.
  void (*softmax)(const QueryRows<float>& scores, size_t rows, const TokenRange* ranges,
                  const float* offsets, SoftmaxState* states, float* keep);

  // Weights times value scales, p_t = weights[r][t] · float(scales[t]), as digits at r ·
  // kBlockTokens: p_t · (most / the row's largest p) rounded to nearest even, most = 16383 or (low
  // null) 127. `count` tokens, a multiple of 16. gain[r] = largest p / most, what a digit stands
  // for; 0 and zero digits if that largest is below kLeastWeight. Tokens of weight 0 have digit 0
  // whatever their scale, which must be finite. Exact.
  void (*weight_digits)(const QueryRows<const float>& weights, size_t rows, const uint16_t* scales,
                        size_t count, uint8_t* high, uint8_t* low, float* gain);

  // sums[q][j] = sums[q][j] · keep[q] + float(sum over tokens of level_tj · digit_qt) · gain[q] for
  // the first 64·blocks.count tokens of value blocks. The inner sum is an exact integer. Exact.
  void (*accumulate_values)(const ScorePlan& plan, const BlocksView& blocks,
                            const WeightDigits& weights, size_t queries, const float* keep,
                            const float* gain, const QueryRows<float>& sums);

  // scores[q][t] = <query q, row t>: 16 accumulators, coordinate j by fma to accumulator j % 16,
  // added i with i + 8, + 4, + 2, + 1. Exact.
  void (*score_exact)(const ExactRows& rows, size_t count, const QueryRows<const float>& queries,
                      size_t query_count, const QueryRows<float>& scores);

  // sums[q][j] = sums[q][j] · keep[q] + (weights[q][t] · row_tj summed by fma in order of t).
  // Exact.
  void (*accumulate_exact)(const ExactRows& rows, size_t count,
                           const QueryRows<const float>& weights, size_t query_count,
                           const float* keep, const QueryRows<float>& sums);

  // Two partial softmaxes into one: into.max = larger of both; both sums and both rows of sums are
  // scaled by 2^(own max - new max) and added, into's first. A state with max -infinity is
  // nothing. Exact.
  void (*merge)(SoftmaxState& into, float* into_sums, const SoftmaxState& from,
                const float* from_sums, size_t count);

  // out = scale ⊙ (R^T key - center): a pair (x, y) at angle (c, s) becomes (x·c + y·s, y·c - x·s),
  // two products, then one addition. out may be key. Exact.
  void (*frame_key)(const FramePlan& plan, const float* key, float* out);

  // out = scale ⊙ R^T query; returns <R^T query, center> as score_exact sums it. Exact.
  float (*frame_query)(const FramePlan& plan, const float* query, float* out);

  // Of each query frame_query to scratch [dim], which gives its offset, then rotate and
  // query_digits (kernels.h), which gives its largest. What scratch holds afterwards is nobody's.
  // Exact.
  void (*framed_digits)(const FramePlan& frame, const RotationPlan& rotation,
                        const FramedQueries& queries, float* scratch);
};

namespace reference {

float Exp2(float x);
extern const AttentionKernels kAttention;

}  // namespace reference
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_ATTENTION_H_
