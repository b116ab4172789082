// Scalar codebooks for one coordinate of a rotated unit vector.
#ifndef TURBOQUANT_CODEBOOK_H_
#define TURBOQUANT_CODEBOOK_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "turboquant/error.h"

namespace turboquant {

enum class CodebookKind {
  kLloydMax,  // smallest mean squared error at 2^bits centroids (arXiv 2504.19874, section 3.1)
  kUniform,   // 8 bits only: 255 equal steps, scored in one int8 digit
  kCustom,    // centroids given by the caller
};

// The density a Lloyd-Max codebook is optimal for.
enum class CodebookDensity {
  kAuto,      // kSphere below 64 dims, kGaussian from 64 up
  kSphere,    // one coordinate of a uniform point on the unit sphere of that dim
  kGaussian,  // N(0, 1/dim), the limit
};

struct CodebookOptions {
  size_t dim = 0;                               // >= 2
  int bits = 4;                                 // 1 to 8
  CodebookKind kind = CodebookKind::kLloydMax;  // kLloydMax or kUniform
  CodebookDensity density = CodebookDensity::kAuto;
};

// 2^bits centroids (255 for kUniform), ascending, as integer levels times one step. All lengths are
// in units of sigma = 1/sqrt(dim), the standard deviation of a coordinate of a unit vector.
// Immutable; safe to share between threads.
class Codebook {
 public:
  // Computes (once per process for equal options; the result is remembered) or looks up a codebook.
  // Errors: kInvalidArgument for a dim or bits out of range, or kUniform with bits other than 8.
  [[nodiscard]] static Result<Codebook> Create(const CodebookOptions& options);

  // A codebook of the caller's own: `centroids` are 2^bits finite, strictly ascending values within
  // +-8 sigma, each rounded to the grid of 1/1024 sigma (they must stay distinct on it).
  // Errors: kInvalidArgument naming the first centroid that breaks this.
  [[nodiscard]] static Result<Codebook> FromCentroids(size_t dim,
                                                      std::span<const double> centroids);

  size_t dim() const { return dim_; }
  int bits() const { return bits_; }
  CodebookKind kind() const { return kind_; }

  // Number of valid codes: 2^bits, or 255 for kUniform.
  size_t size() const { return levels_.size(); }

  // centroid i = levels()[i] * step() sigma. |level| <= 127 for Lloyd-Max up to 4 bits and for
  // kUniform, otherwise |level| <= 8192 and step is 1/1024.
  std::span<const int16_t> levels() const { return levels_; }
  double step() const { return step_; }

  // True when every |level| <= 127, so that scoring takes one digit per level: the codebooks named
  // above, and a custom one within +-127/1024 sigma.
  bool int8_levels() const { return int8_levels_; }

  // Centroid i in sigma.
  double Centroid(size_t i) const { return levels_[i] * step_; }

  // Midpoint between centroids i and i + 1, in sigma; i < size() - 1.
  double Boundary(size_t i) const { return 0.5 * (levels_[i] + levels_[i + 1]) * step_; }

  // Identifies levels and step in files: CRC-32 of the int16 levels, little-endian, then of the
  // step as a binary64, little-endian.
  uint32_t fingerprint() const { return fingerprint_; }

  // Bytes held beyond sizeof(Codebook).
  size_t HeldBytes() const { return levels_.capacity() * sizeof(int16_t); }

  // Expected squared error per unit of squared norm on the density it was made for, computed by
  // quadrature (the D(b) of the documentation); for kCustom on N(0,1).
  double Distortion() const;

  bool operator==(const Codebook& other) const {
    return dim_ == other.dim_ && kind_ == other.kind_ && bits_ == other.bits_ &&
           levels_ == other.levels_ && step_ == other.step_;
  }

 private:
  Codebook(size_t dim, int bits, CodebookKind kind, bool sphere, std::vector<int16_t> levels,
           double step);

  size_t dim_;
  int bits_;
  CodebookKind kind_;
  bool sphere_;
  bool int8_levels_;
  std::vector<int16_t> levels_;
  double step_;
  uint32_t fingerprint_;
};

// The unrounded Lloyd-Max optimum in sigma: centroids ascending, and its distortion.
struct LloydMaxOptimum {
  std::vector<double> centroids;
  double distortion;
};

// Runs Lloyd-Max to its fixpoint for bits 1 to 8. kAuto as above. Errors as Codebook::Create.
[[nodiscard]] Result<LloydMaxOptimum> OptimalCentroids(size_t dim, int bits,
                                                       CodebookDensity density);

}  // namespace turboquant

#endif  // TURBOQUANT_CODEBOOK_H_
