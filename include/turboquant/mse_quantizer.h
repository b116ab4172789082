// TurboQuant-MSE (arXiv 2504.19874, algorithm 1): rotate, take the nearest centroid of every
// coordinate, keep the codes and one scale.
#ifndef TURBOQUANT_MSE_QUANTIZER_H_
#define TURBOQUANT_MSE_QUANTIZER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "turboquant/backend.h"
#include "turboquant/codebook.h"
#include "turboquant/error.h"
#include "turboquant/matrix_view.h"
#include "turboquant/parallel_for.h"
#include "turboquant/rotation.h"

namespace turboquant {

namespace kernels {
struct KernelTable;
}  // namespace kernels

class MseCore;
struct MseLanes;

// What multiplies the centroid vector c of a row with norm n and direction u (docs/algorithm.md).
enum class Scale {
  kNorm,          // n, the paper's
  kMatched,       // n / |c|: keeps the norm
  kLeastSquares,  // n <u,c> / |c|²: smallest reconstruction error
  kUnbiased,      // n / <u,c>: inner products with the row itself are exact (EDEN, RaBitQ)
};

enum class ScaleType { kF16, kF32 };

// Which blocks rows are packed into in memory (docs/kernels.md). Files never depend on it.
enum class Tiling {
  kKeys,    // 16 rows a block: rows that are scored
  kValues,  // 64 rows a block: rows that are summed with weights
};

struct MseOptions {
  size_t dim = 0;  // 2 to 65,536
  int bits = 4;    // 1 to 8 per coordinate
  Scale scale = Scale::kUnbiased;
  // Try 16 pre-scales of each row and keep the codes with the best cosine. Encoder only. Unset:
  // on for 3 to 7 bits with a Lloyd-Max codebook.
  std::optional<bool> scale_search = {};
  ScaleType scale_type = ScaleType::kF16;
  RotationKind rotation = RotationKind::kHadamard;
  int rotation_rounds = 2;
  CodebookKind codebook = CodebookKind::kLloydMax;
  CodebookDensity density = CodebookDensity::kAuto;
  std::optional<Codebook> custom_codebook = {};  // with kCustom; its dim and bits must agree
  bool require_unit_norm = false;  // refuse rows with | |x| - 1 | > unit_norm_tolerance
  float unit_norm_tolerance = 1e-4f;
  uint64_t seed = 42;
  RandomStream stream = {};
  Backend backend = Backend::kAuto;
};

// n encoded rows: packed codes in blocks, and a scale each. Grows at the back, shrinks at the
// front. Written by one thread at a time.
class MseRows {
 public:
  size_t size() const { return size_; }
  size_t dim() const { return dim_; }
  int bits() const { return bits_; }
  Tiling tiling() const { return tiling_; }
  ScaleType scale_type() const { return scale_type_; }

  // Identity of the quantizer that wrote the rows; another quantizer refuses to read them.
  uint64_t quantizer_fingerprint() const { return quantizer_fingerprint_; }

  // Code of every coordinate of row i (i < size()); codes.size() must be dim().
  // Errors: kInvalidArgument, kDimensionMismatch.
  [[nodiscard]] Result<void> Codes(size_t i, std::span<uint8_t> codes) const;

  // Scale of row i as a float, or NaN past the end.
  float ScaleOf(size_t i) const;

  // Appends the rows of `other`, written by an equal quantizer; `other` may be *this.
  // Errors: kInvalidArgument if the fingerprints differ. O(rows appended).
  [[nodiscard]] Result<void> Append(const MseRows& other);

  // Removes the first n rows. Errors: kInvalidArgument if n > size().
  // O(1) plus the move of whole blocks.
  [[nodiscard]] Result<void> RemoveFront(size_t n);

  // Keeps the first n rows; the lanes of those removed are zeroed. Errors: kInvalidArgument.
  [[nodiscard]] Result<void> Truncate(size_t n);

  // The canonical form: row-major little-endian bit stream, code j of a row in bits
  // [j bits, (j+1) bits) of its ceil(dim bits / 8) bytes, padding bits zero.
  size_t CanonicalRowBytes() const { return (dim_ * static_cast<size_t>(bits_) + 7) / 8; }
  // packed.size() must be size() * CanonicalRowBytes(). Errors: kDimensionMismatch.
  [[nodiscard]] Result<void> ExportCanonical(std::span<uint8_t> packed) const;

  // Bytes held for codes (with the padding of blocks) and scales, as allocated.
  size_t HeldBytes() const;

  // Blocks as the kernels read them: the first row is lane front() of block 0.
  std::span<const uint8_t> blocks() const { return blocks_; }
  size_t front() const { return front_; }
  // Raw scales from lane 0 of block 0 on: binary16 bits for kF16, binary32 for kF32.
  std::span<const uint16_t> scales_f16() const { return scales_f16_; }
  std::span<const float> scales_f32() const { return scales_f32_; }

 private:
  friend class MseQuantizer;
  MseRows() = default;
  size_t BlockRows() const { return tiling_ == Tiling::kKeys ? 16 : 64; }
  size_t BlockBytes() const;
  void Resize(size_t rows);  // new lanes are zero

  static void* AllocateBytes(size_t size);
  static void FreeBytes(void* bytes, size_t size) noexcept;

