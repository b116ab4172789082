// AVX-512 with VNNI and VBMI: plain intrinsics, because Highway 1.0.3 names the wrong feature for
// its AVX3_DL target (docs/decisions/0003). Bit for bit the reference. The tests compile these
// files a second time against an emulation of the instructions, so that they are checked on any
// CPU.
#ifdef TURBOQUANT_EMULATE_AVX512  // the including file brought the instructions
#define TURBOQUANT_AVX512_BUILT 1
#elif defined(__x86_64__)
#include <immintrin.h>
#define TURBOQUANT_AVX512_BUILT 1
#endif

#include <hwy/targets.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>

#include "src/kernels/kernels.h"
#include "src/kernels/line_layout.h"
#include "src/kernels/pack_row.h"
#include "src/kernels/scratch.h"
#include "src/kernels/with_bits.h"

#ifdef TURBOQUANT_AVX512_BUILT

#ifdef TURBOQUANT_EMULATE_AVX512
#define TQ_INLINE inline
#else
#define TQ_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#pragma clang attribute push(                                                               \
    __attribute__((                                                                         \
        target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni,avx2,fma,f16c"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni,avx2,fma,f16c")
#endif
#endif

// Behind the target, which holds for what follows: what the others share.
#include "src/kernels/avx512_lanes.h"
#include "src/kernels/avx512_levels.h"

// Behind those.
#include "src/kernels/avx512_encode.h"
#include "src/kernels/avx512_rotate.h"
#include "src/kernels/avx512_score.h"
#include "src/kernels/avx512_short_rows.h"
#include "src/kernels/avx512_stream.h"

// Masks and sums of lanes.
#include "src/kernels/avx512_softmax.h"

// Behind those and the decoder of levels.
#include "src/kernels/avx512_exact_rows.h"
#include "src/kernels/avx512_frame.h"
#include "src/kernels/avx512_signs.h"
#include "src/kernels/avx512_values.h"

// Behind rotations, digits and frames.
#include "src/kernels/avx512_framed_digits.h"

// Behind its kernels.
#include "src/kernels/avx512_attention.h"

namespace turboquant::kernels {
namespace {

void EncodeRows(const EncodeRow* rows, size_t count, RowSums* sums) {
  for (size_t r = 0; r < count;) {
    if (rows[r].gain == 0.0f) {
      sums[r++] = {0, 0};
      continue;
    }
    size_t alike = 1;
    while (r + alike < count && AlikeAndNotZero(rows[r], rows[r + alike])) ++alike;
    if (!EncodedShortRows(rows + r, alike, sums + r)) {
      for (size_t i = r; i < r + alike; ++i) sums[i] = EncodeLongRow(rows[i]);
    }
    r += alike;
  }
}

constexpr KernelTable kTable = {
    .backend = Backend::kAvx512,
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

}  // namespace
}  // namespace turboquant::kernels

#ifndef TURBOQUANT_EMULATE_AVX512
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

#endif  // TURBOQUANT_AVX512_BUILT

namespace turboquant::kernels {

#ifdef TURBOQUANT_EMULATE_AVX512

const KernelTable* EmulatedAvx512Kernels() { return &kTable; }

#else

const KernelTable* Avx512Kernels() {
#ifdef TURBOQUANT_AVX512_BUILT
  // AVX3_DL is Highway's name for this feature set; its run-time test is right. Asked once: under a
  // hypervisor every CPUID instruction costs microseconds.
  static const bool kSupported = (hwy::SupportedTargets() & HWY_AVX3_DL) != 0;
  if (kSupported) return &kTable;
#endif
  return nullptr;
}

#endif

}  // namespace turboquant::kernels
