// The tensors of encoded-row files: which each method has, and what may be in them.
#ifndef TURBOQUANT_SRC_STORAGE_ROWS_TENSORS_H_
#define TURBOQUANT_SRC_STORAGE_ROWS_TENSORS_H_

#include <cstddef>
#include <string_view>

#include "turboquant/error.h"
#include "turboquant/rows_file.h"

namespace turboquant {

// Compares the tensors with what method and options (already checked) call for: names, types,
// shapes, as many rows in each; then their contents: padding bits zero, scales, norms and radii
// finite and not negative, codes within the codebook, channels and levels ascending. Returns the
// number of rows. Errors: kCorruptData naming tensor and row.
[[nodiscard]] Result<size_t> CheckRowsTensors(const EncodedRowsFile& file);

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_STORAGE_ROWS_TENSORS_H_
