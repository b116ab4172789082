#include "src/cache/attend_tile.h"

#include <cmath>
#include <limits>
#include <numbers>

#include "src/base/failure.h"
#include "src/base/half.h"
#include "src/base/try.h"
#include "src/kernels/line_layout.h"
#include "src/quantizers/row_reader.h"

namespace turboquant {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();

kernels::ExactRows RowsOf(const AttendBlock& block, bool values, size_t head, size_t head_dim) {
  const KvExactTokens& tokens = *block.exact;
  const size_t at = block.first_row * tokens.token_stride + head * tokens.head_stride;
  const size_t element_bytes = tokens.type == RowType::kF32 ? 4 : 2;
  const auto* base = static_cast<const std::byte*>(values ? tokens.values : tokens.keys);
  return {base + at * element_bytes,
          tokens.type == RowType::kF32 ? kernels::ExactType::kF32 : kernels::ExactType::kF16,
          tokens.token_stride, head_dim};
}

// An unquantized side of a page.
kernels::ExactRows RowsOf(const KvSide& side, const std::byte* head_bytes, size_t head_dim) {
  return {
      head_bytes + side.exact_offset,
      side.options.method == KvMethod::kF32 ? kernels::ExactType::kF32 : kernels::ExactType::kF16,
      head_dim, head_dim};
}

const uint16_t* ScalesOf(const KvPart& part, const std::byte* head_bytes) {
  return reinterpret_cast<const uint16_t*>(head_bytes + part.scales_offset);
}

const uint8_t* BlocksOf(const KvPart& part, const std::byte* head_bytes) {
  return reinterpret_cast<const uint8_t*>(head_bytes + part.blocks_offset);
}

// What to prefetch while `own` is read and `next` follows: what lies as far ahead as the shorter of
// both is long.
kernels::ReadAhead Behind(std::span<const std::byte> own, std::span<const std::byte> next) {
  const auto bytes = [](std::span<const std::byte> s) {
    return reinterpret_cast<const uint8_t*>(s.data());
  };
  const size_t distance = next.empty() ? own.size() : std::min(own.size(), next.size());
  const std::span<const std::byte> rest = own.subspan(distance);
  return {bytes(rest), rest.size(), bytes(next), std::min(distance, next.size())};
}

}  // namespace

AttendTile::AttendTile(const AttendPlan& plan, size_t kv_head, size_t first_token, size_t tokens)
    : plan_(plan),
      kv_head_(kv_head),
      first_token_(first_token),
      rows_(tokens * plan.group),
      digit_stride_(kernels::PaddedDim(plan.head_dim)),
      queries_(plan.queries.data() +
               (kv_head * plan.query_tokens + first_token) * plan.group * plan.head_dim) {
  buffers_ = AlignedBytes(LayOut(nullptr));
  LayOut(buffers_.data());
}

// Points into `buffer` unless it is null; its size.
size_t AttendTile::LayOut(std::byte* buffer) {
  const size_t parts = plan_.parts->keys.parts.size();
  const bool two = plan_.options->digits == 2;
  const size_t scores = rows_ * kPageTokens;
  const size_t digits = parts * rows_ * digit_stride_;
  size_t end = 0;
  const auto take = [&]<class T>(T*& first, size_t count) {
    first = buffer == nullptr || count == 0 ? nullptr : reinterpret_cast<T*>(buffer + end);
    end = RoundUp(end + count * sizeof(T), 64);
  };
  take(scores_, scores);
  take(part_scores_, parts > 1 ? scores : 0);
  take(high_, digits);
  take(low_, two ? digits : 0);
  take(weight_high_, scores);
  take(weight_low_, two ? scores : 0);
  take(framed_, rows_ * plan_.head_dim);
  take(scratch_, 2 * plan_.head_dim);
  take(factors_, parts * rows_);
  take(offsets_, rows_);
  take(no_offsets_, rows_);
  take(ranges_, rows_);
  take(keep_, rows_);
  take(gain_, rows_);
  return end;
}

bool AttendTile::SeesAny(const AttendBlock& block) const {
  for (size_t r = 0; r < rows_; r += plan_.group) {
    if (!plan_.Visible(block, QueryToken(r)).empty()) return true;
  }
  return false;
}

void AttendTile::Attend(const AttendSpan& span, const PartialSums& partial) {
  partial.Reset();
  for (size_t b = span.first; b < span.last; ++b) {
    const AttendBlock& block = plan_.blocks[b];
    if (!SeesAny(block)) continue;
    Score(block, Behind(Keys(&block), Values(block)));
    SoftmaxBlock(block, partial);
  }
}

