#include "src/base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "src/base/failure.h"
#include "src/base/try.h"

namespace turboquant {
namespace {

std::unexpected<Error> SystemFailure(std::string_view action, const std::filesystem::path& path,
                                     int error_number) {
  return Fail(ErrorCode::kIo, "cannot ", action, " '", path.native(),
              "': ", std::generic_category().message(error_number));
}

// Closes what it holds, so that no early return leaks a descriptor.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  int number() const { return number_; }
  // The errors of a delayed write may only show here. 0 or errno.
  int Close() {
    const int status = ::close(std::exchange(number_, -1));
    return status == 0 ? 0 : errno;
  }

 private:
  int number_;
};

// Removes the temporary file unless it was renamed.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::filesystem::path path) : path_(std::move(path)) {}
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  const std::filesystem::path& path() const { return path_; }
  void Keep() { path_.clear(); }

 private:
  std::filesystem::path path_;
};

// A name beside `path` that no other process or thread of ours uses.
std::filesystem::path TemporaryName(const std::filesystem::path& path) {
  static std::atomic<uint64_t> serial{0};
  std::filesystem::path name = path;
  name += ".tmp." + std::to_string(::getpid()) + "." + std::to_string(serial.fetch_add(1));
  return name;
}

// 0 or errno.
int WriteAll(int descriptor, std::span<const std::byte> bytes) {
  constexpr size_t kMostPerCall = size_t{1} << 30;  // the kernel takes at most 2^31 - 4096
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), std::min(bytes.size(), kMostPerCall));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return 0;
}

Result<void> CheckReplaceable(const std::filesystem::path& path) {
  if (path.filename().empty()) return Fail(ErrorCode::kIo, "'", path.native(), "' names no file");
  struct stat status;
  if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    return Fail(ErrorCode::kIo, "cannot write '", path.native(), "': not a regular file");
  }
  return {};
}

// The new name is safe only when the folder is on the disk, too.
Result<void> FlushFolder(const std::filesystem::path& path) {
  const std::filesystem::path parent = path.parent_path();
  const std::filesystem::path folder = parent.empty() ? std::filesystem::path(".") : parent;
  const Descriptor descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (descriptor.number() < 0) return {};  // writable but not readable: nothing more can be done
  if (::fsync(descriptor.number()) != 0 && errno != EINVAL && errno != ENOTSUP) {
    return SystemFailure("flush folder", folder, errno);
  }
  return {};
}

}  // namespace

Result<MappedFile> MappedFile::Open(const std::filesystem::path& path) {
  // O_NONBLOCK: opening a pipe must fail below, not wait for a writer.
  const Descriptor descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (descriptor.number() < 0) return SystemFailure("open", path, errno);
  struct stat status;
  if (::fstat(descriptor.number(), &status) != 0) return SystemFailure("examine", path, errno);
  if (!S_ISREG(status.st_mode)) {
    return Fail(ErrorCode::kIo, "cannot open '", path.native(), "': not a regular file");
  }
  const size_t size = static_cast<size_t>(status.st_size);
  if (size == 0) return MappedFile({});
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor.number(), 0);
  if (address == MAP_FAILED) return SystemFailure("map", path, errno);
  return MappedFile({static_cast<const std::byte*>(address), size});
}

MappedFile::MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

Result<void> WriteFileAtomically(const std::filesystem::path& path,
                                 std::span<const std::span<const std::byte>> pieces) {
  TQ_CHECK(CheckReplaceable(path));
  const std::filesystem::path name = TemporaryName(path);
  Descriptor descriptor(::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (descriptor.number() < 0) return SystemFailure("create", name, errno);
  TemporaryFile temporary(name);
  for (const std::span<const std::byte> piece : pieces) {
    if (const int error = WriteAll(descriptor.number(), piece)) {
      return SystemFailure("write", path, error);
    }
  }
  if (::fsync(descriptor.number()) != 0) return SystemFailure("flush", path, errno);
  if (const int error = descriptor.Close()) return SystemFailure("close", path, error);
  if (::rename(name.c_str(), path.c_str()) != 0) return SystemFailure("replace", path, errno);
  temporary.Keep();
  return FlushFolder(path);
}

}  // namespace turboquant
