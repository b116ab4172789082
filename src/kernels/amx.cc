// AMX: the table of AVX-512 with scores and sums of packed rows in tiles. Bit for bit the
// reference. The tests compile this file a second time against an emulation of both.
#ifdef TURBOQUANT_EMULATE_AVX512  // the including file brought the instructions
#define TURBOQUANT_AMX_BUILT 1
#elif defined(__x86_64__)
#include <immintrin.h>
#define TURBOQUANT_AMX_BUILT 1
#endif

#include <algorithm>
#include <cassert>
#include <cstring>
#include <numeric>

#include "src/kernels/amx_support.h"
#include "src/kernels/amx_tile_shapes.h"
#include "src/kernels/kernels.h"
#include "src/kernels/line_layout.h"
#include "src/kernels/with_bits.h"

#ifdef TURBOQUANT_AMX_BUILT

namespace turboquant::kernels {
namespace {

// What serves where tiles do not pay.
const KernelTable& Avx512Table() {
#ifdef TURBOQUANT_EMULATE_AVX512
  return *EmulatedAvx512Kernels();
#else
  return *Avx512Kernels();
#endif
}

}  // namespace
}  // namespace turboquant::kernels

#ifdef TURBOQUANT_EMULATE_AVX512
#define TQ_INLINE inline
#else
#define TQ_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#pragma clang attribute push(                                                                \
    __attribute__((target("amx-tile,amx-int8,avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi," \
                          "avx512vnni,avx2,fma,f16c"))),                                     \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("amx-tile,amx-int8,avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")
#pragma GCC target("avx512vnni,avx2,fma,f16c")
#endif
#endif

// Behind the target, which holds for what follows.
#include "src/kernels/amx_score.h"
#include "src/kernels/amx_values.h"

#ifndef TURBOQUANT_EMULATE_AVX512
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

namespace turboquant::kernels {
namespace {

struct AmxTable {
  AttentionKernels attention;
  KernelTable table;

  explicit AmxTable(const KernelTable& avx512) : attention(*avx512.attention), table(avx512) {
    attention.accumulate_values = AccumulateValues;
    table.backend = Backend::kAmx;
    table.score_keys = ScoreKeys;
    table.attention = &attention;
  }
  AmxTable(const AmxTable&) = delete;
  AmxTable& operator=(const AmxTable&) = delete;
};

}  // namespace
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_AMX_BUILT

namespace turboquant::kernels {

#ifdef TURBOQUANT_EMULATE_AVX512

const KernelTable* EmulatedAmxKernels() {
  static const AmxTable kTable(Avx512Table());
  return &kTable.table;
}

#else

const KernelTable* BuiltAmxKernels() {
#ifdef TURBOQUANT_AMX_BUILT
  if (Avx512Kernels() == nullptr) return nullptr;
  static const AmxTable kTable(Avx512Table());
  return &kTable.table;
#else
  return nullptr;
#endif
}

const std::string& AmxObstacle() {
  static const std::string kObstacle = AmxObstacle(ThisAmxFacts(Avx512Kernels() != nullptr));
  return kObstacle;
}

const KernelTable* AmxKernels() { return AmxObstacle().empty() ? BuiltAmxKernels() : nullptr; }

#endif

}  // namespace turboquant::kernels