void AttendTile::Logits(const MatrixView<float>& logits) {
  for (size_t r = 0; r < rows_; ++r) {
    float* row =
        logits.Row(QueryToken(r) * plan_.group * plan_.parts->options.kv_heads + QueryHead(r));
    std::fill_n(row, logits.cols, kNothing);
  }
  for (const AttendBlock& block : plan_.blocks) {
    Score(block, Behind(Keys(&block), Keys(&block + 1)));
    for (size_t r = 0; r < rows_; ++r) {
      const AttendPlan::Range range = plan_.Visible(block, QueryToken(r));
      if (range.empty()) continue;
      for (size_t t = range.begin; t < range.end; ++t) Scores(r)[t] += offsets_[r];
      if (plan_.bends_logits) BendLogits(block, r, range);
      float* row =
          logits.Row(QueryToken(r) * plan_.group * plan_.parts->options.kv_heads + QueryHead(r));
      for (size_t t = range.begin; t < range.end; ++t)
        row[block.token + t] = Scores(r)[t];  // block.token may be "negative": it wraps back
    }
  }
}

kernels::FramePlan AttendTile::FrameOf(const KvPage& page) const {
  const KvView& view = *plan_.view;
  kernels::FramePlan frame = {};
  frame.dim = plan_.head_dim;
  if (view.key_map == nullptr) return frame;
  const auto data = [](std::span<const float> numbers) {
    return numbers.empty() ? nullptr : numbers.data();
  };
  frame.center = data(view.key_map->center(kv_head_));
  frame.scale = data(view.key_map->inverse_scale(kv_head_));
  if (view.rotary_dim == 0) return frame;
  frame.rotary_dim = view.rotary_dim;
  frame.interleaved = view.rope_pairing == RopePairing::kInterleaved;
  frame.cosines = page.turns;
  frame.sines = page.turns + view.rotary_dim / 2;
  return frame;
}

void AttendTile::FrameQuery(const kernels::FramePlan& frame, size_t r) {
  const size_t dim = plan_.head_dim;
  const KvView& view = *plan_.view;
  float* framed = framed_ + r * dim;
  offsets_[r] = plan_.kernels->attention->frame_query(frame, queries_ + r * dim, framed);
  const auto matrix = view.key_map == nullptr ? std::span<const float>()
                                              : view.key_map->inverse_transpose(kv_head_);
  if (!matrix.empty()) {
    std::copy_n(framed, dim, scratch_);
    plan_.kernels->attention->score_exact({matrix.data(), kernels::ExactType::kF32, dim, dim}, dim,
                                          {scratch_, dim}, 1, {framed, dim});
  }
  if (view.key_channels == nullptr) return;
  const uint16_t* channels = view.key_channels + kv_head_ * dim;
  std::copy_n(framed, dim, scratch_);
  for (size_t j = 0; j < dim; ++j) framed[j] = scratch_[channels[j]];
}

void AttendTile::PrepareQueries(const KvPage& page) {
  const KeyMap* map = plan_.view->key_map;
  const bool per_page = map != nullptr && plan_.view->rotary_dim != 0;
  if (prepared_for_ == &page || (prepared_for_ != nullptr && !per_page)) return;
  prepared_for_ = &page;
  const kernels::FramePlan frame = FrameOf(page);
  const std::vector<KvPart>& parts = plan_.parts->keys.parts;
  const bool one_go = IsOneHadamardPart(plan_.parts->keys) &&
                      (map == nullptr || map->inverse_transpose(kv_head_).empty());
  if (one_go) {
    const kernels::FramedQueries queries = {
        {queries_, plan_.head_dim}, rows_, high_, low_, digit_stride_, offsets_, factors_};
    PrepareFramedQueries(parts[0], kv_head_, frame, queries, scratch_);
  }
  for (size_t r = 0; r < rows_; ++r) {
    if (one_go && factors_[r] != 0.0f) continue;
    FrameQuery(frame, r);
    for (size_t p = 0; p < parts.size(); ++p) {
      const size_t stride = kernels::PaddedDim(parts[p].dim);
      const size_t at = p * rows_ * digit_stride_ + r * stride;
      const QueryDigitRow digits = {high_ + at, low_ == nullptr ? nullptr : low_ + at};
      factors_[p * rows_ + r] = static_cast<float>(
          PreparePartQuery(parts[p], kv_head_, framed_ + r * plan_.head_dim, digits, scratch_));
    }
  }
}

