#include "turboquant/safetensors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>

#include "src/base/half.h"
#include "tests/storage/storage_testing.h"

namespace turboquant {
namespace {

const Bytes kEight(8, std::byte{7});

Result<SafetensorsFile> Parse(const Bytes& bytes) { return SafetensorsFile::FromBytes(bytes); }

TEST(SafetensorsFileTest, ReadsNamesTypesShapesBytesAndMetadata) {
  const Bytes bytes = FileOf(R"({"b":{"dtype":"F16","shape":[2,1],"data_offsets":[4,8]},)"
                             R"("__metadata__":{"who":"\u00e9 \"q\""},)"
                             R"("a":{"data_offsets":[0,4],"shape":[],"dtype":"F32"}}   )",
                             BytesOf({1.5f, 0.0f}));
  const auto file = Parse(bytes);
  ASSERT_TRUE(file.has_value()) << file.error().message;
  ASSERT_EQ(file->tensors().size(), 2u);
  EXPECT_EQ(file->tensors()[0].name, "a");
  EXPECT_EQ(file->tensors()[0].type, TensorType::kF32);
  EXPECT_TRUE(file->tensors()[0].shape.empty());
  EXPECT_EQ(file->tensors()[0].bytes.size(), 4u);
  EXPECT_EQ(file->Find("b")->shape, (std::vector<size_t>{2, 1}));
  EXPECT_EQ(file->Find("b")->bytes.data(), bytes.data() + bytes.size() - 4);
  EXPECT_EQ(file->Find("c"), nullptr);
  EXPECT_EQ(file->metadata(), (StringMap{{"who", "é \"q\""}}));
}

TEST(SafetensorsFileTest, ReadsFilesWithoutTensorsAndEmptyTensors) {
  EXPECT_TRUE(Parse(FileOf("{}"))->tensors().empty());
  EXPECT_TRUE(Parse(FileOf(R"({"__metadata__":{}})"))->metadata().empty());
  const Bytes bytes = FileOf(R"({"e":{"dtype":"F32","shape":[3,0],"data_offsets":[4,4]},)"
                             R"("x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                             R"("y":{"dtype":"I32","shape":[1],"data_offsets":[4,8]}})",
                             kEight);
  EXPECT_TRUE(Parse(bytes).has_value());
}

struct Malformed {
  const char* what;
  std::string header;
  ErrorCode code;
  std::initializer_list<std::string_view> parts;
};

