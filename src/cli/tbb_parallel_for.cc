#include "src/cli/tbb_parallel_for.h"

#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <memory>

#include "src/base/failure.h"

namespace turboquant::cli {
namespace {

struct Threads {
  explicit Threads(int count)
      // Without it the arena would get no more threads than the machine has, silently.
      : limit(tbb::global_control::max_allowed_parallelism, static_cast<size_t>(count)),
        arena(count) {}
  tbb::global_control limit;
  tbb::task_arena arena;
};

}  // namespace

Result<ParallelFor> MakeParallelFor(int threads) {
  if (threads < 1 || threads > 1024) {
    return Fail(ErrorCode::kInvalidArgument, "threads must be 1 to 1024, got ", threads);
  }
  if (threads == 1) return ParallelFor();
  const auto shared = std::make_shared<Threads>(threads);
  return ParallelFor([shared](size_t tasks, const std::function<void(size_t)>& body) {
    shared->arena.execute([&] {
      tbb::parallel_for(tbb::blocked_range<size_t>(0, tasks, 1),
                        [&](const tbb::blocked_range<size_t>& range) {
                          for (size_t i = range.begin(); i != range.end(); ++i) body(i);
                        });
    });
  });
}

}  // namespace turboquant::cli
