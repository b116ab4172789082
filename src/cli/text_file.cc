#include "src/cli/text_file.h"

#include <span>

#include "src/base/mapped_file.h"

namespace turboquant::cli {

Result<void> WriteTextFile(const std::string& path, const std::string& text) {
  const std::span<const std::byte> piece = std::as_bytes(std::span(text));
  return WriteFileAtomically(path, std::span(&piece, 1));
}

}  // namespace turboquant::cli
