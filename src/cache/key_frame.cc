#include "src/cache/key_frame.h"

#include <algorithm>
#include <span>

#include "src/cache/page_frame.h"

namespace turboquant {
namespace {

const float* DataOrNull(std::span<const float> numbers) {
  return numbers.empty() ? nullptr : numbers.data();
}

}  // namespace

KeyFrame::KeyFrame(const kernels::KernelTable& table, const KeyMap* map, size_t head,
                   const float* turns, size_t rotary_dim, RopePairing pairing, size_t head_dim)
    : kernels_(table.attention),
      plan_{.dim = head_dim,
            .rotary_dim = turns == nullptr ? 0 : rotary_dim,
            .interleaved = pairing == RopePairing::kInterleaved,
            .cosines = turns,
            .sines = turns == nullptr ? nullptr : turns + rotary_dim / 2,
            .center = nullptr,
            .scale = nullptr} {
  if (map == nullptr) return;
  plan_.center = DataOrNull(map->center(head));
  plan_.scale = DataOrNull(map->scale(head));
  inverse_scale_ = DataOrNull(map->inverse_scale(head));
  matrix_ = DataOrNull(map->matrix(head));
  inverse_transpose_ = DataOrNull(map->inverse_transpose(head));
  if (matrix_ != nullptr) product_.resize(head_dim);
}

// row = M row, or Mᵀ row: sums in double, one product after another.
void KeyFrame::Multiply(const float* matrix, bool transposed, float* row) {
  const size_t dim = plan_.dim;
  std::ranges::fill(product_, 0.0);
  for (size_t i = 0; i < dim; ++i) {
    for (size_t j = 0; j < dim; ++j) {
      const double entry = static_cast<double>(matrix[i * dim + j]);
      if (transposed) {
        product_[j] += entry * static_cast<double>(row[i]);
      } else {
        product_[i] += entry * static_cast<double>(row[j]);
      }
    }
  }
  for (size_t j = 0; j < dim; ++j) row[j] = static_cast<float>(product_[j]);
}

void KeyFrame::Apply(const float* key, float* framed) {
  if (IsNothing()) {
    if (key != framed) std::copy_n(key, plan_.dim, framed);
  } else {
    kernels_->frame_key(plan_, key, framed);
  }
  if (matrix_ != nullptr) Multiply(matrix_, /*transposed=*/false, framed);
}

void KeyFrame::Undo(float* row) {
  if (inverse_transpose_ != nullptr) Multiply(inverse_transpose_, /*transposed=*/true, row);
  for (size_t j = 0; j < plan_.dim && inverse_scale_ != nullptr; ++j) row[j] *= inverse_scale_[j];
  for (size_t j = 0; j < plan_.dim && plan_.center != nullptr; ++j) row[j] += plan_.center[j];
  const RopePairing pairing = plan_.interleaved ? RopePairing::kInterleaved : RopePairing::kHalf;
  TurnForward({plan_.cosines, plan_.rotary_dim}, pairing, row);
}

}  // namespace turboquant
