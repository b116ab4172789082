// What a failed call must say.
#ifndef TURBOQUANT_TESTS_SUPPORT_EXPECT_ERROR_H_
#define TURBOQUANT_TESTS_SUPPORT_EXPECT_ERROR_H_

#include <gtest/gtest.h>

#include <string_view>

#include "turboquant/error.h"

namespace turboquant::test {

// `result` is an error of `code` whose message contains `culprit`.
template <class T>
::testing::AssertionResult FailsWith(const Result<T>& result, ErrorCode code,
                                     std::string_view culprit) {
  if (result) return ::testing::AssertionFailure() << "the call succeeded";
  const Error& error = result.error();
  if (error.code != code || error.message.find(culprit) == std::string::npos) {
    return ::testing::AssertionFailure()
           << ErrorCodeName(error.code) << ": " << error.message << "; expected "
           << ErrorCodeName(code) << " naming '" << culprit << "'";
  }
  return ::testing::AssertionSuccess();
}

}  // namespace turboquant::test

#endif  // TURBOQUANT_TESTS_SUPPORT_EXPECT_ERROR_H_
