// Tokens kept as they came: the sinks and the recent window of a cache.
#ifndef TURBOQUANT_SRC_CACHE_EXACT_TOKENS_H_
#define TURBOQUANT_SRC_CACHE_EXACT_TOKENS_H_

#include <cstddef>

#include "src/base/aligned_bytes.h"
#include "turboquant/attention.h"
#include "turboquant/heads_view.h"

namespace turboquant {

// Keys and values of all heads, [heads × capacity × dim] of f32 or f16 each, so that a head's rows
// follow each other. Grows at the back, shrinks at both ends; rows move only when the room behind
// the last runs out.
class ExactTokens {
 public:
  ExactTokens(RowType type, size_t heads, size_t dim) : type_(type), heads_(heads), dim_(dim) {}

  size_t count() const { return count_; }

  // Room for `capacity` tokens in all, if there is less.
  void Reserve(size_t capacity);

  // Appends tokens whose elements fit the type.
  void Append(const HeadsView& keys, const HeadsView& values);
  void RemoveFront(size_t n);
  void Truncate(size_t n);
  void Clear();

  // Row (token, head) of keys or values as floats to out[dim].
  void Read(bool values, size_t token, size_t head, float* out) const;

  KvExactTokens view() const;
  size_t HeldBytes() const { return keys_.size() + values_.size(); }

 private:
  size_t ElementBytes() const { return type_ == RowType::kF32 ? 4 : 2; }
  size_t Offset(size_t token, size_t head) const;  // in bytes
  void MakeRoom(size_t more);
  void MoveToFront();
  void Write(const HeadsView& rows, AlignedBytes& into);

  RowType type_;
  size_t heads_;
  size_t dim_;
  size_t capacity_ = 0;
  size_t front_ = 0;  // rows in front that were removed
  size_t count_ = 0;
  AlignedBytes keys_;
  AlignedBytes values_;
};

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_CACHE_EXACT_TOKENS_H_
