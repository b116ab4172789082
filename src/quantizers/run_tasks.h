// Splitting a batch over the caller's threads.
#ifndef TURBOQUANT_SRC_QUANTIZERS_RUN_TASKS_H_
#define TURBOQUANT_SRC_QUANTIZERS_RUN_TASKS_H_

#include <algorithm>
#include <cstddef>
#include <functional>
#include <limits>
#include <mutex>
#include <utility>

#include "src/base/checked.h"
#include "turboquant/error.h"
#include "turboquant/parallel_for.h"

namespace turboquant {

// The errors of tasks that ran in any order: the first task's is the one to tell.
class FirstFailure {
 public:
  void Report(size_t task, Error error) {
    const std::lock_guard lock(mutex_);
    if (task < task_) {
      task_ = task;
      error_ = std::move(error);
    }
  }
  Result<void> Take() && {
    if (task_ == kNone) return {};
    return std::unexpected(std::move(error_));
  }

 private:
  static constexpr size_t kNone = std::numeric_limits<size_t>::max();
  std::mutex mutex_;
  size_t task_ = kNone;
  Error error_{ErrorCode::kInternal, {}};
};

// body(task) for every task, on the caller's threads if he lent any. Takes no memory: a
// std::function made of a lambda with many captures would.
template <class Body>
void RunTasks(const ParallelFor& parallel_for, size_t tasks, const Body& body) {
  if (parallel_for && tasks > 1) {
    parallel_for(tasks, std::cref(body));
    return;
  }
  for (size_t task = 0; task < tasks; ++task) body(task);
}

// body(first, count) for spans of at most task_rows rows, whatever the number of threads.
template <class Body>
void ForRowSpans(const ParallelFor& parallel_for, size_t rows, size_t task_rows, const Body& body) {
  RunTasks(parallel_for, CeilDivide(rows, task_rows), [&](size_t task) {
    const size_t first = task * task_rows;
    body(first, std::min(task_rows, rows - first));
  });
}

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_QUANTIZERS_RUN_TASKS_H_