TEST(SafetensorsFileTest, RefusesMalformedHeadersAndNamesTheCulprit) {
  constexpr ErrorCode kCorrupt = ErrorCode::kCorruptData;
  const auto one = [](const std::string& fields) { return "{\"t\":{" + fields + "}}"; };
  const std::string good = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";
  const Malformed cases[] = {
      {"array", "[]", kCorrupt, {"begin with '{'"}},
      {"leading space", " {}", kCorrupt, {"begin with '{'"}},
      {"empty", "", kCorrupt, {"begin with '{'"}},
      {"cut short", R"({"t":{"dtype")", kCorrupt, {"valid JSON", "byte 14"}},
      {"trailing text", "{} x", kCorrupt, {"valid JSON"}},
      {"zero byte", std::string("{}\0zz", 5), kCorrupt, {"zero byte", "2"}},
      {"comment", "{/**/}", kCorrupt, {"valid JSON"}},
      {"bad UTF-8", "{\"\xFF\":1}", kCorrupt, {"valid JSON"}},
      {"tensor twice", "{\"t\":{" + good + "},\"t\":{" + good + "}}", kCorrupt, {"'t'", "twice"}},
      {"field twice", one(good + R"(,"dtype":"F32")"), kCorrupt, {"'t'", "dtype", "twice"}},
      {"metadata twice",
       R"({"__metadata__":{},"__metadata__":{}})",
       kCorrupt,
       {"two __metadata__"}},
      {"key twice", R"({"__metadata__":{"k":"1","k":"2"}})", kCorrupt, {"'k'", "twice"}},
      {"metadata number", R"({"__metadata__":{"k":1}})", kCorrupt, {"'k'", "not a string"}},
      {"metadata object", R"({"__metadata__":{"k":{}}})", kCorrupt, {"'k'", "an object"}},
      {"metadata null", R"({"__metadata__":null})", kCorrupt, {"'__metadata__'", "null"}},
      {"tensor number", R"({"t":3})", kCorrupt, {"'t'", "not an object"}},
      {"no dtype", one(R"("shape":[2],"data_offsets":[0,8])"), kCorrupt, {"'t'", "no dtype"}},
      {"no shape", one(R"("dtype":"F32","data_offsets":[0,8])"), kCorrupt, {"'t'", "no shape"}},
      {"no offsets", one(R"("dtype":"F32","shape":[2])"), kCorrupt, {"'t'", "no data_offsets"}},
      {"more fields", one(good + R"(,"more":1)"), kCorrupt, {"'t'", "unknown field 'more'"}},
      {"negative axis",
       one(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"),
       kCorrupt,
       {"'t'", "negative", "shape"}},
      {"half an axis",
       one(R"("dtype":"F32","shape":[2.5],"data_offsets":[0,8])"),
       kCorrupt,
       {"'t'", "not whole", "shape"}},
      {"nested shape",
       one(R"("dtype":"F32","shape":[[2]],"data_offsets":[0,8])"),
       kCorrupt,
       {"'t'", "array", "shape"}},
      {"shape text",
       one(R"("dtype":"F32","shape":"2","data_offsets":[0,8])"),
       kCorrupt,
       {"'t'", "string", "shape"}},
      {"dtype number",
       one(R"("dtype":3,"shape":[2],"data_offsets":[0,8])"),
       kCorrupt,
       {"'t'", "number", "dtype"}},
      {"one offset",
       one(R"("dtype":"F32","shape":[2],"data_offsets":[0])"),
       kCorrupt,
       {"'t'", "data_offsets"}},
      {"three offsets",
       one(R"("dtype":"F32","shape":[2],"data_offsets":[0,8,8])"),
       kCorrupt,
       {"'t'", "data_offsets"}},
      {"offset beyond 64 bits",
       one(R"("dtype":"F32","shape":[2],"data_offsets":[0,99999999999999999999])"),
       kCorrupt,
       {"'t'", "data_offsets"}},
      {"backwards",
       one(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"),
       kCorrupt,
       {"'t'", "8 to 0"}},
      {"beyond the file",
       one(R"("dtype":"F32","shape":[4],"data_offsets":[0,16])"),
       kCorrupt,
       {"'t'", "0 to 16", "8 bytes"}},
      {"hole in front",
       one(R"("dtype":"F32","shape":[1],"data_offsets":[4,8])"),
       kCorrupt,
       {"'t'", "hole"}},
      {"bytes left over",
       one(R"("dtype":"F32","shape":[1],"data_offsets":[0,4])"),
       kCorrupt,
       {"end at 4", "8 bytes"}},
      {"overlap",
       R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
       R"("u":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       kCorrupt,
       {"'u'", "begins at 4", "inside"}},
      {"shape above bytes",
       one(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"),
       kCorrupt,
       {"'t'", "12", "8"}},
      {"overflowing shape",
       one(R"("dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8])"),
       kCorrupt,
       {"'t'", "4611686018427387904 × 4", "overflow"}},
      {"overflow in bytes only",
       one(R"("dtype":"F32","shape":[4611686018427387906],"data_offsets":[0,8])"),
       kCorrupt,
       {"'t'", "overflow"}},
      {"overflow behind a zero axis",
       one(R"("dtype":"F32","shape":[0,4611686018427387904,4],"data_offsets":[0,8])"),
       kCorrupt,
       {"'t'", "overflow"}},
      {"unknown dtype",
       one(R"("dtype":"F4","shape":[16],"data_offsets":[0,8])"),
       ErrorCode::kUnsupported,
       {"'t'", "'F4'"}},
  };
  for (const Malformed& malformed : cases) {
    const Bytes bytes = FileOf(malformed.header, kEight);
    EXPECT_TRUE(FailsWith(Parse(bytes), malformed.code, malformed.parts)) << malformed.what;
  }
}

TEST(SafetensorsFileTest, RefusesLengthsThatAreNotTheFiles) {
  EXPECT_TRUE(FailsWith(Parse(Bytes(7)), ErrorCode::kCorruptData, {"7 bytes"}));
  EXPECT_TRUE(FailsWith(Parse(Bytes(8)), ErrorCode::kCorruptData, {"begin with"}));
  Bytes bytes = FileOf("{}");
  uint64_t length = 3;
  std::memcpy(bytes.data(), &length, 8);
  EXPECT_TRUE(FailsWith(Parse(bytes), ErrorCode::kCorruptData, {"claims 3", "2"}));
  length = 100'000'001;
  std::memcpy(bytes.data(), &length, 8);
  EXPECT_TRUE(FailsWith(Parse(bytes), ErrorCode::kCorruptData, {"100000001", "100000000"}));
  length = UINT64_MAX;
  std::memcpy(bytes.data(), &length, 8);
  EXPECT_TRUE(FailsWith(Parse(bytes), ErrorCode::kCorruptData, {"18446744073709551615"}));
}

TEST(SafetensorsFileTest, NestingIsNoDanger) {
  std::string deep = "{\"t\":";
  deep.append(1'000'000, '[');
  EXPECT_TRUE(FailsWith(Parse(FileOf(deep)), ErrorCode::kCorruptData, {"'t'"}));
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"t\":";
  EXPECT_TRUE(FailsWith(Parse(FileOf(objects)), ErrorCode::kCorruptData, {"'t'"}));
}

TEST(SafetensorsFileTest, KeepsUnknownTypesWhenAskedTo) {
  const Bytes bytes = FileOf(R"({"t":{"dtype":"F4","shape":[16],"data_offsets":[0,8]}})", kEight);
  const auto file = SafetensorsFile::FromBytes(bytes, UnknownTensors::kKeep);
  ASSERT_TRUE(file.has_value());
  EXPECT_EQ(file->Find("t")->type, TensorType::kUnknown);
  EXPECT_EQ(file->Find("t")->bytes.size(), 8u);
  EXPECT_TRUE(FailsWith(ReadFloats(*file->Find("t")), ErrorCode::kUnsupported, {"'t'"}));
}

TEST(SafetensorsFileTest, CopiesShareTheMapping) {
  const TemporaryFolder folder;
  const Bytes numbers = BytesOf({1.0f, 2.0f});
  const TensorView tensor{"t", TensorType::kF32, {2}, numbers};
  ASSERT_TRUE(WriteSafetensors(folder / "f", std::span(&tensor, 1), {}).has_value());
  std::optional<SafetensorsFile> copy;
  {
    const auto file = SafetensorsFile::Open(folder / "f");
    ASSERT_TRUE(file.has_value()) << file.error().message;
    copy = *file;
  }
  EXPECT_EQ(ReadFloats(*copy->Find("t")).value(), (std::vector<float>{1.0f, 2.0f}));
}

TEST(SafetensorsFileTest, OpenNamesTheFile) {
  const TemporaryFolder folder;
  EXPECT_TRUE(FailsWith(SafetensorsFile::Open(folder / "none"), ErrorCode::kIo, {"none"}));
  std::ofstream(folder / "short") << "abc";
  EXPECT_TRUE(
      FailsWith(SafetensorsFile::Open(folder / "short"), ErrorCode::kCorruptData, {"short'", "3"}));
}

TEST(ReadFloatsTest, WidensAndNarrowsAtAnyAddress) {
  for (size_t shift = 0; shift < 8; ++shift) {
    const auto at_shift = [&](const Bytes& bytes) {
      Bytes shifted(shift);
      shifted.insert(shifted.end(), bytes.begin(), bytes.end());
      return shifted;
    };
    const auto read = [&](TensorType type, size_t count, const Bytes& shifted) {
      return ReadFloats({"t", type, {count}, std::span(shifted).subspan(shift)}).value();
    };
    const std::vector<float> expected = {1.5f, -0.25f};
    EXPECT_EQ(read(TensorType::kF32, 2, at_shift(BytesOf({1.5f, -0.25f}))), expected);
    EXPECT_EQ(read(TensorType::kF64, 2, at_shift(BytesOf({1.5, -0.25}))), expected);
    EXPECT_EQ(
        read(TensorType::kF16, 2, at_shift(BytesOf({F32ToF16(1.5f).bits, F32ToF16(-0.25f).bits}))),
        expected);
    EXPECT_EQ(read(TensorType::kBF16, 2,
                   at_shift(BytesOf({F32ToBF16(1.5f).bits, F32ToBF16(-0.25f).bits}))),
              expected);
  }
}

TEST(ReadFloatsTest, RefusesWhatNoF32Holds) {
  const Bytes wide = BytesOf({1.0, -1e300});
  EXPECT_TRUE(FailsWith(ReadFloats({"t", TensorType::kF64, {2}, wide}), ErrorCode::kInvalidArgument,
                        {"'t'", "element 1", "-1e+300"}));
  const Bytes infinite = BytesOf({std::numeric_limits<double>::infinity()});
  EXPECT_TRUE(std::isinf(ReadFloats({"t", TensorType::kF64, {1}, infinite}).value()[0]));
  const Bytes number = BytesOf({int32_t{1}});
  EXPECT_TRUE(FailsWith(ReadFloats({"t", TensorType::kI32, {1}, number}), ErrorCode::kUnsupported,
                        {"'t'", "I32", "F64, F32, F16 or BF16"}));
}

TEST(SerializeSafetensorsTest, BytesAreThoseOfTheFormat) {
  const Bytes a = BytesOf({uint8_t{1}, uint8_t{2}, uint8_t{3}});
  const Bytes b = BytesOf({int64_t{-1}});
  const TensorView tensors[] = {{"a", TensorType::kU8, {3}, a}, {"b", TensorType::kI64, {1}, b}};
  const Bytes bytes = SerializeSafetensors(tensors, {{"k\n", "\"v\\"}}).value();
  Bytes body = b;
  body.insert(body.end(), a.begin(), a.end());
  const std::string header = R"({"__metadata__":{"k\u000a":"\"v\\"},)"
                             R"("a":{"dtype":"U8","shape":[3],"data_offsets":[8,11]},)"
                             R"("b":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}})";
  EXPECT_EQ(HeaderText(bytes), header + std::string((8 - header.size() % 8) % 8, ' '));
  EXPECT_EQ(bytes, FileOf(HeaderText(bytes), body));
}

