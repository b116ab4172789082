// Searching packed rows, ns per (query × row): queries prepared, all rows scored, the ten best
// kept. What a vector index does in one call, for comparison with those (scripts/peers).
#include <algorithm>
#include <utility>

#include "bench/bench_rows.h"

namespace turboquant::bench {
namespace {

constexpr size_t kDim = 128;
constexpr size_t kTop = 10;
constexpr size_t kSegmentRows = 4096;  // whose scores stay in the second level of cache
constexpr size_t kGroup = 32;          // scores looked at together, few of which are among the best

// The first group of scores from `begin` on that holds one above `least`; `count` if there is none.
TQ_CPU_CLONES size_t GroupAbove(const float* scores, size_t begin, size_t count, float least) {
  for (; begin < count; begin += kGroup) {
    int any = 0;
    for (size_t i = 0; i < kGroup; ++i) any |= scores[begin + i] > least ? 1 : 0;
    if (any != 0) return begin;
  }
  return count;
}

// The best so far as a heap whose front is the least of them.
class TopRows {
 public:
  // count: a multiple of kGroup.
  void Add(const float* scores, size_t count, size_t first_row) {
    for (size_t group = 0; group < count; group += kGroup) {
      if (best_.size() == kTop) group = GroupAbove(scores, group, count, best_.front().first);
      for (size_t r = group; r < std::min(count, group + kGroup); ++r)
        Offer(scores[r], first_row + r);
    }
  }

 private:
  void Offer(float score, size_t row) {
    if (best_.size() == kTop) {
      if (score <= best_.front().first) return;
      std::ranges::pop_heap(best_, std::greater<>());
      best_.pop_back();
    }
    best_.emplace_back(score, row);
    std::ranges::push_heap(best_, std::greater<>());
  }

  std::vector<std::pair<float, size_t>> best_;
};

// Args: bits, queries, digits, rows.
void Search(benchmark::State& state) {
  const size_t query_count = static_cast<size_t>(state.range(1));
  const size_t row_count = static_cast<size_t>(state.range(3));
  const MseQuantizer quantizer =
      MakeQuantizer({.dim = kDim, .bits = static_cast<int>(state.range(0)), .scale_search = false});
  const auto input = NormalRows(kSegmentRows, kDim);
  std::vector<MseRows> segments;
  for (size_t done = 0; done < row_count; done += kSegmentRows)
    segments.push_back(
        *quantizer.Encode(MatrixView<const float>(input.data(), kSegmentRows, kDim)));
  const auto queries = NormalRows(query_count, kDim, 2);
  std::vector<float> scores(query_count * kSegmentRows);
  for (auto _ : state) {
    const auto prepared = quantizer.Prepare({queries.data(), query_count, kDim},
                                            {.digits = static_cast<int>(state.range(2))});
    std::vector<TopRows> top(query_count);
    for (size_t s = 0; s < segments.size(); ++s) {
      (void)quantizer.Score(*prepared, segments[s], {scores.data(), query_count, kSegmentRows});
      for (size_t q = 0; q < query_count; ++q)
        top[q].Add(scores.data() + q * kSegmentRows, kSegmentRows, s * kSegmentRows);
    }
    benchmark::DoNotOptimize(top.data());
  }
  state.SetLabel(std::string(BackendName(quantizer.backend())));
  ReportRows(state, row_count, query_count,
             static_cast<double>(segments[0].blocks().size()) / kSegmentRows + 2.0);
}
BENCHMARK(Search)
    ->ArgNames({"bits", "queries", "digits", "rows"})
    ->ArgsProduct({{2, 3, 4}, {1, 8}, {1, 2}, {4096, 262144}});

}  // namespace
}  // namespace turboquant::bench
