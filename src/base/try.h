// Passing errors up without repeating the test for them.
#ifndef TURBOQUANT_SRC_BASE_TRY_H_
#define TURBOQUANT_SRC_BASE_TRY_H_

#include <utility>

#include "turboquant/error.h"

#define TQ_CONCAT_INNER(a, b) a##b
#define TQ_CONCAT(a, b) TQ_CONCAT_INNER(a, b)

// TQ_TRY(const auto x, F()): x is the value of F(), or the enclosing function returns F's error.
#define TQ_TRY(declaration, expression) \
  TQ_TRY_NAMED(TQ_CONCAT(tq_result_, __LINE__), declaration, expression)
#define TQ_TRY_NAMED(result, declaration, expression)             \
  auto result = (expression);                                     \
  if (!result) return std::unexpected(std::move(result).error()); \
  declaration = *std::move(result)

// TQ_CHECK(F()): the same for a Result<void>.
#define TQ_CHECK(expression)                                \
  do {                                                      \
    if (auto tq_result = (expression); !tq_result) {        \
      return std::unexpected(std::move(tq_result).error()); \
    }                                                       \
  } while (false)

#endif  // TURBOQUANT_SRC_BASE_TRY_H_
