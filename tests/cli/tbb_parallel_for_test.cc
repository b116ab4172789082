#include "src/cli/tbb_parallel_for.h"

#include <atomic>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace turboquant::cli {
namespace {

TEST(TbbParallelForTest, RunsEveryTaskOnce) {
  for (const int threads : {2, 3, 8}) {
    const auto parallel_for = MakeParallelFor(threads).value();
    for (const size_t tasks : {0u, 1u, 7u, 1000u}) {
      std::vector<std::atomic<int>> runs(tasks);
      parallel_for(tasks, [&](size_t i) { ++runs[i]; });
      for (const auto& count : runs) EXPECT_EQ(count, 1);
    }
  }
}

// Two tasks that wait for each other end only if two threads run them.
TEST(TbbParallelForTest, ThreadsRunAtTheSameTimeEvenBeyondTheCores) {
  const int threads = static_cast<int>(std::thread::hardware_concurrency()) + 1;
  const auto parallel_for = MakeParallelFor(threads).value();
  std::atomic<int> arrived = 0;
  parallel_for(static_cast<size_t>(threads), [&](size_t) {
    ++arrived;
    while (arrived < threads) std::this_thread::yield();
  });
  EXPECT_EQ(arrived, threads);
}

TEST(TbbParallelForTest, OneThreadIsTheCallers) { EXPECT_FALSE(MakeParallelFor(1).value()); }

TEST(TbbParallelForTest, RefusesOtherCounts) {
  for (const int threads : {0, -1, 1025}) {
    EXPECT_EQ(MakeParallelFor(threads).error().code, ErrorCode::kInvalidArgument) << threads;
  }
}

}  // namespace
}  // namespace turboquant::cli
