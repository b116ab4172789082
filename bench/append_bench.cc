// Tokens to a cache and back: 8 KV heads, keys and values, one rotation round.
#include <algorithm>
#include <chrono>

#include "bench/bench_rows.h"
#include "turboquant/kv_cache.h"

namespace turboquant::bench {
namespace {

constexpr size_t kHeads = 8;
constexpr size_t kDim = 128;
constexpr size_t kDistinct = 32;  // tokens of input, used again: in L2, as fresh from a projection

// Args: bits of both sides, scale search, window, page frames with a diagonal map (2: and
// query-weighted codes), a pool of pages.
void AppendToken(benchmark::State& state) {
  const KvSideOptions side = {.bits = static_cast<int>(state.range(0)),
                              .scale_search = state.range(1) != 0};
  KvCacheOptions options;
  options.format.head_dim = kDim;
  options.format.kv_heads = kHeads;
  options.format.keys = side;
  options.format.values = side;
  options.sinks = 0;
  options.window = static_cast<size_t>(state.range(2));
  if (state.range(4) != 0) options.page_pool = *PagePool::Create();
  if (state.range(3) != 0) {
    options.rope = RopeParameters::FromTheta(10000.0, kDim);
    const std::vector<float> center(kHeads * kDim, 0.1f);
    const std::vector<float> scale(kHeads * kDim, 1.25f);
    std::vector<float> weights(state.range(3) == 2 ? center.size() : 0);
    for (size_t j = 0; j < weights.size(); ++j) weights[j] = j % 8 == 0 ? 5.0f : 0.5f;
    auto map = KeyMap::FromNumbers(KeyMapKind::kDiagonal, kHeads, kDim, center, scale, weights);
    options.known_key_map = std::make_shared<const KeyMap>(*std::move(map));
  }
  const auto keys = NormalRows(kDistinct, kHeads * kDim, 1);
  const auto values = NormalRows(kDistinct, kHeads * kDim, 2);
  auto cache = KvCache::Create(options);
  std::vector<double> times;
  size_t token = 0;
  for (auto _ : state) {
    const size_t at = token++ % kDistinct * kHeads * kDim;
    const auto start = std::chrono::steady_clock::now();
    auto done = cache->Append(HeadsView::TokenMajor(keys.data() + at, 1, kHeads, kDim),
                              HeadsView::TokenMajor(values.data() + at, 1, kHeads, kDim));
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    state.SetIterationTime(taken.count());
    times.push_back(taken.count());
    if (!done) state.SkipWithError(done.error().message.c_str());
  }
  std::ranges::sort(times);
  state.counters["p99_us"] = 1e6 * times[times.size() * 99 / 100];
  state.counters["median_us"] = 1e6 * times[times.size() / 2];
  state.SetLabel(std::string(BackendName(cache->format().backend())));
}
BENCHMARK(AppendToken)
    ->ArgNames({"bits", "search", "window", "frames", "pool"})
    ->ArgsProduct({{2, 3, 4}, {0}, {0}, {0}, {1}})
    ->ArgsProduct({{4}, {0, 1}, {0, 64}, {0, 1}, {1}})
    ->ArgsProduct({{3, 4}, {1}, {0}, {2}, {1}})
    ->ArgsProduct({{4}, {0}, {0}, {0}, {0}})
    ->Iterations(10000)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);

constexpr size_t kPrompt = 512;  // tokens

// Keys: 0 MSE, 1 Prod with an orthogonal sketch, 2 Prod with a Gaussian one. 4 bits, all packed.
KvCacheOptions PromptOptions(int64_t keys) {
  KvCacheOptions options;
  options.format.head_dim = kDim;
  options.format.kv_heads = kHeads;
  options.format.values = {.bits = 4, .scale_search = false};
  options.format.keys = options.format.values;
  if (keys != 0) options.format.keys.method = KvMethod::kProd;
  if (keys == 2) options.format.keys.sketch = SketchKind::kGaussian;
  options.sinks = 0;
  options.window = 0;
  return options;
}

// A prompt at once. Args: keys.
void AppendPrompt(benchmark::State& state) {
  const auto keys = NormalRows(kPrompt, kHeads * kDim, 1);
  const auto values = NormalRows(kPrompt, kHeads * kDim, 2);
  auto cache = KvCache::Create(PromptOptions(state.range(0)));
  for (auto _ : state) {
    cache->Clear();
    auto done = cache->Append(HeadsView::TokenMajor(keys.data(), kPrompt, kHeads, kDim),
                              HeadsView::TokenMajor(values.data(), kPrompt, kHeads, kDim));
    if (!done) state.SkipWithError(done.error().message.c_str());
  }
  ReportRows(state, 2 * kPrompt * kHeads, 1, 4.0 * kDim);
}
BENCHMARK(AppendPrompt)->ArgNames({"keys"})->DenseRange(0, 2);

// All of it read back. Args: keys.
void ReconstructPrompt(benchmark::State& state) {
  const auto rows = NormalRows(kPrompt, kHeads * kDim, 1);
  const HeadsView input = HeadsView::TokenMajor(rows.data(), kPrompt, kHeads, kDim);
  auto cache = KvCache::Create(PromptOptions(state.range(0)));
  if (auto done = cache->Append(input, input); !done)
    state.SkipWithError(done.error().message.c_str());
  std::vector<float> keys(rows.size()), values(rows.size());
  for (auto _ : state) {
    auto done =
        cache->Reconstruct(0, kPrompt, HeadsOutput::TokenMajor(keys.data(), kPrompt, kHeads, kDim),
                           HeadsOutput::TokenMajor(values.data(), kPrompt, kHeads, kDim));
    if (!done) state.SkipWithError(done.error().message.c_str());
  }
  ReportRows(state, 2 * kPrompt * kHeads, 1, 4.0 * kDim);
}
BENCHMARK(ReconstructPrompt)->ArgNames({"keys"})->DenseRange(0, 2);

}  // namespace
}  // namespace turboquant::bench
