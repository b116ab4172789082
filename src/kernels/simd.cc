// AVX2 and NEON from one source. Port budget on AVX2 at d = 128, per row: rotation 2 × 70 vector
// operations a round, codes 8 × 19 per candidate, a key store 16 words.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/simd.cc"
// AVX-512 has a file of its own (avx512.cc); below AVX2 the reference serves. Arm CPUs with SVE
// have NEON too, and the best target that is not disabled is the one that is called.
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#include <hwy/foreach_target.h>
// Behind foreach_target.h, which includes this file once per target.
#include <hwy/highway.h>

#include "src/kernels/attention-inl.h"
#include "src/kernels/codes-inl.h"
#include "src/kernels/dense-inl.h"
#include "src/kernels/encode-inl.h"
#include "src/kernels/kernels.h"
#include "src/kernels/query-inl.h"
#include "src/kernels/rotate-inl.h"
#include "src/kernels/score-inl.h"
#include "src/kernels/signs-inl.h"
#include "src/kernels/stream-inl.h"

HWY_BEFORE_NAMESPACE();
namespace turboquant::kernels::HWY_NAMESPACE {

#if TURBOQUANT_SIMD_TARGET

const KernelTable* Table() {
  static constexpr KernelTable kTable = {
      .backend = HWY_TARGET == HWY_NEON ? Backend::kNeon : Backend::kAvx2,
      .norms_squared = NormsSquared,
      .rotate = Rotate,
      .rotate_inverse = RotateInverse,
      .encode_rows = EncodeRows,
      .query_digits = RoundQuery,
      .score_keys = ScoreKeys,
      .unpack_codes = UnpackCodes,
      .dequantize = Dequantize,
      .pack_codes = PackCodes,
      .unpack_stream = UnpackStream,
      .pack_stream = PackStream,
      .sum_where_set = SumWhereSet,
      .multiply_dense = MultiplyDense,
      .attention = &kAttention,
  };
  return &kTable;
}

#else

const KernelTable* Table() { return nullptr; }

#endif

}  // namespace turboquant::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace turboquant::kernels {

HWY_EXPORT(Table);

const KernelTable* SimdKernels() { return HWY_DYNAMIC_DISPATCH(Table)(); }

}  // namespace turboquant::kernels
#endif
