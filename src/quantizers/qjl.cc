#include "turboquant/qjl.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "src/base/checked.h"
#include "src/base/counted_shared.h"
#include "src/base/failure.h"
#include "src/base/random.h"
#include "src/base/try.h"
#include "src/math/sphere.h"
#include "src/quantizers/dense_product.h"
#include "src/quantizers/direction.h"
#include "src/quantizers/fingerprint.h"
#include "src/quantizers/run_tasks.h"
#include "src/quantizers/sign_stream.h"
#include "src/quantizers/stored_numbers.h"

namespace turboquant {
namespace {

constexpr size_t kTaskRows = 64;
constexpr size_t kSignsPadding = 16;  // projections of a query as the kernel reads them
constexpr size_t kMaxStacked = 64;    // orthogonal matrices
constexpr size_t kMaxGaussianEntries = size_t{1} << 26;
constexpr size_t kSmallestHadamardDim = 32;
// After two, the coordinates of a one-hot row are still lattice sums: 1/(2 dim) of bias.
constexpr int kHadamardRounds = 3;

// Streams, frozen: the first matrix draws from stage 1, further ones from stage 128 on.
constexpr uint32_t kSketchStage = 1;
constexpr uint32_t kFurtherStages = 128;
constexpr uint32_t kNormalsRound = 255;

Result<void> CheckOptions(const QjlOptions& options, size_t sketch_rows) {
  if (options.dim < 2 || options.dim > 65536) {
    return Fail(ErrorCode::kInvalidArgument, "dim must be 2 to 65536, got ", options.dim);
  }
  if (options.kind != SketchKind::kGaussian && options.kind != SketchKind::kOrthogonal) {
    return Fail(ErrorCode::kInvalidArgument, "sketch kind ", static_cast<int>(options.kind),
                " is neither kGaussian nor kOrthogonal");
  }
  if (sketch_rows > kMaxStacked * options.dim) {
    return Fail(ErrorCode::kInvalidArgument, "sketch_rows must be 1 to ", kMaxStacked,
                " dim = ", kMaxStacked * options.dim, ", got ", sketch_rows);
  }
  if (options.kind == SketchKind::kGaussian && sketch_rows > kMaxGaussianEntries / options.dim) {
    return Fail(ErrorCode::kInvalidArgument, "a Gaussian sketch of ", sketch_rows, " rows × dim ",
                options.dim, " has more than ", kMaxGaussianEntries,
                " entries: use SketchKind::kOrthogonal");
  }
  return {};
}

// kInvalidArgument for stream fields out of range, by the rules of Rotation.
RotationOptions StackedRotation(const QjlOptions& options, size_t which) {
  const uint32_t stage =
      which == 0 ? kSketchStage : kFurtherStages + static_cast<uint32_t>(which - 1);
  const RotationKind kind =
      options.dim < kSmallestHadamardDim ? RotationKind::kDense : RotationKind::kHadamard;
  return {options.dim, kind, kHadamardRounds, options.seed, options.stream, stage};
}

Result<std::vector<float>> MakeGaussian(const QjlOptions& options, size_t sketch_rows) {
  const RandomStream& stream = options.stream;
  if (stream.layer >= 1u << 20 || stream.head >= 1u << 20 || stream.side >= 256) {
    return Fail(ErrorCode::kInvalidArgument,
                "stream layer and head must be below 1048576 and side below 256, got ",
                stream.layer, ", ", stream.head, " and ", stream.side);
  }
  RandomBits normals(options.seed,
                     {stream.layer, stream.head, stream.side, kSketchStage, kNormalsRound});
  std::vector<float> matrix(sketch_rows * options.dim);
  for (float& x : matrix) x = static_cast<float>(normals.NextNormal());
  return matrix;
}

// 1 / (m E|z|), z one coordinate of S u for a unit vector u.
double EstimatorConstant(const QjlOptions& options) {
  const double dim = static_cast<double>(options.dim);
  const double rows = static_cast<double>(options.sketch_rows);
  if (options.kind == SketchKind::kGaussian) return std::sqrt(std::numbers::pi / 2.0) / rows;
  return std::sqrt(std::numbers::pi / dim) * GammaHalfStep(dim / 2.0) / rows;
}

uint64_t SketchFingerprint(const QjlOptions& options) {
  Fingerprint fingerprint;
  fingerprint.Add('Q').Add(options.dim).Add(options.sketch_rows).Add(options.kind);
  fingerprint.Add(options.seed);
  fingerprint.Add(options.stream.layer).Add(options.stream.head).Add(options.stream.side);
  return fingerprint.value();
}

}  // namespace

Result<QjlSketch> QjlSketch::Create(const QjlOptions& options) {
  const size_t sketch_rows = options.sketch_rows == 0 ? options.dim : options.sketch_rows;
  TQ_CHECK(CheckOptions(options, sketch_rows));
  QjlSketch sketch;
  sketch.options_ = options;
  sketch.options_.sketch_rows = sketch_rows;
  if (options.kind == SketchKind::kGaussian) {
    TQ_TRY(std::vector<float> matrix, MakeGaussian(options, sketch_rows));
    sketch.held_bytes_ = matrix.capacity() * sizeof(float);
    sketch.matrix_ =
        MakeCountedShared<const std::vector<float>>(sketch.held_bytes_, std::move(matrix));
  } else {
    std::vector<Rotation> rotations;
    for (size_t which = 0; which < CeilDivide(sketch_rows, options.dim); ++which) {
      TQ_TRY(Rotation rotation, Rotation::Create(StackedRotation(options, which)));
      sketch.held_bytes_ += rotation.HeldBytes();
      rotations.push_back(std::move(rotation));
    }
    sketch.held_bytes_ += rotations.capacity() * sizeof(Rotation);
    sketch.rotations_ =
        MakeCountedShared<const std::vector<Rotation>>(sketch.held_bytes_, std::move(rotations));
  }
  sketch.estimator_constant_ = EstimatorConstant(sketch.options_);
  sketch.fingerprint_ = SketchFingerprint(sketch.options_);
  return sketch;
}

SignRows QjlSketch::MakeRows() const {
  SignRows rows;
  rows.dim_ = options_.dim;
  rows.sketch_rows_ = options_.sketch_rows;
  rows.norm_type_ = options_.norm_type;
  rows.sketch_fingerprint_ = fingerprint_;
  return rows;
}

Result<void> QjlSketch::CheckRows(const SignRows& rows) const {
  if (rows.sketch_fingerprint_ != fingerprint_) {
    return Fail(ErrorCode::kInvalidArgument, "the rows (dim ", rows.dim_, ", ", rows.sketch_rows_,
                " signs) were written by another sketch than this one (dim ", options_.dim, ", ",
                options_.sketch_rows, " signs): their kind, seed or stream differ");
  }
  if (rows.norm_type_ != options_.norm_type) {
    return Fail(ErrorCode::kInvalidArgument,
                "the rows hold norms of another type than this sketch's");
  }
  return {};
}

// Shapes are right.
void QjlSketch::ProjectRows(MatrixView<const float> rows, MatrixView<float> projected) const {
  const size_t dim = options_.dim;
  const size_t sketch_rows = options_.sketch_rows;
  if (matrix_) {
    MultiplyRows({matrix_->data(), sketch_rows, dim, dim, 1}, rows, projected);
    return;
  }
  const float length = static_cast<float>(std::sqrt(static_cast<double>(dim)));
  std::vector<float> rotated(rows.rows * dim);
  const MatrixView<float> view = {rotated.data(), rows.rows, dim};
  for (size_t which = 0; which < rotations_->size(); ++which) {
    (void)(*rotations_)[which].Apply(rows, view);
    const size_t first = which * dim;
    const size_t count = std::min(dim, sketch_rows - first);
    for (size_t r = 0; r < rows.rows; ++r) {
      for (size_t i = 0; i < count; ++i) projected.Row(r)[first + i] = view.Row(r)[i] * length;
    }
  }
}

Result<void> QjlSketch::Project(MatrixView<const float> rows, MatrixView<float> projected) const {
  TQ_CHECK(CheckShape("rows", rows.cols, rows.stride, rows.rows, options_.dim));
  if (projected.rows != rows.rows || projected.cols != options_.sketch_rows ||
      (projected.rows > 1 && projected.stride < projected.cols)) {
    return Fail(ErrorCode::kDimensionMismatch, "projected is ", projected.rows, " × ",
                projected.cols, " with stride ", projected.stride, ", expected ", rows.rows, " × ",
                options_.sketch_rows);
  }
  ProjectRows(rows, projected);
  return {};
}

Result<SignRows> QjlSketch::Encode(RowsView rows, const ParallelFor& parallel_for) const {
  SignRows encoded = MakeRows();
  TQ_CHECK(Append(rows, encoded, parallel_for));
  return encoded;
}

Result<void> QjlSketch::Append(RowsView rows, SignRows& into,
                               const ParallelFor& parallel_for) const {
  TQ_CHECK(CheckRows(into));
  TQ_CHECK(CheckShape("rows", rows.cols(), rows.stride(), rows.rows(), options_.dim));
  const size_t old_size = into.size_;
  const size_t new_size = old_size + rows.rows();
  into.signs_.resize(new_size * into.RowBytes());
  WithNumbers(into.norm_type_, into.norms_f16_, into.norms_f32_,
              [&](auto& norms) { norms.resize(new_size); });
  into.size_ = new_size;
  FirstFailure failure;
  ForRowSpans(parallel_for, rows.rows(), kTaskRows, [&](size_t first, size_t count) {
    if (auto done = EncodeRows(rows, first, count, old_size + first, into); !done) {
      failure.Report(first, std::move(done).error());
    }
  });
  Result<void> result = std::move(failure).Take();
  if (!result) (void)into.Truncate(old_size);
  return result;
}

// Rows [first, first + count) to rows from `at` on.
Result<void> QjlSketch::EncodeRows(const RowsView& rows, size_t first, size_t count, size_t at,
                                   SignRows& into) const {
  const size_t sketch_rows = options_.sketch_rows;
  std::vector<float> directions(count * options_.dim);
  std::vector<float> projected(count * sketch_rows);
  const MatrixView<float> view = {directions.data(), count, options_.dim};
  for (size_t r = 0; r < count; ++r) {
    TQ_TRY(const double norm, ReadDirection("rows", rows, first + r, view.RowSpan(r)));
    TQ_CHECK(WithNumbers(into.norm_type_, into.norms_f16_, into.norms_f32_, [&](auto& norms) {
      return StoreNumber("rows", first + r, "norm", norm, norms[at + r]);
    }));
  }
  // A zero row has no direction, and a projection without signs.
  ProjectRows(view, {projected.data(), count, sketch_rows});
  for (size_t r = 0; r < count; ++r) {
    PackSigns(std::span(projected).subspan(r * sketch_rows, sketch_rows),
              std::span(into.signs_).subspan((at + r) * into.RowBytes(), into.RowBytes()));
  }
  return {};
}

Result<SignRows> QjlSketch::Import(std::span<const uint8_t> signs,
                                   std::span<const float> norms) const {
  SignRows rows = MakeRows();
  const size_t row_bytes = rows.RowBytes();
  if (signs.size() / row_bytes != norms.size() || signs.size() % row_bytes != 0) {
    return Fail(ErrorCode::kDimensionMismatch, "signs has ", signs.size(), " bytes, ", norms.size(),
                " rows of ", row_bytes, " bytes were expected");
  }
  rows.signs_.assign(signs.begin(), signs.end());
  rows.size_ = norms.size();
  const size_t bits_in_last = options_.sketch_rows % 8;
  for (size_t r = 0; r < rows.size_; ++r) {
    if (bits_in_last != 0 && rows.SignsOf(r).back() >> bits_in_last != 0) {
      return Fail(ErrorCode::kCorruptData, "signs[", r, "] has padding bits that are not zero");
    }
  }
  const auto import_norms = [&](auto& stored) -> Result<void> {
    stored.resize(norms.size());
    for (size_t r = 0; r < norms.size(); ++r) {
      TQ_CHECK(ImportNumber("norms", r, norms[r], stored[r]));
    }
    return {};
  };
  if (auto done = WithNumbers(rows.norm_type_, rows.norms_f16_, rows.norms_f32_, import_norms);
      !done) {
    return std::unexpected(std::move(done).error());
  }
  return rows;
}

Result<void> QjlSketch::Export(const SignRows& rows, std::span<uint8_t> signs,
                               std::span<float> norms) const {
  TQ_CHECK(CheckRows(rows));
  if (signs.size() != rows.signs_.size() || norms.size() != rows.size_) {
    return Fail(ErrorCode::kDimensionMismatch, "signs and norms have ", signs.size(), " and ",
                norms.size(), " elements, ", rows.size_, " rows need ", rows.signs_.size(), " and ",
                rows.size_);
  }
  std::ranges::copy(rows.signs_, signs.begin());
  for (size_t r = 0; r < rows.size_; ++r) norms[r] = rows.NormOf(r);
  return {};
}

// Rows [first, first + count), to the same of out: all signs as 1 or -1, then Sᵀ times all of them.
void QjlSketch::DecodeRows(const SignRows& encoded, size_t first, size_t count,
                           const MatrixView<float>& out) const {
  const size_t dim = options_.dim;
  const size_t sketch_rows = options_.sketch_rows;
  std::vector<float> signs(count * sketch_rows);
  for (size_t r = 0; r < count; ++r) {
    const std::span<const uint8_t> packed = encoded.SignsOf(first + r);
    float* row = signs.data() + r * sketch_rows;
    for (size_t i = 0; i < sketch_rows; ++i) row[i] = IsNegative(packed, i) ? -1.0f : 1.0f;
  }
  std::vector<double> sums(count * dim);
  if (matrix_) {
    FastestKernels().multiply_dense({matrix_->data(), dim, sketch_rows, 1, dim},
                                    {signs.data(), sketch_rows}, count, {sums.data(), dim});
  } else {
    AddRotatedBack({signs.data(), count, sketch_rows}, sums);
  }
  for (size_t r = 0; r < count; ++r) {
    const double factor = estimator_constant_ * static_cast<double>(encoded.NormOf(first + r));
    float* row = out.Row(first + r);
    for (size_t j = 0; j < dim; ++j) row[j] = static_cast<float>(factor * sums[r * dim + j]);
  }
}

// sums [rows × dim] += sqrt(dim) · each rotation's transpose times its part of the signs.
void QjlSketch::AddRotatedBack(const MatrixView<const float>& signs, std::span<double> sums) const {
  const size_t dim = options_.dim;
  const double length = std::sqrt(static_cast<double>(dim));
  std::vector<float> rotated(signs.rows * dim);
  const MatrixView<float> view = {rotated.data(), signs.rows, dim};
  for (size_t which = 0; which < rotations_->size(); ++which) {
    const size_t first = which * dim;
    const size_t kept = std::min(dim, options_.sketch_rows - first);
    for (size_t r = 0; r < signs.rows; ++r) {
      std::fill(std::copy_n(signs.Row(r) + first, kept, view.Row(r)), view.Row(r) + dim, 0.0f);
    }
    (void)(*rotations_)[which].ApplyInverse(view, view);  // the shapes agree
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += length * static_cast<double>(rotated[i]);
  }
}

Result<void> QjlSketch::Decode(const SignRows& encoded, MatrixView<float> out,
                               const ParallelFor& parallel_for) const {
  TQ_CHECK(CheckRows(encoded));
  TQ_CHECK(CheckDecoded(out, encoded.size_, options_.dim));
  ForRowSpans(parallel_for, encoded.size_, kTaskRows,
              [&](size_t first, size_t count) { DecodeRows(encoded, first, count, out); });
  return {};
}

Result<SignQueries> QjlSketch::Prepare(MatrixView<const float> queries) const {
  TQ_CHECK(CheckShape("queries", queries.cols, queries.stride, queries.rows, options_.dim));
  const size_t sketch_rows = options_.sketch_rows;
  const size_t padded = RoundUp(sketch_rows, kSignsPadding);
  SignQueries prepared;
  prepared.size_ = queries.rows;
  prepared.sketch_rows_ = sketch_rows;
  prepared.sketch_fingerprint_ = fingerprint_;
  prepared.projections_.resize(queries.rows * padded);
  prepared.totals_.resize(queries.rows);
  prepared.norms_.resize(queries.rows);
  std::vector<float> directions(queries.rows * options_.dim);
  const MatrixView<float> view = {directions.data(), queries.rows, options_.dim};
  for (size_t q = 0; q < queries.rows; ++q) {
    TQ_TRY(const double norm, ReadDirection("queries", queries, q, view.RowSpan(q)));
    prepared.norms_[q] = norm * estimator_constant_;
  }
  ProjectRows(view, {prepared.projections_.data(), queries.rows, sketch_rows, padded});
  for (size_t q = 0; q < queries.rows; ++q) {
    const float* projected = prepared.projections_.data() + q * padded;
    prepared.totals_[q] = std::accumulate(projected, projected + sketch_rows, 0.0);
  }
  return prepared;
}

Result<void> QjlSketch::Score(const SignQueries& queries, const SignRows& encoded,
                              MatrixView<float> scores, const ParallelFor& parallel_for) const {
  TQ_CHECK(CheckRows(encoded));
  if (queries.sketch_fingerprint_ != fingerprint_) {
    return Fail(ErrorCode::kInvalidArgument, "the queries were prepared by another sketch");
  }
  TQ_CHECK(CheckScores(scores, queries.size_, encoded.size_));
  ForRowSpans(parallel_for, encoded.size_, kTaskRows, [&](size_t first, size_t count) {
    ScoreRows(queries, encoded, first, count,
              {scores.data + first, queries.size_, count, scores.stride});
  });
  return {};
}

// The sum of all projections less twice that of those whose sign is negative.
void QjlSketch::ScoreRows(const SignQueries& queries, const SignRows& encoded, size_t first,
                          size_t count, const MatrixView<float>& scores) const {
  const size_t row_bytes = encoded.RowBytes();
  const size_t padded = RoundUp(options_.sketch_rows, kSignsPadding);
  FastestKernels().sum_where_set({encoded.signs_.data() + first * row_bytes, row_bytes, count},
                                 {queries.projections_.data(), padded}, queries.size_,
                                 {scores.data, scores.stride});
  std::vector<double> norms(count);
  WithNumbers(encoded.norm_type_, encoded.norms_f16_, encoded.norms_f32_, [&](const auto& stored) {
    for (size_t r = 0; r < count; ++r) norms[r] = static_cast<double>(NumberAt(stored[first + r]));
  });
  for (size_t q = 0; q < queries.size_; ++q) {
    float* row = scores.Row(q);
    for (size_t r = 0; r < count; ++r) {
      const double sum = queries.totals_[q] - 2.0 * static_cast<double>(row[r]);
      row[r] = static_cast<float>(queries.norms_[q] * norms[r] * sum);
    }
  }
}

}  // namespace turboquant
