// A safetensors file before it is written, for those who put checksums into its header.
#ifndef TURBOQUANT_SRC_STORAGE_SAFETENSORS_WRITER_H_
#define TURBOQUANT_SRC_STORAGE_SAFETENSORS_WRITER_H_

#include <cstddef>
#include <filesystem>
#include <span>
#include <vector>

#include "src/storage/safetensors_header.h"
#include "turboquant/error.h"
#include "turboquant/safetensors.h"

namespace turboquant {

struct FileLayout {
  SafetensorsHeader header;
  std::vector<std::span<const std::byte>> body;  // in the order of the file; the caller's bytes
};

// Errors: as SerializeSafetensors.
[[nodiscard]] Result<FileLayout> LayOut(std::span<const TensorView> tensors,
                                        const StringMap& metadata);

// Errors: kInvalidArgument for a header above 100 MB.
[[nodiscard]] Result<std::vector<std::byte>> Serialize(const FileLayout& layout);

// Errors: also kIo.
[[nodiscard]] Result<void> Write(const std::filesystem::path& path, const FileLayout& layout);

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_STORAGE_SAFETENSORS_WRITER_H_
