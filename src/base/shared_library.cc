#include "src/base/shared_library.h"

#include <dlfcn.h>

#include <optional>
#include <string>
#include <system_error>

#include "src/base/failure.h"

namespace turboquant {
namespace {

namespace fs = std::filesystem;

// The library in a folder, under any of the names that packages give it.
std::optional<fs::path> LibraryIn(const LibraryNames& names, const fs::path& folder) {
  std::error_code ignored;
  for (const std::string_view file : names.files) {
    if (fs::exists(folder / file, ignored)) return folder / file;
  }
  if (names.versioned_file_begins.empty()) return std::nullopt;
  std::optional<fs::path> newest;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, ignored)) {
    const std::string file = entry.path().filename().string();
    if (file.starts_with(names.versioned_file_begins) && (!newest || *newest < entry.path())) {
      newest = entry.path();
    }
  }
  return newest;
}

// Where the code that runs this lies: a program's folder, or that of a library.
std::optional<fs::path> OwnFolder() {
  Dl_info found;
  if (dladdr(reinterpret_cast<const void*>(&OwnFolder), &found) == 0 || !found.dli_fname) {
    return std::nullopt;
  }
  std::error_code failed;
  const fs::path self = fs::canonical(found.dli_fname, failed);
  if (failed) return std::nullopt;
  return self.parent_path();
}

void AddUsualFolders(const LibraryNames& names, std::vector<fs::path>& folders) {
  if (const std::optional<fs::path> own = OwnFolder()) {
    folders.push_back(*own);
    folders.push_back(own->parent_path() / "lib");
  }
  if (!names.build_folder.empty()) folders.emplace_back(names.build_folder);
}

void* Open(const fs::path& path) { return dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL); }

std::string LastLoaderError() {
  const char* message = dlerror();
  return message == nullptr ? "no reason given" : message;
}

Result<SharedLibrary> LoadGiven(const LibraryNames& names, const fs::path& given) {
  std::error_code ignored;
  fs::path path = given;
  if (fs::is_directory(given, ignored)) {
    const std::optional<fs::path> inside = LibraryIn(names, given);
    if (!inside) {
      return Fail(ErrorCode::kUnavailable, "no ", names.title, " library in '", given.native(),
                  "'");
    }
    path = *inside;
  }
  void* handle = Open(path);
  if (handle == nullptr) {
    return Fail(ErrorCode::kUnavailable, names.title, " cannot be loaded: ", LastLoaderError());
  }
  return SharedLibrary{handle, path};
}

Result<SharedLibrary> LoadFound(const LibraryNames& names, const std::vector<fs::path>& folders) {
  std::string looked;
  for (const fs::path& folder : folders) {
    if (const std::optional<fs::path> path = LibraryIn(names, folder)) {
      if (void* handle = Open(*path)) return SharedLibrary{handle, *path};
      looked += "'" + path->native() + "' (" + LastLoaderError() + "), ";
    } else {
      looked += "'" + folder.native() + "', ";
    }
  }
  for (const std::string_view file : names.files) {
    if (void* handle = Open(file)) return SharedLibrary{handle, file};
  }
  return Fail(ErrorCode::kUnavailable, "no ", names.title, " library found; looked in ", looked,
              "and for ", names.files[0], " on the system's library path");
}

}  // namespace

Result<SharedLibrary> LoadSharedLibrary(const LibraryNames& names, const fs::path& given,
                                        std::vector<fs::path> folders) {
  if (!given.empty()) return LoadGiven(names, given);
  AddUsualFolders(names, folders);
  return LoadFound(names, folders);
}

}  // namespace turboquant
