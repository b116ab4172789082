#include "src/eval/method.h"

#include <cmath>
#include <functional>
#include <utility>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/eval/baseline_method.h"
#include "src/eval/theory.h"
#include "turboquant/mse_quantizer.h"
#include "turboquant/outlier_quantizer.h"
#include "turboquant/polar_quantizer.h"
#include "turboquant/prod_quantizer.h"
#include "turboquant/qjl.h"

namespace turboquant::eval {
namespace {

RandomStream StreamOf(const MethodContext& context) { return {0, 0, context.values ? 1u : 0u}; }

}  // namespace

MseOptions MseOptionsOf(const MethodSpec& spec, const MethodContext& context) {
  const bool paper = spec.policy == Policy::kPaper;
  MseOptions options;
  options.dim = context.dim;
  options.bits = static_cast<int>(spec.bits);
  options.scale = paper ? Scale::kNorm : Scale::kUnbiased;
  if (spec.policy != Policy::kDefault) options.scale_search = false;
  options.rotation = paper ? RotationKind::kDense : RotationKind::kHadamard;
  options.seed = context.seed;
  options.stream = StreamOf(context);
  options.backend = context.backend;
  return options;
}

ProdOptions ProdOptionsOf(const MethodSpec& spec, const MethodContext& context) {
  const bool paper = spec.policy == Policy::kPaper;
  ProdOptions options;
  options.dim = context.dim;
  options.bits = static_cast<int>(spec.bits);
  options.sketch = paper ? SketchKind::kGaussian : SketchKind::kOrthogonal;
  options.rotation = paper ? RotationKind::kDense : RotationKind::kHadamard;
  options.seed = context.seed;
  options.stream = StreamOf(context);
  options.backend = context.backend;
  return options;
}

double TheoryNmseOf(const MseQuantizer& quantizer) {
  return ScaledNmse(quantizer.codebook(), quantizer.options().scale);
}

double TheoryNmseOf(const ProdQuantizer& quantizer) {
  const QjlOptions& sketch = quantizer.sketch().options();
  return SphereDistortion(quantizer.mse().codebook()) *
         SketchNmse(sketch.dim, sketch.sketch_rows, sketch.kind);
}

namespace {

// What a file keeps of one row, in bytes.
size_t RowBytes(const MseRows& rows) {
  return rows.CanonicalRowBytes() + (rows.scale_type() == ScaleType::kF16 ? 2 : 4);
}
size_t RowBytes(const OutlierRows& rows) { return rows.CanonicalBytesPerRow(); }
size_t RowBytes(const ProdRows& rows) { return rows.CanonicalBytesPerRow(); }
size_t RowBytes(const SignRows& rows) { return rows.CanonicalBytesPerRow(); }
size_t RowBytes(const PolarRows& rows) { return rows.CanonicalBytesPerRow(); }

double TheoryOf(const MseQuantizer& quantizer) { return TheoryNmseOf(quantizer); }
double TheoryOf(const ProdQuantizer& quantizer) { return TheoryNmseOf(quantizer); }

// Rows whose energy is spread evenly over the channels.
double TheoryOf(const OutlierQuantizer& quantizer) {
  const double outliers = static_cast<double>(quantizer.outlier_channels().size());
  const double regular = static_cast<double>(quantizer.regular_channels().size());
  return (outliers * TheoryOf(quantizer.outliers()) + regular * TheoryOf(quantizer.regular())) /
         (outliers + regular);
}

double TheoryOf(const QjlSketch& sketch) {
  return SketchNmse(sketch.options().dim, sketch.options().sketch_rows, sketch.options().kind);
}

// The project's own computation for 4 levels of 4, 2, 2, 2 bits, exact radii (docs/algorithm.md).
double TheoryOf(const PolarQuantizer&) { return 0.0320; }

std::string_view TargetOf(const MseQuantizer& quantizer) {
  return BackendName(quantizer.backend());
}
std::string_view TargetOf(const OutlierQuantizer& quantizer) {
  return TargetOf(quantizer.regular());
}
std::string_view TargetOf(const ProdQuantizer& quantizer) { return TargetOf(quantizer.mse()); }
std::string_view TargetOf(const QjlSketch&) { return "plain"; }
std::string_view TargetOf(const PolarQuantizer&) { return "plain"; }

// The library's quantizers have the same verbs, so one adapter serves them all.
template <class Quantizer>
class QuantizerMethod : public RowMethod {
 public:
  using Rows = decltype(std::declval<const Quantizer&>().MakeRows());
  using Queries = typename decltype(std::declval<const Quantizer&>().Prepare(
      std::declval<MatrixView<const float>>()))::value_type;
  // Makes the quantizer, which may want to see the first rows.
  using Factory = std::function<Result<Quantizer>(MatrixView<const float>)>;

