#include "turboquant/kv_cache.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/cache/kv_state.h"

namespace turboquant {
namespace {

// Angles are base · frequency in double: beyond, positions themselves are no longer exact.
constexpr uint64_t kMaxFirstPosition = uint64_t{1} << 52;

Result<void> CheckRope(const RopeParameters& rope, size_t head_dim) {
  if (rope.rotary_dim() > head_dim) {
    return Fail(ErrorCode::kInvalidArgument, "rope has ", rope.inverse_frequencies.size(),
                " inverse_frequencies, head_dim ", head_dim, " has room for ", head_dim / 2);
  }
  for (size_t i = 0; i < rope.inverse_frequencies.size(); ++i) {
    if (!std::isfinite(rope.inverse_frequencies[i])) {
      return Fail(ErrorCode::kInvalidArgument, "rope.inverse_frequencies[", i, "] is ",
                  rope.inverse_frequencies[i]);
    }
  }
  if (rope.pairing != RopePairing::kHalf && rope.pairing != RopePairing::kInterleaved) {
    return Fail(ErrorCode::kInvalidArgument, "rope.pairing ", static_cast<int>(rope.pairing),
                " is neither kHalf nor kInterleaved");
  }
  return {};
}

Result<void> CheckKnownMap(const KvCacheOptions& options) {
  const KeyMap& map = *options.known_key_map;
  if (map.kv_heads() != options.format.kv_heads || map.head_dim() != options.format.head_dim) {
    return Fail(ErrorCode::kDimensionMismatch, "known_key_map has ", map.kv_heads(),
                " heads of dim ", map.head_dim(), ", the cache has ", options.format.kv_heads,
                " of ", options.format.head_dim);
  }
  if (options.key_map == KeyMapKind::kNone) {
    return Fail(ErrorCode::kInvalidArgument, "known_key_map is given, but key_map is kNone");
  }
  if (!options.rope && map.kind() != KeyMapKind::kCenter) {
    return Fail(ErrorCode::kInvalidArgument,
                "known_key_map is more than a centre, which needs rope: without, keys of later "
                "positions do not fit it");
  }
  return {};
}

Result<void> CheckKeyMap(const KvCacheOptions& options) {
  if (static_cast<unsigned>(options.key_map) > static_cast<unsigned>(KeyMapKind::kFull)) {
    return Fail(ErrorCode::kInvalidArgument, "key_map ", static_cast<int>(options.key_map),
                " is none of kNone, kCenter, kDiagonal, kFull");
  }
  if (options.query_heads % options.format.kv_heads != 0) {
    return Fail(ErrorCode::kInvalidArgument, "query_heads must be a multiple of kv_heads ",
                options.format.kv_heads, ", got ", options.query_heads);
  }
  if (!(options.key_map_shrinkage >= 0.0) || std::isinf(options.key_map_shrinkage)) {
    return Fail(ErrorCode::kInvalidArgument,
                "key_map_shrinkage must be a finite number from 0 on, got ",
                options.key_map_shrinkage);
  }
  return options.known_key_map ? CheckKnownMap(options) : Result<void>();
}

// What query-weighted codes lack, as a phrase; empty: nothing.
std::string_view WantedByWeightedCodes(const KvCacheOptions& options) {
  const KvFormatOptions& format = options.format;
  if (format.keys.method != KvMethod::kMse || format.keys.outlier_channels != 0)
    return "keys of method kMse without outlier channels";
  if (format.keys.scale != Scale::kUnbiased) return "keys of scale kUnbiased";
  if (format.rotation != RotationKind::kHadamard || format.rotation_rounds != 1)
    return "one round of the Hadamard rotation";
  if (!std::has_single_bit(format.head_dim)) return "a head_dim that is a power of two";
  if (options.key_map != KeyMapKind::kDiagonal) return "key_map kDiagonal";
  if (options.known_key_map) {
    return options.known_key_map->query_weights(0).empty() ? "query_weights in known_key_map" : "";
  }
  if (!options.rope) return "rope, without which there is no diagonal map";
  if (options.query_heads == 0) return "observed queries (query_heads)";
  return "";
}

Result<void> CheckWeightedCodes(const KvCacheOptions& options) {
  if (!options.query_weighted_codes.value_or(false)) return {};
  const std::string_view wanted = WantedByWeightedCodes(options);
  if (wanted.empty()) return {};
  return Fail(ErrorCode::kInvalidArgument, "query_weighted_codes need ", wanted);
}

Result<void> CheckOptions(const KvCacheOptions& options) {
  if (options.exact_type != RowType::kF32 && options.exact_type != RowType::kF16) {
    return Fail(ErrorCode::kInvalidArgument, "exact_type must be kF32 or kF16");
  }
  if (options.max_tokens != 0 &&
      (options.sinks > options.max_tokens || options.window > options.max_tokens - options.sinks)) {
    return Fail(ErrorCode::kInvalidArgument, "max_tokens ", options.max_tokens,
                " is less than the ", options.sinks, " sinks and the window of ", options.window,
                " that are to be kept");
  }
  if (options.first_position > kMaxFirstPosition) {
    return Fail(ErrorCode::kInvalidArgument, "first_position must be at most 2^52, got ",
                options.first_position);
  }
  if (options.rope) TQ_CHECK(CheckRope(*options.rope, options.format.head_dim));
  TQ_CHECK(CheckKeyMap(options));
  return CheckWeightedCodes(options);
}

}  // namespace

bool WeighsCodes(const KvCacheOptions& options) {
  constexpr int kMostBits = 6;  // with more there is nothing left to gain
  return options.query_weighted_codes.value_or(options.format.keys.bits <= kMostBits &&
                                               WantedByWeightedCodes(options).empty());
}

KvCache::State::State(const KvCacheOptions& options_in, KvFormat format_in)
    : options(options_in),
      format(std::move(format_in)),
      key_map(options.known_key_map),
      sinks(options.exact_type, options.format.kv_heads, options.format.head_dim),
      window(options.exact_type, options.format.kv_heads, options.format.head_dim) {
  options.format = format.options();
  options.query_weighted_codes = WeighsCodes(options);
}

bool KvCache::State::Packs() const {
  size_t needed = options.window == 0 ? 1 : options.window + kPackTokens;
  const bool estimates = options.key_map != KeyMapKind::kNone && !options.known_key_map &&
                         (options.rope || options.key_map == KeyMapKind::kCenter);
  if (estimates) needed = std::max(needed, kKeyMapMinTokens);
  return Limit() >= needed;
}

bool KvCache::State::UsesMap() const {
  if (!Packs() || options.key_map == KeyMapKind::kNone) return false;
  return options.known_key_map || options.rope || options.key_map == KeyMapKind::kCenter;
}

const RopeParameters* KvCache::State::Frames() const {
  const bool turns = UsesMap() && options.rope && options.rope->rotary_dim() != 0;
  return turns ? &*options.rope : nullptr;
}

KvCache::KvCache(std::unique_ptr<State> state) : state_(std::move(state)) {}
KvCache::KvCache(KvCache&&) noexcept = default;
KvCache& KvCache::operator=(KvCache&&) noexcept = default;
KvCache::~KvCache() = default;

Result<KvCache> KvCache::Create(const KvCacheOptions& options) {
  TQ_TRY(KvFormat format, KvFormat::Create(options.format));
  TQ_CHECK(CheckOptions(options));
  return KvCache(std::make_unique<State>(options, std::move(format)));
}

const KvCacheOptions& KvCache::options() const { return state_->options; }
const KvFormat& KvCache::format() const { return state_->format; }
size_t KvCache::size() const { return state_->size(); }
uint64_t KvCache::next_position() const { return state_->next_position(); }
const KeyMap* KvCache::key_map() const { return state_->key_map.get(); }

Result<void> KvCache::Truncate(size_t n) {
  State& state = *state_;
  if (n > size()) {
    return Fail(ErrorCode::kInvalidArgument, "cannot keep ", n, " tokens of ", size());
  }
  const size_t sinks = std::min(n, state.sinks.count());
  const size_t packed = std::min(n - sinks, state.pages.tokens());
  const KvFormat::Parts& parts = state.parts();
  state.pages.Truncate(packed, [&](std::byte* bytes, size_t first_lane, size_t count) {
    for (size_t head = 0; head < parts.options.kv_heads; ++head, bytes += parts.head_bytes) {
      ClearTokens(parts.keys, /*values=*/false, first_lane, count, bytes);
      ClearTokens(parts.values, /*values=*/true, first_lane, count, bytes);
    }
  });
  state.window.Truncate(n - sinks - packed);
  // Evicted tokens came behind the sinks: without all of those they never were.
  if (n < state.sinks.count()) state.evicted = 0;
  state.sinks.Truncate(sinks);
  ObservedQueries& observed = state.observed;
  observed.tokens = std::min(observed.tokens, n);
  observed.rows.resize(observed.tokens * state.options.query_heads * state.options.format.head_dim);
  return {};
}

void KvCache::Clear() {
  State& state = *state_;
  state.sinks.Clear();
  state.window.Clear();
  state.pages.Clear();
  state.evicted = 0;
  state.key_map = state.options.known_key_map;
  state.key_map_bytes = 0;
  state.key_channels = {};
  state.value_channels = {};
  state.observed = {};
}

KvCache KvCache::Fork() {
  PackedPages pages = state_->pages.Fork();
  auto fork = std::make_unique<State>(*state_);
  fork->pages = std::move(pages);
  return KvCache(std::move(fork));
}

KvView KvCache::view() const {
  const State& state = *state_;
  const RopeParameters* rope = state.Frames();
  KvView view;
  view.format = &state.format;
  view.key_map = state.UsesMap() ? state.key_map.get() : nullptr;
  if (rope != nullptr) {
    view.rope_pairing = rope->pairing;
    view.rotary_dim = rope->rotary_dim();
  }
  view.key_channels = state.key_channels.empty() ? nullptr : state.key_channels.data();
  view.value_channels = state.value_channels.empty() ? nullptr : state.value_channels.data();
  view.sinks = state.sinks.view();
  view.pages = state.pages.view();
  view.first_lane = state.pages.first_lane();
  view.packed_tokens = state.pages.tokens();
  view.window = state.window.view();
  view.first_position = state.options.first_position;
  view.packed_position = state.packed_position();
  return view;
}

KvCacheStats KvCache::Stats() const {
  const State& state = *state_;
  const KvFormatOptions& format = state.options.format;
  KvCacheStats stats = {};
  stats.tokens = state.size();
  stats.packed_tokens = state.pages.tokens();
  stats.exact_tokens = state.sinks.count() + state.window.count();
  const size_t pages = state.pages.count();
  stats.scale_bytes = pages * format.kv_heads * state.parts().head_scale_bytes;
  stats.code_bytes = pages * state.format.PageBytes() - stats.scale_bytes;
  stats.exact_bytes = state.sinks.HeldBytes() + state.window.HeldBytes();
  stats.scratch_bytes = state.observed.rows.capacity() * sizeof(float);
  stats.quantizer_bytes = state.format.HeldBytes() + state.key_map_bytes;
  stats.other_bytes =
      sizeof(State) + state.pages.ListBytes() + state.pages.PageBytes() -
      pages * state.format.PageBytes() +
      (state.key_channels.capacity() + state.value_channels.capacity()) * sizeof(uint16_t);
  if (state.options.rope) {
    stats.other_bytes += state.options.rope->inverse_frequencies.capacity() * sizeof(double);
  }
  stats.total_bytes = stats.code_bytes + stats.scale_bytes + stats.exact_bytes +
                      stats.scratch_bytes + stats.quantizer_bytes + stats.other_bytes;
  stats.f16_bytes = stats.tokens * format.kv_heads * format.head_dim * 2 * sizeof(uint16_t);
  stats.f32_bytes = 2 * stats.f16_bytes;
  stats.key_map_ready = !state.AwaitsMap();
  return stats;
}

}  // namespace turboquant
