// Files made by hand, and what tests of storage expect of them.
#ifndef TURBOQUANT_TESTS_STORAGE_STORAGE_TESTING_H_
#define TURBOQUANT_TESTS_STORAGE_STORAGE_TESTING_H_

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "turboquant/error.h"
#include "turboquant/safetensors.h"

namespace turboquant {

using Bytes = std::vector<std::byte>;

// Length, header as given, body.
inline Bytes FileOf(std::string_view header, std::span<const std::byte> body = {}) {
  const uint64_t length = header.size();
  Bytes bytes(8 + header.size() + body.size());
  std::memcpy(bytes.data(), &length, 8);
  std::memcpy(bytes.data() + 8, header.data(), header.size());
  if (!body.empty()) std::memcpy(bytes.data() + 8 + header.size(), body.data(), body.size());
  return bytes;
}

// The text of a file's header.
inline std::string HeaderText(const Bytes& file) {
  uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  return {reinterpret_cast<const char*>(file.data()) + 8, length};
}

template <class T>
Bytes BytesOf(std::initializer_list<T> elements) {
  const auto bytes = std::as_bytes(std::span(elements.begin(), elements.size()));
  return {bytes.begin(), bytes.end()};
}

template <class T>
Bytes BytesOf(const std::vector<T>& elements) {
  const auto bytes = std::as_bytes(std::span(elements));
  return {bytes.begin(), bytes.end()};
}

// The result failed with `code`, and its message names all of `parts`.
template <class T>
testing::AssertionResult FailsWith(const Result<T>& result, ErrorCode code,
                                   std::initializer_list<std::string_view> parts) {
  if (result.has_value()) return testing::AssertionFailure() << "it succeeded";
  const std::string& message = result.error().message;
  if (result.error().code != code) {
    return testing::AssertionFailure() << "it is " << ErrorCodeName(result.error().code) << ", not "
                                       << ErrorCodeName(code) << ": " << message;
  }
  for (const std::string_view part : parts) {
    if (message.find(part) == message.npos) {
      return testing::AssertionFailure() << "'" << part << "' is not in: " << message;
    }
  }
  if (message.find('\n') != message.npos) {
    return testing::AssertionFailure() << "not one line: " << message;
  }
  return testing::AssertionSuccess();
}

// The tensors and metadata of a file, to be changed and written again. Bytes are owned.
struct EditableFile {
  struct Tensor {
    std::string name;
    TensorType type;
    std::vector<size_t> shape;
    Bytes bytes;
  };
  std::vector<Tensor> tensors;
  StringMap metadata;

  explicit EditableFile(const SafetensorsFile& file) : metadata(file.metadata()) {
    for (const TensorView& view : file.tensors()) {
      tensors.push_back({view.name, view.type, view.shape, {view.bytes.begin(), view.bytes.end()}});
    }
  }
  EditableFile(std::vector<Tensor> tensors_in, StringMap metadata_in)
      : tensors(std::move(tensors_in)), metadata(std::move(metadata_in)) {}

  Tensor& operator[](std::string_view name) {
    for (Tensor& tensor : tensors) {
      if (tensor.name == name) return tensor;
    }
    ADD_FAILURE() << "no tensor " << name;
    return tensors.at(0);
  }
  void Remove(std::string_view name) {
    std::erase_if(tensors, [&](const Tensor& tensor) { return tensor.name == name; });
  }
  std::vector<TensorView> Views() const {
    std::vector<TensorView> views;
    for (const Tensor& tensor : tensors) {
      views.push_back({tensor.name, tensor.type, tensor.shape, tensor.bytes});
    }
    return views;
  }
  Bytes Serialize() const {
    const auto bytes = SerializeSafetensors(Views(), metadata);
    EXPECT_TRUE(bytes.has_value()) << bytes.error().message;
    return bytes.value_or(Bytes{});
  }
};

// A folder of a test's own, gone with it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "turboquant-XXXXXX").string();
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    path_ = name;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
  size_t FileCount() const {
    size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) {
      (void)entry;
      ++count;
    }
    return count;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace turboquant

#endif  // TURBOQUANT_TESTS_STORAGE_STORAGE_TESTING_H_
