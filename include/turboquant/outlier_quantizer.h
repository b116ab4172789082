// Outlier-channel split (arXiv 2504.19874, section 4): some channels of every row are quantized
// apart with one bit more. 32 of 128 channels at 3 bits and 96 at 2, with two f16 scales, are the
// paper's "2.5 bits"; 4 and 3 its "3.5 bits".
#ifndef TURBOQUANT_OUTLIER_QUANTIZER_H_
#define TURBOQUANT_OUTLIER_QUANTIZER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "turboquant/backend.h"
#include "turboquant/error.h"
#include "turboquant/matrix_view.h"
#include "turboquant/mse_quantizer.h"
#include "turboquant/parallel_for.h"
#include "turboquant/rotation.h"

namespace turboquant {

// The `count` columns of `rows` with the largest mean square, ascending; of equal ones the first.
// Errors: kInvalidArgument for no rows or count > cols; kNonFinite naming row and column.
[[nodiscard]] Result<std::vector<uint32_t>> ChooseOutlierChannels(RowsView rows, size_t count = 32);

struct OutlierOptions {
  size_t dim = 0;  // 4 to 65,536
  int bits = 2;    // of the regular channels, 1 to 7; the outliers take bits + 1
  // Strictly ascending channels below dim; at least 2, and at least 2 must be left over.
  std::vector<uint32_t> outlier_channels = {};
  Scale scale = Scale::kUnbiased;
  std::optional<bool> scale_search = {};  // as MseOptions, each part by its own bits when unset
  ScaleType scale_type = ScaleType::kF16;
  RotationKind rotation = RotationKind::kHadamard;
  int rotation_rounds = 2;
  CodebookDensity density = CodebookDensity::kAuto;
  bool require_unit_norm = false;  // refuse rows with | |x| - 1 | > unit_norm_tolerance
  float unit_norm_tolerance = 1e-4f;
  uint64_t seed = 42;
  RandomStream stream = {};  // side below 128: side + 128 is the outlier part's
  Backend backend = Backend::kAuto;
};

// n encoded rows in two parts of as many rows. Written by one thread at a time.
class OutlierRows {
 public:
  size_t size() const { return regular_.size(); }
  size_t dim() const { return outliers_.dim() + regular_.dim(); }

  // Identity of the quantizer that wrote the rows; another quantizer refuses to read them.
  uint64_t quantizer_fingerprint() const { return quantizer_fingerprint_; }

  const MseRows& outliers() const { return outliers_; }  // the outlier channels, bits + 1
  const MseRows& regular() const { return regular_; }    // the others, bits

  // Codes and scales of one row as files hold them.
  size_t CanonicalBytesPerRow() const {
    return outliers_.CanonicalRowBytes() + regular_.CanonicalRowBytes() +
           (regular_.scale_type() == ScaleType::kF16 ? 4 : 8);
  }

  // Appends the rows of `other`, written by an equal quantizer; `other` may be *this.
  // Errors: kInvalidArgument if the fingerprints differ.
  [[nodiscard]] Result<void> Append(const OutlierRows& other);

  // Removes the first n rows. Errors: kInvalidArgument if n > size().
  [[nodiscard]] Result<void> RemoveFront(size_t n);

  // Keeps the first n rows. Errors: kInvalidArgument if n > size().
  [[nodiscard]] Result<void> Truncate(size_t n);

  // Bytes held, as allocated.
  size_t HeldBytes() const { return outliers_.HeldBytes() + regular_.HeldBytes(); }

 private:
  friend class OutlierQuantizer;
  OutlierRows(uint64_t quantizer_fingerprint, MseRows outliers, MseRows regular)
      : quantizer_fingerprint_(quantizer_fingerprint),
        outliers_(std::move(outliers)),
        regular_(std::move(regular)) {}

  uint64_t quantizer_fingerprint_;
  MseRows outliers_;
  MseRows regular_;
};

// Queries prepared for both parts.
class OutlierQueries {
 public:
  size_t size() const { return regular_.size(); }
  size_t dim() const { return outliers_.dim() + regular_.dim(); }

