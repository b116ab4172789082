// libFuzzer's name for a target would be defined three times in one test executable.
#define LLVMFuzzerTestOneInput SafetensorsTarget
#include "fuzz/safetensors_fuzzer.cc"
#undef LLVMFuzzerTestOneInput

#include "tests/storage/fuzz_replay.h"

namespace turboquant {
namespace {

Bytes SmallFile() {
  static const Bytes numbers = BytesOf({1.0, -2.0});
  static const Bytes codes = BytesOf({uint8_t{1}});
  const TensorView tensors[] = {{"n", TensorType::kF64, {2}, numbers},
                                {"c", TensorType::kU8, {1, 1}, codes}};
  return SerializeSafetensors(tensors, {{"k", "v"}}).value();
}

TEST(SafetensorsFuzzTest, Corpus) { ReplayCorpus(SafetensorsTarget, "safetensors"); }

TEST(SafetensorsFuzzTest, EveryPrefix) { RunEveryPrefix(SafetensorsTarget, SmallFile()); }

TEST(SafetensorsFuzzTest, EveryChangeOfAByte) {
  RunEveryByteChange(SafetensorsTarget, SmallFile(), AllMasks());
}

}  // namespace
}  // namespace turboquant
