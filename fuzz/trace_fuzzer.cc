// Any bytes as a trace: loading fails, or all that the trace promises holds.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "turboquant/trace.h"

namespace {

void Require(bool holds) {
  if (!holds) __builtin_trap();
}

void RequireFinite(turboquant::MatrixView<const float> rows) {
  for (size_t r = 0; r < rows.rows; ++r) {
    for (const float x : rows.RowSpan(r)) Require(std::isfinite(x));
  }
}

void RequirePromises(const turboquant::TraceHead& head) {
  Require(head.sample_count() > 0 && head.tokens() > 0 && head.head_dim() > 0);
  for (size_t sample = 0; sample < head.sample_count(); ++sample) {
    RequireFinite(head.keys(sample));
    RequireFinite(head.values(sample));
    RequireFinite(head.query_rows(sample));
    Require(head.query_positions(sample).size() == head.queries());
    for (const size_t position : head.query_positions(sample)) Require(position < head.tokens());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const auto trace = turboquant::KvTrace::FromBytes(std::as_bytes(std::span(bytes, size)));
  if (!trace) {
    Require(!trace.error().message.empty());
    return 0;
  }
  Require(!trace->heads().empty());
  for (const auto& head : trace->heads()) {
    RequirePromises(head);
    if (!trace->rope()) continue;
    Require(trace->rope()->rotary_dim >= 2 && trace->rope()->rotary_dim <= head.head_dim());
    Require(std::isfinite(trace->rope()->theta) && trace->rope()->theta > 0.0);
  }
  return 0;
}
