// The options of encoded-row files: which each method has, and what they may say.
#ifndef TURBOQUANT_SRC_STORAGE_ROWS_OPTIONS_H_
#define TURBOQUANT_SRC_STORAGE_ROWS_OPTIONS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "turboquant/error.h"
#include "turboquant/safetensors.h"

namespace turboquant {

// Errors: kUnsupported for an unknown method; kCorruptData naming an option that is missing,
// superfluous or out of its range.
[[nodiscard]] Result<void> CheckRowsOptions(std::string_view method, const StringMap& options);

// Options that passed CheckRowsOptions.
class RowsOptions {
 public:
  explicit RowsOptions(const StringMap& options) : options_(options) {}

  bool Has(std::string_view name) const { return options_.contains(std::string(name)); }
  const std::string& Text(std::string_view name) const { return options_.at(std::string(name)); }
  uint64_t Number(std::string_view name) const;
  uint32_t Hex(std::string_view name) const;

 private:
  const StringMap& options_;
};

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_STORAGE_ROWS_OPTIONS_H_
