// libFuzzer's name for a target would be defined three times in one test executable.
#define LLVMFuzzerTestOneInput RowsFileTarget
#include "fuzz/rows_file_fuzzer.cc"
#undef LLVMFuzzerTestOneInput

#include "tests/storage/fuzz_replay.h"
#include "tests/storage/rows_examples.h"

namespace turboquant {
namespace {

Bytes SmallFile() { return SerializeEncodedRows(MakeRowsExample("mse").File()).value(); }

TEST(RowsFileFuzzTest, Corpus) { ReplayCorpus(RowsFileTarget, "rows_file"); }

TEST(RowsFileFuzzTest, EveryPrefix) { RunEveryPrefix(RowsFileTarget, SmallFile()); }

TEST(RowsFileFuzzTest, EveryFlipOfABit) {
  RunEveryByteChange(RowsFileTarget, SmallFile(), kBitMasks);
}

}  // namespace
}  // namespace turboquant
