// Whether the tile instructions of AMX can run here, and if not, why.
#ifndef TURBOQUANT_SRC_KERNELS_AMX_SUPPORT_H_
#define TURBOQUANT_SRC_KERNELS_AMX_SUPPORT_H_

#include <cstdint>
#include <string>

namespace turboquant::kernels {

// What decides it, in the order in which AmxObstacle looks.
struct AmxFacts {
  bool x86_64 = false;
  bool avx512 = false;       // the kernels of Backend::kAvx512 run here
  bool amx_tile = false;     // CPUID leaf 7, EDX bit 24
  bool amx_int8 = false;     // CPUID leaf 7, EDX bit 25
  uint64_t xcr0 = 0;         // state that the operating system saves; bits 17, 18: tiles
  bool is_linux = false;     // the only system whose permission can be asked for
  int permission_error = 0;  // errno of arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)
};

// Facts of this CPU and process. `avx512` is the caller's. On Linux asks for the permission to use
// tile data, which holds for the whole process, if everything before it holds.
AmxFacts ThisAmxFacts(bool avx512);

// The first fact in the way as a phrase for an error, or empty if tiles can be used.
std::string AmxObstacle(const AmxFacts& facts);

}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_AMX_SUPPORT_H_
