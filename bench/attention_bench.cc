// Decode attention over a cache, ns per (query head × cached token): packed widths, f16 and f32
// rows by the library's own kernels, and a plain read of the bytes that each must at least touch.
#include <memory>

#include "bench/bench_caches.h"
#include "src/cli/tbb_parallel_for.h"
#include "turboquant/kv_cache.h"

namespace turboquant::bench {
namespace {

// Page frames with a diagonal map of arbitrary numbers.
void UseFrames(KvCacheOptions& options) {
  const size_t heads = options.format.kv_heads;
  const size_t dim = options.format.head_dim;
  const std::vector<float> center(heads * dim, 0.1f);
  const std::vector<float> scale(heads * dim, 1.25f);
  auto map = KeyMap::FromNumbers(KeyMapKind::kDiagonal, heads, dim, center, scale);
  options.known_key_map = std::make_shared<const KeyMap>(*std::move(map));
  options.key_map = KeyMapKind::kDiagonal;
  options.rope = RopeParameters::FromTheta(10000.0, dim);
}

void Report(benchmark::State& state, const Shape& shape, size_t query_tokens, double bytes) {
  const double items = static_cast<double>(state.iterations()) *
                       static_cast<double>(shape.tokens * shape.query_heads * query_tokens);
  state.counters["ns_per_query_token"] =
      benchmark::Counter(items * 1e-9, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["bytes_per_token"] = bytes;
  state.counters["GB/s"] = benchmark::Counter(
      static_cast<double>(state.iterations()) * bytes * static_cast<double>(shape.tokens) * 1e-9,
      benchmark::Counter::kIsRate);
}

// Args: key bits (16: f16, 32: f32), value bits, tokens, query heads, digits, threads, query
// tokens, head_dim, frames.
void Attend(benchmark::State& state, bool pooled) {
  const Shape shape = {static_cast<size_t>(state.range(7)), 8, static_cast<size_t>(state.range(3)),
                       static_cast<size_t>(state.range(2))};
  const size_t query_tokens = static_cast<size_t>(state.range(6));
  KvCacheOptions cache_options = Options(shape, Side(state.range(0)), Side(state.range(1)));
  if (state.range(8) != 0) UseFrames(cache_options);
  if (!pooled) cache_options.page_pool = nullptr;
  const KvCache cache = Fill(cache_options, shape.tokens);
  const auto queries = NormalRows(query_tokens * shape.query_heads, shape.head_dim, 3);
  std::vector<float> outputs(queries.size());
  AttendOptions options;
  options.digits = static_cast<int>(state.range(4));
  options.parallel_for = cli::MakeParallelFor(static_cast<int>(state.range(5))).value();
  for (auto _ : state) {
    auto done = cache.Attend(
        HeadsView::TokenMajor(queries.data(), query_tokens, shape.query_heads, shape.head_dim),
        options,
        HeadsOutput::TokenMajor(outputs.data(), query_tokens, shape.query_heads, shape.head_dim));
    benchmark::DoNotOptimize(outputs.data());
    if (!done) state.SkipWithError(done.error().message.c_str());
  }
  state.SetLabel(std::string(BackendName(cache.format().backend())));
  Report(state, shape, query_tokens, cache.format().BytesPerToken());
}

const std::vector<std::string> kNames = {"key",     "value", "tokens", "heads", "digits",
                                         "threads", "rows",  "dim",    "frames"};

void Attention(benchmark::State& state) { Attend(state, /*pooled=*/true); }
BENCHMARK(Attention)
    ->ArgNames(kNames)
    // Length, beside f16.
    ->ArgsProduct({{4}, {4}, {1024, 4096, 32768, 131072}, {32}, {2}, {1}, {1}, {128}, {0}})
    ->ArgsProduct({{16}, {16}, {1024, 4096, 32768}, {32}, {2}, {1}, {1}, {128}, {0}})
    ->ArgsProduct({{32}, {32}, {4096}, {32}, {2}, {1}, {1}, {128}, {0}})
    // Widths.
    ->ArgsProduct({{3}, {3}, {4096, 32768}, {32}, {2}, {1}, {1}, {128}, {0}})
    ->ArgsProduct({{2}, {2}, {4096, 32768}, {32}, {2}, {1}, {1}, {128}, {0}})
    ->ArgsProduct({{8}, {4}, {4096, 32768}, {32}, {2}, {1}, {1}, {128}, {0}})
    ->ArgsProduct({{8}, {8}, {4096, 32768}, {32}, {2}, {1}, {1}, {128}, {0}})
    // One digit; page frames.
    ->ArgsProduct({{4}, {4}, {4096}, {32}, {1}, {1}, {1}, {128}, {0}})
    ->ArgsProduct({{4}, {4}, {4096}, {32}, {2}, {1}, {1}, {128}, {1}})
    // Query heads of a KV head: 1, 4 (above) and 8.
    ->ArgsProduct({{4}, {4}, {4096}, {8, 64}, {2}, {1}, {1}, {128}, {0}})
    ->ArgsProduct({{16}, {16}, {4096}, {8, 64}, {2}, {1}, {1}, {128}, {0}})
    // head_dim.
    ->ArgsProduct({{4}, {4}, {4096}, {32}, {2}, {1}, {1}, {64, 80, 256}, {0}})
    // Threads, prefill.
    ->ArgsProduct({{4}, {4}, {32768}, {32}, {2}, {2}, {1}, {128}, {0}})
    ->ArgsProduct({{4}, {4}, {4096}, {32}, {2}, {1}, {64, 512}, {128}, {0}});

// Every page an allocation of its own.
void AttentionWithoutPool(benchmark::State& state) { Attend(state, /*pooled=*/false); }
BENCHMARK(AttentionWithoutPool)
    ->ArgNames(kNames)
    ->ArgsProduct({{4}, {4}, {4096, 32768, 131072}, {32}, {2}, {1}, {1}, {128}, {0}})
    ->ArgsProduct({{16}, {16}, {4096, 32768}, {32}, {2}, {1}, {1}, {128}, {0}});

// The memory floor: the pages' bytes, read once.
void ReadPages(benchmark::State& state) {
  const Shape shape = {128, 8, 32, static_cast<size_t>(state.range(1))};
  const KvCache cache =
      Fill(Options(shape, Side(state.range(0)), Side(state.range(0))), shape.tokens);
  const KvView view = cache.view();
  for (auto _ : state) {
    uint64_t sum = 0;
    for (const KvPage& page : view.pages)
      sum += ReadBytes(reinterpret_cast<const uint8_t*>(page.bytes), cache.format().PageBytes());
    benchmark::DoNotOptimize(sum);
  }
  Report(state, shape, 1, cache.format().BytesPerToken());
}
BENCHMARK(ReadPages)->ArgNames({"bits", "tokens"})->ArgsProduct({{4, 16}, {1024, 4096, 32768}});

}  // namespace
}  // namespace turboquant::bench
