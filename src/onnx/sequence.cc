#include "turboquant/onnx/sequence.h"

#include <algorithm>
#include <string>
#include <utility>

#include "src/base/failure.h"
#include "src/base/try.h"

namespace turboquant {
namespace {

// Tokens behind the sinks at which a cache makes its own map (kv_cache.h), and those it packs as
// one.
constexpr size_t kOwnMapTokens = 128;
constexpr size_t kPackTokens = 64;

DecoderCacheOptions CacheOptions(const OnnxDecoder& decoder,
                                 const QuantizedSequenceOptions& options) {
  const DecoderConfig& config = decoder.config();
  DecoderCacheOptions caches;
  caches.layers = config.layers;
  caches.layer = options.cache;
  caches.layer.format.head_dim = config.head_dim;
  caches.layer.format.kv_heads = config.kv_heads;
  caches.layer.query_heads = decoder.has_queries() ? config.query_heads : 0;
  for (size_t l = 0; l < config.layers; ++l) {
    KvLayerOverride change;
    change.layer = l;
    if (!config.rope.empty()) change.rope = config.rope[l];
    if (!options.key_maps.empty()) change.known_key_map = options.key_maps[l];
    caches.overrides.push_back(std::move(change));
  }
  return caches;
}

// Rows that someone holds, read again after they were overwritten.
std::vector<float> Copy(const HeadsOutput& rows) {
  std::vector<float> copy;
  copy.reserve(rows.tokens * rows.heads * rows.dim);
  for (size_t t = 0; t < rows.tokens; ++t) {
    for (size_t head = 0; head < rows.heads; ++head) {
      copy.insert(copy.end(), rows.Row(t, head), rows.Row(t, head) + rows.dim);
    }
  }
  return copy;
}

}  // namespace

DecoderSequence DecoderSequence::Exact(const OnnxDecoder& decoder, uint64_t first_position) {
  return {decoder, first_position};
}

Result<DecoderSequence> DecoderSequence::Quantized(const OnnxDecoder& decoder,
                                                   const QuantizedSequenceOptions& options) {
  if (options.cache.max_tokens != 0) {
    return Fail(ErrorCode::kInvalidArgument, "max_tokens must be 0 for a decoder, got ",
                options.cache.max_tokens);
  }
  if (!options.key_maps.empty() && options.key_maps.size() != decoder.config().layers) {
    return Fail(ErrorCode::kInvalidArgument, "there are key maps of ", options.key_maps.size(),
                " layers, the decoder has ", decoder.config().layers);
  }
  if (options.only_layer && *options.only_layer >= decoder.config().layers) {
    return Fail(ErrorCode::kInvalidArgument, "only_layer must be below ", decoder.config().layers,
                ", got ", *options.only_layer);
  }
  DecoderSequence sequence(decoder, options.cache.first_position);
  TQ_TRY(sequence.cache_, DecoderCache::Create(CacheOptions(decoder, options)));
  sequence.options_ = options;
  return sequence;
}

bool DecoderSequence::WaitsForMap() const { return !cache_->layer(0).Stats().key_map_ready; }

size_t DecoderSequence::StepTokens() const {
  constexpr size_t kNoLimit = size_t{1} << 31;
  if (!cache_) return kNoLimit;
  size_t tokens = kNoLimit;
  const bool waits = WaitsForMap();
  for (size_t l = 0; l < cache_->layers(); ++l) {
    const KvCache& cache = cache_->layer(l);
    const KvView view = cache.view();
    const size_t missing_sinks = cache.options().sinks - view.sinks.count;
    const size_t window = cache.options().window;
    // Pending tokens at which the next ones are packed, or the map is made.
    size_t full = window == 0 ? view.window.count + 1 : window + kPackTokens;
    if (waits) full = kOwnMapTokens;
    tokens = std::min(tokens, missing_sinks + full - view.window.count);
  }
  return tokens;
}

Result<void> DecoderSequence::Step(std::span<const int64_t> tokens, DecoderStep& step,
                                   bool queries) {
  if (ended_) {
    return Fail(ErrorCode::kInvalidArgument, "the sequence has ended with an error");
  }
  ended_ = true;  // unless all goes well
  DecoderStepOptions options;
  options.first_position = first_position_;
  options.queries = queries || (cache_ && decoder_->has_queries() && WaitsForMap());
  TQ_CHECK(decoder_->Step(tokens, options, past_, step));
  if (cache_) {
    std::vector<Result<void>> added(cache_->layers());
    const auto add = [&](size_t l) { added[l] = AddToLayer(l, tokens.size(), step); };
    if (options_.parallel_for) {
      options_.parallel_for(cache_->layers(), add);
    } else {
      for (size_t l = 0; l < cache_->layers(); ++l) add(l);
    }
    for (size_t l = 0; l < added.size(); ++l) {
      if (!added[l]) {
        return Fail(added[l].error().code, "layer ", l, ": ", added[l].error().message);
      }
    }
  }
  ended_ = false;
  return {};
}

Result<void> DecoderSequence::AddToLayer(size_t layer, size_t count, const DecoderStep& step) {
  KvCache& cache = cache_->layer(layer);
  const DecoderConfig& config = decoder_->config();
  const size_t first = past_.tokens() - count;
  if (!step.queries.empty() && cache.options().query_heads != 0) {
    TQ_CHECK(cache.ObserveQueries(HeadsView::HeadMajor(step.queries[layer].data(), count,
                                                       config.query_heads, config.head_dim)));
  }
  const size_t packed_before = cache.view().packed_tokens;
  TQ_CHECK(
      cache.Append(past_.keys(layer).Slice(first, count), past_.values(layer).Slice(first, count)));
  if (options_.only_layer && *options_.only_layer != layer) return {};
  const KvView view = cache.view();
  if (cache.options().exact_type == RowType::kF16 && decoder_->past_type() == RowType::kF32) {
    TQ_CHECK(past_.Rewrite(layer, first, count, [&](const HeadsOutput& k, const HeadsOutput& v) {
      return cache.Reconstruct(first, count, k, v);
    }));
  }
  const size_t packed = view.packed_tokens - packed_before;
  return packed == 0 ? Result<void>() : ShowPacked(layer, view.sinks.count + packed_before, packed);
}

Result<void> DecoderSequence::ShowPacked(size_t layer, size_t first, size_t count) {
  return past_.Rewrite(
      layer, first, count, [&](const HeadsOutput& keys, const HeadsOutput& values) -> Result<void> {
        std::vector<float> exact_keys;
        std::vector<float> exact_values;
        if (options_.on_packed) {
          exact_keys = Copy(keys);
          exact_values = Copy(values);
        }
        if (options_.codec) {
          TQ_CHECK(options_.codec(layer, keys, values));
        } else {
          TQ_CHECK(cache_->layer(layer).Reconstruct(first, count, keys, values));
        }
        if (options_.on_packed) {
          const auto view = [&](const std::vector<float>& rows) {
            return HeadsView::TokenMajor(rows.data(), count, keys.heads, keys.dim);
          };
          options_.on_packed(layer, view(exact_keys), view(exact_values), keys, values);
        }
        return {};
      });
}

KvUsage DecoderSequence::Usage() const {
  const DecoderConfig& config = decoder_->config();
  const size_t numbers = 2 * config.layers * config.kv_heads * config.head_dim * tokens();
  KvUsage usage;
  usage.tokens = tokens();
  usage.f16_bytes = 2 * numbers;
  usage.f32_bytes = 4 * numbers;
  usage.bytes = decoder_->past_type() == RowType::kF16 ? usage.f16_bytes : usage.f32_bytes;
  usage.held_bytes = past_.HeldBytes();
  if (cache_) {
    usage.bytes = cache_->Stats().total_bytes;
    usage.held_bytes += usage.bytes;
  }
  return usage;
}

}  // namespace turboquant
