// Errors by position, as rows of traces report them.
#ifndef TURBOQUANT_SRC_EVAL_POSITION_ROW_H_
#define TURBOQUANT_SRC_EVAL_POSITION_ROW_H_

#include <cstddef>
#include <optional>
#include <vector>

#include "src/eval/attention_errors.h"

namespace turboquant::eval {

// Errors of the queries and tokens at positions [first, last]; none where none lies there.
struct PositionRow {
  size_t first = 0;
  size_t last = 0;
  size_t queries = 0;
  std::optional<double> softmax_kl;
  std::optional<double> output_nmse;
  std::optional<double> key_nmse;
};

std::vector<PositionRow> PositionRows(const std::vector<PositionErrors>& bins);

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_POSITION_ROW_H_
