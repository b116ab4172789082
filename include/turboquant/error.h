// How calls fail: a code that says what the caller can do, and a sentence with names and numbers.
#ifndef TURBOQUANT_ERROR_H_
#define TURBOQUANT_ERROR_H_

#include <expected>
#include <string>
#include <string_view>

namespace turboquant {

enum class ErrorCode {
  kInvalidArgument,    // the call broke its contract
  kDimensionMismatch,  // shapes that must agree do not
  kNotUnitNorm,        // require_unit_norm was asked for and a row's norm is not 1
  kNonFinite,          // NaN or infinity in the input
  kCorruptData,        // bytes from outside contradict themselves or their checksum
  kUnsupported,        // well-formed, but newer or rarer than this build understands
  kIo,                 // the operating system refused
  kUnavailable,        // no such CPU feature, device, library or model here
  kModel,              // a decoder bundle breaks its contract
  kInternal,           // a fault of ours
};

// The code's name as documented, e.g. "kCorruptData". Never empty.
std::string_view ErrorCodeName(ErrorCode code);

struct Error {
  ErrorCode code;
  std::string message;  // one sentence without a final full stop, naming the culprit
};

// Every public function that can fail returns this. Nothing but std::bad_alloc is thrown, and that
// never because of a size that came from outside the process.
template <class T>
using Result = std::expected<T, Error>;

}  // namespace turboquant

#endif  // TURBOQUANT_ERROR_H_
