#include "src/eval/attention_workload.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <memory>
#include <string>
#include <utility>

#include "src/base/checked.h"
#include "src/base/failure.h"
#include "src/base/random.h"
#include "src/base/try.h"
#include "src/eval/decoded_attention.h"
#include "src/eval/read_bytes.h"
#include "turboquant/kv_cache.h"

namespace turboquant::eval {
namespace {

constexpr size_t kChunk = 512;  // tokens made up; longer contexts repeat them

std::vector<float> NormalNumbers(size_t count, uint64_t seed, uint32_t stream) {
  RandomBits random(seed, {.layer = stream, .stage = 15});  // a stage that nothing else uses
  std::vector<float> numbers(count);
  for (float& number : numbers) number = static_cast<float>(random.NextNormal());
  return numbers;
}

// What all caches of a run are filled with and asked.
struct Inputs {
  std::vector<float> keys;     // [kChunk × kv_heads × head_dim]
  std::vector<float> values;   // the same
  std::vector<float> queries;  // [query_heads × head_dim]
};

Inputs MakeInputs(const AttentionOptions& options) {
  const size_t width = options.kv_heads * options.head_dim;
  return {NormalNumbers(kChunk * width, options.seed, 0),
          NormalNumbers(kChunk * width, options.seed, 1),
          NormalNumbers(options.query_heads * options.head_dim, options.seed, 2)};
}

// A map of arbitrary numbers, far enough from nothing to show in max_error if it were forgotten.
Result<KeyMap> ArbitraryMap(KeyMapKind kind, const AttentionOptions& options) {
  const size_t width = options.kv_heads * options.head_dim;
  const std::vector<float> center = NormalNumbers(width, options.seed, 3);
  std::vector<float> map;
  if (kind == KeyMapKind::kDiagonal) {
    map = NormalNumbers(width, options.seed, 4);
    for (float& number : map) number = std::exp(0.3f * number);
  } else if (kind == KeyMapKind::kFull) {
    map = NormalNumbers(width * options.head_dim, options.seed, 4);
    const float noise = 0.3f / std::sqrt(static_cast<float>(options.head_dim));
    for (size_t i = 0; i < map.size(); ++i) {
      const size_t column = i % options.head_dim;
      map[i] = noise * map[i] + (i / options.head_dim % options.head_dim == column ? 1.0f : 0.0f);
    }
  }
  return KeyMap::FromNumbers(kind, options.kv_heads, options.head_dim, center, map);
}

Result<KvCache> FillCache(KvCacheOptions cache_options, size_t tokens,
                          const AttentionOptions& options, const Inputs& inputs,
                          const RunContext& run) {
  cache_options.format.head_dim = options.head_dim;
  cache_options.format.kv_heads = options.kv_heads;
  cache_options.format.seed = options.seed;
  cache_options.format.backend = options.backend;
  cache_options.sinks = 0;
  cache_options.window = 0;
  if (cache_options.key_map != KeyMapKind::kNone) {
    TQ_TRY(KeyMap map, ArbitraryMap(cache_options.key_map, options));
    cache_options.known_key_map = std::make_shared<const KeyMap>(std::move(map));
    cache_options.rope = RopeParameters::FromTheta(10000.0, options.head_dim / 2 * 2);
  }
  TQ_TRY(KvCache cache, KvCache::Create(cache_options));
  for (size_t first = 0; first < tokens; first += kChunk) {
    const size_t count = std::min(kChunk, tokens - first);
    const auto view = [&](const std::vector<float>& rows) {
      return HeadsView::TokenMajor(rows.data(), count, options.kv_heads, options.head_dim);
    };
    TQ_CHECK(cache.Append(view(inputs.keys), view(inputs.values), run.parallel_for));
  }
  assert(cache.view().packed_tokens == tokens);
  return cache;
}

// Short calls are repeated more often: their minimum needs it, and they can afford it.
Result<double> ShortestOfMany(const RunContext& run, const std::function<Result<void>()>& call) {
  constexpr double kWorthRepeating = 0.1;  // seconds in all
  TQ_TRY(const double first, ShortestSeconds(1, call));
  const double affordable = kWorthRepeating / std::max(first, 1e-6);
  const int repeats = std::max(run.repeats, static_cast<int>(std::min(affordable, 500.0)));
  TQ_TRY(const double rest, ShortestSeconds(repeats, call));
  return std::min(first, rest);
}

struct AttendTimes {
  double seconds = 0;
  std::vector<float> outputs;
};

Result<AttendTimes> TimeAttend(const KvCache& cache, const AttentionOptions& options,
                               const Inputs& inputs, const RunContext& run) {
  AttendTimes times;
  times.outputs.resize(inputs.queries.size());
  const HeadsView queries =
      HeadsView::TokenMajor(inputs.queries.data(), 1, options.query_heads, options.head_dim);
  const HeadsOutput outputs =
      HeadsOutput::TokenMajor(times.outputs.data(), 1, options.query_heads, options.head_dim);
  AttendOptions attend;
  attend.parallel_for = run.parallel_for;
  TQ_TRY(times.seconds,
         ShortestOfMany(run, [&] { return cache.Attend(queries, attend, outputs); }));
  return times;
}

Result<double> TimeReading(const KvCache& cache, const RunContext& run) {
  const KvView view = cache.view();
  std::vector<uint64_t> sums(view.pages.size());
  const auto read = [&](size_t page) {
    sums[page] = ReadBytes(reinterpret_cast<const uint8_t*>(view.pages[page].bytes),
                           cache.format().PageBytes());
  };
  return ShortestOfMany(run, [&]() -> Result<void> {
    if (run.parallel_for) {
      run.parallel_for(view.pages.size(), read);
    } else {
      for (size_t page = 0; page < view.pages.size(); ++page) read(page);
    }
    return {};
  });
}

// The library's own attention on rows that are not packed.
Result<double> TimeExact(KvMethod method, size_t tokens, const AttentionOptions& options,
                         const Inputs& inputs, const RunContext& run) {
  KvCacheOptions exact;
  exact.format.keys = exact.format.values = {.method = method};
  exact.key_map = KeyMapKind::kNone;
  TQ_TRY(const KvCache cache, FillCache(exact, tokens, options, inputs, run));
  TQ_TRY(const AttendTimes times, TimeAttend(cache, options, inputs, run));
  return times.seconds;
}

AttentionRow RowOf(const CacheSpec& spec, const KvCache& cache, size_t tokens,
                   const AttentionOptions& options, const RunContext& run) {
  const KvFormatOptions& format = spec.options.format;
  const KvView view = cache.view();
  AttentionRow row;
  row.workload = "attention";
  row.method = "cache";
  row.policy = spec.policy;
  row.target = BackendName(cache.format().backend());
  row.threads = run.threads;
  row.source = "random normal rows";
  row.key_method = KvMethodName(format.keys.method);
  row.key_bits = NominalBits(format.keys);
  row.value_method = KvMethodName(format.values.method);
  row.value_bits = NominalBits(format.values);
  row.bits = (row.key_bits + row.value_bits) / 2;
  row.key_map = KeyMapKindName(view.key_map == nullptr ? KeyMapKind::kNone : view.key_map->kind());
  row.page_frames = view.rotary_dim != 0;
  row.tokens = tokens;
  row.query_heads = options.query_heads;
  row.kv_heads = options.kv_heads;
  row.head_dim = options.head_dim;
  row.bytes_per_token = cache.format().BytesPerToken();
  row.compression_vs_f16 =
      static_cast<double>(4 * options.kv_heads * options.head_dim) / row.bytes_per_token;
  return row;
}

Result<void> RunLength(size_t tokens, const AttentionOptions& options, const Inputs& inputs,
                       const RunContext& run, BenchmarkResult& result) {
  const auto tell = [&](const std::string& what) {
    if (run.progress) run.progress(std::to_string(tokens) + " tokens, " + what);
  };
  const double items = static_cast<double>(tokens * options.query_heads) * 1e-9;
  tell("f16");
  TQ_TRY(const double f16, TimeExact(KvMethod::kF16, tokens, options, inputs, run));
  tell("f32");
  TQ_TRY(const double f32, TimeExact(KvMethod::kF32, tokens, options, inputs, run));
  const size_t checked[] = {0, options.query_heads - 1};
  for (const CacheSpec& spec : options.caches) {
    tell(spec.policy);
    TQ_TRY(const KvCache cache, FillCache(spec.options, tokens, options, inputs, run));
    TQ_TRY(const AttendTimes times, TimeAttend(cache, options, inputs, run));
    TQ_TRY(const double floor, TimeReading(cache, run));
    AttentionRow row = RowOf(spec, cache, tokens, options, run);
    row.attention_ns_per_query_token = times.seconds / items;
    row.f16_attention_ns_per_query_token = f16 / items;
    row.f32_attention_ns_per_query_token = f32 / items;
    row.memory_floor_ns_per_query_token = floor / items;
    TQ_TRY(row.max_error,
           MaxErrorOverDecoded(cache, inputs.queries, times.outputs, options.query_heads, checked));
    result.attention_rows.push_back(std::move(row));
  }
  return {};
}

}  // namespace

Result<void> CheckAttentionOptions(const AttentionOptions& options) {
  if (options.tokens.empty() || options.caches.empty()) {
    return Fail(ErrorCode::kInvalidArgument, "no context lengths or no caches given");
  }
  if (options.kv_heads == 0 || options.query_heads == 0 ||
      options.query_heads % options.kv_heads != 0) {
    return Fail(ErrorCode::kInvalidArgument, "query_heads must be a multiple of kv_heads, got ",
                options.query_heads, " and ", options.kv_heads);
  }
  constexpr size_t kMostNumbers = size_t{1} << 31;  // 8 GiB of f32 keys, as much of values
  for (const size_t tokens : options.tokens) {
    const auto rows = CheckedMultiply(tokens, options.kv_heads);
    const auto numbers = rows ? CheckedMultiply(*rows, options.head_dim) : rows;
    if (tokens == 0 || !numbers || *numbers > kMostNumbers) {
      return Fail(ErrorCode::kInvalidArgument, "a cache of ", tokens, " tokens of ",
                  options.kv_heads, " heads of ", options.head_dim, " is empty or too large");
    }
  }
  return {};
}

Result<void> RunAttention(const AttentionOptions& options, const RunContext& run,
                          BenchmarkResult& result) {
  TQ_CHECK(CheckAttentionOptions(options));
  const Inputs inputs = MakeInputs(options);
  for (const size_t tokens : options.tokens) {
    TQ_CHECK(RunLength(tokens, options, inputs, run, result));
  }
  return {};
}

}  // namespace turboquant::eval