TEST(SerializeSafetensorsTest, RoundTripsEveryTypeAlignedAndInAnyOrder) {
  constexpr TensorType kAll[] = {TensorType::kBool,   TensorType::kU8,     TensorType::kI8,
                                 TensorType::kF8E4M3, TensorType::kF8E5M2, TensorType::kU16,
                                 TensorType::kI16,    TensorType::kF16,    TensorType::kBF16,
                                 TensorType::kU32,    TensorType::kI32,    TensorType::kF32,
                                 TensorType::kU64,    TensorType::kI64,    TensorType::kF64};
  std::vector<Bytes> contents;
  std::vector<TensorView> tensors;
  for (const TensorType type : kAll) contents.emplace_back(TensorTypeBytes(type) * 3, std::byte{9});
  for (size_t i = 0; i < std::size(kAll); ++i) {
    tensors.push_back({std::string(TensorTypeName(kAll[i])), kAll[i], {3, 1}, contents[i]});
  }
  const Bytes bytes = SerializeSafetensors(tensors, {}).value();
  std::reverse(tensors.begin(), tensors.end());
  EXPECT_EQ(SerializeSafetensors(tensors, {}).value(), bytes);
  const auto file = Parse(bytes);
  ASSERT_TRUE(file.has_value()) << file.error().message;
  for (const TensorView& tensor : tensors) {
    const TensorView* read = file->Find(tensor.name);
    ASSERT_NE(read, nullptr) << tensor.name;
    EXPECT_EQ(read->type, tensor.type);
    EXPECT_EQ(read->shape, tensor.shape);
    EXPECT_TRUE(std::ranges::equal(read->bytes, tensor.bytes));
    EXPECT_EQ(static_cast<size_t>(read->bytes.data() - bytes.data()) % TensorTypeBytes(tensor.type),
              0u)
        << tensor.name;
  }
}

