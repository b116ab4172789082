// The queries of one KV head that go through the cache together.
#ifndef TURBOQUANT_SRC_CACHE_ATTEND_TILE_H_
#define TURBOQUANT_SRC_CACHE_ATTEND_TILE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "src/base/aligned_bytes.h"
#include "src/cache/attend_plan.h"

namespace turboquant {

// Running softmaxes and sums of a tile's rows, in a PartialStore.
struct PartialSums {
  size_t rows;
  size_t head_dim;
  kernels::SoftmaxState* states;  // [rows]
  float* sums;  // [rows × head_dim], in the domain of the values as they are stored

  // To those of no tokens.
  void Reset() const {
    std::fill_n(states, rows, kernels::SoftmaxState{-std::numeric_limits<float>::infinity(), 0.0f});
    std::fill_n(sums, rows * head_dim, 0.0f);
  }
};

// `count` of them in one piece of memory; unset.
class PartialStore {
 public:
  PartialStore(size_t count, size_t rows, size_t head_dim)
      : rows_(rows), head_dim_(head_dim), states_(count * rows), sums_(count * rows * head_dim) {}

  PartialSums operator[](size_t i) {
    return {rows_, head_dim_, states_.data() + i * rows_, sums_.data() + i * rows_ * head_dim_};
  }

 private:
  size_t rows_;
  size_t head_dim_;
  std::vector<kernels::SoftmaxState> states_;
  std::vector<float> sums_;
};

// Row r is query token first_token + r / group, query head kv_head · group + r % group. One thread.
class AttendTile {
 public:
  AttendTile(const AttendPlan& plan, size_t kv_head, size_t first_token, size_t tokens);

  size_t rows() const { return rows_; }

  // Attention over the span's blocks alone.
  void Attend(const AttendSpan& span, const PartialSums& partial);

  // Logits of every block into row r of `logits`, -infinity where a query sees nothing.
  void Logits(const MatrixView<float>& logits);

  // Packed and exact sums into one, divided by the sum of weights, rotated back. `packed` and
  // `exact` are used up.
  void Finish(const PartialSums& packed, const PartialSums& exact, const HeadsOutput& outputs);

 private:
  size_t LayOut(std::byte* buffer);
  void PrepareQueries(const KvPage& page);  // for the page's frame
  kernels::FramePlan FrameOf(const KvPage& page) const;
  void FrameQuery(const kernels::FramePlan& frame, size_t r);
  bool SeesAny(const AttendBlock& block) const;
  // Scores of every lane up to block.end; `ahead` is what is read next.
  void Score(const AttendBlock& block, const kernels::ReadAhead& ahead);
  void ScorePage(const AttendBlock& block, const kernels::ReadAhead& ahead);
  // Of a block's page, for this head; empty for exact tokens and behind the last block.
  std::span<const std::byte> Keys(const AttendBlock* block) const;
  std::span<const std::byte> Values(const AttendBlock& block) const;
  void BendLogits(const AttendBlock& block, size_t r, AttendPlan::Range range);
  void BendBlock(const AttendBlock& block);
  void SoftmaxBlock(const AttendBlock& block, const PartialSums& partial);
  void AccumulatePage(const AttendBlock& block, size_t last, const PartialSums& partial);
  size_t QueryToken(size_t r) const { return first_token_ + r / plan_.group; }
  size_t QueryHead(size_t r) const { return kv_head_ * plan_.group + r % plan_.group; }
  float* Scores(size_t r) { return scores_ + r * kPageTokens; }
  const std::byte* HeadBytes(const KvPage& page) const {
    return page.bytes + kv_head_ * plan_.parts->head_bytes;
  }

  const AttendPlan& plan_;
  size_t kv_head_;
  size_t first_token_;
  size_t rows_;
  size_t digit_stride_;
  const KvPage* prepared_for_ = nullptr;
  const float* queries_;  // [rows × head_dim], of the plan
  // One piece of memory, zero at first; each begins at a multiple of 64 bytes, as kernels read and
  // write in whole vectors.
  AlignedBytes buffers_;
  float* scores_;       // [rows × 256]; weights after the softmax
  float* part_scores_;  // [rows × 256], null unless keys have several parts
  int8_t* high_;        // per key part [rows × digit_stride_]
  int8_t* low_;         // null for one digit, as weight_low_
  uint8_t* weight_high_;
  uint8_t* weight_low_;
  float* framed_;   // [rows × head_dim], in the frame of a page
  float* scratch_;  // 2 head_dim
  float* factors_;  // per key part [rows]
  float* offsets_;  // [rows], of a page's frame
  float* no_offsets_;
  AttendPlan::Range* ranges_;  // of each row, in the block at hand
  float* keep_;
  float* gain_;
};

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_CACHE_ATTEND_TILE_H_
