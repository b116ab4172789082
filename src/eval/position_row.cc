#include "src/eval/position_row.h"

namespace turboquant::eval {
namespace {

std::optional<double> ValueIfAny(const Mean& mean) {
  return mean.count() == 0 ? std::nullopt : std::optional(mean.Value());
}

}  // namespace

std::vector<PositionRow> PositionRows(const std::vector<PositionErrors>& bins) {
  std::vector<PositionRow> rows;
  for (const PositionErrors& errors : bins) {
    PositionRow row;
    row.first = errors.first;
    row.last = errors.last;
    row.queries = errors.softmax_kl.count();
    row.softmax_kl = ValueIfAny(errors.softmax_kl);
    row.key_nmse = ValueIfAny(errors.key_relative);
    if (errors.output_energy.sum() > 0.0) {
      row.output_nmse = errors.output_error.sum() / errors.output_energy.sum();
    }
    rows.push_back(row);
  }
  return rows;
}

}  // namespace turboquant::eval
