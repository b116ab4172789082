// Snapshots that are refused: other options than expected, and files that are wrong under checksums
// that are right.
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/storage/checked_tensors.h"
#include "tests/storage/snapshot_examples.h"

namespace turboquant {
namespace {

// --- Expectations ----------------------------------------------------------------------------

struct Mismatch {
  std::function<void(KvCacheOptions&)> change;
  std::string option;    // as the message names it
  std::string in_file;   // its text there
  std::string expected;  // and here
};

KvCacheOptions Wide() {
  KvCacheOptions options = SnapshotOptions();
  options.format.keys.outlier_channels = 4;
  return options;
}

Bytes WideFile() {
  const KvCacheOptions options = Wide();
  KvCache cache = test::MakeCache(options);
  TokenStream(options).AppendTo(cache, 0, 300);
  return Saved(cache);
}

TEST(SnapshotExpectationTest, EveryOptionIsComparedByName) {
  const Bytes file = WideFile();
  ASSERT_TRUE(ReadKvCache(file, Wide()));
  const std::vector<Mismatch> mismatches = {
      {[](auto& o) { o.format.head_dim = 24; }, "head_dim", "20", "24"},
      {[](auto& o) { o.format.kv_heads = 4; }, "kv_heads", "2", "4"},
      {[](auto& o) { o.format.keys = {.method = KvMethod::kF16}; }, "keys.method", "outlier",
       "f16"},
      {[](auto& o) { o.format.keys = {.method = KvMethod::kProd}; }, "keys.method", "outlier",
       "prod"},
      {[](auto& o) { o.format.keys.outlier_channels = 0; }, "keys.method", "outlier", "mse"},
      {[](auto& o) { o.format.keys.outlier_channels = 6; }, "keys.outlier_channels", "4", "6"},
      {[](auto& o) { o.format.keys.bits = 3; }, "keys.bits", "4", "3"},
      {[](auto& o) { o.format.keys.scale = Scale::kNorm; }, "keys.scale", "unbiased", "norm"},
      {[](auto& o) { o.format.keys.scale_search = false; }, "keys.scale_search", "true", "false"},
      {[](auto& o) { o.format.values.bits = 8; }, "values.bits", "4", "8"},
      {[](auto& o) { o.format.values = {.method = KvMethod::kF32}; }, "values.method", "mse",
       "f32"},
      {[](auto& o) { o.format.values.scale = Scale::kMatched; }, "values.scale", "unbiased",
       "matched"},
      {[](auto& o) { o.format.rotation = RotationKind::kDense; }, "rotation", "hadamard", "dense"},
      {[](auto& o) { o.format.rotation_rounds = 2; }, "rotation_rounds", "1", "2"},
      {[](auto& o) { o.format.seed = 43; }, "seed", "42", "43"},
      {[](auto& o) { o.format.layer = 4; }, "layer", "3", "4"},
      {[](auto& o) { o.sinks = 3; }, "sinks", "4", "3"},
      {[](auto& o) { o.window = 17; }, "window", "16", "17"},
      {[](auto& o) { o.max_tokens = 4096; }, "max_tokens", "0", "4096"},
      {[](auto& o) { o.exact_type = RowType::kF16; }, "exact_type", "f32", "f16"},
      {[](auto& o) { o.first_position = 0; }, "first_position", "1000", "0"},
      {[](auto& o) { o.rope.reset(); }, "rope", "half", "none"},
      {[](auto& o) { o.rope->pairing = RopePairing::kInterleaved; }, "rope", "half", "interleaved"},
      {[](auto& o) { o.key_map = KeyMapKind::kFull; }, "key_map", "diagonal", "full"},
      {[](auto& o) { o.key_map_shrinkage = 0.25; }, "key_map_shrinkage", "0.3", "0.25"},
      {[](auto& o) { o.query_heads = 8; }, "query_heads", "4", "8"},
      {[](auto& o) {
         const std::vector<float> center(40);
         o.known_key_map = std::make_shared<const KeyMap>(
             *KeyMap::FromNumbers(KeyMapKind::kCenter, 2, 20, center, {}));
       },
       "key_map_given", "false", "true"},
  };
  for (const Mismatch& mismatch : mismatches) {
    KvCacheOptions options = Wide();
    mismatch.change(options);
    EXPECT_TRUE(FailsWith(ReadKvCache(file, options), ErrorCode::kInvalidArgument,
                          {"'" + mismatch.option + "' is '" + mismatch.in_file + "'",
                           "'" + mismatch.expected + "' was expected"}));
  }
}

TEST(SnapshotExpectationTest, FrequenciesAndKnownMapsAreComparedByNumber) {
  KvCacheOptions options = SnapshotOptions();
  const std::vector<float> center(40, 1.0f);
  options.known_key_map =
      std::make_shared<const KeyMap>(*KeyMap::FromNumbers(KeyMapKind::kCenter, 2, 20, center, {}));
  const Bytes file = Saved(test::MakeCache(options));
  ASSERT_TRUE(ReadKvCache(file, options));

  KvCacheOptions other = options;
  other.rope->inverse_frequencies[1] = 0.5;
  EXPECT_TRUE(FailsWith(ReadKvCache(file, other), ErrorCode::kInvalidArgument,
                        {"rope.inverse_frequencies[1]", "0.5 was expected"}));
  other = options;
  other.rope->inverse_frequencies.pop_back();
  EXPECT_TRUE(FailsWith(ReadKvCache(file, other), ErrorCode::kInvalidArgument,
                        {"5 inverse_frequencies", "4 were expected"}));
  other = options;
  other.known_key_map = std::make_shared<const KeyMap>(
      *KeyMap::FromNumbers(KeyMapKind::kCenter, 2, 20, std::vector<float>(40, 2.0f), {}));
  EXPECT_TRUE(FailsWith(ReadKvCache(file, other), ErrorCode::kInvalidArgument, {"known_key_map"}));
  other = options;
  other.known_key_map.reset();
  EXPECT_TRUE(FailsWith(ReadKvCache(file, other), ErrorCode::kInvalidArgument,
                        {"'key_map_given' is 'true'", "'false' was expected"}));
  other = options;
  other.window = 0;
  other.sinks = ~size_t{0};
  other.max_tokens = 1;
  EXPECT_TRUE(FailsWith(ReadKvCache(file, other), ErrorCode::kInvalidArgument, {"max_tokens 1"}));
}

TEST(SnapshotExpectationTest, DecodersNameTheLayer) {
  DecoderCacheOptions options;
  options.layers = 2;
  options.layer = SnapshotOptions();
  const Bytes file = SerializeDecoderCache(*DecoderCache::Create(options)).value();
  ASSERT_TRUE(ReadDecoderCache(file, options));
  DecoderCacheOptions other = options;
  other.layers = 3;
  EXPECT_TRUE(FailsWith(ReadDecoderCache(file, other), ErrorCode::kInvalidArgument,
                        {"'layers' is 2", "3 was expected"}));
  other = options;
  other.overrides = {{.layer = 1, .window = size_t{0}}};
  EXPECT_TRUE(FailsWith(ReadDecoderCache(file, other), ErrorCode::kInvalidArgument,
                        {"'layers.1.window' is '16'", "'0' was expected"}));
}

// --- Files -----------------------------------------------------------------------------------

using Change = std::function<void(EditableFile&)>;

// The file, changed, under new checksums.
Bytes Changed(const Bytes& file, const Change& change) {
  EditableFile editable(SafetensorsFile::FromBytes(file).value());
  std::erase_if(editable.metadata, [](const auto& entry) { return IsCheckKey(entry.first); });
  change(editable);
  return SerializeChecked({"turboquant.kv", 1}, editable.Views(), editable.metadata).value();
}

void ExpectCorrupt(const Bytes& file, const Change& change,
                   std::initializer_list<std::string_view> parts) {
  EXPECT_TRUE(FailsWith(ReadKvCache(Changed(file, change)), ErrorCode::kCorruptData, parts));
}

Change SetOption(const std::string& name, const std::string& text) {
  return [=](EditableFile& file) { file.metadata[name] = text; };
}

template <class T>
Change SetElement(const std::string& tensor, size_t i, T element) {
  return [=](EditableFile& file) {
    std::memcpy(file[tensor].bytes.data() + i * sizeof(T), &element, sizeof(T));
  };
}

TEST(SnapshotFileTest, OptionsAndTensorsAreAllThereAndNoOthers) {
  const Bytes file = WideFile();
  const EditableFile whole(SafetensorsFile::FromBytes(file).value());
  for (const auto& [name, text] : whole.metadata) {
    if (IsCheckKey(name)) continue;
    ExpectCorrupt(file, [&](EditableFile& f) { f.metadata.erase(name); }, {name});
    ExpectCorrupt(file, SetOption(name, "nonsense"), {name, "nonsense"});
  }
  ExpectCorrupt(file, SetOption("more", "1"), {"no option 'more'"});
  ExpectCorrupt(file, SetOption("keys.sketch", "gaussian"), {"no option 'keys.sketch'"});
  for (const EditableFile::Tensor& tensor : whole.tensors) {
    const std::string quoted = "'" + tensor.name + "'";
    ExpectCorrupt(file, [&](EditableFile& f) { f.Remove(tensor.name); }, {quoted, "missing"});
    ExpectCorrupt(file, [&](EditableFile& f) { f[tensor.name].shape.push_back(1); },
                  {quoted, "shape"});
    ExpectCorrupt(file,
                  [&](EditableFile& f) {
                    auto& changed = f[tensor.name];
                    changed.type =
                        changed.type == TensorType::kU8 ? TensorType::kI8 : TensorType::kI16;
                    changed.shape = {changed.bytes.size() / TensorTypeBytes(changed.type)};
                  },
                  {quoted, "dtype"});
  }
  ExpectCorrupt(
      file, [](EditableFile& f) { f.tensors.push_back({"more", TensorType::kU8, {1}, Bytes(1)}); },
      {"no tensor 'more'"});
}

TEST(SnapshotFileTest, FormatVersionAndChecksumsAreChecked) {
  const Bytes file = WideFile();
  const EditableFile whole(SafetensorsFile::FromBytes(file).value());
  const auto with = [&](const std::string& key, const std::string& text) {
    EditableFile changed = whole;
    changed.metadata[key] = text;
    return ReadKvCache(changed.Serialize());
  };
  EXPECT_TRUE(FailsWith(with("format", "turboquant.rows"), ErrorCode::kInvalidArgument,
                        {"turboquant.rows", "turboquant.kv"}));
  EXPECT_TRUE(FailsWith(with("format_version", "2"), ErrorCode::kUnsupported, {"2", "newer"}));
  EXPECT_TRUE(FailsWith(with("header_crc32", "00000000"), ErrorCode::kCorruptData, {"header"}));
  EXPECT_TRUE(FailsWith(with("seed", "43"), ErrorCode::kCorruptData, {"header", "CRC-32"}));
  EditableFile changed = whole;
  changed["values.codes"].bytes[3] ^= std::byte{1};
  EXPECT_TRUE(FailsWith(ReadKvCache(changed.Serialize()), ErrorCode::kCorruptData,
                        {"'values.codes'", "CRC-32"}));
}

TEST(SnapshotFileTest, ContentsAreChecked) {
  const Bytes file = WideFile();
  constexpr uint16_t kNan = 0x7E00;
  constexpr uint16_t kMinusZero = 0x8000;
  constexpr uint16_t kInfinity = 0x7C00;
  constexpr float kFloatNan = std::numeric_limits<float>::quiet_NaN();
  for (const char* name : {"keys.outlier_scales", "keys.regular_scales", "values.scales"}) {
    for (const uint16_t scale : {kNan, kMinusZero, kInfinity}) {
      ExpectCorrupt(file, SetElement<uint16_t>(name, 1, scale), {name, "head 0", "scale"});
    }
  }
  // 4 channels of 5 bits: 20 of 24.
  ExpectCorrupt(file, SetElement<uint8_t>("keys.outlier_codes", 5, 0xF0),
                {"keys.outlier_codes", "row 1", "padding"});
  ExpectCorrupt(file, SetElement<uint32_t>("keys.channels", 1, 0), {"keys.channels", "ascend"});
  ExpectCorrupt(file, SetElement<uint32_t>("keys.channels", 7, 20),
                {"keys.channels", "channel 3 of head 1"});
  ExpectCorrupt(file, SetElement<float>("sinks.keys", 0, kFloatNan), {"sinks.keys", "NaN"});
  ExpectCorrupt(file, SetElement<float>("window.values", 0, HUGE_VALF),
                {"window.values", "infinite"});
  ExpectCorrupt(file, SetElement<float>("window.keys", 0, 20000.0f), {"window.keys", "norm"});
  ExpectCorrupt(file, SetElement<float>("key_map.center", 3, kFloatNan),
                {"key_map", "not finite at 3"});
  ExpectCorrupt(file, SetElement<float>("key_map.scale", 25, 0.0f),
                {"key_map", "KV head 1", "positive"});
  ExpectCorrupt(file, SetElement<double>("rope.inverse_frequencies", 1, HUGE_VAL),
                {"rope.inverse_frequencies[1]"});
  ExpectCorrupt(file, SetOption("values.codebook_crc32", "00000000"),
                {"'values.codebook_crc32' is '00000000'"});
  ExpectCorrupt(file, SetOption("keys.outlier_codebook_crc32", "00000000"),
                {"'keys.outlier_codebook_crc32'"});
}

TEST(SnapshotFileTest, UniformCodesAndUnquantizedRowsAreChecked) {
  KvCacheOptions options = SnapshotOptions();
  options.format.keys.bits = 8;
  options.format.values = {.method = KvMethod::kF16};
  KvCache cache = test::MakeCache(options);
  TokenStream(options).AppendTo(cache, 0, 300);
  const Bytes file = Saved(cache);
  ExpectCorrupt(file, SetElement<uint8_t>("keys.codes", 45, 255),
                {"keys.codes", "row 2", "code 255 at column 5"});
  ExpectCorrupt(file, SetElement<uint16_t>("values.rows", 7, 0x7C00),
                {"values.rows", "element 7", "not finite"});
  ExpectCorrupt(file, SetElement<float>("window.values", 2, 70000.0f), {"window.values", "f16"});

  options.format.keys = {.method = KvMethod::kProd, .bits = 2};
  KvCache prod = test::MakeCache(options);
  TokenStream(options).AppendTo(prod, 0, 300);
  ExpectCorrupt(Saved(prod), SetElement<uint8_t>("keys.signs", 2, 0x10),
                {"keys.signs", "row 0", "padding"});
  ExpectCorrupt(Saved(prod), SetElement<uint16_t>("keys.residual_scales", 0, 0xBC00),
                {"keys.residual_scales", "-1"});
}

// Shapes that agree with each other but not with what a cache can be.
TEST(SnapshotFileTest, CountsAreChecked) {
  const Bytes file = WideFile();
  const auto contradicts = [&](const std::string& name, const std::string& text,
                               std::string_view part) {
    ExpectCorrupt(file, SetOption(name, text), {"contradicts itself", part});
  };
  contradicts("sink_tokens", "5", "sink_tokens exceeds sinks");
  contradicts("sink_tokens", "3", "sinks that are not full");
  contradicts("window_tokens", "80", "window_tokens");
  contradicts("evicted_tokens", "64", "without max_tokens");
  contradicts("first_lane", "1", "first_lane");
  ExpectCorrupt(file, SetOption("key_map_held", "full"), {"key_map.matrix", "missing"});
  ExpectCorrupt(file, SetOption("key_map_held", "center"), {"no tensor 'key_map.scale'"});
  contradicts("key_map_held", "none", "packed tokens where none can be");
  ExpectCorrupt(file,
                [](EditableFile& f) {
                  f.metadata["observed_queries"] = "held";
                  f.metadata["observed_tokens"] = "1";
                },
                {"not awaited"});
  contradicts("keys.outlier_channels_held", "false", "channels are missing");
  ExpectCorrupt(file, SetOption("max_tokens", "250"), {"more tokens than max_tokens"});
  ExpectCorrupt(file, SetOption("packed_tokens", "281474976710656"), {"keys.", "shape"});
  ExpectCorrupt(file, SetOption("packed_tokens", "281474976710657"), {"packed_tokens"});
  ExpectCorrupt(file, SetOption("key_map", "none"), {"key_map_held"});
  ExpectCorrupt(file, SetOption("query_heads", "3"), {"make no cache", "query_heads"});
  ExpectCorrupt(file, SetOption("values.method", "prod"), {"values."});
}

TEST(SnapshotFileTest, QueryWeightsAreChecked) {
  const KvCacheOptions options = SnapshotOptions(16);
  KvCache cache = test::MakeCache(options);
  TokenStream(options).AppendTo(cache, 0, 300);
  const Bytes file = Saved(cache);
  ASSERT_FALSE(cache.key_map()->query_weights(0).empty());
  ExpectCorrupt(file, SetOption("query_weighted_codes", "false"), {"query_weighted_codes"});
  ExpectCorrupt(file, SetOption("query_weights_held", "false"), {"query_weights_held"});
  ExpectCorrupt(file, [](EditableFile& f) { f.metadata.erase("query_weights_held"); },
                {"contradicts itself", "query_weights_held"});
  ExpectCorrupt(file,
                [](EditableFile& f) {
                  f.metadata.erase("query_weights_held");
                  f.Remove("key_map.query_weights");
                },
                {"contradicts itself", "query_weights_held"});
  ExpectCorrupt(file, [](EditableFile& f) { f.metadata.erase("query_weighted_codes"); },
                {"contradicts itself", "query_weights_held"});
  ExpectCorrupt(file, [](EditableFile& f) { f.Remove("key_map.query_weights"); },
                {"key_map.query_weights", "missing"});
  ExpectCorrupt(file, SetElement<float>("key_map.query_weights", 17, -1.0f),
                {"query_weights of KV head 1 at 1", "positive"});
  ExpectCorrupt(file, SetOption("rotation_rounds", "2"), {"make no cache", "one round"});
}

TEST(SnapshotFileTest, StatesBeforeTheKeyMapAreChecked) {
  const KvCacheOptions options = SnapshotOptions();
  KvCache cache = test::MakeCache(options);
  TokenStream(options).AppendTo(cache, 0, 60);
  const Bytes file = Saved(cache);
  ExpectCorrupt(file, SetOption("key_map_given", "true"), {"key_map_given", "none is held"});
  ExpectCorrupt(file, SetElement<float>("observed.queries", 3, HUGE_VALF),
                {"observed.queries", "infinite"});
  ExpectCorrupt(file, SetOption("observed_tokens", "0"), {"observed_tokens"});
  ExpectCorrupt(file, SetOption("observed_tokens", "517"), {"observed_tokens"});
  ExpectCorrupt(file, SetOption("observed_tokens", "59"), {"observed.queries", "shape"});
  ExpectCorrupt(file, SetOption("window_tokens", "128"), {"window_tokens"});
  ExpectCorrupt(file, SetOption("query_heads", "0"), {"not awaited"});
}

TEST(SnapshotFileTest, LayersAreChecked) {
  DecoderCacheOptions options;
  options.layers = 2;
  options.layer = SnapshotOptions();
  const Bytes file = SerializeDecoderCache(*DecoderCache::Create(options)).value();
  const auto corrupt = [&](const std::string& name, const std::string& text,
                           std::initializer_list<std::string_view> parts) {
    EXPECT_TRUE(FailsWith(ReadDecoderCache(Changed(file, SetOption(name, text))),
                          ErrorCode::kCorruptData, parts));
  };
  corrupt("layers", "3", {"'layers.2.head_dim'", "missing"});
  corrupt("layers", "1", {"no option 'layers.1."});
  corrupt("layers", "0", {"'layers' is '0'"});
  corrupt("layers", "4097", {"'layers' is '4097'"});
  corrupt("layers.1.layer", "0", {"'layers.1.layer' is 0"});
  corrupt("layers.1.sink_tokens", "5", {"in layers.1", "sink_tokens"});
  corrupt("layers.1.query_heads", "3", {"in layers.1", "query_heads"});
}

// What would take gigabytes and hours is not begun for a file's sake alone.
TEST(SnapshotFileTest, DenseMatricesAreLimited) {
  KvCacheOptions options;
  options.format.head_dim = 16;
  options.format.kv_heads = 1;
  options.format.rotation = RotationKind::kDense;
  const Bytes file = Saved(test::MakeCache(options));
  EXPECT_TRUE(ReadKvCache(file));
  const Bytes large = Changed(file, [](EditableFile& f) {
    f.metadata["head_dim"] = "1024";
    f.metadata["kv_heads"] = "1024";
  });
  EXPECT_TRUE(FailsWith(ReadKvCache(large), ErrorCode::kUnsupported, {"2147483648", "134217728"}));
}

}  // namespace
}  // namespace turboquant
