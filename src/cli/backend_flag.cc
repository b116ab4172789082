#include "src/cli/backend_flag.h"

#include "src/base/try.h"

namespace turboquant::cli {

Result<Backend> ParseBackendFlag(std::string_view name) {
  TQ_TRY(const Backend backend, ParseBackend(name == "simd" ? "auto" : name));
  return ResolveBackend(backend);
}

}  // namespace turboquant::cli
