// PolarQuant (arXiv 2502.02617). EXPERIMENTAL: kept for comparison; at equal bits its error is
// about three times that of MseQuantizer, and its interface and bytes may still change.
#ifndef TURBOQUANT_POLAR_QUANTIZER_H_
#define TURBOQUANT_POLAR_QUANTIZER_H_

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

// How far pairs of rotated coordinates are folded into (radius, angle), radii again into pairs.
enum class PolarForm {
  kBlocks,  // 4 levels: blocks of 16 coordinates with one radius each; dim a multiple of 16
  kFull,    // log2(dim) levels: one radius a row; dim a power of two
};

struct PolarOptions {
  size_t dim = 0;  // 2 to 65,536
  PolarForm form = PolarForm::kBlocks;
  // Bits of an angle on each level, coordinate pairs first, each 1 to 8; one number for every
  // level. Empty: 4, then 2 on every further level (kBlocks with f16 radii: 3.875 bits per
  // coordinate).
  std::vector<int> level_bits = {};
  ScaleType radius_type = ScaleType::kF16;
  RotationKind rotation = RotationKind::kHadamard;
  int rotation_rounds = 2;
  uint64_t seed = 42;
  RandomStream stream = {};
};

// The angles of one level are quantized to these. Level 1 angles are uniform on [0, 2π); those of
// level l >= 2 have density ∝ sin^(2^(l-1) - 1)(2 angle) on [0, π/2].
struct PolarLevel {
  int bits;
  std::vector<double> angles;      // 2^bits centroids, ascending, in radians
  std::vector<double> boundaries;  // 2^bits - 1 midpoints
  double distortion;               // mean squared angle error, in rad²
};

// The codebook of least squared angle error for a level (1 to 16) and bits (1 to 8); computed once
// per process for equal arguments. Errors: kInvalidArgument. Thread-safe.
[[nodiscard]] Result<PolarLevel> OptimalPolarLevel(int level, int bits);

// n encoded rows: packed angle codes, and radii. Written by one thread at a time.
class PolarRows {
 public:
  size_t size() const { return size_; }
  size_t dim() const { return dim_; }
  ScaleType radius_type() const { return radius_type_; }

  // Identity of the quantizer that wrote the rows; another quantizer refuses to read them.
  uint64_t quantizer_fingerprint() const { return quantizer_fingerprint_; }

  size_t RowBytes() const { return row_bytes_; }  // packed codes of one row
  size_t RadiiPerRow() const { return radii_per_row_; }

  // Codes and radii of one row as files hold them.
  size_t CanonicalBytesPerRow() const {
    return row_bytes_ + radii_per_row_ * (radius_type_ == ScaleType::kF16 ? 2 : 4);
  }

  // The canonical form, which is also the form in memory: size() * RowBytes() bytes. A row is one
  // little-endian bit stream: the codes of level 1 in coordinate order, then those of level 2, ...;
  // every row starts on a byte; padding bits are zero.
  std::span<const uint8_t> packed() const { return packed_; }

  // Radius of block `block` of row i as a float, or NaN past the end.
  float RadiusOf(size_t i, size_t block) const;

  // Appends the rows of `other`, written by an equal quantizer; `other` may be *this.
  // Errors: kInvalidArgument if the fingerprints differ.
  [[nodiscard]] Result<void> Append(const PolarRows& other);

  // Removes the first n rows. Errors: kInvalidArgument if n > size(). O(rows that stay).
  [[nodiscard]] Result<void> RemoveFront(size_t n);

  // Keeps the first n rows. Errors: kInvalidArgument if n > size().
  [[nodiscard]] Result<void> Truncate(size_t n);

  // Bytes held for codes and radii, as allocated.
  size_t HeldBytes() const;

 private:
  friend class PolarQuantizer;
  PolarRows() = default;

  size_t dim_ = 0;
  size_t row_bytes_ = 0;
  size_t radii_per_row_ = 0;
  ScaleType radius_type_ = ScaleType::kF16;
  uint64_t quantizer_fingerprint_ = 0;
  size_t size_ = 0;
  std::vector<uint8_t> packed_;
  std::vector<uint16_t> radii_f16_;
  std::vector<float> radii_f32_;
};

