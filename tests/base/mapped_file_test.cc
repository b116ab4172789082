#include "src/base/mapped_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace turboquant {
namespace {

namespace fs = std::filesystem;

std::span<const std::byte> BytesOf(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::string TextOf(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class MappedFileTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "turboquant-mapped-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }

  Result<void> Write(const fs::path& path, std::string_view text) {
    const std::span<const std::byte> pieces[] = {BytesOf(text)};
    return WriteFileAtomically(path, pieces);
  }

  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_)) {
      names.push_back(entry.path().filename().string());
    }
    return names;
  }

  fs::path folder_;
};

TEST_F(MappedFileTest, ReadsWhatWasWrittenAndLeavesNothingElse) {
  const std::span<const std::byte> pieces[] = {BytesOf("one "), {}, BytesOf("two")};
  ASSERT_TRUE(WriteFileAtomically(folder_ / "a.bin", pieces).has_value());
  const auto file = MappedFile::Open(folder_ / "a.bin");
  ASSERT_TRUE(file.has_value()) << file.error().message;
  EXPECT_EQ(TextOf(file->bytes()), "one two");
  EXPECT_EQ(Names(), std::vector<std::string>{"a.bin"});
}

TEST_F(MappedFileTest, AMappingOutlivesTheReplacementOfItsFile) {
  ASSERT_TRUE(Write(folder_ / "a", "old").has_value());
  const auto before = MappedFile::Open(folder_ / "a");
  ASSERT_TRUE(before.has_value());
  ASSERT_TRUE(Write(folder_ / "a", "newer").has_value());
  EXPECT_EQ(TextOf(before->bytes()), "old");
  EXPECT_EQ(TextOf(MappedFile::Open(folder_ / "a")->bytes()), "newer");
}

TEST_F(MappedFileTest, AnEmptyFileHasNoBytes) {
  ASSERT_TRUE(Write(folder_ / "empty", "").has_value());
  const auto file = MappedFile::Open(folder_ / "empty");
  ASSERT_TRUE(file.has_value());
  EXPECT_TRUE(file->bytes().empty());
}

TEST_F(MappedFileTest, MovesTakeTheMappingAlong) {
  ASSERT_TRUE(Write(folder_ / "a", "alpha").has_value());
  ASSERT_TRUE(Write(folder_ / "b", "beta").has_value());
  auto a = MappedFile::Open(folder_ / "a");
  auto b = MappedFile::Open(folder_ / "b");
  ASSERT_TRUE(a.has_value() && b.has_value());
  MappedFile moved = std::move(*a);
  EXPECT_TRUE(a->bytes().empty());
  EXPECT_EQ(TextOf(moved.bytes()), "alpha");
  moved = std::move(*b);
  EXPECT_EQ(TextOf(moved.bytes()), "beta");
}

TEST_F(MappedFileTest, OpenNamesThePathItCannotMap) {
  const auto missing = MappedFile::Open(folder_ / "missing");
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, ErrorCode::kIo);
  EXPECT_NE(missing.error().message.find((folder_ / "missing").string()), std::string::npos);
  EXPECT_NE(missing.error().message.find("No such file"), std::string::npos);

  EXPECT_EQ(MappedFile::Open(folder_).error().code, ErrorCode::kIo);
  ASSERT_EQ(mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(MappedFile::Open(folder_ / "pipe").error().code, ErrorCode::kIo);  // and does not wait
}

TEST_F(MappedFileTest, AFailedWriteLeavesTheFolderAsItWas) {
  const auto no_folder = Write(folder_ / "none" / "a", "text");
  ASSERT_FALSE(no_folder.has_value());
  EXPECT_EQ(no_folder.error().code, ErrorCode::kIo);
  EXPECT_NE(no_folder.error().message.find("none"), std::string::npos);

  fs::create_directory(folder_ / "folder");
  EXPECT_EQ(Write(folder_ / "folder", "text").error().code, ErrorCode::kIo);
  EXPECT_EQ(Write(folder_ / "", "text").error().code, ErrorCode::kIo);
  EXPECT_EQ(Names(), std::vector<std::string>{"folder"});
}

TEST_F(MappedFileTest, AFailureInTheMiddleLeavesTheOldFileAndNoTemporary) {
  ASSERT_TRUE(Write(folder_ / "a", "old").has_value());
  // A piece at an address that is not mapped: write() fails with EFAULT after the first piece.
  const std::span<const std::byte> pieces[] = {
      BytesOf("new"), {reinterpret_cast<const std::byte*>(uintptr_t{16}), 4}};
  const auto written = WriteFileAtomically(folder_ / "a", pieces);
  ASSERT_FALSE(written.has_value());
  EXPECT_EQ(written.error().code, ErrorCode::kIo);
  EXPECT_EQ(TextOf(MappedFile::Open(folder_ / "a")->bytes()), "old");
  EXPECT_EQ(Names(), std::vector<std::string>{"a"});
}

TEST_F(MappedFileTest, ADeviceIsNotReplaced) {
  fs::create_symlink("/dev/null", folder_ / "null");
  const auto written = Write(folder_ / "null", "text");
  ASSERT_FALSE(written.has_value());
  EXPECT_EQ(written.error().code, ErrorCode::kIo);
  EXPECT_NE(written.error().message.find("not a regular file"), std::string::npos);
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
}

}  // namespace
}  // namespace turboquant