TEST(SerializeSafetensorsTest, RefusesWhatNoReaderWouldTake) {
  const auto refused = [](std::vector<TensorView> tensors, const StringMap& metadata,
                          std::initializer_list<std::string_view> parts) {
    return FailsWith(SerializeSafetensors(tensors, metadata), ErrorCode::kInvalidArgument, parts);
  };
  const TensorView good{"t", TensorType::kF32, {2}, kEight};
  EXPECT_TRUE(refused({good, good}, {}, {"'t'", "twice"}));
  EXPECT_TRUE(refused({{"t", TensorType::kF32, {3}, kEight}}, {}, {"'t'", "3", "8 bytes"}));
  EXPECT_TRUE(refused({{"t", TensorType::kF32, {SIZE_MAX, 2}, kEight}}, {}, {"'t'", "8 bytes"}));
  EXPECT_TRUE(refused({{"t", TensorType::kUnknown, {2}, kEight}}, {}, {"'t'", "type"}));
  EXPECT_TRUE(refused({{"__metadata__", TensorType::kF32, {2}, kEight}}, {}, {"__metadata__"}));
  EXPECT_TRUE(refused({{"\xC3", TensorType::kF32, {2}, kEight}}, {}, {"UTF-8"}));
  EXPECT_TRUE(refused({good}, {{"k", "\xFF"}}, {"UTF-8"}));
  EXPECT_TRUE(refused({good}, {{std::string("\x80"), ""}}, {"UTF-8"}));
}