  QuantizerMethod(Factory make, std::string_view target, std::optional<double> theory)
      : make_(std::move(make)), target_(target), theory_(theory) {}

  Result<void> Encode(MatrixView<const float> rows, const ParallelFor& parallel_for) override {
    if (!quantizer_) {
      TQ_TRY(Quantizer quantizer, make_(rows));
      target_ = TargetOf(quantizer);
      theory_ = TheoryOf(quantizer);
      quantizer_.emplace(std::move(quantizer));
    }
    Rows fresh = quantizer_->MakeRows();
    TQ_CHECK(quantizer_->Append(rows, fresh, parallel_for));
    encoded_.emplace(std::move(fresh));
    return {};
  }

  Result<void> Decode(MatrixView<float> out, const ParallelFor& parallel_for) const override {
    TQ_CHECK(CheckEncoded());
    return quantizer_->Decode(*encoded_, out, parallel_for);
  }

  Result<void> Prepare(MatrixView<const float> queries) override {
    TQ_CHECK(CheckEncoded());
    TQ_TRY(Queries prepared, quantizer_->Prepare(queries));
    queries_.emplace(std::move(prepared));
    return {};
  }

  Result<void> Score(MatrixView<float> scores, const ParallelFor& parallel_for) const override {
    TQ_CHECK(CheckEncoded());
    if (!queries_) return Fail(ErrorCode::kInvalidArgument, "no queries were prepared");
    return quantizer_->Score(*queries_, *encoded_, scores, parallel_for);
  }

  double BitsPerCoordinate() const override {
    if (!encoded_) return 0.0;
    return 8.0 * static_cast<double>(RowBytes(*encoded_)) / static_cast<double>(encoded_->dim());
  }

  std::optional<double> TheoryNmse() const override { return theory_; }
  std::string_view Target() const override { return target_; }

 private:
  Result<void> CheckEncoded() const {
    if (encoded_) return {};
    return Fail(ErrorCode::kInvalidArgument, "no rows were encoded");
  }

