#include "turboquant/rows_file.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "src/storage/checked_tensors.h"
#include "tests/storage/rows_examples.h"
#include "tests/storage/storage_testing.h"

namespace turboquant {
namespace {

constexpr const char* kMethods[] = {"mse", "prod", "qjl", "polar", "outlier"};

Bytes Serialized(const RowsExample& example) {
  const auto bytes = SerializeEncodedRows(example.File());
  EXPECT_TRUE(bytes.has_value()) << bytes.error().message;
  return bytes.value_or(Bytes{});
}

// A file with valid checksums whose contents are `example`, whatever they say.
Bytes SealedAnyhow(const RowsExample& example) {
  StringMap metadata = example.options;
  metadata["method"] = example.method;
  return SerializeChecked({"turboquant.rows", 1}, example.tensors.Views(), metadata).value();
}

bool SameContents(const EncodedRowsFile& a, const EncodedRowsFile& b) {
  if (a.method != b.method || a.options != b.options || a.rows != b.rows) return false;
  return a.tensors.size() == b.tensors.size() &&
         std::ranges::all_of(a.tensors, [&](const TensorView& tensor) {
           const TensorView* other = b.Find(tensor.name);
           return other && other->type == tensor.type && other->shape == tensor.shape &&
                  std::ranges::equal(other->bytes, tensor.bytes);
         });
}

TEST(EncodedRowsTest, EveryMethodComesBackEqual) {
  const TemporaryFolder folder;
  for (const char* method : kMethods) {
    const RowsExample example = MakeRowsExample(method);
    ASSERT_TRUE(WriteEncodedRows(folder / "rows", example.File()).has_value());
    const auto read = ReadEncodedRows(folder / "rows");
    ASSERT_TRUE(read.has_value()) << read.error().message;
    EXPECT_TRUE(SameContents(*read, example.File())) << method;
    EXPECT_EQ(read->rows, 2u);
    EXPECT_EQ(SerializeEncodedRows(*read).value(), Serialized(example));
    EXPECT_EQ(std::filesystem::file_size(folder / "rows"), Serialized(example).size());
  }
  EXPECT_EQ(folder.FileCount(), 1u);
}

TEST(EncodedRowsTest, NoRowsAreRowsToo) {
  RowsExample example = MakeRowsExample("mse");
  example.rows = 0;
  for (auto& tensor : example.tensors.tensors) {
    tensor.shape[0] = 0;
    tensor.bytes.clear();
  }
  const Bytes bytes = Serialized(example);
  const auto read = ReadEncodedRows(bytes);
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_EQ(read->rows, 0u);
}

TEST(EncodedRowsTest, ContentsOutliveTheResultThatReadThem) {
  const TemporaryFolder folder;
  ASSERT_TRUE(WriteEncodedRows(folder / "rows", MakeRowsExample("qjl").File()).has_value());
  EncodedRowsFile kept;
  {
    auto read = ReadEncodedRows(folder / "rows");
    ASSERT_TRUE(read.has_value());
    kept = *read;
  }
  EXPECT_TRUE(SameContents(kept, MakeRowsExample("qjl").File()));
}

// Changes an example; reading it must be refused as corrupt and writing it as the caller's fault,
// for the same reason.
template <class Change>
void ExpectRefused(const char* method, std::initializer_list<std::string_view> parts,
                   const Change& change) {
  RowsExample example = MakeRowsExample(method);
  change(example);
  const Bytes bytes = SealedAnyhow(example);
  EXPECT_TRUE(FailsWith(ReadEncodedRows(bytes), ErrorCode::kCorruptData, parts)) << method;
  EXPECT_TRUE(FailsWith(SerializeEncodedRows(example.File()), ErrorCode::kInvalidArgument, parts))
      << method;
}

TEST(EncodedRowsTest, RefusesTensorsMissingOrTooMany) {
  for (const char* method : kMethods) {
    for (const auto& tensor : MakeRowsExample(method).tensors.tensors) {
      ExpectRefused(method, {"'" + tensor.name + "'", "missing"},
                    [&](RowsExample& example) { example.tensors.Remove(tensor.name); });
    }
    ExpectRefused(method, {"no tensor 'more'"}, [](RowsExample& example) {
      example.tensors.tensors.push_back({"more", TensorType::kU8, {1}, Bytes(1)});
    });
  }
}

TEST(EncodedRowsTest, RefusesWrongTypesAndShapes) {
  ExpectRefused("mse", {"'codes'", "I8", "U8"},
                [](RowsExample& e) { e.tensors["codes"].type = TensorType::kI8; });
  ExpectRefused("mse", {"'scales'", "BF16", "F16"},
                [](RowsExample& e) { e.tensors["scales"].type = TensorType::kBF16; });
  ExpectRefused("mse", {"'scales'", "F16", "F32"},
                [](RowsExample& e) { e.options["scale_type"] = "f32"; });
  ExpectRefused("mse", {"'codes'", "2 × 12", "2 × 16"},
                [](RowsExample& e) { e.options["bits"] = "4"; });
  ExpectRefused("mse", {"'codes'", "24"}, [](RowsExample& e) { e.tensors["codes"].shape = {24}; });
  ExpectRefused("mse", {"'codes'", "scalar"}, [](RowsExample& e) {
    e.tensors["codes"].shape = {};
    e.tensors["codes"].bytes.resize(1);
  });
  ExpectRefused("mse", {"'scales'", "2 × 1"},
                [](RowsExample& e) { e.tensors["scales"].shape = {2, 1}; });
  ExpectRefused("mse", {"'scales'", "3"}, [](RowsExample& e) {
    e.tensors["scales"].shape = {3};
    e.tensors["scales"].bytes.resize(6);
  });
  ExpectRefused("prod", {"'signs'", "2 × 4", "2 × 5"},
                [](RowsExample& e) { e.options["sketch_rows"] = "33"; });
  ExpectRefused("polar", {"'radii'", "4", "2 × 2"},
                [](RowsExample& e) { e.tensors["radii"].shape = {4}; });
  ExpectRefused("outlier", {"'regular_codes'", "2 × 8", "2 × 7"},
                [](RowsExample& e) { e.options["outlier_dim"] = "4"; });
  ExpectRefused("outlier", {"'outlier_channels'", "2", "3"}, [](RowsExample& e) {
    e.tensors["outlier_channels"].shape = {2};
    e.tensors["outlier_channels"].bytes.resize(8);
  });
}

TEST(EncodedRowsTest, RefusesPaddingBitsScalesAndCodesOutOfRange) {
  ExpectRefused("prod", {"signs[1]", "padding"},
                [](RowsExample& e) { e.tensors["signs"].bytes[7] = std::byte{0x40}; });
  ExpectRefused("outlier", {"outlier_codes[0]", "padding"},
                [](RowsExample& e) { e.tensors["outlier_codes"].bytes[1] = std::byte{2}; });
  const auto half = [](const char* tensor, uint16_t bits) {
    return [=](RowsExample& e) { std::memcpy(e.tensors[tensor].bytes.data() + 2, &bits, 2); };
  };
  ExpectRefused("mse", {"scales[1]", "-1"}, half("scales", 0xBC00));
  ExpectRefused("mse", {"scales[1]", "-0"}, half("scales", 0x8000));
  ExpectRefused("mse", {"scales[1]", "inf"}, half("scales", 0x7C00));
  ExpectRefused("mse", {"scales[1]", "nan"}, half("scales", 0x7E00));
  ExpectRefused("prod", {"residual_norms[1]", "nan"}, half("residual_norms", 0x7C01));
  ExpectRefused("qjl", {"norms[1]", "-inf"}, half("norms", 0xFC00));
  ExpectRefused("polar", {"radii[0]", "inf"}, half("radii", 0x7C00));
  ExpectRefused("outlier", {"regular_scales[1]", "inf"}, half("regular_scales", 0x7C00));
  ExpectRefused("mse", {"scales[0]", "-2"}, [](RowsExample& e) {
    e.options["scale_type"] = "f32";
    e.tensors["scales"] = {"scales", TensorType::kF32, {2}, BytesOf({-2.0f, 1.0f})};
  });
  ExpectRefused("mse", {"codes[1]", "255", "column 3"}, [](RowsExample& e) {
    e.options["bits"] = "8";
    e.options["codebook"] = "uniform";
    e.options.erase("codebook_density");
    e.tensors["codes"] = {"codes", TensorType::kU8, {2, 32}, Bytes(64)};
    e.tensors["codes"].bytes[35] = std::byte{255};
  });
}

TEST(EncodedRowsTest, RefusesChannelsAndLevelsThatDoNotAscend) {
  const auto channels = [](std::vector<uint32_t> list) {
    return [=](RowsExample& e) { e.tensors["outlier_channels"].bytes = BytesOf(list); };
  };
  ExpectRefused("outlier", {"outlier_channels[1]", "9"}, channels({9, 9, 31}));
  ExpectRefused("outlier", {"outlier_channels[2]", "8"}, channels({0, 9, 8}));
  ExpectRefused("outlier", {"outlier_channels[2]", "32", "31"}, channels({0, 9, 32}));
  ExpectRefused("outlier", {"outlier_channels[2]", "4294967295"}, channels({0, 9, UINT32_MAX}));
  const auto levels = [](std::vector<int16_t> list) {
    return [=](RowsExample& e) {
      e.options["codebook"] = "custom";
      e.options.erase("codebook_density");
      e.tensors.tensors.push_back(
          {"codebook_levels", TensorType::kI16, {list.size()}, BytesOf(list)});
    };
  };
  ExpectRefused("prod", {"codebook_levels[2]", "-5"}, levels({-9, -5, -5, 7}));
  ExpectRefused("prod", {"codebook_levels[3]", "8193"}, levels({-9, -5, 0, 8193}));
  ExpectRefused("prod", {"codebook_levels[0]", "-8193"}, levels({-8193, -5, 0, 8192}));
  ExpectRefused("prod", {"'codebook_levels'", "2", "4"}, levels({-9, -5}));
  RowsExample good = MakeRowsExample("prod");
  levels({-8192, -5, 0, 8192})(good);
  EXPECT_TRUE(ReadEncodedRows(SealedAnyhow(good)).has_value());
}

TEST(EncodedRowsTest, RefusesOptionsThatDoNotFit) {
  ExpectRefused("mse", {"'seed'", "missing"}, [](RowsExample& e) { e.options.erase("seed"); });
  ExpectRefused("mse", {"no option 'extra'"}, [](RowsExample& e) { e.options["extra"] = ""; });
  ExpectRefused("mse", {"'dim'", "'0'"}, [](RowsExample& e) { e.options["dim"] = "0"; });
  ExpectRefused("mse", {"'bits'", "'9'"}, [](RowsExample& e) { e.options["bits"] = "9"; });
}

TEST(EncodedRowsTest, RefusesRowsThatWereMiscounted) {
  RowsExample example = MakeRowsExample("mse");
  example.rows = 3;
  EXPECT_TRUE(FailsWith(SerializeEncodedRows(example.File()), ErrorCode::kInvalidArgument,
                        {"2 rows", "3"}));
}

TEST(EncodedRowsTest, RefusesBytesThatAreNotTheShapes) {
  RowsExample example = MakeRowsExample("mse");
  example.tensors["scales"].bytes.resize(2);
  EXPECT_TRUE(FailsWith(SerializeEncodedRows(example.File()), ErrorCode::kInvalidArgument,
                        {"'scales'", "2 bytes"}));
}

TEST(EncodedRowsTest, AnUnknownMethodIsUnsupportedToReadAndInvalidToWrite) {
  RowsExample example = MakeRowsExample("mse");
  example.method = "trellis";
  EXPECT_TRUE(
      FailsWith(ReadEncodedRows(SealedAnyhow(example)), ErrorCode::kUnsupported, {"'trellis'"}));
  EXPECT_TRUE(
      FailsWith(SerializeEncodedRows(example.File()), ErrorCode::kInvalidArgument, {"'trellis'"}));
  const Bytes none = SerializeChecked({"turboquant.rows", 1}, {}, {}).value();
  EXPECT_TRUE(FailsWith(ReadEncodedRows(none), ErrorCode::kCorruptData, {"'method'"}));
}

TEST(EncodedRowsTest, RefusesOtherFilesNamingThem) {
  const Bytes plain = FileOf("{}");
  EXPECT_TRUE(FailsWith(ReadEncodedRows(plain), ErrorCode::kCorruptData, {"'format'"}));
  const Bytes snapshot = SerializeChecked({"turboquant.kv", 1}, {}, {}).value();
  EXPECT_TRUE(FailsWith(ReadEncodedRows(snapshot), ErrorCode::kInvalidArgument, {"turboquant.kv"}));
  const Bytes newer = SerializeChecked({"turboquant.rows", 2}, {}, {}).value();
  EXPECT_TRUE(FailsWith(ReadEncodedRows(newer), ErrorCode::kUnsupported, {"format_version 2"}));
  const TemporaryFolder folder;
  EXPECT_TRUE(FailsWith(ReadEncodedRows(folder / "none"), ErrorCode::kIo, {"none"}));
}

TEST(EncodedRowsTest, AFailedWriteLeavesTheFileAsItWas) {
  const TemporaryFolder folder;
  const RowsExample good = MakeRowsExample("mse");
  ASSERT_TRUE(WriteEncodedRows(folder / "rows", good.File()).has_value());
  RowsExample bad = good;
  bad.options.erase("seed");
  EXPECT_FALSE(WriteEncodedRows(folder / "rows", bad.File()).has_value());
  EXPECT_TRUE(SameContents(*ReadEncodedRows(folder / "rows"), good.File()));
  EXPECT_EQ(folder.FileCount(), 1u);
}

TEST(EncodedRowsTest, EveryPrefixFails) {
  for (const char* method : kMethods) {
    const Bytes bytes = Serialized(MakeRowsExample(method));
    for (size_t size = 0; size < bytes.size(); ++size) {
      const Bytes prefix(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size));
      const auto read = ReadEncodedRows(prefix);
      ASSERT_FALSE(read.has_value()) << method << " " << size;
      ASSERT_FALSE(read.error().message.empty());
    }
  }
}

// How many changes went unseen: those of spaces into other white space.
size_t UnseenChanges(const Bytes& bytes, std::span<const uint8_t> masks) {
  const auto original = ReadEncodedRows(bytes);
  EXPECT_TRUE(original.has_value());
  size_t unseen = 0;
  Bytes changed = bytes;
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (const uint8_t mask : masks) {
      changed[at] = bytes[at] ^ std::byte{mask};
      if (const auto read = ReadEncodedRows(changed)) {
        EXPECT_TRUE(SameContents(*read, *original)) << "byte " << at << " ^ " << int{mask};
        ++unseen;
      }
    }
    changed[at] = bytes[at];
  }
  return unseen;
}

class EncodedRowsByteTest : public testing::TestWithParam<const char*> {};

TEST_P(EncodedRowsByteTest, EverySingleByteChangeFailsOrChangesNothing) {
  const Bytes bytes = Serialized(MakeRowsExample(GetParam()));
  std::vector<uint8_t> masks(255);
  for (size_t i = 0; i < masks.size(); ++i) masks[i] = static_cast<uint8_t>(i + 1);
  const std::string header = HeaderText(bytes);
  const size_t padding = header.size() - header.find_last_not_of(' ') - 1;
  // A padding space may become tab, line feed or carriage return; nothing else may pass.
  EXPECT_EQ(UnseenChanges(bytes, masks), 3 * padding);
}

INSTANTIATE_TEST_SUITE_P(Methods, EncodedRowsByteTest, testing::ValuesIn(kMethods),
                         [](const auto& suite) { return std::string(suite.param); });

}  // namespace
}  // namespace turboquant
