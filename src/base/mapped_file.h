// Files of the operating system: mapped for reading, replaced as a whole when written.
#ifndef TURBOQUANT_SRC_BASE_MAPPED_FILE_H_
#define TURBOQUANT_SRC_BASE_MAPPED_FILE_H_

#include <cstddef>
#include <filesystem>
#include <span>

#include "turboquant/error.h"

namespace turboquant {

// A regular file mapped read-only. The bytes live as long as the object, and move with it. Whoever
// shortens the file meanwhile takes the bytes away (SIGBUS): the files of this library are replaced
// by rename, which leaves a mapping whole.
class MappedFile {
 public:
  // Errors: kIo naming the path, also for a folder, pipe or device.
  [[nodiscard]] static Result<MappedFile> Open(const std::filesystem::path& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  explicit MappedFile(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::span<const std::byte> bytes_;  // empty: nothing is mapped
};

// Makes `path` a file of `pieces`, one after another. They go to a temporary file in the same
// folder, which is flushed to the disk and renamed: readers see the old file or the whole new one,
// and a failed call leaves the old one and no temporary file. A symbolic link is replaced, not
// followed. Errors: kIo naming the path; a `path` that is a folder, pipe or device is refused.
[[nodiscard]] Result<void> WriteFileAtomically(const std::filesystem::path& path,
                                               std::span<const std::span<const std::byte>> pieces);

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_BASE_MAPPED_FILE_H_