std::span<const std::byte> AttendTile::Keys(const AttendBlock* block) const {
  if (block == plan_.blocks.data() + plan_.blocks.size() || block->page == nullptr) return {};
  return {HeadBytes(*block->page), plan_.parts->values_offset};
}

std::span<const std::byte> AttendTile::Values(const AttendBlock& block) const {
  if (block.page == nullptr) return {};
  const size_t offset = plan_.parts->values_offset;
  return {HeadBytes(*block.page) + offset, plan_.parts->head_bytes - offset};
}

void AttendTile::Score(const AttendBlock& block, const kernels::ReadAhead& ahead) {
  const kernels::QueryRows<float> scores = {scores_, kPageTokens};
  if (block.exact != nullptr) {
    std::fill(offsets_, offsets_ + rows_, 0.0f);
    prepared_for_ = nullptr;  // the offsets of a frame are gone
    plan_.kernels->attention->score_exact(RowsOf(block, /*values=*/false, kv_head_, plan_.head_dim),
                                          block.end, {queries_, plan_.head_dim}, rows_, scores);
    return;
  }
  PrepareQueries(*block.page);
  if (!plan_.parts->keys.exact()) return ScorePage(block, ahead);
  // Unquantized keys lie in their frames as well.
  plan_.kernels->attention->score_exact(
      RowsOf(plan_.parts->keys, HeadBytes(*block.page), plan_.head_dim), block.end,
      {framed_, plan_.head_dim}, rows_, scores);
}

void AttendTile::ScorePage(const AttendBlock& block, const kernels::ReadAhead& ahead) {
  const std::byte* bytes = HeadBytes(*block.page);
  const std::vector<KvPart>& parts = plan_.parts->keys.parts;
  const size_t first = block.begin / kernels::kKeyBlockRows;
  const size_t count = CeilDivide(block.end, kernels::kKeyBlockRows) - first;
  const size_t lane = first * kernels::kKeyBlockRows;
  for (size_t p = 0; p < parts.size(); ++p) {
    const KvPart& part = parts[p];
    const size_t at = p * rows_ * digit_stride_;
    const kernels::QueryDigits digits = {high_ + at, low_ == nullptr ? nullptr : low_ + at,
                                         kernels::PaddedDim(part.dim), rows_, factors_ + p * rows_};
    float* scores = p == 0 ? scores_ : part_scores_;
    plan_.kernels->score_keys(
        part.score,
        {BlocksOf(part, bytes) +
             first * kernels::KeyBlockBytes(part.dim, static_cast<size_t>(part.bits)),
         count, p == 0 ? ahead : kernels::ReadAhead{}},
        {ScalesOf(part, bytes) + lane, nullptr}, digits, scores + lane, kPageTokens);
    if (p == 0) continue;
    for (size_t r = 0; r < rows_; ++r) {
      const float* added = part_scores_ + r * kPageTokens;
      for (size_t t = block.begin; t < block.end; ++t) Scores(r)[t] += added[t];
    }
  }
}

// Soft-cap, slopes and bias act on logits in natural units.
void AttendTile::BendLogits(const AttendBlock& block, size_t r, AttendPlan::Range range) {
  const AttendOptions& options = *plan_.options;
  const float cap = options.logit_softcap;
  const double own = static_cast<double>(plan_.query_position +
                                         static_cast<int64_t>(QueryToken(r)) - block.position);
  const double slope =
      options.alibi_slopes.empty() ? 0.0 : static_cast<double>(options.alibi_slopes[QueryHead(r)]);
  const float to_natural = plan_.natural_per_unit;
  const float* bias = options.bias.data == nullptr ? nullptr : options.bias.Row(QueryToken(r));
  for (size_t t = range.begin; t < range.end; ++t) {
    float logit = Scores(r)[t] * to_natural;
    if (cap != 0.0f) logit = cap * std::tanh(logit / cap);
    logit += static_cast<float>(slope * (static_cast<double>(t) - own));
    if (bias != nullptr) logit += bias[block.token + t];
    Scores(r)[t] = logit / to_natural;
  }
}

