// QJL (arXiv 2406.03482): the signs of a random projection of a row, and its norm.
#ifndef TURBOQUANT_QJL_H_
#define TURBOQUANT_QJL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "turboquant/error.h"
#include "turboquant/matrix_view.h"
#include "turboquant/mse_quantizer.h"
#include "turboquant/parallel_for.h"
#include "turboquant/rotation.h"

namespace turboquant {

// The projection S whose signs are kept.
enum class SketchKind {
  // sketch_rows × dim independent N(0, 1): the paper's. Unbiased exactly; a matrix in memory.
  kGaussian,
  // Rows of random orthogonal matrices, scaled to length sqrt(dim): less than half the variance at
  // sketch_rows = dim, O(dim log dim). Three Hadamard rounds; below 32 dims, where those have too
  // few signs to mix, a dense Haar matrix.
  kOrthogonal,
};

struct QjlOptions {
  size_t dim = 0;          // 2 to 65,536
  size_t sketch_rows = 0;  // signs a row, m: 0 means dim; at most 64 dim. kGaussian: m dim <= 2^26
  SketchKind kind = SketchKind::kOrthogonal;
  ScaleType norm_type = ScaleType::kF16;
  uint64_t seed = 42;
  RandomStream stream = {};
};

// n sketched rows: packed signs and a norm each. Written by one thread at a time.
class SignRows {
 public:
  size_t size() const { return size_; }
  size_t dim() const { return dim_; }
  size_t sketch_rows() const { return sketch_rows_; }
  ScaleType norm_type() const { return norm_type_; }

  // Identity of the sketch that wrote the rows; another one refuses to read them.
  uint64_t sketch_fingerprint() const { return sketch_fingerprint_; }

  // Bytes of the signs of one row: ceil(sketch_rows / 8).
  size_t RowBytes() const { return (sketch_rows_ + 7) / 8; }

  // Signs and norm of one row as files hold them.
  size_t CanonicalBytesPerRow() const {
    return RowBytes() + (norm_type_ == ScaleType::kF16 ? 2 : 4);
  }

  // The canonical form, which is also the form in memory: size() * RowBytes() bytes. Sign j of a
  // row is bit j of a little-endian stream, 1 = negative; every row starts on a byte; padding is
  // zero.
  std::span<const uint8_t> signs() const { return signs_; }

  // Signs of row i; i < size().
  std::span<const uint8_t> SignsOf(size_t i) const {
    return std::span(signs_).subspan(i * RowBytes(), RowBytes());
  }

  // Norm of row i as a float, or NaN past the end.
  float NormOf(size_t i) const;

  // Appends the rows of `other`, written by an equal sketch; `other` may be *this.
  // Errors: kInvalidArgument if the fingerprints differ.
  [[nodiscard]] Result<void> Append(const SignRows& other);

  // Removes the first n rows. Errors: kInvalidArgument if n > size(). O(rows that stay).
  [[nodiscard]] Result<void> RemoveFront(size_t n);

  // Keeps the first n rows. Errors: kInvalidArgument if n > size().
  [[nodiscard]] Result<void> Truncate(size_t n);

  // Bytes held for signs and norms, as allocated.
  size_t HeldBytes() const;

 private:
  friend class QjlSketch;
  SignRows() = default;

  size_t dim_ = 0;
  size_t sketch_rows_ = 0;
  ScaleType norm_type_ = ScaleType::kF16;
  uint64_t sketch_fingerprint_ = 0;
  size_t size_ = 0;
  std::vector<uint8_t> signs_;
  std::vector<uint16_t> norms_f16_;
  std::vector<float> norms_f32_;
};

// Queries ready to be scored against sketched rows: projected once.
class SignQueries {
 public:
  size_t size() const { return size_; }
  size_t sketch_rows() const { return sketch_rows_; }

 private:
  friend class QjlSketch;
  SignQueries() = default;
  size_t size_ = 0;
  size_t sketch_rows_ = 0;
  uint64_t sketch_fingerprint_ = 0;
  std::vector<float> projections_;  // [size × padded sketch_rows] of the directions
  std::vector<double> totals_;      // sums of the projections
  std::vector<double> norms_;       // of the queries, times the estimator's constant
};

// Estimates <query, row> from signs: unbiased, with variance
// (1/m) [(pi/2) |query|² |row|² - <query, row>²] for kGaussian.
// Immutable after Create; safe to share between threads.
class QjlSketch {
 public:
  // Errors: kInvalidArgument naming the option.
  [[nodiscard]] static Result<QjlSketch> Create(const QjlOptions& options);

  const QjlOptions& options() const { return options_; }  // with sketch_rows filled in