  Factory make_;
  std::string_view target_;
  std::optional<double> theory_;
  std::optional<Quantizer> quantizer_;
  std::optional<Rows> encoded_;
  std::optional<Queries> queries_;
};

template <class Quantizer>
Result<std::unique_ptr<RowMethod>> Wrap(Result<Quantizer> quantizer) {
  if (!quantizer) return std::unexpected(std::move(quantizer).error());
  const Quantizer& ready = *quantizer;
  const std::string_view target = TargetOf(ready);
  const double theory = TheoryOf(ready);
  return std::make_unique<QuantizerMethod<Quantizer>>(
      [ready](MatrixView<const float>) -> Result<Quantizer> { return ready; }, target, theory);
}

Result<std::unique_ptr<RowMethod>> MakeMse(const MethodSpec& spec, const MethodContext& context) {
  return Wrap(MseQuantizer::Create(MseOptionsOf(spec, context)));
}

// A quarter of the channels gets one bit more, as 32 of 128 in the paper.
Result<std::unique_ptr<RowMethod>> MakeOutlier(const MethodSpec& spec,
                                               const MethodContext& context) {
  const bool paper = spec.policy == Policy::kPaper;
  OutlierOptions options;
  options.dim = context.dim;
  options.bits = static_cast<int>(std::floor(spec.bits));
  options.scale = paper ? Scale::kNorm : Scale::kUnbiased;
  if (spec.policy != Policy::kDefault) options.scale_search = false;
  options.rotation = paper ? RotationKind::kDense : RotationKind::kHadamard;
  options.seed = context.seed;
  options.stream = StreamOf(context);
  options.backend = context.backend;
  TQ_TRY(const Backend backend, ResolveBackend(context.backend));
  const auto make = [options](MatrixView<const float> rows) -> Result<OutlierQuantizer> {
    OutlierOptions with_channels = options;
    TQ_TRY(with_channels.outlier_channels, ChooseOutlierChannels(rows, options.dim / 4));
    return OutlierQuantizer::Create(with_channels);
  };
  return std::make_unique<QuantizerMethod<OutlierQuantizer>>(make, BackendName(backend),
                                                             std::nullopt);
}

Result<std::unique_ptr<RowMethod>> MakeProd(const MethodSpec& spec, const MethodContext& context) {
  return Wrap(ProdQuantizer::Create(ProdOptionsOf(spec, context)));
}

// b bits per coordinate are b · dim sketch rows.
Result<std::unique_ptr<RowMethod>> MakeQjl(const MethodSpec& spec, const MethodContext& context) {
  QjlOptions options;
  options.dim = context.dim;
  options.sketch_rows = context.dim * static_cast<size_t>(spec.bits);
  options.kind = spec.policy == Policy::kPaper ? SketchKind::kGaussian : SketchKind::kOrthogonal;
  options.seed = context.seed;
  options.stream = StreamOf(context);
  return Wrap(QjlSketch::Create(options));
}

Result<std::unique_ptr<RowMethod>> MakePolar(const MethodContext& context) {
  PolarOptions options;
  options.dim = context.dim;
  options.seed = context.seed;
  options.stream = StreamOf(context);
  return Wrap(PolarQuantizer::Create(options));
}

}  // namespace

Result<std::unique_ptr<RowMethod>> MakeRowMethod(const MethodSpec& spec,
                                                 const MethodContext& context) {
  const MethodKind kinds[] = {spec.kind};
  const double widths[] = {spec.bits};
  const Policy policies[] = {spec.policy};
  TQ_TRY(const std::vector<MethodSpec> expanded,
         ExpandMethods(kinds, widths, policies, MissingWidth::kError));
  if (context.maker) return context.maker(expanded.front(), context);
  switch (expanded.front().kind) {
    case MethodKind::kMse:
      return MakeMse(spec, context);
    case MethodKind::kOutlier:
      return MakeOutlier(spec, context);
    case MethodKind::kProd:
      return MakeProd(spec, context);
    case MethodKind::kQjl:
      return MakeQjl(spec, context);
    case MethodKind::kPolar:
      return MakePolar(context);
    case MethodKind::kInt8:
      return MakeBaselineMethod(BaselineFormat::kInt8, false, context);
    case MethodKind::kInt8Hadamard:
      return MakeBaselineMethod(BaselineFormat::kInt8, true, context);
    case MethodKind::kQ80:
      return MakeBaselineMethod(BaselineFormat::kQ80, false, context);
    case MethodKind::kQ80Hadamard:
      return MakeBaselineMethod(BaselineFormat::kQ80, true, context);
    case MethodKind::kQ40:
      return MakeBaselineMethod(BaselineFormat::kQ40, false, context);
    case MethodKind::kQ40Hadamard:
      return MakeBaselineMethod(BaselineFormat::kQ40, true, context);
    case MethodKind::kFp8:
      return MakeBaselineMethod(BaselineFormat::kFp8, false, context);
  }
  return Fail(ErrorCode::kInternal, "method ", static_cast<int>(spec.kind), " has no maker");
}

}  // namespace turboquant::eval
