#include "src/eval/workload_methods.h"

#include <utility>

#include "src/base/failure.h"
#include "src/base/try.h"

namespace turboquant::eval {
namespace {

std::string Label(const MethodSpec& spec) {
  std::string label(MethodName(spec.kind));
  if (spec.policy != Policy::kDefault) label += " (" + std::string(PolicyName(spec.policy)) + ")";
  return label;
}

std::unexpected<Error> Prefixed(const MethodSpec& spec, Error error) {
  error.message = Label(spec) + " at " + Fail(error.code, spec.bits).error().message +
                  " bits: " + error.message;
  return std::unexpected(std::move(error));
}

// Creates the method and, because some choose by the data, encodes one row of ones.
Result<void> TryMethod(const MethodSpec& spec, const MethodContext& context) {
  TQ_TRY(const auto method, MakeRowMethod(spec, context));
  const std::vector<float> row(context.dim, 1.0f);
  return method->Encode(MatrixView(row.data(), 1, context.dim), {});
}

}  // namespace

Result<std::vector<MethodMeasurement>> StartMeasurements(std::span<const MethodSpec> methods,
                                                         bool by_default,
                                                         const MethodContext& context,
                                                         const std::vector<PositionErrors>& bins,
                                                         std::vector<LeftOut>& left_out) {
  if (methods.empty()) return Fail(ErrorCode::kInvalidArgument, "no methods given");
  std::vector<MethodMeasurement> measurements;
  for (const MethodSpec& spec : methods) {
    const Result<void> tried = TryMethod(spec, context);
    if (tried) {
      measurements.emplace_back(spec, bins);
    } else if (by_default && (tried.error().code == ErrorCode::kInvalidArgument ||
                              tried.error().code == ErrorCode::kUnsupported)) {
      left_out.push_back({Label(spec), context.dim, tried.error().message});
    } else {
      return Prefixed(spec, tried.error());
    }
  }
  return measurements;
}

Result<void> AddToAll(const ExactAttention& exact, const MethodContext& context,
                      const RunContext& run, const std::string& label,
                      std::span<MethodMeasurement> measurements) {
  for (MethodMeasurement& measurement : measurements) {
    if (run.progress) run.progress(label + ", " + Label(measurement.spec()));
    const Result<void> added = measurement.Add(exact, context, run);
    if (!added) return Prefixed(measurement.spec(), added.error());
  }
  return {};
}

}  // namespace turboquant::eval
