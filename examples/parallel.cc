// The library has no threads: it takes yours. The bytes don't depend on how many there are.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <expected>
#include <functional>
#include <thread>
#include <vector>

#include "examples/example_rows.h"
#include "turboquant/mse_quantizer.h"

using turboquant::MseQuantizer;
using turboquant::ParallelFor;
using turboquant::Result;

namespace {

// The simplest executor; a thread pool, OpenMP or oneTBB fits the same type.
ParallelFor OnThreads(unsigned count) {
  return [count](size_t tasks, const std::function<void(size_t)>& body) {
    std::atomic<size_t> next = 0;
    std::vector<std::jthread> threads;  // joins at the end of the scope
    for (unsigned t = 0; t < count; ++t) {
      threads.emplace_back([&] {
        for (size_t task = next++; task < tasks; task = next++) body(task);
      });
    }
  };
}

Result<std::vector<uint8_t>> EncodedBytes(const ExampleRows& rows,
                                          const ParallelFor& parallel_for) {
  const auto quantizer = MseQuantizer::Create({.dim = rows.dim, .bits = 4});
  if (!quantizer) return std::unexpected(quantizer.error());
  const auto encoded = quantizer->Encode(rows.view(), turboquant::Tiling::kKeys, parallel_for);
  if (!encoded) return std::unexpected(encoded.error());
  std::vector<uint8_t> packed(encoded->size() * encoded->CanonicalRowBytes());
  if (const auto done = encoded->ExportCanonical(packed); !done) {
    return std::unexpected(done.error());
  }
  return packed;
}

}  // namespace

int main() {
  const ExampleRows rows = NormalRows(5000, 128, /*seed=*/1);
  const auto alone = EncodedBytes(rows, {});  // empty: the calling thread
  const auto together = EncodedBytes(rows, OnThreads(4));
  if (!alone || !together) {
    std::fprintf(stderr, "%s\n", (alone ? together : alone).error().message.c_str());
    return 1;
  }
  const bool same = *alone == *together;
  std::printf("%zu bytes from one thread, %s from four\n", alone->size(),
              same ? "the same" : "others");
  return same ? 0 : 1;
}
