// TurboQuant-Prod (arXiv 2504.19874, algorithm 2): an MSE quantizer at one bit less, and the sign
// sketch of what it left over. Unbiased inner products whatever the row; for attention the MSE
// quantizer with Scale::kUnbiased has the smaller variance (docs/algorithm.md).
#ifndef TURBOQUANT_PROD_QUANTIZER_H_
#define TURBOQUANT_PROD_QUANTIZER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "turboquant/backend.h"
#include "turboquant/codebook.h"
#include "turboquant/error.h"
#include "turboquant/matrix_view.h"
#include "turboquant/mse_quantizer.h"
#include "turboquant/parallel_for.h"
#include "turboquant/qjl.h"
#include "turboquant/rotation.h"

namespace turboquant {

struct ProdOptions {
  size_t dim = 0;  // 2 to 65,536
  int bits = 4;    // in total per coordinate, 2 to 8: bits - 1 for the code, 1 for the sign
  SketchKind sketch = SketchKind::kOrthogonal;
  size_t sketch_rows = 0;                  // signs a row: 0 means dim; as QjlOptions
  ScaleType scale_type = ScaleType::kF16;  // of the scales and of the residual norms
  RotationKind rotation = RotationKind::kHadamard;
  int rotation_rounds = 2;
  CodebookDensity density = CodebookDensity::kAuto;
  std::optional<Codebook> custom_codebook = {};  // dim and bits - 1 must agree
  bool require_unit_norm = false;  // refuse rows with | |x| - 1 | > unit_norm_tolerance
  float unit_norm_tolerance = 1e-4f;
  uint64_t seed = 42;
  RandomStream stream = {};
  Backend backend = Backend::kAuto;
};

// n encoded rows: codes with a scale (the row's norm) each, and the sketch of the residuals, whose
// norms are relative to the unit row. Written by one thread at a time.
class ProdRows {
 public:
  size_t size() const { return codes_.size(); }
  size_t dim() const { return codes_.dim(); }
  int bits() const { return codes_.bits() + 1; }  // in total

  // Identity of the quantizer that wrote the rows; another quantizer refuses to read them.
  uint64_t quantizer_fingerprint() const { return quantizer_fingerprint_; }

  const MseRows& codes() const { return codes_; }           // of bits() - 1
  const SignRows& residuals() const { return residuals_; }  // signs, and norms in [0, about 1]

  // Codes, scale, signs and residual norm of one row as files hold them.
  size_t CanonicalBytesPerRow() const {
    return codes_.CanonicalRowBytes() + (codes_.scale_type() == ScaleType::kF16 ? 2 : 4) +
           residuals_.CanonicalBytesPerRow();
  }

  // Appends the rows of `other`, written by an equal quantizer; `other` may be *this.
  // Errors: kInvalidArgument if the fingerprints differ.
  [[nodiscard]] Result<void> Append(const ProdRows& other);

  // Removes the first n rows. Errors: kInvalidArgument if n > size(). O(rows that stay).
  [[nodiscard]] Result<void> RemoveFront(size_t n);

  // Keeps the first n rows. Errors: kInvalidArgument if n > size().
  [[nodiscard]] Result<void> Truncate(size_t n);

  // Bytes held, as allocated.
  size_t HeldBytes() const { return codes_.HeldBytes() + residuals_.HeldBytes(); }

 private:
  friend class ProdQuantizer;
  ProdRows(uint64_t quantizer_fingerprint, MseRows codes, SignRows residuals)
      : quantizer_fingerprint_(quantizer_fingerprint),
        codes_(std::move(codes)),
        residuals_(std::move(residuals)) {}

  uint64_t quantizer_fingerprint_;
  MseRows codes_;
  SignRows residuals_;
};

// Queries rotated once, and projected once from there.
class ProdQueries {
 public:
  size_t size() const { return signs_.size(); }
  size_t dim() const { return codes_.dim(); }

 private:
  friend class ProdQuantizer;
  ProdQueries(uint64_t quantizer_fingerprint, MseQueries codes, std::vector<double> norms,
              SignQueries signs)
      : quantizer_fingerprint_(quantizer_fingerprint),
        codes_(std::move(codes)),
        norms_(std::move(norms)),
        signs_(std::move(signs)) {}