// Scores of the block in range become logits: with the frame's offset, bent.
void AttendTile::BendBlock(const AttendBlock& block) {
  for (size_t r = 0; r < rows_; ++r) {
    AttendPlan::Range& range = ranges_[r];
    if (range.empty()) continue;
    float* scores = Scores(r);
    for (size_t t = range.begin; t < range.end; ++t) scores[t] += offsets_[r];
    BendLogits(block, r, range);
    // A bias may hide the block.
    const bool hidden = std::all_of(scores + range.begin, scores + range.end,
                                    [](float s) { return s == kNothing; });
    if (hidden) range = {0, 0};
  }
}

void AttendTile::SoftmaxBlock(const AttendBlock& block, const PartialSums& partial) {
  const bool packed_values = block.exact == nullptr && !plan_.parts->values.exact();
  for (size_t r = 0; r < rows_; ++r) ranges_[r] = plan_.Visible(block, QueryToken(r));
  if (plan_.bends_logits) BendBlock(block);
  const float* offsets = plan_.bends_logits ? no_offsets_ : offsets_;
  plan_.kernels->attention->softmax({scores_, kPageTokens}, rows_, ranges_, offsets, partial.states,
                                    keep_);
  size_t last = 0;  // past the last token with a weight
  for (size_t r = 0; r < rows_; ++r) {
    const size_t end = ranges_[r].empty() ? 0 : ranges_[r].end;
    std::fill(Scores(r) + RoundUp(end, 16), Scores(r) + kPageTokens, 0.0f);
    last = std::max(last, end);
  }
  if (last == 0) return;
  if (packed_values) return AccumulatePage(block, last, partial);
  const kernels::ExactRows rows =
      block.exact != nullptr ? RowsOf(block, /*values=*/true, kv_head_, plan_.head_dim)
                             : RowsOf(plan_.parts->values, HeadBytes(*block.page), plan_.head_dim);
  plan_.kernels->attention->accumulate_exact(rows, last, {scores_, kPageTokens}, rows_, keep_,
                                             {partial.sums, plan_.head_dim});
}

void AttendTile::AccumulatePage(const AttendBlock& block, size_t last, const PartialSums& partial) {
  const std::byte* bytes = HeadBytes(*block.page);
  const size_t blocks = CeilDivide(last, kernels::kValueBlockRows);
  const size_t tokens = blocks * kernels::kValueBlockRows;
  const kernels::ReadAhead ahead = Behind(Values(block), Keys(&block + 1));
  for (const KvPart& part : plan_.parts->values.parts) {
    plan_.kernels->attention->weight_digits({scores_, kPageTokens}, rows_, ScalesOf(part, bytes),
                                            tokens, weight_high_, weight_low_, gain_);
    plan_.kernels->attention->accumulate_values(
        part.score, {BlocksOf(part, bytes), blocks, ahead}, {weight_high_, weight_low_}, rows_,
        keep_, gain_, {partial.sums + part.first_channel, plan_.head_dim});
  }
}

void AttendTile::Finish(const PartialSums& packed, const PartialSums& exact,
                        const HeadsOutput& outputs) {
  const size_t dim = plan_.head_dim;
  const KvSide& values = plan_.parts->values;
  std::vector<float> row(dim);
  for (size_t r = 0; r < rows_; ++r) {
    float* sums = packed.sums + r * dim;
    if (!values.exact()) {
      for (const KvPart& part : values.parts)
        UnrotatePartSums(part, kv_head_, sums + part.first_channel, row.data());
      if (plan_.view->value_channels == nullptr) {
        std::copy_n(row.data(), dim, sums);
      } else {
        const uint16_t* channels = plan_.view->value_channels + kv_head_ * dim;
        for (size_t j = 0; j < dim; ++j) sums[channels[j]] = row[j];
      }
    }
    kernels::SoftmaxState& state = packed.states[r];
    plan_.kernels->attention->merge(state, sums, exact.states[r], exact.sums + r * dim, dim);
    const bool nothing = state.max == kNothing;
    float* out = outputs.Row(QueryToken(r), QueryHead(r));
    for (size_t j = 0; j < dim; ++j) out[j] = nothing ? 0.0f : sums[j] / state.sum;
    if (plan_.options->log_sum_exp.empty()) continue;
    const size_t at = QueryToken(r) * plan_.group * plan_.parts->options.kv_heads + QueryHead(r);
    plan_.options->log_sum_exp[at] =
        nothing ? kNothing
                : static_cast<float>(
                      (std::log2(static_cast<double>(state.sum)) + static_cast<double>(state.max)) *
                      std::numbers::ln2);
  }
}

}  // namespace turboquant
