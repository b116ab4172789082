// A cache's state out of tensors and metadata, believing neither.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "src/base/checked.h"
#include "src/base/counted_shared.h"
#include "src/base/failure.h"
#include "src/base/half.h"
#include "src/base/try.h"
#include "src/cache/canonical_lanes.h"
#include "src/cache/check_heads.h"
#include "src/storage/option_names.h"
#include "src/storage/snapshot_names.h"
#include "src/storage/snapshot_state.h"
#include "src/storage/tensor_elements.h"
#include "src/storage/text.h"

namespace turboquant {
namespace {

// What a part of the library says about the file's contents is the file's fault.
template <class T>
Result<T> Blame(const std::string& name, Result<T> result) {
  if (result) return result;
  return Fail(ErrorCode::kCorruptData, "tensor '", name, "': ", result.error().message);
}

std::unexpected<Error> Contradiction(const SnapshotMetadata& metadata, std::string_view what) {
  return Fail(ErrorCode::kCorruptData, "the snapshot contradicts itself", metadata.InWhat(), ": ",
              what);
}

// Tokens that may wait in the window of a cache with the state's options and key map.
size_t MostWindowTokens(const KvCache::State& state) {
  if (!state.Packs()) return state.Limit();
  if (state.AwaitsMap()) return kKeyMapMinTokens - 1;
  if (state.options.window == 0) return 0;
  return CheckedAdd(state.options.window, kPackTokens - 1).value_or(SIZE_MAX);
}

// Counts that no sequence of calls leads to.
Result<void> CheckCounts(const SnapshotMetadata& metadata, const KvCache::State& state) {
  const uint64_t sinks = metadata.Number("sink_tokens");
  const uint64_t packed = metadata.Number("packed_tokens");
  const uint64_t window = metadata.Number("window_tokens");
  const uint64_t evicted = metadata.Number("evicted_tokens");
  const uint64_t first_lane = metadata.Number("first_lane");
  if (sinks > state.options.sinks) return Contradiction(metadata, "sink_tokens exceeds sinks");
  if (sinks < state.options.sinks && packed + window + evicted != 0) {
    return Contradiction(metadata, "there are tokens behind sinks that are not full");
  }
  if (packed + window > state.Limit()) {
    return Contradiction(metadata, "there are more tokens than max_tokens");
  }
  if (window > MostWindowTokens(state)) {
    return Contradiction(metadata, "window_tokens exceeds what a window holds");
  }
  if (packed != 0 && (!state.Packs() || state.AwaitsMap())) {
    return Contradiction(metadata, "there are packed tokens where none can be");
  }
  if (evicted != 0 && state.options.max_tokens == 0) {
    return Contradiction(metadata, "tokens were evicted without max_tokens");
  }
  if (first_lane > evicted || (first_lane != 0 && packed == 0)) {
    return Contradiction(metadata, "first_lane fits no evicted token");
  }
  return {};
}

Result<void> ReadExact(const SnapshotMetadata& metadata, SnapshotTensors& tensors,
                       const std::string& name, size_t count, const KvCache::State& state,
                       bool to_be_packed, ExactTokens& into) {
  const KvFormatOptions& format = state.options.format;
  const size_t shape[] = {format.kv_heads, count, format.head_dim};
  const bool half = state.options.exact_type == RowType::kF16;
  std::vector<float> rows[2];
  HeadsView views[2];
  for (const bool values : {false, true}) {
    const std::string full = metadata.prefix() + name + (values ? ".values" : ".keys");
    TQ_TRY(const auto bytes, tensors.Get(full, half ? TensorType::kF16 : TensorType::kF32, shape));
    if (half) {
      for (const uint16_t bits : ElementsOf<uint16_t>(bytes)) {
        rows[values].push_back(F16ToF32({bits}));
      }
    } else {
      rows[values] = ElementsOf<float>(bytes);
    }
    views[values] =
        HeadsView::HeadMajor(rows[values].data(), count, format.kv_heads, format.head_dim);
    const KvSide& side = values ? state.parts().values : state.parts().keys;
    RowLimits limits;
    if (to_be_packed && !side.exact()) limits.first_packed = 0;
    limits.f16 = side.options.method == KvMethod::kF16;
    TQ_CHECK(Blame(full, CheckNumbers("rows", views[values], limits, *state.parts().kernels, {})));
  }
  into.Append(views[0], views[1]);
  return {};
}

// Outlier channels, ascending in each head; the others follow.
Result<void> ReadChannels(const SnapshotMetadata& metadata, SnapshotTensors& tensors,
                          const KvSide& side, bool values, const KvCache::State& state,
                          std::vector<uint16_t>& channels) {
  const size_t outliers = side.options.outlier_channels;
  if (outliers == 0) return {};
  const std::string prefix = SidePrefix("", values);
  if (!metadata.Flag(prefix + "outlier_channels_held")) {
    if (metadata.Number("packed_tokens") == 0) return {};
    return Contradiction(metadata, prefix + "channels are missing beside packed tokens");
  }
  const KvFormatOptions& format = state.options.format;
  const size_t shape[] = {format.kv_heads, outliers};
  const std::string name = metadata.prefix() + prefix + "channels";
  TQ_TRY(const auto bytes, tensors.Get(name, TensorType::kU32, shape));
  for (size_t head = 0; head < format.kv_heads; ++head) {
    std::vector<bool> first(format.head_dim);
    int64_t previous = -1;
    for (size_t i = 0; i < outliers; ++i) {
      const uint32_t channel = LoadElement<uint32_t>(bytes, head * outliers + i);
      if (channel <= previous || channel >= format.head_dim) {
        return Fail(ErrorCode::kCorruptData, "tensor '", name, "': channel ", i, " of head ", head,
                    " is ", channel, ", they must ascend below ", format.head_dim);
      }
      previous = channel;
      first[channel] = true;
      channels.push_back(static_cast<uint16_t>(channel));
    }
    for (size_t channel = 0; channel < format.head_dim; ++channel) {
      if (!first[channel]) channels.push_back(static_cast<uint16_t>(channel));
    }
  }
  return {};
}

// The packed tokens of one side: codes and scales of each part, or rows.
struct SideTensors {
  struct Part {
    PartNames names;
    std::span<const std::byte> codes;
    std::span<const std::byte> scales;
  };
  std::string prefix;
  const KvSide* side;
  bool values;
  size_t tokens;
  std::vector<Part> parts;
  std::span<const std::byte> rows;
};

Result<void> CheckFinite(const std::string& name, std::span<const std::byte> elements, bool half) {
  for (size_t i = 0; i < elements.size() / (half ? 2 : 4); ++i) {
    const float x =
        half ? F16ToF32({LoadElement<uint16_t>(elements, i)}) : LoadElement<float>(elements, i);
    if (std::isfinite(x)) continue;
    return Fail(ErrorCode::kCorruptData, "tensor '", name, "': element ", i, " is not finite");
  }
  return {};
}

Result<SideTensors> GetSide(const SnapshotMetadata& metadata, SnapshotTensors& tensors,
                            const KvFormat::Parts& format, bool values) {
  const size_t heads = format.options.kv_heads;
  SideTensors result = {SidePrefix(metadata.prefix(), values),
                        values ? &format.values : &format.keys,
                        values,
                        metadata.Number("packed_tokens"),
                        {},
                        {}};
  for (size_t i = 0; i < result.side->parts.size(); ++i) {
    const PartNames names = NamesOf(*result.side, i);
    const size_t shape[] = {heads, result.tokens, CanonicalRowBytes(result.side->parts[i])};
    TQ_TRY(const auto codes,
           tensors.Get(result.prefix + std::string(names.codes), TensorType::kU8, shape));
    TQ_TRY(const auto scales, tensors.Get(result.prefix + std::string(names.scales),
                                          TensorType::kF16, std::span(shape).first(2)));
    result.parts.push_back({names, codes, scales});
  }
  if (!result.side->exact()) return result;
  const size_t shape[] = {heads, result.tokens, format.options.head_dim};
  const bool half = result.side->options.method == KvMethod::kF16;
  const std::string name = result.prefix + "rows";
  TQ_TRY(result.rows, tensors.Get(name, half ? TensorType::kF16 : TensorType::kF32, shape));
  TQ_CHECK(CheckFinite(name, result.rows, half));
  return result;
}

// `count` tokens from `token` of the file on go to the zero lanes of a page from `lane` on.
Result<void> FillLanes(const SideTensors& from, const KvFormat::Parts& format, size_t token,
                       size_t count, size_t lane, std::byte* page) {
  const KvSide& side = *from.side;
  for (size_t head = 0; head < format.options.kv_heads; ++head, page += format.head_bytes) {
    const size_t row = head * from.tokens + token;
    for (size_t i = 0; i < side.parts.size(); ++i) {
      const SideTensors::Part& part = from.parts[i];
      const size_t row_bytes = CanonicalRowBytes(side.parts[i]);
      const auto read = ImportLanes(side.parts[i], from.values,
                                    part.codes.subspan(row * row_bytes, count * row_bytes),
                                    part.scales.subspan(row * 2, count * 2), lane, count, page);
      if (read) continue;
      return Fail(ErrorCode::kCorruptData, "tensors '", from.prefix, part.names.codes, "' and '",
                  from.prefix, part.names.scales, "', head ", head, ", from token ", token,
                  " on: ", read.error().message);
    }
    if (!side.exact()) continue;
    std::memcpy(page + side.exact_offset + lane * side.exact_row_bytes,
                from.rows.data() + row * side.exact_row_bytes, count * side.exact_row_bytes);
  }
  return {};
}

Result<void> ReadPages(const SnapshotMetadata& metadata, SnapshotTensors& tensors,
                       KvCache::State& state) {
  // Both sides are as long as they should be before a page is made.
  TQ_TRY(const SideTensors keys, GetSide(metadata, tensors, state.parts(), /*values=*/false));
  TQ_TRY(const SideTensors values, GetSide(metadata, tensors, state.parts(), /*values=*/true));
  const size_t first_lane = metadata.Number("first_lane");
  const size_t end_lane = first_lane + keys.tokens;
  const uint64_t base = state.packed_position() - first_lane;
  std::vector<PageRef> pages;
  for (size_t page = 0; page < end_lane; page += kPageTokens) {
    const size_t begin = std::max(page, first_lane);
    const size_t count = std::min(end_lane, page + kPageTokens) - begin;
    pages.push_back(PageRef::Make(state.PagesToMake(), base + page));
    for (const SideTensors* side : {&keys, &values}) {
      TQ_CHECK(FillLanes(*side, state.parts(), begin - first_lane, count, begin - page,
                         pages.back().bytes()));
    }
  }
  if (!pages.empty()) state.pages.Commit(0, std::move(pages), first_lane, end_lane);
  return {};
}

Result<void> ReadObserved(const SnapshotMetadata& metadata, SnapshotTensors& tensors,
                          KvCache::State& state) {
  const std::string& kind = metadata.Text("observed_queries");
  if (kind == "none") return {};
  if (!state.AwaitsMap() || state.options.query_heads == 0) {
    return Contradiction(metadata, "queries were observed for a key map that is not awaited");
  }
  const size_t tokens = metadata.Number("observed_tokens");
  const size_t heads = state.options.query_heads;
  const size_t dim = state.options.format.head_dim;
  const size_t most = CheckedAdd(state.options.sinks, kKeyMapMaxTokens).value_or(SIZE_MAX);
  if (tokens == 0 || tokens > most) {
    return Contradiction(metadata, "observed_tokens is none of 1 to sinks + 512");
  }
  const size_t shape[] = {tokens, heads, dim};
  const std::string name = metadata.prefix() + "observed.queries";
  TQ_TRY(const auto bytes, tensors.Get(name, TensorType::kF32, shape));
  state.observed = {ElementsOf<float>(bytes), tokens};
  const HeadsView rows = HeadsView::TokenMajor(state.observed.rows.data(), tokens, heads, dim);
  return Blame(name, CheckNumbers("queries", rows, {}, *state.parts().kernels, {}));
}

Result<void> TakeKeyMap(const SnapshotMetadata& metadata, const KeyMap* key_map,
                        KvCache::State& state) {
  if (key_map == nullptr || state.options.known_key_map) return {};  // the state has a known one
  const KeyMapKind wanted = state.options.key_map;
  if (!state.UsesMap() || (key_map->kind() != wanted && key_map->kind() != KeyMapKind::kCenter)) {
    return Contradiction(metadata, "key_map_held is no map that these options estimate");
  }
  const bool weighted =
      *state.options.query_weighted_codes && key_map->kind() == KeyMapKind::kDiagonal;
  if (weighted == key_map->query_weights(0).empty()) {
    return Contradiction(metadata,
                         "query_weights_held is not what query_weighted_codes has estimated");
  }
  state.key_map_bytes = 0;
  state.key_map = MakeCountedShared<KeyMap>(state.key_map_bytes, *key_map);
  state.key_map_bytes += state.key_map->HeldBytes();
  return {};
}

}  // namespace

Result<void> RestoreState(const SnapshotMetadata& metadata, SnapshotTensors& tensors,
                          const KeyMap* key_map, KvCache::State& state) {
  TQ_CHECK(TakeKeyMap(metadata, key_map, state));
  TQ_CHECK(CheckCounts(metadata, state));
  TQ_CHECK(ReadExact(metadata, tensors, "sinks", metadata.Number("sink_tokens"), state,
                     /*to_be_packed=*/false, state.sinks));
  TQ_CHECK(ReadExact(metadata, tensors, "window", metadata.Number("window_tokens"), state,
                     /*to_be_packed=*/true, state.window));
  state.evicted = metadata.Number("evicted_tokens");
  TQ_CHECK(ReadObserved(metadata, tensors, state));

  for (const bool values : {false, true}) {
    TQ_CHECK(ReadChannels(metadata, tensors, values ? state.parts().values : state.parts().keys,
                          values, state, values ? state.value_channels : state.key_channels));
  }
  return ReadPages(metadata, tensors, state);
}

}  // namespace turboquant
