// libFuzzer's name for a target would be defined three times in one test executable.
#define LLVMFuzzerTestOneInput TraceTarget
#include "fuzz/trace_fuzzer.cc"
#undef LLVMFuzzerTestOneInput

#include "tests/storage/fuzz_replay.h"

namespace turboquant {
namespace {

// Without checksums, so that changes reach the checks of the contents.
Bytes SmallFile() {
  static const Bytes rows = BytesOf({1.0f, 2.0f, 3.0f, 4.0f});
  static const Bytes positions = BytesOf<int32_t>({1});
  const TensorView tensors[] = {{"keys", TensorType::kF32, {2, 2}, rows},
                                {"values", TensorType::kF32, {2, 2}, rows},
                                {"queries", TensorType::kF32, {1, 2}, std::span(rows).first(8)},
                                {"query_positions", TensorType::kI32, {1}, positions}};
  const StringMap rope = {{"rope", "pre"},
                          {"rope_theta", "1e4"},
                          {"rope_pairing", "half"},
                          {"rotary_dim", "2"},
                          {"first_position", "0"}};
  return SerializeSafetensors(tensors, rope).value();
}

TEST(TraceFuzzTest, TheSmallFileIsATrace) {
  const auto trace = KvTrace::FromBytes(SmallFile());
  EXPECT_TRUE(trace.has_value()) << trace.error().message;
}

TEST(TraceFuzzTest, Corpus) { ReplayCorpus(TraceTarget, "trace"); }

TEST(TraceFuzzTest, EveryPrefix) { RunEveryPrefix(TraceTarget, SmallFile()); }

TEST(TraceFuzzTest, EveryChangeOfAByte) {
  RunEveryByteChange(TraceTarget, SmallFile(), AllMasks());
}

}  // namespace
}  // namespace turboquant
