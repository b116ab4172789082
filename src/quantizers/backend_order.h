// In which order kAuto looks for kernels.
#ifndef TURBOQUANT_SRC_QUANTIZERS_BACKEND_ORDER_H_
#define TURBOQUANT_SRC_QUANTIZERS_BACKEND_ORDER_H_

#include <array>

#include "turboquant/backend.h"

namespace turboquant {

// kAuto takes the first that is there: the fastest, as measured (docs/decisions/0010 for kAmx).
inline constexpr std::array kBackendOrder = {Backend::kAmx, Backend::kAvx512, Backend::kAvx2,
                                             Backend::kNeon, Backend::kScalar};

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_QUANTIZERS_BACKEND_ORDER_H_
