// Codes of keys that lower the error queries see, not the error of the key.
//
// Queries with second moment diag(D) in the space of mapped keys see an error e of a rotated key as
// eᵀ W e, W = R diag(D) Rᵀ. For one Hadamard round of a power of two R is the Sylvester-Hadamard
// matrix times signs and 1/sqrt(dim); the signs square away, so that W_ij = w[i xor j] with w the
// transform of D: a matrix of dim numbers whose products cost two butterflies. Nearest codes are
// the best for W = I; from them, coordinates move to a neighbouring code as long as that lowers
// eᵀ W e: the error goes where queries hardly look (noise shaping). Decoders don't know of it.
#ifndef TURBOQUANT_SRC_QUANTIZERS_CODE_METRIC_H_
#define TURBOQUANT_SRC_QUANTIZERS_CODE_METRIC_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "src/kernels/kernels.h"
#include "turboquant/codebook.h"

namespace turboquant {

// Holds scratch: one thread at a time. The same numbers on every backend.
class CodeMetric {
 public:
  // D [dim], positive; only its shape matters. dim is a power of two.
  CodeMetric(const kernels::KernelTable& table, std::span<const float> query_weights);

  // Rotated coordinates of a row on the grid (kernels.h), their codes and the codes' sums. Moves
  // codes; returns the number s for which s · centroids is unbiased for those queries: the row's
  // direction times sqrt(dim) has the same product with it as with itself. nullopt, with the codes
  // as they were, where there is none.
  std::optional<double> Shape(const Codebook& codebook, const int16_t* grid,
                              const kernels::RowSums& sums, uint8_t* codes);

 private:
  void Transform(std::vector<float>& x) const;  // butterflies of all strides
  void Move(size_t i, float by);                // gradient_ -= by · column i of W
  template <size_t kLanes>
  void MoveLanes(size_t i, float by);
  void Descend(const Codebook& codebook, float scale, uint8_t* codes);

  const kernels::KernelTable* kernels_;
  size_t dim_;
  size_t lanes_;                    // the last bits of an index, which permute within lanes
  std::vector<uint32_t> no_signs_;  // of a rotation that is only butterflies
  std::vector<float> spectrum_;     // D / (mean D · dim)
  std::vector<float> columns_;      // [lanes × dim]: entry j of row b is w[j xor b]
  std::vector<float> row_;          // transformed
  std::vector<float> centroids_;    // transformed
  std::vector<float> gradient_;     // W e
  std::vector<float> rises_;        // between neighbouring centroids, infinite at the ends
};

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_QUANTIZERS_CODE_METRIC_H_
