// The queries of one KV head that go through the cache together.
#ifndef TURBOQUANT_SRC_CACHE_ATTEND_TILE_H_
#define TURBOQUANT_SRC_CACHE_ATTEND_TILE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/base/aligned_bytes.h"
#include "src/cache/attend_plan.h"

namespace turboquant {

// Running softmaxes and sums of a tile's rows: sums [rows × head_dim] in the domain of the values
// as they are stored.
struct PartialSums {
  std::vector<kernels::SoftmaxState> states;
  std::vector<float> sums;

  void Reset(size_t rows, size_t head_dim);
};

// Row r is query token first_token + r / group, query head kv_head · group + r % group. One thread.
class AttendTile {
 public:
  AttendTile(const AttendPlan& plan, size_t kv_head, size_t first_token, size_t tokens);

  size_t rows() const { return rows_; }

  // Attention over the span's blocks alone.
  void Attend(const AttendSpan& span, PartialSums& partial);

  // Logits of every block into row r of `logits`, -infinity where a query sees nothing.
  void Logits(const MatrixView<float>& logits);

  // Packed and exact sums into one, divided by the sum of weights, rotated back. `packed` and
  // `exact` are used up.
  void Finish(PartialSums& packed, PartialSums& exact, const HeadsOutput& outputs);

 private:
  void MakeBuffers(size_t key_parts);
  void PrepareQueries(const KvPage& page);  // for the page's frame
  kernels::FramePlan FrameOf(const KvPage& page) const;
  void FrameQuery(const kernels::FramePlan& frame, size_t r);
  bool SeesAny(const AttendBlock& block) const;
  // Scores of every lane up to block.end; `ahead` is what is read next.
  void Score(const AttendBlock& block, const kernels::ReadAhead& ahead);
  void ScorePage(const AttendBlock& block, const kernels::ReadAhead& ahead);
  kernels::ReadAhead KeysBehind(const AttendBlock& block) const;  // of the next page
  kernels::ReadAhead ValuesOf(const AttendBlock& block) const;
  void BendLogits(const AttendBlock& block, size_t r, AttendPlan::Range range);
  void BendBlock(const AttendBlock& block);
  void SoftmaxBlock(const AttendBlock& block, PartialSums& partial);
  void AccumulatePage(const AttendBlock& block, size_t last, PartialSums& partial);
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
  const float* queries_;        // [rows × head_dim], of the plan
  std::vector<float> framed_;   // [rows × head_dim], in the frame of a page
  std::vector<float> offsets_;  // of a page's frame
  std::vector<float> scratch_;  // 2 head_dim
  std::vector<float> factors_;  // per key part [rows]
  // What the kernels read and write in whole vectors, at multiples of 64 bytes.
  AlignedBytes buffers_;
  float* scores_;       // [rows × 256]; weights after the softmax
  float* part_scores_;  // [rows × 256], null unless keys have several parts
  int8_t* high_;        // per key part [rows × digit_stride_]
  int8_t* low_;         // null for one digit, as weight_low_
  uint8_t* weight_high_;
  uint8_t* weight_low_;
  std::vector<AttendPlan::Range> ranges_;  // of each row, in the block at hand
  std::vector<float> no_offsets_;
  std::vector<float> keep_;
  std::vector<float> gain_;
};

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_CACHE_ATTEND_TILE_H_