  // What multiplies norm · <S query, signs>: sqrt(pi/2) / m for kGaussian, and for kOrthogonal the
  // exact sqrt(pi) Γ((d+1)/2) / (m sqrt(d) Γ(d/2)).
  double estimator_constant() const { return estimator_constant_; }

  // kOrthogonal: the rotations whose first rows, times sqrt(dim), are stacked to S. kGaussian:
  // none.
  std::span<const Rotation> rotations() const {
    return rotations_ ? std::span<const Rotation>(*rotations_) : std::span<const Rotation>();
  }

  // Identity stored with every payload: dim, sketch_rows, kind, seed, stream.
  uint64_t fingerprint() const { return fingerprint_; }

  // Bytes held beyond sizeof(QjlSketch): the matrix, or the sign masks of the rotations.
  size_t HeldBytes() const { return held_bytes_; }

  // No rows yet.
  SignRows MakeRows() const;

  // projected [n × sketch_rows] = S row, in float; the rows of S have length about sqrt(dim).
  // Errors: kDimensionMismatch. No check of finiteness.
  [[nodiscard]] Result<void> Project(MatrixView<const float> rows,
                                     MatrixView<float> projected) const;

  // Encodes rows [n × dim] of any finite norm; a zero row has norm 0. Errors: kDimensionMismatch;
  // kNonFinite naming row and column; kInvalidArgument when a norm exceeds f16 (use
  // ScaleType::kF32) or f32.
  [[nodiscard]] Result<SignRows> Encode(RowsView rows, const ParallelFor& parallel_for = {}) const;

  // Encodes rows behind those already in `into`; a failed call leaves `into` as it was.
  // Errors: as Encode, and kInvalidArgument if another sketch wrote `into`.
  [[nodiscard]] Result<void> Append(RowsView rows, SignRows& into,
                                    const ParallelFor& parallel_for = {}) const;

  // Rows in canonical form with their norms (f32 values that the norm type holds exactly). Errors:
  // kDimensionMismatch for sizes that do not agree; kCorruptData, naming the row, for padding bits
  // that are set and norms that are negative, not finite or not of the norm type.
  [[nodiscard]] Result<SignRows> Import(std::span<const uint8_t> signs,
                                        std::span<const float> norms) const;

  // The reverse: signs.size() must be rows.size() * RowBytes(), norms.size() rows.size().
  // Errors: kDimensionMismatch, kInvalidArgument.
  [[nodiscard]] Result<void> Export(const SignRows& rows, std::span<uint8_t> signs,
                                    std::span<float> norms) const;

  // out [encoded.size() × dim] = constant · norm · Sᵀ signs: its inner product with a query is the
  // score. Not the row itself: its error is larger than the row's norm.
  // Errors: kDimensionMismatch, kInvalidArgument.
  [[nodiscard]] Result<void> Decode(const SignRows& encoded, MatrixView<float> out,
                                    const ParallelFor& parallel_for = {}) const;

  // Projects queries [q × dim]. Errors: kDimensionMismatch, kNonFinite.
  [[nodiscard]] Result<SignQueries> Prepare(MatrixView<const float> queries) const;

  // scores [q × encoded.size()]: estimates of <query, row>. Errors: kDimensionMismatch,
  // kInvalidArgument.
  [[nodiscard]] Result<void> Score(const SignQueries& queries, const SignRows& encoded,
                                   MatrixView<float> scores,
                                   const ParallelFor& parallel_for = {}) const;

 private:
  friend class ProdQuantizer;
  QjlSketch() = default;
  // scores [queries × count] of rows [first, first + count).
  void ScoreRows(const SignQueries& queries, const SignRows& encoded, size_t first, size_t count,
                 const MatrixView<float>& scores) const;
  [[nodiscard]] Result<void> CheckRows(const SignRows& rows) const;
  [[nodiscard]] Result<void> EncodeRows(const RowsView& rows, size_t first, size_t count, size_t at,
                                        SignRows& into) const;
  void ProjectRows(MatrixView<const float> rows, MatrixView<float> projected) const;
  void DecodeRows(const SignRows& encoded, size_t first, size_t count,
                  const MatrixView<float>& out) const;
  void AddRotatedBack(const MatrixView<const float>& signs, std::span<double> sums) const;

  QjlOptions options_;
  double estimator_constant_ = 0;
  uint64_t fingerprint_ = 0;
  size_t held_bytes_ = 0;
  std::shared_ptr<const std::vector<float>> matrix_;        // kGaussian: row-major m × dim
  std::shared_ptr<const std::vector<Rotation>> rotations_;  // kOrthogonal: ceil(m / dim) of them
};

}  // namespace turboquant

#endif  // TURBOQUANT_QJL_H_
