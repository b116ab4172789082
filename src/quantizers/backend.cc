#include "turboquant/backend.h"

#include "src/base/failure.h"
#include "src/kernels/kernels.h"
#include "src/quantizers/backend_order.h"

namespace turboquant {

std::string_view BackendName(Backend backend) {
  switch (backend) {
    case Backend::kAuto:
      return "auto";
    case Backend::kScalar:
      return "scalar";
    case Backend::kAvx2:
      return "avx2";
    case Backend::kAvx512:
      return "avx512";
    case Backend::kAmx:
      return "amx";
    case Backend::kNeon:
      return "neon";
  }
  return "unknown";
}

Result<Backend> ParseBackend(std::string_view name) {
  for (const Backend backend : {Backend::kAuto, Backend::kScalar, Backend::kAvx2, Backend::kAvx512,
                                Backend::kAmx, Backend::kNeon}) {
    if (BackendName(backend) == name) return backend;
  }
  return Fail(ErrorCode::kInvalidArgument, "backend '", name,
              "' is none of auto, scalar, avx2, avx512, amx, neon");
}

Result<Backend> ResolveBackend(Backend requested) {
  for (const Backend backend : kBackendOrder) {
    if ((requested == Backend::kAuto || requested == backend) &&
        kernels::FindKernels(backend) != nullptr) {
      return backend;
    }
  }
  if (requested == Backend::kAmx) {
    return Fail(ErrorCode::kUnavailable, "backend amx is not available: ", kernels::AmxObstacle());
  }
  return Fail(ErrorCode::kUnavailable, "backend ", BackendName(requested),
              " is not available: this CPU or this build lacks it");
}

std::vector<Backend> AvailableBackends() {
  std::vector<Backend> available;
  for (size_t i = kBackendOrder.size(); i-- > 0;) {
    if (kernels::FindKernels(kBackendOrder[i]) != nullptr) available.push_back(kBackendOrder[i]);
  }
  return available;
}

}  // namespace turboquant
