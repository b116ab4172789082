// Keys of one head on their way into a page and back: frame, centre and map (key_map.h).
#ifndef TURBOQUANT_SRC_CACHE_KEY_FRAME_H_
#define TURBOQUANT_SRC_CACHE_KEY_FRAME_H_

#include <cstddef>
#include <vector>

#include "src/kernels/attention.h"
#include "src/kernels/kernels.h"
#include "turboquant/attention.h"
#include "turboquant/key_map.h"

namespace turboquant {

// Of one page and head. Holds scratch: one thread at a time.
class KeyFrame {
 public:
  // `map` null: no centre, no map. `turns` null: no RoPE frames.
  KeyFrame(const kernels::KernelTable& table, const KeyMap* map, size_t head, const float* turns,
           size_t rotary_dim, RopePairing pairing, size_t head_dim);

  // framed = A (R_-s key - m). May be in place.
  void Apply(const float* key, float* framed);

  // row = R_s (A^-1 row + m).
  void Undo(float* row);

 private:
  bool IsNothing() const { return plan_.rotary_dim == 0 && plan_.center == nullptr; }
  void Multiply(const float* matrix, bool transposed, float* row);

  const kernels::AttentionKernels* kernels_;
  kernels::FramePlan plan_;
  const float* inverse_scale_ = nullptr;
  const float* matrix_ = nullptr;             // A
  const float* inverse_transpose_ = nullptr;  // A^-T
  std::vector<double> product_;               // kFull only
};

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_CACHE_KEY_FRAME_H_