  // 64-byte aligned storage of whole blocks, in huge pages where it is large.
  template <class T>
  struct AlignedAllocator {
    using value_type = T;
    AlignedAllocator() = default;
    template <class U>
    AlignedAllocator(const AlignedAllocator<U>&) {}  // NOLINT(google-explicit-constructor)
    T* allocate(size_t n) { return static_cast<T*>(AllocateBytes(n * sizeof(T))); }
    void deallocate(T* p, size_t n) { FreeBytes(p, n * sizeof(T)); }
    bool operator==(const AlignedAllocator&) const { return true; }
  };

  const kernels::KernelTable* kernels_ = nullptr;  // of the quantizer that made the rows
  size_t dim_ = 0;
  int bits_ = 0;
  Tiling tiling_ = Tiling::kKeys;
  ScaleType scale_type_ = ScaleType::kF16;
  uint64_t quantizer_fingerprint_ = 0;
  size_t size_ = 0;
  size_t front_ = 0;  // lanes of the first block that were removed
  std::vector<uint8_t, AlignedAllocator<uint8_t>> blocks_;
  std::vector<uint16_t> scales_f16_;
  std::vector<float> scales_f32_;
};

// Queries ready to be scored against packed rows: rotated once, as integer digits.
class MseQueries {
 public:
  size_t size() const { return size_; }
  size_t dim() const { return dim_; }

 private:
  friend class MseQuantizer;
  MseQueries() = default;
  size_t size_ = 0;
  size_t dim_ = 0;
  int digits_ = 2;
  uint64_t quantizer_fingerprint_ = 0;
  std::vector<int8_t> high_;    // [size × padded dim]
  std::vector<int8_t> low_;     // empty with one digit
  std::vector<float> factors_;  // integer sum × factor × scale = score
};

struct PrepareOptions {
  // Digits of 7 bits a query coordinate is rounded to. 2: relative error of a score about 1e-4.
  // 1: the fast mode, about 1e-2.
  int digits = 2;
};

// Immutable after Create; safe to share between threads.
class MseQuantizer {
 public:
  // Errors: kInvalidArgument naming the option, kUnavailable for the backend.
  [[nodiscard]] static Result<MseQuantizer> Create(const MseOptions& options);

  const MseOptions& options() const;  // with defaults filled in
  Backend backend() const;
  const Codebook& codebook() const;
  const Rotation& rotation() const;
  bool scale_search() const;

  // Identity stored with every payload: dim, bits, rotation, seed, stream, codebook. Options that
  // only concern the encoder (scale, search) are not part of it.
  uint64_t fingerprint() const;

  // No rows yet.
  MseRows MakeRows(Tiling tiling = Tiling::kKeys) const;

  // Encodes rows [n × dim]. Errors: kDimensionMismatch; kNonFinite naming row and column;
  // kNotUnitNorm; kInvalidArgument when a scale exceeds f16 (use ScaleType::kF32) or f32.
  [[nodiscard]] Result<MseRows> Encode(RowsView rows, Tiling tiling = Tiling::kKeys,
                                       const ParallelFor& parallel_for = {}) const;

  // Encodes rows behind those already in `into`; a failed call leaves `into` as it was.
  // Errors: as Encode, and kInvalidArgument if another quantizer wrote `into`.
  [[nodiscard]] Result<void> Append(RowsView rows, MseRows& into,
                                    const ParallelFor& parallel_for = {}) const;

  // Rows of codes in canonical form (see MseRows) with their scales (f32 values that the scale type
  // holds exactly). Everything is checked: sizes, padding bits, codes past the codebook, scales
  // that are negative or not finite (kCorruptData, naming the row).
  [[nodiscard]] Result<MseRows> ImportCanonical(std::span<const uint8_t> packed,
                                                std::span<const float> scales,
                                                Tiling tiling = Tiling::kKeys) const;

  // out [encoded.size() × dim] = scale · Πᵀ centroids. Errors: kDimensionMismatch,
  // kInvalidArgument.
  [[nodiscard]] Result<void> Decode(const MseRows& encoded, MatrixView<float> out,
                                    const ParallelFor& parallel_for = {}) const;

  // Centroids times scale before the inverse rotation: what scores and weighted sums see.
  [[nodiscard]] Result<void> DecodeRotated(const MseRows& encoded, MatrixView<float> out) const;

  // Rotates queries [q × dim] and rounds them to digits. Errors: kDimensionMismatch, kNonFinite.
  [[nodiscard]] Result<MseQueries> Prepare(MatrixView<const float> queries,
                                           const PrepareOptions& prepare_options = {}) const;

  // scores [q × encoded.size()]: estimates of <query, row>. `encoded` must be in Tiling::kKeys.
  // The integer sums are exact and equal on every backend. Errors: kDimensionMismatch,
  // kInvalidArgument.
  [[nodiscard]] Result<void> Score(const MseQueries& queries, const MseRows& encoded,
                                   MatrixView<float> scores,
                                   const ParallelFor& parallel_for = {}) const;

 private:
  MseQuantizer() = default;

  static MseLanes LanesOf(const MseRows& rows);
  [[nodiscard]] Result<void> CheckRows(const MseRows& rows) const;
  [[nodiscard]] Result<void> CheckDecode(const MseRows& encoded,
                                         const MatrixView<float>& out) const;
  void ScoreBlocks(const MseQueries& queries, const MseRows& encoded, size_t first, size_t count,
                   const MatrixView<float>& scores) const;

  std::shared_ptr<const MseCore> core_;
};

}  // namespace turboquant

#endif  // TURBOQUANT_MSE_QUANTIZER_H_
