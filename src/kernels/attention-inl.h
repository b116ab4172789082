// The attention kernels for AVX2 and NEON. Included once per target.
#if defined(TURBOQUANT_SRC_KERNELS_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TURBOQUANT_SRC_KERNELS_ATTENTION_INL_H_
#undef TURBOQUANT_SRC_KERNELS_ATTENTION_INL_H_
#else
#define TURBOQUANT_SRC_KERNELS_ATTENTION_INL_H_
#endif

#include "src/kernels/attention.h"
#include "src/kernels/exact_rows-inl.h"
#include "src/kernels/frame-inl.h"
#include "src/kernels/query-inl.h"
#include "src/kernels/rotate-inl.h"
#include "src/kernels/simd-inl.h"
#include "src/kernels/softmax-inl.h"
#include "src/kernels/values-inl.h"

#if TURBOQUANT_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace turboquant::kernels::HWY_NAMESPACE {

inline void FramedDigits(const FramePlan& frame, const RotationPlan& rotation,
                         const FramedQueries& queries, float* scratch) {
  for (size_t q = 0; q < queries.count; ++q) {
    queries.offsets[q] = FrameQuery(frame, queries.Query(q), scratch);
    Rotate(rotation, scratch);
    queries.largest[q] = RoundQuery(scratch, frame.dim, queries.High(q), queries.Low(q));
  }
}

inline constexpr AttentionKernels kAttention = {
    .softmax = Softmax,
    .weight_digits = MakeWeightDigits,
    .accumulate_values = AccumulateValues,
    .score_exact = ScoreExact,
    .accumulate_exact = AccumulateExact,
    .merge = Merge,
    .frame_key = FrameKey,
    .frame_query = FrameQuery,
    .framed_digits = FramedDigits,
};

}  // namespace turboquant::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // TURBOQUANT_SIMD_TARGET

#endif  // per-target include guard
