// What callers hand to a cache: shapes, finite numbers, numbers that can be stored.
#ifndef TURBOQUANT_SRC_CACHE_CHECK_HEADS_H_
#define TURBOQUANT_SRC_CACHE_CHECK_HEADS_H_

#include <cstddef>
#include <limits>
#include <string_view>

#include "src/kernels/kernels.h"
#include "turboquant/error.h"
#include "turboquant/heads_view.h"
#include "turboquant/parallel_for.h"

namespace turboquant {

// `rows` are [any × heads × dim]. Errors: kDimensionMismatch; kInvalidArgument for null data and
// for strides below dim.
[[nodiscard]] Result<void> CheckHeads(std::string_view name, const HeadsView& rows, size_t heads,
                                      size_t dim);

// `rows` are [tokens × heads × dim]. Errors: as CheckHeads.
[[nodiscard]] Result<void> CheckOutput(std::string_view name, const HeadsOutput& rows,
                                       size_t tokens, size_t heads, size_t dim);

struct RowLimits {
  // Rows of this token and later ones are to be packed with an f16 scale: norms are limited.
  size_t first_packed = std::numeric_limits<size_t>::max();
  bool f16 = false;  // elements must fit an f16
};

// Every element is finite and within the limits. What the table's norms_squared says of the rows
// goes to norms_squared[heads × tokens], if that is not null. Errors, naming name[token][head]:
// kNonFinite, kInvalidArgument.
[[nodiscard]] Result<void> CheckNumbers(std::string_view name, const HeadsView& rows,
                                        const RowLimits& limits, const kernels::KernelTable& table,
                                        const ParallelFor& parallel_for,
                                        double* norms_squared = nullptr);

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_CACHE_CHECK_HEADS_H_
