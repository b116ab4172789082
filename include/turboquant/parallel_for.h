// The caller's threads. The library has none of its own.
#ifndef TURBOQUANT_PARALLEL_FOR_H_
#define TURBOQUANT_PARALLEL_FOR_H_

#include <cstddef>
#include <functional>

namespace turboquant {

// Runs body(i) once for each i in [0, tasks), on any threads and in any order, and returns when
// all have ended. An empty ParallelFor means the calling thread. Results never depend on it: work
// is split by fixed task sizes, not by the number of threads. Bodies do not throw.
using ParallelFor = std::function<void(size_t tasks, const std::function<void(size_t)>& body)>;

}  // namespace turboquant

#endif  // TURBOQUANT_PARALLEL_FOR_H_