 private:
  friend class OutlierQuantizer;
  OutlierQueries(uint64_t quantizer_fingerprint, MseQueries outliers, MseQueries regular)
      : quantizer_fingerprint_(quantizer_fingerprint),
        outliers_(std::move(outliers)),
        regular_(std::move(regular)) {}

  uint64_t quantizer_fingerprint_;
  MseQueries outliers_;
  MseQueries regular_;
};

// Immutable after Create; safe to share between threads.
class OutlierQuantizer {
 public:
  // Errors: kInvalidArgument naming the option, kUnavailable for the backend.
  [[nodiscard]] static Result<OutlierQuantizer> Create(const OutlierOptions& options);

  const OutlierOptions& options() const { return options_; }
  std::span<const uint32_t> outlier_channels() const { return options_.outlier_channels; }
  std::span<const uint32_t> regular_channels() const { return regular_channels_; }
  const MseQuantizer& outliers() const { return outliers_; }
  const MseQuantizer& regular() const { return regular_; }

  // Identity stored with every payload: both parts' and the channel list.
  uint64_t fingerprint() const { return fingerprint_; }

  // No rows yet.
  OutlierRows MakeRows(Tiling tiling = Tiling::kKeys) const;

  // Encodes rows [n × dim]. Errors: kDimensionMismatch; kNonFinite naming row and column;
  // kNotUnitNorm; kInvalidArgument when a scale exceeds f16 (use ScaleType::kF32) or f32.
  [[nodiscard]] Result<OutlierRows> Encode(RowsView rows, Tiling tiling = Tiling::kKeys,
                                           const ParallelFor& parallel_for = {}) const;

  // Encodes rows behind those already in `into`; a failed call leaves `into` as it was.
  // Errors: as Encode, and kInvalidArgument if another quantizer wrote `into`.
  [[nodiscard]] Result<void> Append(RowsView rows, OutlierRows& into,
                                    const ParallelFor& parallel_for = {}) const;

  // Both parts in canonical form, each as MseQuantizer::ImportCanonical takes it; the parts must
  // have as many rows. Errors: kDimensionMismatch for sizes that do not agree, kCorruptData naming
  // the part and the row.
  [[nodiscard]] Result<OutlierRows> Import(std::span<const uint8_t> outlier_packed,
                                           std::span<const float> outlier_scales,
                                           std::span<const uint8_t> regular_packed,
                                           std::span<const float> regular_scales,
                                           Tiling tiling = Tiling::kKeys) const;

  // The reverse. Sizes: n CanonicalRowBytes() of each part, and n scales each.
  // Errors: kDimensionMismatch, kInvalidArgument.
  [[nodiscard]] Result<void> Export(const OutlierRows& rows, std::span<uint8_t> outlier_packed,
                                    std::span<float> outlier_scales,
                                    std::span<uint8_t> regular_packed,
                                    std::span<float> regular_scales) const;

  // out [encoded.size() × dim]. Errors: kDimensionMismatch, kInvalidArgument.
  [[nodiscard]] Result<void> Decode(const OutlierRows& encoded, MatrixView<float> out,
                                    const ParallelFor& parallel_for = {}) const;

  // Errors: kDimensionMismatch, kNonFinite.
  [[nodiscard]] Result<OutlierQueries> Prepare(MatrixView<const float> queries,
                                               const PrepareOptions& prepare_options = {}) const;

  // scores [q × encoded.size()]: the sum of both parts' estimates of <query, row>. `encoded` must
  // be in Tiling::kKeys. Errors: kDimensionMismatch, kInvalidArgument.
  [[nodiscard]] Result<void> Score(const OutlierQueries& queries, const OutlierRows& encoded,
                                   MatrixView<float> scores,
                                   const ParallelFor& parallel_for = {}) const;

 private:
  OutlierQuantizer(const OutlierOptions& options, std::vector<uint32_t> regular_channels,
                   MseQuantizer outliers, MseQuantizer regular);
  [[nodiscard]] Result<void> CheckRows(const OutlierRows& rows) const;

  OutlierOptions options_;
  std::vector<uint32_t> regular_channels_;
  MseQuantizer outliers_;
  MseQuantizer regular_;
  uint64_t fingerprint_;
};

}  // namespace turboquant

#endif  // TURBOQUANT_OUTLIER_QUANTIZER_H_
