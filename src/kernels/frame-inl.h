// Keys and queries in the frame of their page. Included once per target.
#if defined(TURBOQUANT_SRC_KERNELS_FRAME_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TURBOQUANT_SRC_KERNELS_FRAME_INL_H_
#undef TURBOQUANT_SRC_KERNELS_FRAME_INL_H_
#else
#define TURBOQUANT_SRC_KERNELS_FRAME_INL_H_
#endif

#include <algorithm>

#include "src/kernels/attention.h"
#include "src/kernels/exact_rows-inl.h"
#include "src/kernels/simd-inl.h"
#include "src/kernels/softmax-inl.h"

#if TURBOQUANT_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace turboquant::kernels::HWY_NAMESPACE {

// R^T row. Only half pairing is worth vectors; models with interleaved pairs are rare.
inline void TurnBack(const FramePlan& plan, const float* row, float* out) {
  const DF d;
  const size_t pairs = plan.rotary_dim / 2;
  size_t i = 0;
  for (; !plan.interleaved && i + kFloats <= pairs; i += kFloats) {
    const VF x = hn::LoadU(d, row + i);
    const VF y = hn::LoadU(d, row + pairs + i);
    const VF cosine = hn::LoadU(d, plan.cosines + i);
    const VF sine = hn::LoadU(d, plan.sines + i);
    hn::StoreU(hn::Add(hn::Mul(x, cosine), hn::Mul(y, sine)), d, out + i);
    hn::StoreU(hn::Sub(hn::Mul(y, cosine), hn::Mul(x, sine)), d, out + pairs + i);
  }
  for (; i < pairs; ++i) {
    const size_t first = plan.interleaved ? 2 * i : i;
    const size_t second = plan.interleaved ? 2 * i + 1 : i + pairs;
    const float x = row[first];
    const float y = row[second];
    out[first] = x * plan.cosines[i] + y * plan.sines[i];
    out[second] = y * plan.cosines[i] - x * plan.sines[i];
  }
  if (out != row) std::copy(row + plan.rotary_dim, row + plan.dim, out + plan.rotary_dim);
}

inline void FrameKey(const FramePlan& plan, const float* key, float* out) {
  const DF d;
  TurnBack(plan, key, out);
  size_t j = 0;
  for (; j + kFloats <= plan.dim; j += kFloats) {
    VF x = hn::LoadU(d, out + j);
    if (plan.center != nullptr) x = hn::Sub(x, hn::LoadU(d, plan.center + j));
    if (plan.scale != nullptr) x = hn::Mul(x, hn::LoadU(d, plan.scale + j));
    hn::StoreU(x, d, out + j);
  }
  for (; j < plan.dim; ++j) {
    if (plan.center != nullptr) out[j] -= plan.center[j];
    if (plan.scale != nullptr) out[j] *= plan.scale[j];
  }
}

inline float FrameQuery(const FramePlan& plan, const float* query, float* out) {
  const DF d;
  TurnBack(plan, query, out);
  float offset = 0.0f;
  if (plan.center != nullptr) {
    VF lanes[kLaneVectors];
    for (VF& lane : lanes) lane = hn::Zero(d);
    for (size_t j = 0; j < plan.dim; j += kFloats) {
      VF& lane = lanes[j / kFloats % kLaneVectors];
      lane = hn::MulAdd(LoadQuery<false>(out, j, plan.dim),
                        LoadQuery<false>(plan.center, j, plan.dim), lane);
    }
    offset = AddLanes(lanes);
  }
  if (plan.scale == nullptr) return offset;
  size_t j = 0;
  for (; j + kFloats <= plan.dim; j += kFloats)
    hn::StoreU(hn::Mul(hn::LoadU(d, out + j), hn::LoadU(d, plan.scale + j)), d, out + j);
  for (; j < plan.dim; ++j) out[j] *= plan.scale[j];
  return offset;
}

}  // namespace turboquant::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // TURBOQUANT_SIMD_TARGET

#endif  // per-target include guard
