// src/kernels/avx512.cc against emulated instructions, as EmulatedAvx512Kernels().
#include "tests/kernels/kernel_tables.h"

#if __has_include(<simde/x86/avx512.h>)

#include "tests/kernels/avx512_emulation.h"

#define TURBOQUANT_EMULATE_AVX512
#include "src/kernels/avx512.cc"  // NOLINT(bugprone-suspicious-include)

#else

namespace turboquant::kernels {

const KernelTable* EmulatedAvx512Kernels() { return nullptr; }

}  // namespace turboquant::kernels

#endif
