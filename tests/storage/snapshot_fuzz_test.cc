// libFuzzer's name for a target would be defined several times in one test executable.
#define LLVMFuzzerTestOneInput SnapshotTarget
#include "fuzz/snapshot_fuzzer.cc"
#undef LLVMFuzzerTestOneInput

#include <cstdlib>

#include "tests/storage/fuzz_replay.h"
#include "tests/storage/snapshot_examples.h"

namespace turboquant {
namespace {

// Two sinks and three packed tokens, without key map.
Bytes SmallFile() {
  KvCacheOptions options;
  options.format.head_dim = 5;
  options.format.kv_heads = 1;
  options.format.keys = {.bits = 3, .outlier_channels = 2};
  options.sinks = 2;
  options.window = 0;
  KvCache cache = test::MakeCache(options);
  test::Append(cache, test::Tokens(5, 1, 5), 0, 5);
  return Saved(cache);
}

// Four packed tokens under a given map with weights of codes.
Bytes WeightedFile() {
  KvCacheOptions options;
  options.format = {.head_dim = 4, .kv_heads = 1};
  options.sinks = 0;
  options.window = 0;
  options.rope = RopeParameters::FromTheta(10.0, 2);
  const float numbers[] = {0.5f, 1.0f, 1.5f, 1.0f};
  auto map = KeyMap::FromNumbers(KeyMapKind::kDiagonal, 1, 4, numbers, numbers, numbers);
  options.known_key_map = std::make_shared<const KeyMap>(*std::move(map));
  KvCache cache = test::MakeCache(options);
  EXPECT_EQ(cache.options().query_weighted_codes, true);
  test::Append(cache, test::Tokens(4, 1, 4), 0, 4);
  return Saved(cache);
}

TEST(SnapshotFuzzTest, Corpus) { ReplayCorpus(SnapshotTarget, "snapshot"); }

TEST(SnapshotFuzzTest, EveryPrefixIsRefused) {
  for (const Bytes& file : {SmallFile(), WeightedFile()}) {
    for (size_t size = 0; size < file.size(); ++size) {
      const Bytes prefix(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size));
      ASSERT_FALSE(ReadKvCache(prefix)) << size;
    }
  }
}

// As it is: refused, or the same cache (a space of the header's padding became other white space).
TEST(SnapshotFuzzTest, EveryChangeOfAByteIsRefusedOrMeansNothing) {
  const Bytes file = SmallFile();
  Bytes changed = file;
  size_t same = 0;
  for (size_t at = 0; at < file.size(); ++at) {
    for (const uint8_t mask : kBitMasks) {
      changed[at] = file[at] ^ std::byte{mask};
      const Result<KvCache> read = ReadKvCache(changed);
      if (!read) continue;
      ++same;
      ASSERT_EQ(Saved(*read), file) << at;
    }
    changed[at] = file[at];
  }
  EXPECT_LT(same, 64u);
}

// With checksums put right: refused, or a cache that holds what the file says.
TEST(SnapshotFuzzTest, EveryFlipOfABitUnderNewChecksums) {
  constexpr uint8_t kFewMasks[] = {1, 16};
  const bool all = std::getenv("TURBOQUANT_LONG_TESTS") != nullptr;  // six seconds
  for (const Bytes& file : {SmallFile(), WeightedFile()}) {
    RunEveryByteChange(SnapshotTarget, file, all ? std::span<const uint8_t>(kBitMasks) : kFewMasks);
  }
}

}  // namespace
}  // namespace turboquant
