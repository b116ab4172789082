#include "turboquant/backend.h"

#include <array>

#include "src/base/failure.h"
#include "src/kernels/kernels.h"

namespace turboquant {
namespace {

// kAuto takes the first that is there: the fastest, as measured. kAmx includes kAvx512 and stands
// behind it, so that it is never taken, until its speed has been measured (docs/decisions/0010); in
// front of it it would be.
constexpr std::array kConcrete = {Backend::kAvx512, Backend::kAmx, Backend::kAvx2, Backend::kNeon,
                                  Backend::kScalar};

}  // namespace

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
  for (const Backend backend : kConcrete) {
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
  for (size_t i = kConcrete.size(); i-- > 0;) {
    if (kernels::FindKernels(kConcrete[i]) != nullptr) available.push_back(kConcrete[i]);
  }
  return available;
}

}  // namespace turboquant