// Queries rotated once.
class PolarQueries {
 public:
  size_t size() const { return size_; }
  size_t dim() const { return dim_; }

 private:
  friend class PolarQuantizer;
  PolarQueries() = default;
  size_t size_ = 0;
  size_t dim_ = 0;
  uint64_t quantizer_fingerprint_ = 0;
  std::vector<float> rotated_;  // [size × dim]: directions
  std::vector<double> norms_;
};

// Immutable after Create; safe to share between threads.
class PolarQuantizer {
 public:
  // Errors: kInvalidArgument naming the option.
  [[nodiscard]] static Result<PolarQuantizer> Create(const PolarOptions& options);

  const PolarOptions& options() const { return options_; }  // with level_bits filled in
  const Rotation& rotation() const { return *rotation_; }
  std::span<const PolarLevel> levels() const { return levels_; }

  // Identity stored with every payload: dim, form, level_bits, rotation, seed, stream.
  uint64_t fingerprint() const { return fingerprint_; }

  // No rows yet.
  PolarRows MakeRows() const;

  // Encodes rows [n × dim] of any finite norm; a zero block has radius 0 and codes 0.
  // Errors: kDimensionMismatch; kNonFinite naming row and column; kInvalidArgument when a radius
  // exceeds f16 (use ScaleType::kF32) or f32.
  [[nodiscard]] Result<PolarRows> Encode(RowsView rows, const ParallelFor& parallel_for = {}) const;

  // Encodes rows behind those already in `into`; a failed call leaves `into` as it was.
  // Errors: as Encode, and kInvalidArgument if another quantizer wrote `into`.
  [[nodiscard]] Result<void> Append(RowsView rows, PolarRows& into,
                                    const ParallelFor& parallel_for = {}) const;

  // Rows in canonical form with radii [n × RadiiPerRow()] (f32 values that the radius type holds
  // exactly). Errors: kDimensionMismatch for sizes that do not agree; kCorruptData, naming the row,
  // for padding bits that are set and radii that are negative, not finite or not of the radius
  // type.
  [[nodiscard]] Result<PolarRows> Import(std::span<const uint8_t> packed,
                                         std::span<const float> radii) const;

  // The reverse. Sizes: n RowBytes() and n RadiiPerRow().
  // Errors: kDimensionMismatch, kInvalidArgument.
  [[nodiscard]] Result<void> Export(const PolarRows& rows, std::span<uint8_t> packed,
                                    std::span<float> radii) const;

  // out [encoded.size() × dim]. Errors: kDimensionMismatch, kInvalidArgument.
  [[nodiscard]] Result<void> Decode(const PolarRows& encoded, MatrixView<float> out,
                                    const ParallelFor& parallel_for = {}) const;

  // Rotates queries [q × dim]. Errors: kDimensionMismatch, kNonFinite.
  [[nodiscard]] Result<PolarQueries> Prepare(MatrixView<const float> queries) const;

  // scores [q × encoded.size()]: estimates of <query, row>, in float with double sums.
  // Errors: kDimensionMismatch, kInvalidArgument.
  [[nodiscard]] Result<void> Score(const PolarQueries& queries, const PolarRows& encoded,
                                   MatrixView<float> scores,
                                   const ParallelFor& parallel_for = {}) const;

 private:
  PolarQuantizer() = default;
  [[nodiscard]] Result<void> CheckRows(const PolarRows& rows) const;
  [[nodiscard]] Result<void> EncodeRow(const RowsView& rows, size_t r, std::span<float> direction,
                                       std::span<double> radii, size_t at, PolarRows& into) const;
  double DecodeRotated(const PolarRows& encoded, size_t r, std::span<double> coordinates) const;

  struct LevelTable;  // cosines and sines of a level's angles and boundaries

  PolarOptions options_;
  size_t row_bytes_ = 0;
  size_t radii_per_row_ = 0;
  std::vector<PolarLevel> levels_;
  std::shared_ptr<const std::vector<LevelTable>> tables_;
  std::shared_ptr<const Rotation> rotation_;
  uint64_t fingerprint_ = 0;
};

}  // namespace turboquant

#endif  // TURBOQUANT_POLAR_QUANTIZER_H_
