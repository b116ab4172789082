// The attention kernels on AVX-512. Private to avx512.cc, which brings the instructions, their
// target, and the kernels.
#ifndef TURBOQUANT_SRC_KERNELS_AVX512_ATTENTION_H_
#define TURBOQUANT_SRC_KERNELS_AVX512_ATTENTION_H_

namespace turboquant::kernels {
namespace {

constexpr AttentionKernels kAttention = {
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

}  // namespace
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_AVX512_ATTENTION_H_
