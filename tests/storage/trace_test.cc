#include "turboquant/trace.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "src/base/half.h"
#include "src/storage/checked_tensors.h"
#include "tests/storage/storage_testing.h"

namespace turboquant {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// Two samples of 3 tokens and 2 queries, dim 4: element i of keys is i, of values 100 + i, of
// queries 200 + i. Exact in every float type.
EditableFile MakeTrace(const std::string& prefix = "") {
  const auto ramp = [](float first, size_t count) {
    std::vector<float> elements(count);
    for (size_t i = 0; i < count; ++i) elements[i] = first + static_cast<float>(i);
    return BytesOf(elements);
  };
  return {{{prefix + "keys", TensorType::kF32, {2, 3, 4}, ramp(0, 24)},
           {prefix + "values", TensorType::kF32, {2, 3, 4}, ramp(100, 24)},
           {prefix + "queries", TensorType::kF32, {2, 2, 4}, ramp(200, 16)},
           {prefix + "query_positions", TensorType::kI64, {2, 2}, BytesOf<int64_t>({0, 2, 1, 1})}},
          {}};
}

Result<KvTrace> Load(const EditableFile& file) { return KvTrace::FromBytes(file.Serialize()); }

template <class Change>
Result<KvTrace> LoadChanged(const Change& change) {
  EditableFile file = MakeTrace();
  change(file);
  return Load(file);
}

void AddRope(EditableFile& file) {
  file.metadata.insert({{"rope", "post"},
                        {"rope_theta", "10000.5"},
                        {"rope_pairing", "interleaved"},
                        {"rotary_dim", "2"},
                        {"first_position", "7"}});
}

TEST(KvTraceTest, GivesKeysValuesQueriesAndPositionsOfEverySample) {
  const auto trace = Load(MakeTrace());
  ASSERT_TRUE(trace.has_value()) << trace.error().message;
  ASSERT_EQ(trace->heads().size(), 1u);
  const TraceHead& head = trace->heads()[0];
  EXPECT_EQ(head.sample_count(), 2u);
  EXPECT_EQ(head.tokens(), 3u);
  EXPECT_EQ(head.queries(), 2u);
  EXPECT_EQ(head.head_dim(), 4u);
  EXPECT_EQ(head.total_tokens(), 6u);
  EXPECT_EQ(head.total_queries(), 4u);
  EXPECT_EQ(head.UncompressedBytes(), 192u);
  EXPECT_FALSE(head.layer().has_value());
  EXPECT_EQ(head.keys(1).rows, 3u);
  EXPECT_EQ(head.keys(1).cols, 4u);
  EXPECT_EQ(head.keys(1).Row(2)[3], 23.0f);
  EXPECT_EQ(head.values(0).Row(0)[0], 100.0f);
  EXPECT_EQ(head.values(1).Row(0)[0], 112.0f);
  EXPECT_EQ(head.query_rows(1).rows, 2u);
  EXPECT_EQ(head.query_rows(1).Row(1)[3], 215.0f);
  EXPECT_TRUE(std::ranges::equal(head.query_positions(0), std::vector<size_t>{0, 2}));
  EXPECT_TRUE(std::ranges::equal(head.query_positions(1), std::vector<size_t>{1, 1}));
  EXPECT_FALSE(trace->rope().has_value());
}

TEST(KvTraceTest, ReadsEveryFloatTypeToTheSameNumbers) {
  const auto expected = Load(MakeTrace());
  const auto convert = [](EditableFile::Tensor& tensor, TensorType type) {
    const auto floats = ReadFloats({tensor.name, tensor.type, tensor.shape, tensor.bytes}).value();
    std::vector<double> doubles(floats.begin(), floats.end());
    std::vector<uint16_t> halves;
    for (const float x : floats) {
      halves.push_back(type == TensorType::kF16 ? F32ToF16(x).bits : F32ToBF16(x).bits);
    }
    tensor.type = type;
    tensor.bytes = type == TensorType::kF64 ? BytesOf(doubles) : BytesOf(halves);
  };
  for (const TensorType type : {TensorType::kF64, TensorType::kF16, TensorType::kBF16}) {
    const auto trace = LoadChanged([&](EditableFile& file) {
      for (const char* name : {"keys", "values", "queries"}) convert(file[name], type);
    });
    ASSERT_TRUE(trace.has_value()) << trace.error().message;
    for (size_t sample = 0; sample < 2; ++sample) {
      const auto equal = [](MatrixView<const float> a, MatrixView<const float> b) {
        return std::equal(a.data, a.data + a.rows * a.cols, b.data);
      };
      EXPECT_TRUE(equal(trace->heads()[0].keys(sample), expected->heads()[0].keys(sample)));
      EXPECT_TRUE(equal(trace->heads()[0].values(sample), expected->heads()[0].values(sample)));
      EXPECT_TRUE(
          equal(trace->heads()[0].query_rows(sample), expected->heads()[0].query_rows(sample)));
    }
  }
}

TEST(KvTraceTest, ReadsEveryPositionType) {
  const std::pair<TensorType, Bytes> types[] = {
      {TensorType::kI32, BytesOf<int32_t>({0, 2, 1, 1})},
      {TensorType::kU32, BytesOf<uint32_t>({0, 2, 1, 1})},
      {TensorType::kU64, BytesOf<uint64_t>({0, 2, 1, 1})}};
  for (const auto& [type, bytes] : types) {
    const auto trace = LoadChanged([&](EditableFile& file) {
      file["query_positions"].type = type;
      file["query_positions"].bytes = bytes;
    });
    ASSERT_TRUE(trace.has_value()) << trace.error().message;
    EXPECT_TRUE(
        std::ranges::equal(trace->heads()[0].query_positions(0), std::vector<size_t>{0, 2}));
  }
}

TEST(KvTraceTest, RankTwoIsOneSample) {
  const auto trace = LoadChanged([](EditableFile& file) {
    file["keys"].shape = file["values"].shape = {6, 4};
    file["queries"].shape = {4, 4};
    file["query_positions"].shape = {4};
  });
  ASSERT_TRUE(trace.has_value()) << trace.error().message;
  EXPECT_EQ(trace->heads()[0].sample_count(), 1u);
  EXPECT_EQ(trace->heads()[0].tokens(), 6u);
  EXPECT_EQ(trace->heads()[0].queries(), 4u);
}

TEST(KvTraceTest, PositionsThatAreAbsentFollowFromTheCounts) {
  const auto last = LoadChanged([](EditableFile& file) { file.Remove("query_positions"); });
  ASSERT_TRUE(last.has_value());
  EXPECT_TRUE(std::ranges::equal(last->heads()[0].query_positions(1), std::vector<size_t>{2, 2}));
  const auto each = LoadChanged([](EditableFile& file) {
    file.Remove("query_positions");
    file["queries"].shape = {2, 3, 4};
    file["queries"].bytes = file["keys"].bytes;
  });
  ASSERT_TRUE(each.has_value());
  EXPECT_TRUE(
      std::ranges::equal(each->heads()[0].query_positions(1), std::vector<size_t>{0, 1, 2}));
}

TEST(KvTraceTest, ReadsSeveralHeadsInNumericalOrder) {
  EditableFile file({}, {});
  for (const char* prefix : {"layers.10.heads.0.", "layers.2.heads.11.", "layers.2.heads.3."}) {
    for (auto& tensor : MakeTrace(prefix).tensors) file.tensors.push_back(tensor);
  }
  file["layers.10.heads.0.keys"].bytes = file["layers.2.heads.3.values"].bytes;
  const auto trace = Load(file);
  ASSERT_TRUE(trace.has_value()) << trace.error().message;
  ASSERT_EQ(trace->heads().size(), 3u);
  EXPECT_EQ(trace->heads()[0].head(), 3u);
  EXPECT_EQ(trace->heads()[1].head(), 11u);
  EXPECT_EQ(trace->heads()[2].layer(), 10u);
  EXPECT_EQ(trace->heads()[2].keys(0).Row(0)[0], 100.0f);

  file.Remove("layers.2.heads.11.values");
  EXPECT_TRUE(
      FailsWith(Load(file), ErrorCode::kCorruptData, {"'layers.2.heads.11.values'", "missing"}));
}

TEST(KvTraceTest, RefusesNamesThatCouldMeanTwoThings) {
  EditableFile file = MakeTrace();
  for (auto& tensor : MakeTrace("layers.0.heads.0.").tensors) file.tensors.push_back(tensor);
  EXPECT_TRUE(FailsWith(Load(file), ErrorCode::kCorruptData, {"without a name"}));
}

TEST(KvTraceTest, IgnoresWhatItDoesNotKnow) {
  const auto trace = LoadChanged([](EditableFile& file) {
    file.metadata = {{"model", "m"}, {"format", "pt"}, {"zzz", "1"}, {"layer", "4"}, {"head", "0"}};
    file.tensors.push_back({"layers.x.heads.0.keys", TensorType::kU8, {1}, Bytes(1)});
    file.tensors.push_back({"attention", TensorType::kBool, {1}, Bytes(1)});
  });
  ASSERT_TRUE(trace.has_value()) << trace.error().message;
  EXPECT_EQ(trace->metadata().at("model"), "m");
  EXPECT_EQ(trace->heads()[0].layer(), 4u);
  EXPECT_EQ(trace->heads()[0].head(), 0u);
}

TEST(KvTraceTest, RefusesMissingTensorsAndWrongTypes) {
  for (const char* name : {"keys", "values", "queries"}) {
    EXPECT_TRUE(FailsWith(LoadChanged([&](EditableFile& file) { file.Remove(name); }),
                          ErrorCode::kCorruptData, {name, "missing"}));
    EXPECT_TRUE(
        FailsWith(LoadChanged([&](EditableFile& file) { file[name].type = TensorType::kI32; }),
                  ErrorCode::kUnsupported, {name, "I32"}));
  }
  EXPECT_TRUE(FailsWith(
      LoadChanged([](EditableFile& file) { file["query_positions"].type = TensorType::kF64; }),
      ErrorCode::kUnsupported, {"query_positions", "F64"}));
}

TEST(KvTraceTest, RefusesShapesThatDoNotAgree) {
  const auto refused = [](const char* name, std::vector<size_t> shape,
                          std::initializer_list<std::string_view> parts) {
    return FailsWith(LoadChanged([&](EditableFile& file) { file[name].shape = shape; }),
                     ErrorCode::kDimensionMismatch, parts);
  };
  EXPECT_TRUE(refused("keys", {24}, {"'keys'", "24"}));
  EXPECT_TRUE(refused("keys", {1, 2, 3, 4}, {"'keys'", "1 × 2 × 3 × 4"}));
  EXPECT_TRUE(refused("values", {2, 4, 3}, {"'values'", "2 × 4 × 3", "2 × 3 × 4"}));
  EXPECT_TRUE(refused("values", {6, 4}, {"'values'", "6 × 4"}));
  EXPECT_TRUE(refused("queries", {2, 4, 2}, {"'queries'", "2 × 4 × 2", "2 × 3 × 4"}));
  EXPECT_TRUE(refused("queries", {4, 4}, {"'queries'", "4 × 4"}));
  EXPECT_TRUE(refused("query_positions", {4}, {"'query_positions'", "4", "2 × 2"}));
  EXPECT_TRUE(refused("query_positions", {1, 4}, {"'query_positions'", "1 × 4", "2 × 2"}));
  EXPECT_TRUE(refused("query_positions", {4, 1}, {"'query_positions'", "4 × 1", "2 × 2"}));
  const auto reshaped = [](std::vector<size_t> shape) {
    return LoadChanged([&](EditableFile& file) {
      file["keys"] = {"keys", TensorType::kF32, shape, {}};
      file["values"] = {"values", TensorType::kF32, shape, {}};
      file["queries"] = {"queries", TensorType::kF32, shape, {}};
      file.Remove("query_positions");
    });
  };
  EXPECT_TRUE(
      FailsWith(reshaped({2, 3, 0}), ErrorCode::kDimensionMismatch, {"'keys'", "rows are empty"}));
  // Samples without tokens cost no bytes, so their number would be anyone's guess.
  EXPECT_TRUE(FailsWith(reshaped({1u << 30, 0, 4}), ErrorCode::kDimensionMismatch,
                        {"'keys'", "no tokens"}));
  EXPECT_TRUE(FailsWith(reshaped({0, 3, 4}), ErrorCode::kDimensionMismatch, {"'keys'"}));
}

TEST(KvTraceTest, RefusesPositionsOutsideTheTokens) {
  const auto with = [](TensorType type, Bytes bytes) {
    return LoadChanged([&](EditableFile& file) {
      file["query_positions"].type = type;
      file["query_positions"].bytes = bytes;
    });
  };
  EXPECT_TRUE(FailsWith(with(TensorType::kI64, BytesOf<int64_t>({0, 2, -1, 1})),
                        ErrorCode::kCorruptData,
                        {"'query_positions'", "-1", "sample 1", "query 0", "0 to 2"}));
  EXPECT_TRUE(FailsWith(with(TensorType::kI32, BytesOf<int32_t>({0, 3, 1, 1})),
                        ErrorCode::kCorruptData, {"3", "sample 0", "query 1"}));
  EXPECT_TRUE(FailsWith(with(TensorType::kU64, BytesOf<uint64_t>({0, UINT64_MAX, 1, 1})),
                        ErrorCode::kCorruptData, {"18446744073709551615", "query 1"}));
  EXPECT_TRUE(FailsWith(with(TensorType::kI32, BytesOf<int32_t>({0, INT32_MIN, 1, 1})),
                        ErrorCode::kCorruptData, {"-2147483648"}));
}

TEST(KvTraceTest, RefusesNumbersThatAreNotFiniteAndSaysWhere) {
  const auto with = [](const char* name, size_t element, float number) {
    return LoadChanged([&](EditableFile& file) {
      std::memcpy(file[name].bytes.data() + 4 * element, &number, 4);
    });
  };
  // Element 18 of [2, 3, 4] is sample 1, token 1, column 2.
  EXPECT_TRUE(FailsWith(with("keys", 18, kNaN), ErrorCode::kNonFinite,
                        {"'keys'", "nan", "sample 1", "token 1", "column 2"}));
  EXPECT_TRUE(FailsWith(with("values", 3, -INFINITY), ErrorCode::kNonFinite,
                        {"'values'", "-inf", "sample 0", "token 0", "column 3"}));
  EXPECT_TRUE(FailsWith(with("queries", 15, INFINITY), ErrorCode::kNonFinite,
                        {"'queries'", "inf", "sample 1", "query 1", "column 3"}));
}

TEST(KvTraceTest, ReadsTheDeclaredRope) {
  const auto trace = LoadChanged(AddRope);
  ASSERT_TRUE(trace.has_value()) << trace.error().message;
  const TraceRope rope = trace->rope().value();
  EXPECT_EQ(rope.state, TraceRope::State::kPost);
  EXPECT_EQ(rope.theta, 10000.5);
  EXPECT_EQ(rope.pairing, TraceRope::Pairing::kInterleaved);
  EXPECT_EQ(rope.rotary_dim, 2u);
  EXPECT_EQ(rope.first_position, 7u);
}

TEST(KvTraceTest, RefusesAMalformedRope) {
  const auto with = [](const char* key, const char* text) {
    return LoadChanged([&](EditableFile& file) {
      AddRope(file);
      file.metadata[key] = text;
    });
  };
  const std::pair<const char*, const char*> cases[] = {{"rope", "Post"},
                                                       {"rope", ""},
                                                       {"rope_theta", "0"},
                                                       {"rope_theta", "-1"},
                                                       {"rope_theta", "inf"},
                                                       {"rope_theta", "nan"},
                                                       {"rope_theta", "1e4x"},
                                                       {"rope_theta", ""},
                                                       {"rope_pairing", "whole"},
                                                       {"rotary_dim", "0"},
                                                       {"rotary_dim", "3"},
                                                       {"rotary_dim", "6"},
                                                       {"rotary_dim", "two"},
                                                       {"rotary_dim", "-2"},
                                                       {"first_position", "-1"},
                                                       {"first_position", "0.5"},
                                                       {"first_position", "18446744073709551615"}};
  for (const auto& [key, text] : cases) {
    EXPECT_TRUE(FailsWith(with(key, text), ErrorCode::kCorruptData, {key})) << key << " " << text;
  }
  for (const char* key : {"rope_theta", "rope_pairing", "rotary_dim", "first_position"}) {
    const auto trace = LoadChanged([&](EditableFile& file) {
      AddRope(file);
      file.metadata.erase(key);
    });
    EXPECT_TRUE(FailsWith(trace, ErrorCode::kCorruptData, {key}));
  }
  const auto undeclared =
      LoadChanged([](EditableFile& file) { file.metadata["rotary_dim"] = "x"; });
  EXPECT_TRUE(undeclared.has_value());
}

TEST(KvTraceTest, RefusesLayersThatAreNoNumbers) {
  for (const char* key : {"layer", "head"}) {
    const auto trace = LoadChanged([&](EditableFile& file) { file.metadata[key] = "first"; });
    EXPECT_TRUE(FailsWith(trace, ErrorCode::kCorruptData, {key, "'first'"}));
  }
}

TEST(KvTraceTest, ChecksChecksumsWhereTheyAre) {
  const EditableFile trace = MakeTrace();
  const Bytes bytes = SerializeChecked({"turboquant.trace", 1}, trace.Views(), {}).value();
  EXPECT_TRUE(KvTrace::FromBytes(bytes).has_value());
  Bytes flipped = bytes;
  flipped.back() ^= std::byte{1};
  EXPECT_TRUE(FailsWith(KvTrace::FromBytes(flipped), ErrorCode::kCorruptData, {"CRC-32"}));
  const Bytes newer = SerializeChecked({"turboquant.trace", 2}, trace.Views(), {}).value();
  EXPECT_TRUE(FailsWith(KvTrace::FromBytes(newer), ErrorCode::kUnsupported, {"2"}));
  const Bytes rows = SerializeChecked({"turboquant.rows", 1}, trace.Views(), {}).value();
  EXPECT_TRUE(
      FailsWith(KvTrace::FromBytes(rows), ErrorCode::kInvalidArgument, {"turboquant.rows"}));
}

TEST(KvTraceTest, ReadsAFileWhoseTensorsAreMisaligned) {
  const Bytes aligned = MakeTrace().Serialize();
  const std::string header = HeaderText(aligned);
  for (size_t spaces = 1; spaces < 8; ++spaces) {
    const Bytes shifted =
        FileOf(header + std::string(spaces, ' '), std::span(aligned).subspan(8 + header.size()));
    const auto trace = KvTrace::FromBytes(shifted);
    ASSERT_TRUE(trace.has_value()) << trace.error().message;
    EXPECT_EQ(trace->heads()[0].keys(1).Row(2)[3], 23.0f);
  }
}

TEST(KvTraceTest, LoadsTheRecordedTraces) {
  for (const std::string layer : {"00", "15", "29"}) {
    const std::filesystem::path path =
        std::filesystem::path(TURBOQUANT_SOURCE_DIR) / "data" /
        ("smollm2-135m-news-layer" + layer + "-head0-postrope.safetensors");
    const auto trace = KvTrace::Load(path);
    ASSERT_TRUE(trace.has_value()) << trace.error().message;
    ASSERT_EQ(trace->heads().size(), 1u);
    const TraceHead& head = trace->heads()[0];
    EXPECT_EQ(head.layer(), static_cast<uint64_t>(std::stoi(layer)));
    EXPECT_EQ(head.head(), 0u);
    EXPECT_EQ(head.sample_count(), 1u);
    EXPECT_EQ(head.tokens(), 512u);
    EXPECT_EQ(head.queries(), 65u);
    EXPECT_EQ(head.head_dim(), 64u);
    EXPECT_EQ(head.query_positions(0).front(), 0u);
    EXPECT_EQ(head.query_positions(0).back(), 511u);
    ASSERT_TRUE(trace->rope().has_value());
    EXPECT_EQ(trace->rope()->state, TraceRope::State::kPost);
    EXPECT_EQ(trace->rope()->theta, 100000.0);
    EXPECT_EQ(trace->rope()->pairing, TraceRope::Pairing::kHalf);
    EXPECT_EQ(trace->rope()->rotary_dim, 64u);
    EXPECT_EQ(trace->metadata().at("model"), "SmolLM2-135M-Instruct");
  }
}

TEST(KvTraceTest, LoadNamesTheFile) {
  const TemporaryFolder folder;
  EditableFile file = MakeTrace();
  file.Remove("keys");
  ASSERT_TRUE(WriteSafetensors(folder / "t.safetensors", file.Views(), {}).has_value());
  EXPECT_TRUE(FailsWith(KvTrace::Load(folder / "t.safetensors"), ErrorCode::kCorruptData,
                        {"t.safetensors", "'keys'"}));
  EXPECT_TRUE(FailsWith(KvTrace::Load(folder / "none"), ErrorCode::kIo, {"none"}));
}

}  // namespace
}  // namespace turboquant
