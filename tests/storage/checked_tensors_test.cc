#include "src/storage/checked_tensors.h"

#include <gtest/gtest.h>

#include "src/base/checksum.h"
#include "src/storage/text.h"
#include "tests/storage/storage_testing.h"

namespace turboquant {
namespace {

constexpr FileFormat kFormat = {"turboquant.test", 3};

Bytes MakeFile() {
  static const Bytes numbers = BytesOf({1.0f, 2.0f});
  static const Bytes codes = BytesOf({uint8_t{5}});
  const TensorView tensors[] = {{"numbers", TensorType::kF32, {1, 2}, numbers},
                                {"codes", TensorType::kU8, {1}, codes}};
  return SerializeChecked(kFormat, tensors, {{"dim", "2"}}).value();
}

Result<StringMap> Verify(const Bytes& bytes) {
  const auto file = SafetensorsFile::FromBytes(bytes);
  if (!file) return std::unexpected(file.error());
  return VerifyChecked(*file, kFormat);
}

// The file with its metadata or tensors changed, and no checksum brought up to date.
template <class Change>
Bytes Changed(const Change& change) {
  const Bytes bytes = MakeFile();
  EditableFile file(*SafetensorsFile::FromBytes(bytes));
  change(file);
  return file.Serialize();
}

void AppendNumber(uint64_t number, Bytes& bytes) {
  const auto raw = std::as_bytes(std::span(&number, 1));
  bytes.insert(bytes.end(), raw.begin(), raw.end());
}

void AppendText(std::string_view text, Bytes& bytes) {
  AppendNumber(text.size(), bytes);
  const auto raw = std::as_bytes(std::span(text.data(), text.size()));
  bytes.insert(bytes.end(), raw.begin(), raw.end());
}

TEST(CheckedTensorsTest, GivesBackTheOtherMetadata) {
  EXPECT_EQ(Verify(MakeFile()).value(), (StringMap{{"dim", "2"}}));
}

TEST(CheckedTensorsTest, HeaderChecksumIsOverTheDocumentedBytes) {
  const Bytes bytes = MakeFile();
  const auto file = SafetensorsFile::FromBytes(bytes);
  ASSERT_TRUE(file.has_value());
  Bytes summed;
  AppendNumber(2, summed);
  AppendText("codes", summed);
  AppendText("U8", summed);
  for (const uint64_t number : {1, 1, 8, 9}) AppendNumber(number, summed);
  AppendText("numbers", summed);
  AppendText("F32", summed);
  for (const uint64_t number : {2, 1, 2, 0, 8}) AppendNumber(number, summed);
  const std::pair<std::string, std::string> entries[] = {
      {"crc32.codes", Hex32(Crc32(BytesOf({uint8_t{5}})))},
      {"crc32.numbers", Hex32(Crc32(BytesOf({1.0f, 2.0f})))},
      {"dim", "2"},
      {"format", "turboquant.test"},
      {"format_version", "3"}};
  AppendNumber(std::size(entries), summed);
  for (const auto& [key, text] : entries) {
    AppendText(key, summed);
    AppendText(text, summed);
  }
  EXPECT_EQ(file->metadata().at("header_crc32"), Hex32(Crc32(summed)));
  EXPECT_EQ(file->metadata().size(), std::size(entries) + 1);
}

TEST(CheckedTensorsTest, RefusesOtherFormatsAndNewerVersions) {
  const auto with = [](const char* key, const char* text) {
    return Verify(Changed([&](EditableFile& file) { file.metadata[key] = text; }));
  };
  EXPECT_TRUE(FailsWith(with("format", "turboquant.kv"), ErrorCode::kInvalidArgument,
                        {"'turboquant.kv'", "'turboquant.test'"}));
  EXPECT_TRUE(FailsWith(with("format_version", "4"), ErrorCode::kUnsupported, {"4", "3"}));
  for (const char* text : {"0", "03", "", "three", "-1"}) {
    EXPECT_TRUE(
        FailsWith(with("format_version", text), ErrorCode::kCorruptData, {"format_version"}))
        << text;
  }
}

TEST(CheckedTensorsTest, RefusesMissingFields) {
  for (const char* key :
       {"format", "format_version", "header_crc32", "crc32.codes", "crc32.numbers"}) {
    const Bytes bytes = Changed([&](EditableFile& file) { file.metadata.erase(key); });
    EXPECT_TRUE(FailsWith(Verify(bytes), ErrorCode::kCorruptData, {key}));
  }
}

TEST(CheckedTensorsTest, RefusesWrongAndMalformedChecksums) {
  const auto flipped = Changed([](EditableFile& file) { file["codes"].bytes[0] ^= std::byte{1}; });
  EXPECT_TRUE(FailsWith(Verify(flipped), ErrorCode::kCorruptData, {"tensor 'codes'"}));
  const auto shape = Changed([](EditableFile& file) { file["numbers"].shape = {2, 1}; });
  EXPECT_TRUE(FailsWith(Verify(shape), ErrorCode::kCorruptData, {"the header"}));
  const auto type = Changed([](EditableFile& file) { file["codes"].type = TensorType::kI8; });
  EXPECT_TRUE(FailsWith(Verify(type), ErrorCode::kCorruptData, {"the header"}));
  const auto text = Changed([](EditableFile& file) { file.metadata["dim"] = "3"; });
  EXPECT_TRUE(FailsWith(Verify(text), ErrorCode::kCorruptData, {"the header"}));
  const auto more = Changed([](EditableFile& file) { file.metadata["more"] = "3"; });
  EXPECT_TRUE(FailsWith(Verify(more), ErrorCode::kCorruptData, {"the header"}));
  const auto upper =
      Changed([](EditableFile& file) { file.metadata["header_crc32"] = "ABCDEF00"; });
  EXPECT_TRUE(FailsWith(Verify(upper), ErrorCode::kCorruptData, {"'ABCDEF00'", "hex"}));
}

TEST(CheckedTensorsTest, RefusesAChecksumOfNoTensor) {
  const Bytes bytes = Changed([](EditableFile& file) {
    file.metadata.erase("header_crc32");
    file.metadata["crc32.ghost"] = "00000000";
  });
  const auto file = SafetensorsFile::FromBytes(bytes);
  EXPECT_TRUE(
      FailsWith(VerifyWherePresent(*file, kFormat), ErrorCode::kCorruptData, {"'crc32.ghost'"}));
}

TEST(VerifyWherePresentTest, ChecksOnlyWhatIsThere) {
  const auto verify = [](const Bytes& bytes) {
    return VerifyWherePresent(*SafetensorsFile::FromBytes(bytes), kFormat);
  };
  EXPECT_TRUE(verify(MakeFile()).has_value());
  EXPECT_TRUE(verify(Changed([](EditableFile& file) { file.metadata.clear(); })).has_value());
  EXPECT_TRUE(verify(Changed([](EditableFile& file) {
                file.metadata = {{"format", "pt"}, {"format_version", "x"}};
              })).has_value());
  EXPECT_TRUE(FailsWith(
      verify(Changed([](EditableFile& file) { file.metadata = {{"format", "turboquant.rows"}}; })),
      ErrorCode::kInvalidArgument, {"'turboquant.rows'"}));
  EXPECT_TRUE(FailsWith(verify(Changed([](EditableFile& file) {
                          file.metadata = {{"format", "turboquant.test"}, {"format_version", "9"}};
                        })),
                        ErrorCode::kUnsupported, {"9"}));
  EXPECT_TRUE(FailsWith(verify(Changed([](EditableFile& file) {
                          file.metadata.erase("header_crc32");
                          file["codes"].bytes[0] ^= std::byte{1};
                        })),
                        ErrorCode::kCorruptData, {"'codes'"}));
}

}  // namespace
}  // namespace turboquant
