#include "src/eval/baseline_method.h"

#include <algorithm>
#include <utility>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "turboquant/rotation.h"

namespace turboquant::eval {
namespace {

class BaselineMethod : public RowMethod {
 public:
  BaselineMethod(BaselineFormat format, size_t dim, std::optional<Rotation> rotation)
      : format_(format), dim_(dim), rotation_(std::move(rotation)) {}

  Result<void> Encode(MatrixView<const float> rows, const ParallelFor&) override {
    TQ_TRY(const std::vector<float> coordinates, Coordinates(rows));
    TQ_TRY(encoded_, EncodeBaseline(format_, MatrixView(coordinates.data(), rows.rows, dim_)));
    return {};
  }

  Result<void> Decode(MatrixView<float> out, const ParallelFor&) const override {
    TQ_CHECK(DecodeBaseline(encoded_, out));
    if (!rotation_) return {};
    return rotation_->ApplyInverse(out, out);
  }

  Result<void> Prepare(MatrixView<const float> queries) override {
    TQ_TRY(queries_, Coordinates(queries));
    return {};
  }

  // Each row is decoded once and multiplied with every query.
  Result<void> Score(MatrixView<float> scores, const ParallelFor&) const override {
    if (scores.cols != encoded_.rows || scores.rows * dim_ != queries_.size()) {
      return Fail(ErrorCode::kDimensionMismatch, "scores are ", scores.rows, " x ", scores.cols,
                  ", expected ", queries_.size() / dim_, " x ", encoded_.rows);
    }
    std::vector<float> row(dim_);
    for (size_t t = 0; t < encoded_.rows; ++t) {
      DecodeBaselineRow(encoded_, t, row);
      for (size_t q = 0; q < scores.rows; ++q) {
        float sum = 0.0f;
        for (size_t j = 0; j < dim_; ++j) sum += queries_[q * dim_ + j] * row[j];
        scores.Row(q)[t] = sum;
      }
    }
    return {};
  }

  double BitsPerCoordinate() const override { return encoded_.BitsPerCoordinate(); }
  std::optional<double> TheoryNmse() const override { return std::nullopt; }
  std::string_view Target() const override { return "plain"; }

 private:
  // The numbers that are quantized: the rows, or the rows rotated.
  Result<std::vector<float>> Coordinates(MatrixView<const float> rows) const {
    if (rows.cols != dim_) {
      return Fail(ErrorCode::kDimensionMismatch, "rows have ", rows.cols, " columns, expected ",
                  dim_);
    }
    std::vector<float> coordinates(rows.rows * dim_);
    for (size_t r = 0; r < rows.rows; ++r) {
      std::copy_n(rows.Row(r), dim_, coordinates.begin() + static_cast<std::ptrdiff_t>(r * dim_));
    }
    if (rotation_) {
      const MatrixView view(coordinates.data(), rows.rows, dim_);
      TQ_CHECK(rotation_->Apply(view, view));
    }
    return coordinates;
  }

  BaselineFormat format_;
  size_t dim_;
  std::optional<Rotation> rotation_;
  BaselineRows encoded_;
  std::vector<float> queries_;  // [q × dim], rotated as the rows are
};

}  // namespace

Result<std::unique_ptr<RowMethod>> MakeBaselineMethod(BaselineFormat format, bool hadamard,
                                                      const MethodContext& context) {
  if (context.dim == 0) return Fail(ErrorCode::kInvalidArgument, "dim must not be 0");
  std::optional<Rotation> rotation;
  if (hadamard) {
    RotationOptions options;
    options.dim = context.dim;
    options.seed = context.seed;
    options.stream.side = context.values ? 1 : 0;
    TQ_TRY(rotation, Rotation::Create(options));
  }
  return std::make_unique<BaselineMethod>(format, context.dim, std::move(rotation));
}

}  // namespace turboquant::eval
