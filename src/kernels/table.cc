#include "src/kernels/kernels.h"

namespace turboquant::kernels {

const KernelTable* FindKernels(Backend backend) {
  const auto if_is = [&](const KernelTable* table) {
    return table != nullptr && table->backend == backend ? table : nullptr;
  };
  switch (backend) {
    case Backend::kScalar:
      return &reference::kTable;
    case Backend::kAvx2:
    case Backend::kNeon:
      return if_is(SimdKernels());
    case Backend::kAvx512:
      return if_is(Avx512Kernels());
    case Backend::kAmx:
      return AmxKernels();
    case Backend::kAuto:  // not concrete
      return nullptr;
  }
  return nullptr;
}

}  // namespace turboquant::kernels
