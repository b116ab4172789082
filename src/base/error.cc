#include "turboquant/error.h"

#include <charconv>

#include "src/base/failure.h"

namespace turboquant {

std::string_view ErrorCodeName(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return "kInvalidArgument";
    case ErrorCode::kDimensionMismatch:
      return "kDimensionMismatch";
    case ErrorCode::kNotUnitNorm:
      return "kNotUnitNorm";
    case ErrorCode::kNonFinite:
      return "kNonFinite";
    case ErrorCode::kCorruptData:
      return "kCorruptData";
    case ErrorCode::kUnsupported:
      return "kUnsupported";
    case ErrorCode::kIo:
      return "kIo";
    case ErrorCode::kUnavailable:
      return "kUnavailable";
    case ErrorCode::kModel:
      return "kModel";
    case ErrorCode::kInternal:
      return "kInternal";
  }
  return "unknown";
}

namespace failure_internal {

void AppendPart(std::string& message, double part) {
  char digits[32];
  const auto [end, status] = std::to_chars(digits, digits + sizeof(digits), part);
  message.append(digits, status == std::errc() ? end : digits);
}

}  // namespace failure_internal
}  // namespace turboquant
