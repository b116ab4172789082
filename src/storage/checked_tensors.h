// What all files of this library have in common inside the safetensors container: a format's name
// and version, a CRC-32 of every tensor, and one over the tensor table and all other metadata.
//
// header_crc32 is the CRC-32 of these bytes (docs/format.md describes them, too):
//   u64 number of tensors; for each, ascending by name:
//     text name, text dtype, u64 rank, u64 axis for each axis, u64 begin, u64 end
//   u64 number of metadata entries but header_crc32; for each, ascending by key:
//     text key, text value
// u64 is 8 bytes, little-endian; a text is its length in bytes as u64, then the bytes; ascending
// compares bytes; begin and end are the tensor's data_offsets.
#ifndef TURBOQUANT_SRC_STORAGE_CHECKED_TENSORS_H_
#define TURBOQUANT_SRC_STORAGE_CHECKED_TENSORS_H_

#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "turboquant/error.h"
#include "turboquant/safetensors.h"

namespace turboquant {

inline constexpr std::string_view kFormatKey = "format";
inline constexpr std::string_view kVersionKey = "format_version";
inline constexpr std::string_view kHeaderCrcKey = "header_crc32";
inline constexpr std::string_view kTensorCrcPrefix = "crc32.";

struct FileFormat {
  std::string_view name;  // "turboquant.rows"
  uint64_t version;       // the newest that this build reads, and the one it writes
};

// The file's bytes with format, version and checksums added to `metadata`, which must not hold
// them. Errors: as SerializeSafetensors.
[[nodiscard]] Result<std::vector<std::byte>> SerializeChecked(const FileFormat& format,
                                                              std::span<const TensorView> tensors,
                                                              const StringMap& metadata);

// The same into a file, atomically. Errors: as WriteSafetensors.
[[nodiscard]] Result<void> WriteChecked(const std::filesystem::path& path, const FileFormat& format,
                                        std::span<const TensorView> tensors,
                                        const StringMap& metadata);

// Checks all that SerializeChecked adds and returns the other metadata. Errors: kCorruptData for
// something missing, malformed or not matching, naming it; kInvalidArgument for another format,
// kUnsupported for a newer version.
[[nodiscard]] Result<StringMap> VerifyChecked(const SafetensorsFile& file,
                                              const FileFormat& format);

// The same where all of it is optional and only what is there is checked. A format whose name does
// not begin with "turboquant." is some other tool's word and means nothing here.
[[nodiscard]] Result<void> VerifyWherePresent(const SafetensorsFile& file,
                                              const FileFormat& format);

// True for the keys that belong to this layer.
bool IsCheckKey(std::string_view key);

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_STORAGE_CHECKED_TENSORS_H_
