// What a long cache takes of the process, as the system sees it: its packed bytes, and never twice
// of them while it grows.
#include <gtest/gtest.h>

#ifdef __linux__
#include <malloc.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>

#include "tests/cache/cache_support.h"
#include "turboquant/kv_cache.h"

namespace turboquant {
namespace {

using test::MakeCache;
using test::Tokens;

constexpr size_t kHeads = 8;
constexpr size_t kDim = 128;
constexpr size_t kChunk = 512;  // tokens of an append

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;  // their shadows count as well
#else
constexpr bool kSanitized = false;
#endif

// Bytes of the process in memory; 0 where the system does not tell.
int64_t Resident() {
#ifdef __linux__
  std::ifstream statm("/proc/self/statm");
  int64_t size = 0;
  int64_t resident = 0;
  if (statm >> size >> resident) return resident * sysconf(_SC_PAGESIZE);
#endif
  return 0;
}

// The most of them since ForgetPeak; 0 where the system does not tell.
int64_t PeakResident() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::stoll(line.substr(6)) * 1024;
  return 0;
}

bool ForgetPeak() {
#ifdef __linux__
  malloc_trim(0);                         // what other tests have given back
  mallopt(M_MMAP_THRESHOLD, 128 * 1024);  // as at first: large frees of other tests have raised it
#endif
  std::ofstream clear("/proc/self/clear_refs");
  clear << "5" << std::flush;
  return clear.good();
}

KvCacheOptions Options() {
  KvCacheOptions options;
  options.format = {.head_dim = kDim, .kv_heads = kHeads};
  options.rope = RopeParameters::FromTheta(1e4, kDim);
  return options;
}

void Grow(KvCache& cache, const Tokens& chunk, size_t tokens) {
  while (cache.size() < tokens) test::Append(cache, chunk, 0, kChunk);
}

// `spare_bytes` may be taken on top.
void ExpectBytesOfTheProcess(size_t tokens, const KvCacheOptions& options, double spare_bytes) {
  const Tokens chunk(kChunk, kHeads, kDim);
  {
    KvCache first = MakeCache(Options());  // code and tables that stay in memory
    Grow(first, chunk, 2 * kChunk);
  }
  const bool tells_peak = ForgetPeak();
  const int64_t before = Resident();
  KvCache cache = MakeCache(options);
  Grow(cache, chunk, tokens);
  const int64_t peak = PeakResident() - before;
#ifdef __linux__
  malloc_trim(0);
#endif
  const int64_t taken = Resident() - before;
  // 4-bit codes and an f16 scale a row of keys and of values; what is exact; tables.
  const KvCacheStats stats = cache.Stats();
  const size_t packed = cache.view().pages.size() * kPageTokens * kHeads * 2 * (kDim / 2 + 2);
  const auto computed = static_cast<double>(packed + stats.exact_bytes + stats.quantizer_bytes);
  EXPECT_GE(static_cast<double>(taken), 0.98 * computed);
  EXPECT_LE(static_cast<double>(taken), 1.02 * computed + spare_bytes);
  EXPECT_NEAR(static_cast<double>(stats.total_bytes), computed, 0.01 * computed);
  const size_t chunk_bytes = 2 * kChunk * kHeads * kDim * sizeof(float);
  const auto spare = static_cast<int64_t>(cache.format().PageBytes() + chunk_bytes);
  if (tells_peak) {
    EXPECT_LE(peak, taken + spare) << "more than a page and a chunk are in flight";
  }
  testing::Test::RecordProperty("taken_over_computed",
                                std::to_string(static_cast<double>(taken) / computed));
  testing::Test::RecordProperty(
      "peak_over_taken", std::to_string(static_cast<double>(peak) / static_cast<double>(taken)));
}

TEST(KvMemoryTest, SixteenThousandTokens) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's memory counts as the process's";
  if (Resident() == 0) GTEST_SKIP() << "no /proc/self/statm";
  ExpectBytesOfTheProcess(16 * 1024, Options(), 0);
}

// Of a pool the last page of 2 MB may be filled in part.
TEST(KvMemoryTest, SixteenThousandTokensOfAPool) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's memory counts as the process's";
  if (Resident() == 0) GTEST_SKIP() << "no /proc/self/statm";
  KvCacheOptions options = Options();
  options.page_pool = *PagePool::Create();
  ExpectBytesOfTheProcess(16 * 1024, options, 2 << 20);
}

TEST(KvMemoryTest, HundredTwentyEightThousandTokens) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's memory counts as the process's";
  if (Resident() == 0) GTEST_SKIP() << "no /proc/self/statm";
  if (std::getenv("TURBOQUANT_LONG_TESTS") == nullptr) {
    GTEST_SKIP() << "128K tokens take some seconds: set TURBOQUANT_LONG_TESTS=1";
  }
  ExpectBytesOfTheProcess(128 * 1024, Options(), 0);
  KvCacheOptions options = Options();
  options.page_pool = *PagePool::Create();
  ExpectBytesOfTheProcess(128 * 1024, options, 0);
}

}  // namespace
}  // namespace turboquant
