// Seeded random orthogonal maps of any dim.
#ifndef TURBOQUANT_ROTATION_H_
#define TURBOQUANT_ROTATION_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "turboquant/error.h"
#include "turboquant/matrix_view.h"

namespace turboquant {

// Which independent stream of random bits an object draws from: one seed serves a whole model and
// no two heads, sides or stages share randomness. A bare quantizer is layer 0, head 0, side 0.
struct RandomStream {
  uint32_t layer = 0;
  uint32_t head = 0;
  uint32_t side = 0;  // 0 keys, 1 values
};

enum class RotationKind {
  kHadamard,  // signs + fast Walsh-Hadamard rounds: O(d log d), no matrix in memory
  kDense,     // Haar-distributed (QR of a Gaussian matrix), the paper's; dim² floats
};

struct RotationOptions {
  size_t dim = 0;  // 2 to 65,536 (kDense: to 8,192)
  RotationKind kind = RotationKind::kHadamard;
  int rounds = 2;  // kHadamard only: 1 to 3; one is not enough for sparse rows
  uint64_t seed = 42;
  RandomStream stream = {};
  uint32_t stage = 0;  // 0 the rotation proper, 1 the sketch of a residual
};

// Immutable; safe to share between threads. The bits are part of the file format: docs/format.md.
class Rotation {
 public:
  // Errors: kInvalidArgument for dim or rounds out of range.
  [[nodiscard]] static Result<Rotation> Create(const RotationOptions& options);

  const RotationOptions& options() const { return options_; }
  size_t dim() const { return options_.dim; }

  // rotated row = Π row, in float; in and out are [n × dim] and may be the same memory.
  // Errors: kDimensionMismatch. No check of finiteness: NaN in, NaN out.
  [[nodiscard]] Result<void> Apply(MatrixView<const float> in, MatrixView<float> out) const;

  // row = Πᵀ rotated row.
  [[nodiscard]] Result<void> ApplyInverse(MatrixView<const float> in, MatrixView<float> out) const;

  // Bytes held beyond sizeof(Rotation): sign masks, or the dense matrix.
  size_t HeldBytes() const;

  // kHadamard: sign masks of all rounds as the kernels read them (0 or 0x80000000 per coordinate;
  // per round dim masks, then, when dim is not a power of two, p more for the second half-round,
  // p the largest power of two <= dim). Empty for kDense.
  std::span<const uint32_t> sign_masks() const { return sign_masks_; }

  // kDense: row-major dim × dim matrix Π. Empty for kHadamard.
  std::span<const float> matrix() const { return matrix_; }

 private:
  explicit Rotation(const RotationOptions& options) : options_(options) {}

  RotationOptions options_;
  std::vector<uint32_t> sign_masks_;
  std::vector<float> matrix_;
};

}  // namespace turboquant

#endif  // TURBOQUANT_ROTATION_H_