  uint64_t quantizer_fingerprint_;
  MseQueries codes_;           // digits, for the codes
  std::vector<double> norms_;  // of the queries
  SignQueries signs_;          // rotated directions, projected, for the residuals
};

// Immutable after Create; safe to share between threads.
class ProdQuantizer {
 public:
  // Errors: kInvalidArgument naming the option (1 bit in total is a plain QjlSketch), kUnavailable
  // for the backend.
  [[nodiscard]] static Result<ProdQuantizer> Create(const ProdOptions& options);

  const ProdOptions& options() const { return options_; }  // with defaults filled in
  const MseQuantizer& mse() const { return mse_; }         // bits - 1, Scale::kNorm, no search
  const QjlSketch& sketch() const { return sketch_; }      // of rotated residuals

  // Identity stored with every payload: the MSE quantizer's and the sketch's.
  uint64_t fingerprint() const { return fingerprint_; }

  // No rows yet.
  ProdRows MakeRows() const;

  // Encodes rows [n × dim]. Errors: kDimensionMismatch; kNonFinite naming row and column;
  // kNotUnitNorm; kInvalidArgument when a norm exceeds f16 (use ScaleType::kF32) or f32.
  [[nodiscard]] Result<ProdRows> Encode(RowsView rows, const ParallelFor& parallel_for = {}) const;

  // Encodes rows behind those already in `into`; a failed call leaves `into` as it was.
  // Errors: as Encode, and kInvalidArgument if another quantizer wrote `into`.
  [[nodiscard]] Result<void> Append(RowsView rows, ProdRows& into,
                                    const ParallelFor& parallel_for = {}) const;

  // Rows in canonical form: codes and scales as MseQuantizer::ImportCanonical takes them, signs and
  // residual norms as QjlSketch::Import. Errors: kDimensionMismatch for sizes that do not agree,
  // kCorruptData naming the row.
  [[nodiscard]] Result<ProdRows> Import(std::span<const uint8_t> packed,
                                        std::span<const float> scales,
                                        std::span<const uint8_t> signs,
                                        std::span<const float> residual_norms) const;

  // The reverse. Sizes: n CanonicalRowBytes() of codes(), n, n RowBytes() of residuals(), n.
  // Errors: kDimensionMismatch, kInvalidArgument.
  [[nodiscard]] Result<void> Export(const ProdRows& rows, std::span<uint8_t> packed,
                                    std::span<float> scales, std::span<uint8_t> signs,
                                    std::span<float> residual_norms) const;

  // out [encoded.size() × dim] = scale · Πᵀ (centroids + constant · residual norm · Sᵀ signs).
  // Errors: kDimensionMismatch, kInvalidArgument.
  [[nodiscard]] Result<void> Decode(const ProdRows& encoded, MatrixView<float> out,
                                    const ParallelFor& parallel_for = {}) const;

  // Rotates and projects queries [q × dim]; their part for the codes is rounded to digits, as
  // MseQuantizer::Prepare does. Errors: kDimensionMismatch, kNonFinite, kInvalidArgument.
  [[nodiscard]] Result<ProdQueries> Prepare(MatrixView<const float> queries,
                                            const PrepareOptions& prepare_options = {}) const;

  // scores [q × encoded.size()]: unbiased estimates of <query, row>, but for the rounding of the
  // query. The same bits on every backend. Errors: kDimensionMismatch, kInvalidArgument.
  [[nodiscard]] Result<void> Score(const ProdQueries& queries, const ProdRows& encoded,
                                   MatrixView<float> scores,
                                   const ParallelFor& parallel_for = {}) const;

 private:
  ProdQuantizer(const ProdOptions& options, MseQuantizer mse, QjlSketch sketch);
  [[nodiscard]] Result<void> CheckRows(const ProdRows& rows) const;
  void FillResiduals(const RowsView& rows, size_t first, const MseRows& codes,
                     const MatrixView<float>& residuals) const;

  ProdOptions options_;
  MseQuantizer mse_;
  QjlSketch sketch_;
  std::vector<float> centroids_;  // on the scale of a unit row
  uint64_t fingerprint_;
};

}  // namespace turboquant

#endif  // TURBOQUANT_PROD_QUANTIZER_H_
