// Names of tensors that the writer and the reader of snapshots share.
#ifndef TURBOQUANT_SRC_STORAGE_SNAPSHOT_NAMES_H_
#define TURBOQUANT_SRC_STORAGE_SNAPSHOT_NAMES_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "src/cache/kv_parts.h"

namespace turboquant {

struct PartNames {
  std::string_view codes;
  std::string_view scales;
};

// Of part i of a side that is not exact.
inline PartNames NamesOf(const KvSide& side, size_t i) {
  if (side.options.outlier_channels != 0) {
    return i == 0 ? PartNames{"outlier_codes", "outlier_scales"}
                  : PartNames{"regular_codes", "regular_scales"};
  }
  return side.parts[i].signs ? PartNames{"signs", "residual_scales"} : PartNames{"codes", "scales"};
}

inline std::string SidePrefix(const std::string& prefix, bool values) {
  return prefix + (values ? "values." : "keys.");
}

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_STORAGE_SNAPSHOT_NAMES_H_
