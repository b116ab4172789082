// A ParallelFor with threads of its own, for tests that results do not depend on it.
#ifndef TURBOQUANT_TESTS_SUPPORT_THREADS_H_
#define TURBOQUANT_TESTS_SUPPORT_THREADS_H_

#include <atomic>
#include <cstddef>
#include <functional>
#include <thread>
#include <vector>

#include "turboquant/parallel_for.h"

namespace turboquant::test {

inline ParallelFor Threads(size_t threads) {
  return [threads](size_t tasks, const std::function<void(size_t)>& body) {
    std::atomic<size_t> next = 0;
    const auto work = [&] {
      for (size_t task = next++; task < tasks; task = next++) body(task);
    };
    std::vector<std::jthread> team;
    for (size_t i = 0; i < threads; ++i) team.emplace_back(work);
  };
}

// Runs the last task first: whoever depends on the order shows it.
inline ParallelFor Backwards() {
  return [](size_t tasks, const std::function<void(size_t)>& body) {
    for (size_t task = tasks; task-- > 0;) body(task);
  };
}

}  // namespace turboquant::test

#endif  // TURBOQUANT_TESTS_SUPPORT_THREADS_H_
