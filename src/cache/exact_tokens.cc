#include "src/cache/exact_tokens.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>
#include <vector>

#include "src/base/checked.h"
#include "src/base/half.h"
#include "src/quantizers/row_reader.h"

namespace turboquant {
namespace {

constexpr size_t kGrain = 64;  // capacities are multiples of it, unless asked for otherwise
// Rows are moved to the front when at least so many come free: a token moves capacity / kSlack
// rows at most.
constexpr size_t kSlack = 32;

}  // namespace

size_t ExactTokens::Offset(size_t token, size_t head) const {
  return (head * capacity_ + front_ + token) * dim_ * ElementBytes();
}

void ExactTokens::Reserve(size_t capacity) {
  if (capacity <= capacity_) return;
  ExactTokens larger(type_, heads_, dim_);
  larger.capacity_ = capacity;
  larger.count_ = count_;
  larger.keys_ = AlignedBytes(heads_ * capacity * dim_ * ElementBytes());
  larger.values_ = AlignedBytes(heads_ * capacity * dim_ * ElementBytes());
  for (size_t head = 0; head < heads_ && count_ != 0; ++head) {
    const size_t bytes = count_ * dim_ * ElementBytes();
    std::memcpy(larger.keys_.data() + larger.Offset(0, head), keys_.data() + Offset(0, head),
                bytes);
    std::memcpy(larger.values_.data() + larger.Offset(0, head), values_.data() + Offset(0, head),
                bytes);
  }
  *this = std::move(larger);
}

void ExactTokens::MoveToFront() {
  for (size_t head = 0; head < heads_; ++head) {
    const size_t to = head * capacity_ * dim_ * ElementBytes();
    const size_t bytes = count_ * dim_ * ElementBytes();
    std::memmove(keys_.data() + to, keys_.data() + Offset(0, head), bytes);
    std::memmove(values_.data() + to, values_.data() + Offset(0, head), bytes);
  }
  front_ = 0;
}

void ExactTokens::MakeRoom(size_t more) {
  const size_t needed = count_ + more;
  if (front_ + needed <= capacity_) return;
  if (needed + kSlack <= capacity_) return MoveToFront();
  Reserve(RoundUp(std::max(needed + kSlack, capacity_ + capacity_ / 2), kGrain));
}

void ExactTokens::Write(const HeadsView& rows, AlignedBytes& into) {
  std::vector<float> row(dim_);
  for (size_t head = 0; head < heads_; ++head) {
    const RowsView head_rows = rows.Head(head);
    for (size_t t = 0; t < rows.tokens; ++t) {
      std::byte* out = into.data() + Offset(count_ + t, head);
      ReadRow(head_rows, t, row.data());
      if (type_ == RowType::kF32) {
        std::memcpy(out, row.data(), dim_ * sizeof(float));
        continue;
      }
      auto* halves = reinterpret_cast<uint16_t*>(out);
      for (size_t j = 0; j < dim_; ++j) halves[j] = F32ToF16(row[j]).bits;
    }
  }
}

void ExactTokens::Append(const HeadsView& keys, const HeadsView& values) {
  if (keys.tokens == 0) return;
  MakeRoom(keys.tokens);
  Write(keys, keys_);
  Write(values, values_);
  count_ += keys.tokens;
}

void ExactTokens::RemoveFront(size_t n) {
  assert(n <= count_);
  if (n == count_) return Clear();
  front_ += n;
  count_ -= n;
}

void ExactTokens::Truncate(size_t n) {
  assert(n <= count_);
  if (n == 0) return Clear();
  count_ = n;
}

void ExactTokens::Clear() { *this = ExactTokens(type_, heads_, dim_); }

void ExactTokens::Read(bool values, size_t token, size_t head, float* out) const {
  const std::byte* row = (values ? values_ : keys_).data() + Offset(token, head);
  if (type_ == RowType::kF32) {
    std::memcpy(out, row, dim_ * sizeof(float));
    return;
  }
  const auto* halves = reinterpret_cast<const uint16_t*>(row);
  for (size_t j = 0; j < dim_; ++j) out[j] = F16ToF32({halves[j]});
}

KvExactTokens ExactTokens::view() const {
  if (count_ == 0) return {.type = type_};
  return {keys_.data() + Offset(0, 0),
          values_.data() + Offset(0, 0),
          type_,
          count_,
          dim_,
          capacity_ * dim_};
}

}  // namespace turboquant