TEST(SerializeSafetensorsTest, NamesMayHoldAnyCharacter) {
  const std::string name = std::string("a\0b\"\\/\x01\x7F é\n", 12);
  const TensorView tensor{name, TensorType::kF32, {2}, kEight};
  const Bytes bytes = SerializeSafetensors(std::span(&tensor, 1), {{name, name}}).value();
  const auto file = Parse(bytes);
  ASSERT_TRUE(file.has_value()) << file.error().message;
  EXPECT_NE(file->Find(name), nullptr);
  EXPECT_EQ(file->metadata().at(name), name);
}

TEST(WriteSafetensorsTest, WritesTheSerializedBytesOrNothing) {
  const TemporaryFolder folder;
  const TensorView good{"t", TensorType::kF32, {2}, kEight};
  ASSERT_TRUE(WriteSafetensors(folder / "f", std::span(&good, 1), {{"k", "v"}}).has_value());
  EXPECT_EQ(std::filesystem::file_size(folder / "f"),
            SerializeSafetensors(std::span(&good, 1), {{"k", "v"}}).value().size());
  const TensorView bad{"t", TensorType::kF32, {3}, kEight};
  EXPECT_TRUE(FailsWith(WriteSafetensors(folder / "f", std::span(&bad, 1), {}),
                        ErrorCode::kInvalidArgument, {"'t'"}));
  EXPECT_EQ(SafetensorsFile::Open(folder / "f")->metadata().at("k"), "v");
  EXPECT_EQ(folder.FileCount(), 1u);
}

}  // namespace
}  // namespace turboquant
