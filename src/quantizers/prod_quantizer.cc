#include "turboquant/prod_quantizer.h"

#include <algorithm>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/quantizers/direction.h"
#include "src/quantizers/fingerprint.h"
#include "src/quantizers/residuals.h"
#include "src/quantizers/run_tasks.h"

namespace turboquant {
namespace {

constexpr size_t kTaskRows = 64;
constexpr size_t kChunkRows = 1024;  // rows whose residuals are in memory at a time

MseOptions FirstStage(const ProdOptions& options) {
  MseOptions mse;
  mse.dim = options.dim;
  mse.bits = options.bits - 1;
  mse.scale = Scale::kNorm;
  mse.scale_search = false;  // the residual is what the sketch corrects, not the cosine
  mse.scale_type = options.scale_type;
  mse.rotation = options.rotation;
  mse.rotation_rounds = options.rotation_rounds;
  mse.codebook = options.custom_codebook ? CodebookKind::kCustom : CodebookKind::kLloydMax;
  mse.density = options.density;
  mse.custom_codebook = options.custom_codebook;
  mse.require_unit_norm = options.require_unit_norm;
  mse.unit_norm_tolerance = options.unit_norm_tolerance;
  mse.seed = options.seed;
  mse.stream = options.stream;
  mse.backend = options.backend;
  return mse;
}

QjlOptions ResidualSketch(const ProdOptions& options) {
  return {.dim = options.dim,
          .sketch_rows = options.sketch_rows,
          .kind = options.sketch,
          .norm_type = options.scale_type,
          .seed = options.seed,
          .stream = options.stream};
}

}  // namespace

Result<void> ProdRows::Append(const ProdRows& other) {
  if (other.quantizer_fingerprint_ != quantizer_fingerprint_) {
    return Fail(ErrorCode::kInvalidArgument,
                "the rows to append were written by another quantizer (other dim, bits, sketch, "
                "seed, rotation, stream or codebook)");
  }
  TQ_CHECK(codes_.Append(other.codes_));  // refuses other scale types, which norms share
  return residuals_.Append(other.residuals_);
}

Result<void> ProdRows::RemoveFront(size_t n) {
  TQ_CHECK(codes_.RemoveFront(n));
  return residuals_.RemoveFront(n);
}

Result<void> ProdRows::Truncate(size_t n) {
  TQ_CHECK(codes_.Truncate(n));
  return residuals_.Truncate(n);
}

ProdQuantizer::ProdQuantizer(const ProdOptions& options, MseQuantizer mse, QjlSketch sketch)
    : options_(options),
      mse_(std::move(mse)),
      sketch_(std::move(sketch)),
      centroids_(UnitCentroids(mse_.codebook(), options.dim)),
      fingerprint_(
          Fingerprint().Add('P').Add(mse_.fingerprint()).Add(sketch_.fingerprint()).value()) {
  options_.sketch_rows = sketch_.options().sketch_rows;
}

Result<ProdQuantizer> ProdQuantizer::Create(const ProdOptions& options) {
  if (options.bits == 1) {
    return Fail(ErrorCode::kInvalidArgument,
                "bits in total must be 2 to 8, got 1: one sign per coordinate is a QjlSketch");
  }
  if (options.bits < 2 || options.bits > 8) {
    return Fail(ErrorCode::kInvalidArgument, "bits in total must be 2 to 8, got ", options.bits);
  }
  TQ_TRY(MseQuantizer mse, MseQuantizer::Create(FirstStage(options)));
  TQ_TRY(QjlSketch sketch, QjlSketch::Create(ResidualSketch(options)));
  return ProdQuantizer(options, std::move(mse), std::move(sketch));
}

ProdRows ProdQuantizer::MakeRows() const {
  return ProdRows(fingerprint_, mse_.MakeRows(), sketch_.MakeRows());
}

Result<void> ProdQuantizer::CheckRows(const ProdRows& rows) const {
  if (rows.quantizer_fingerprint_ == fingerprint_) return {};
  return Fail(ErrorCode::kInvalidArgument, "the rows (dim ", rows.dim(), ", ", rows.bits(),
              " bits in total) were written by another quantizer than this one (dim ", options_.dim,
              ", ", options_.bits,
              " bits): their sketch, seed, stream, rotation or codebook differ");
}

Result<ProdRows> ProdQuantizer::Encode(RowsView rows, const ParallelFor& parallel_for) const {
  ProdRows encoded = MakeRows();
  TQ_CHECK(Append(rows, encoded, parallel_for));
  return encoded;
}

Result<void> ProdQuantizer::Append(RowsView rows, ProdRows& into,
                                   const ParallelFor& parallel_for) const {
  TQ_CHECK(CheckRows(into));
  ProdRows added = MakeRows();
  TQ_CHECK(mse_.Append(rows, added.codes_, parallel_for));
  std::vector<float> residuals(std::min(kChunkRows, rows.rows()) * options_.dim);
  for (size_t first = 0; first < rows.rows(); first += kChunkRows) {
    const size_t count = std::min(kChunkRows, rows.rows() - first);
    const MatrixView<float> chunk = {residuals.data(), count, options_.dim};
    ForRowSpans(parallel_for, count, kTaskRows, [&](size_t offset, size_t span_rows) {
      FillResiduals(rows, first + offset, added.codes_, chunk.Slice(offset, span_rows));
    });
    TQ_CHECK(sketch_.Append(chunk, added.residuals_, parallel_for));
  }
  return into.Append(added);
}

// Residuals of rows from `first` on, which are those of `codes`.
void ProdQuantizer::FillResiduals(const RowsView& rows, size_t first, const MseRows& codes,
                                  const MatrixView<float>& residuals) const {
  std::vector<uint8_t> row_codes(residuals.rows * options_.dim);
  std::vector<double> norms(residuals.rows);
  for (size_t r = 0; r < residuals.rows; ++r) {
    (void)codes.Codes(first + r, std::span(row_codes).subspan(r * options_.dim, options_.dim));
  }
  MakeResiduals(rows, first, mse_.rotation(), centroids_, row_codes, residuals, norms);
}

Result<ProdRows> ProdQuantizer::Import(std::span<const uint8_t> packed,
                                       std::span<const float> scales,
                                       std::span<const uint8_t> signs,
                                       std::span<const float> residual_norms) const {
  if (scales.size() != residual_norms.size()) {
    return Fail(ErrorCode::kDimensionMismatch, "there are ", scales.size(), " scales and ",
                residual_norms.size(), " residual norms");
  }
  TQ_TRY(MseRows codes, mse_.ImportCanonical(packed, scales));
  TQ_TRY(SignRows residuals, sketch_.Import(signs, residual_norms));
  return ProdRows(fingerprint_, std::move(codes), std::move(residuals));
}

Result<void> ProdQuantizer::Export(const ProdRows& rows, std::span<uint8_t> packed,
                                   std::span<float> scales, std::span<uint8_t> signs,
                                   std::span<float> residual_norms) const {
  TQ_CHECK(CheckRows(rows));
  const size_t size = rows.size();
  const size_t code_bytes = size * rows.codes_.CanonicalRowBytes();
  if (packed.size() != code_bytes || scales.size() != size) {
    return Fail(ErrorCode::kDimensionMismatch, "packed and scales have ", packed.size(), " and ",
                scales.size(), " elements, ", size, " rows need ", code_bytes, " and ", size);
  }
  TQ_CHECK(sketch_.Export(rows.residuals_, signs, residual_norms));
  for (size_t r = 0; r < size; ++r) scales[r] = rows.codes_.ScaleOf(r);
  return rows.codes_.ExportCanonical(packed);
}

Result<void> ProdQuantizer::Decode(const ProdRows& encoded, MatrixView<float> out,
                                   const ParallelFor& parallel_for) const {
  TQ_CHECK(CheckRows(encoded));
  TQ_CHECK(sketch_.Decode(encoded.residuals_, out, parallel_for));
  ForRowSpans(parallel_for, encoded.size(), kTaskRows, [&](size_t first, size_t count) {
    std::vector<uint8_t> codes(options_.dim);
    for (size_t r = first; r < first + count; ++r) {
      const std::span<float> row = out.RowSpan(r);
      (void)encoded.codes_.Codes(r, codes);
      for (size_t j = 0; j < row.size(); ++j) row[j] += centroids_[codes[j]];
    }
    const MatrixView<float> decoded = out.Slice(first, count);
    (void)mse_.rotation().ApplyInverse(decoded, decoded);  // the shapes agree
    for (size_t r = first; r < first + count; ++r) {
      const float scale = encoded.codes_.ScaleOf(r);  // last: it may be near the largest float
      for (float& x : out.RowSpan(r)) x *= scale;
    }
  });
  return {};
}

Result<ProdQueries> ProdQuantizer::Prepare(MatrixView<const float> queries,
                                           const PrepareOptions& prepare_options) const {
  TQ_TRY(MseQueries codes, mse_.Prepare(queries, prepare_options));
  std::vector<float> rotated(queries.rows * options_.dim);
  std::vector<double> norms(queries.rows);
  const MatrixView<float> view = {rotated.data(), queries.rows, options_.dim};
  for (size_t q = 0; q < queries.rows; ++q) {
    TQ_TRY(norms[q], ReadDirection("queries", queries, q, view.RowSpan(q)));
  }
  TQ_CHECK(mse_.rotation().Apply(view, view));
  TQ_TRY(SignQueries signs, sketch_.Prepare(view));
  return ProdQueries(fingerprint_, std::move(codes), std::move(norms), std::move(signs));
}

Result<void> ProdQuantizer::Score(const ProdQueries& queries, const ProdRows& encoded,
                                  MatrixView<float> scores, const ParallelFor& parallel_for) const {
  TQ_CHECK(CheckRows(encoded));
  if (queries.quantizer_fingerprint_ != fingerprint_) {
    return Fail(ErrorCode::kInvalidArgument, "the queries were prepared by another quantizer");
  }
  TQ_CHECK(mse_.Score(queries.codes_, encoded.codes_, scores, parallel_for));
  ForRowSpans(parallel_for, encoded.size(), kTaskRows, [&](size_t first, size_t count) {
    std::vector<float> sketched(queries.size() * count);
    const MatrixView<float> residuals = {sketched.data(), queries.size(), count};
    sketch_.ScoreRows(queries.signs_, encoded.residuals_, first, count, residuals);
    std::vector<double> scales(count);
    for (size_t r = 0; r < count; ++r)
      scales[r] = static_cast<double>(encoded.codes_.ScaleOf(first + r));
    for (size_t q = 0; q < queries.size(); ++q) {
      float* row = scores.Row(q) + first;
      const float* residual = residuals.Row(q);
      for (size_t r = 0; r < count; ++r) {
        const double added = queries.norms_[q] * scales[r] * static_cast<double>(residual[r]);
        row[r] = static_cast<float>(static_cast<double>(row[r]) + added);
      }
    }
  });
  return {};
}

}  // namespace turboquant
