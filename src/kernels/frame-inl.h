// Keys and queries in the frame of their page. Included once per target.
#if defined(TURBOQUANT_SRC_KERNELS_FRAME_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TURBOQUANT_SRC_KERNELS_FRAME_INL_H_
#undef TURBOQUANT_SRC_KERNELS_FRAME_INL_H_
#else
#define TURBOQUANT_SRC_KERNELS_FRAME_INL_H_
#endif

#include <algorithm>

#include "src/kernels/attention.h"
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

// 16 coordinates: their products with the centre to the accumulators, then times the diagonal.
HWY_INLINE void Map16(float* x, const float* center, const float* scale,
                      VF (&lanes)[kLaneVectors]) {
  const DF d;
  HWY_UNROLL(4)
  for (size_t i = 0; i < kLaneVectors; ++i) {
    const size_t j = i * kFloats;
    const VF turned = hn::LoadU(d, x + j);
    if (center != nullptr) lanes[i] = hn::MulAdd(turned, hn::LoadU(d, center + j), lanes[i]);
    if (scale != nullptr) hn::StoreU(hn::Mul(turned, hn::LoadU(d, scale + j)), d, x + j);
  }
}

inline float FrameQuery(const FramePlan& plan, const float* query, float* out) {
  TurnBack(plan, query, out);
  VF lanes[kLaneVectors];
  HWY_UNROLL(4)
  for (size_t i = 0; i < kLaneVectors; ++i) lanes[i] = hn::Zero(DF());
  const auto behind = [](const float* numbers, size_t j) {
    return numbers == nullptr ? nullptr : numbers + j;
  };
  size_t j = 0;
  for (; j + 16 <= plan.dim; j += 16) {
    Map16(out + j, behind(plan.center, j), behind(plan.scale, j), lanes);
  }
  if (j < plan.dim) {
    float last[3][16] = {};  // each ends where it ends
    const auto copy = [&](const float* numbers, float* to) {
      if (numbers != nullptr) std::copy(numbers + j, numbers + plan.dim, to);
      return numbers == nullptr ? nullptr : to;
    };
    Map16(copy(out, last[0]), copy(plan.center, last[1]), copy(plan.scale, last[2]), lanes);
    std::copy_n(last[0], plan.dim - j, out + j);
  }
  return plan.center == nullptr ? 0.0f : AddLanes(lanes);
}

}  // namespace turboquant::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // TURBOQUANT_SIMD_TARGET

#endif  // per-target include guard
