// Building errors: Fail(ErrorCode::kX, "bits must be 1 to 8, got ", bits).
#ifndef TURBOQUANT_SRC_BASE_FAILURE_H_
#define TURBOQUANT_SRC_BASE_FAILURE_H_

#include <concepts>
#include <string>
#include <string_view>
#include <type_traits>

#include "turboquant/error.h"

namespace turboquant {

namespace failure_internal {
inline void AppendPart(std::string& message, std::string_view part) { message += part; }
void AppendPart(std::string& message, double part);  // shortest form that reads back equal
template <std::integral T>
void AppendPart(std::string& message, T part) {
  message += std::to_string(part);
}
}  // namespace failure_internal

// The parts one after another, numbers in their shortest form.
template <class... Parts>
std::unexpected<Error> Fail(ErrorCode code, const Parts&... parts) {
  Error error{code, {}};
  (failure_internal::AppendPart(error.message, parts), ...);
  return std::unexpected(std::move(error));
}

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_BASE_FAILURE_H_
