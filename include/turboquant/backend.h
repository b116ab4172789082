// Which kernels a quantizer or cache runs on; chosen once, when it is created.
#ifndef TURBOQUANT_BACKEND_H_
#define TURBOQUANT_BACKEND_H_

#include <string_view>
#include <vector>

#include "turboquant/error.h"

namespace turboquant {

enum class Backend {
  kAuto,    // the fastest this CPU has
  kScalar,  // plain loops: the definition that all others equal bit for bit
  kAvx2,
  kAvx512,  // AVX-512 with VNNI and VBMI (Ice Lake, Zen 4 and later)
  kAmx,     // kAvx512 plus products of tiles (Sapphire Rapids and later)
  kNeon,
};

// "auto", "scalar", "avx2", "avx512", "amx", "neon".
std::string_view BackendName(Backend backend);

// The reverse of BackendName; kInvalidArgument lists the known names.
[[nodiscard]] Result<Backend> ParseBackend(std::string_view name);

// What `requested` runs on here: kAuto becomes a concrete backend, a concrete one itself.
// kUnavailable if this CPU (or this build) lacks it. Thread-safe.
[[nodiscard]] Result<Backend> ResolveBackend(Backend requested);

// Every concrete backend that ResolveBackend accepts here, kScalar first.
std::vector<Backend> AvailableBackends();

}  // namespace turboquant

#endif  // TURBOQUANT_BACKEND_H_
