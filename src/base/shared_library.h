// Libraries that are loaded when a program first wants them, and never linked.
#ifndef TURBOQUANT_SRC_BASE_SHARED_LIBRARY_H_
#define TURBOQUANT_SRC_BASE_SHARED_LIBRARY_H_

#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "turboquant/error.h"

namespace turboquant {

// What a library is called, and where this build knows one.
struct LibraryNames {
  std::string_view title;                   // in messages: "ONNX Runtime"
  std::span<const std::string_view> files;  // best first
  std::string_view versioned_file_begins;   // "libonnxruntime.so."; empty: there are none
  std::string_view build_folder;            // empty: none
};

struct SharedLibrary {
  void* handle;  // of dlopen; never closed
  std::filesystem::path path;
};

// The library `given`, a file or a folder it lies in; or, if that is empty, the first that loads
// from `folders`, beside the program or library this code is part of, from the folder of the build
// and from the system's library path. Errors: kUnavailable saying where it was looked for.
[[nodiscard]] Result<SharedLibrary> LoadSharedLibrary(const LibraryNames& names,
                                                      const std::filesystem::path& given,
                                                      std::vector<std::filesystem::path> folders);

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_BASE_SHARED_LIBRARY_H_
