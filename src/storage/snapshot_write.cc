// A cache's state into tensors and metadata.
#include <algorithm>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "src/base/checked.h"
#include "src/cache/canonical_lanes.h"
#include "src/storage/option_names.h"
#include "src/storage/snapshot_names.h"
#include "src/storage/snapshot_state.h"

namespace turboquant {
namespace {

// visit(page, first lane, lanes, tokens before) for the visible lanes of each page.
void ForVisibleLanes(
    const PackedPages& pages,
    const std::function<void(const KvPage& page, size_t lane, size_t count, size_t token)>& visit) {
  size_t token = 0;
  for (size_t i = 0; i < pages.count(); ++i) {
    const size_t begin = i == 0 ? pages.first_lane() : 0;
    const size_t end = std::min(pages.end_lane() - i * kPageTokens, kPageTokens);
    visit(pages.view()[i], begin, end - begin, token);
    token += end - begin;
  }
}

void AddPart(const KvCache::State& state, const KvSide& side, size_t index, bool values,
             const std::string& prefix, OwnedTensors& tensors) {
  const KvPart& part = side.parts[index];
  const PartNames names = NamesOf(side, index);
  const size_t heads = state.options.format.kv_heads;
  const size_t tokens = state.pages.tokens();
  const size_t row_bytes = CanonicalRowBytes(part);
  const std::span<std::byte> codes =
      tensors.Add(prefix + std::string(names.codes), TensorType::kU8, {heads, tokens, row_bytes});
  const std::span<std::byte> scales =
      tensors.Add(prefix + std::string(names.scales), TensorType::kF16, {heads, tokens});
  ForVisibleLanes(state.pages, [&](const KvPage& page, size_t lane, size_t count, size_t token) {
    for (size_t head = 0; head < heads; ++head) {
      const size_t row = head * tokens + token;
      ExportLanes(part, values, page.bytes + head * state.parts().head_bytes, lane, count,
                  codes.subspan(row * row_bytes, count * row_bytes),
                  scales.subspan(row * sizeof(uint16_t), count * sizeof(uint16_t)));
    }
  });
}

// Rows of an unquantized side.
void AddPageRows(const KvCache::State& state, const KvSide& side, const std::string& prefix,
                 OwnedTensors& tensors) {
  const KvFormatOptions& format = state.options.format;
  const size_t tokens = state.pages.tokens();
  const bool half = side.options.method == KvMethod::kF16;
  const std::span<std::byte> rows =
      tensors.Add(prefix + "rows", half ? TensorType::kF16 : TensorType::kF32,
                  {format.kv_heads, tokens, format.head_dim});
  ForVisibleLanes(state.pages, [&](const KvPage& page, size_t lane, size_t count, size_t token) {
    for (size_t head = 0; head < format.kv_heads; ++head) {
      const std::byte* from = page.bytes + head * state.parts().head_bytes + side.exact_offset +
                              lane * side.exact_row_bytes;
      const size_t to = (head * tokens + token) * side.exact_row_bytes;
      std::copy_n(from, count * side.exact_row_bytes, rows.subspan(to).begin());
    }
  });
}

// The outlier channels of each head, which stand in front in the order of the parts.
void AddChannels(const KvCache::State& state, const KvSide& side,
                 std::span<const uint16_t> channels, const std::string& prefix,
                 OwnedTensors& tensors, StringMap& metadata) {
  const size_t outliers = side.options.outlier_channels;
  if (outliers == 0) return;
  metadata[prefix + "outlier_channels_held"] = channels.empty() ? "false" : "true";
  if (channels.empty()) return;
  const KvFormatOptions& format = state.options.format;
  std::vector<uint32_t> first;
  for (size_t head = 0; head < format.kv_heads; ++head) {
    const auto own = channels.subspan(head * format.head_dim, outliers);
    first.insert(first.end(), own.begin(), own.end());
  }
  tensors.AddElements(prefix + "channels", TensorType::kU32, {format.kv_heads, outliers},
                      std::span<const uint32_t>(first));
}

void AddExact(const KvCache::State& state, const ExactTokens& exact, const std::string& prefix,
              OwnedTensors& tensors) {
  const KvFormatOptions& format = state.options.format;
  const KvExactTokens view = exact.view();
  const size_t element = state.options.exact_type == RowType::kF16 ? 2 : 4;
  for (const bool values : {false, true}) {
    const std::span<std::byte> rows = tensors.Add(
        prefix + (values ? "values" : "keys"), element == 2 ? TensorType::kF16 : TensorType::kF32,
        {format.kv_heads, view.count, format.head_dim});
    const auto* from = static_cast<const std::byte*>(values ? view.values : view.keys);
    const size_t head_bytes = view.count * format.head_dim * element;
    for (size_t head = 0; head < format.kv_heads && head_bytes != 0; ++head) {
      std::memcpy(rows.data() + head * head_bytes, from + head * view.head_stride * element,
                  head_bytes);
    }
  }
}

void AddKeyMap(const KeyMap& map, const std::string& prefix, OwnedTensors& tensors) {
  const size_t heads = map.kv_heads();
  const size_t dim = map.head_dim();
  const auto add = [&](const char* name, std::vector<size_t> shape, auto part) {
    std::vector<float> numbers;
    for (size_t head = 0; head < heads; ++head) {
      const std::span<const float> own = (map.*part)(head);
      numbers.insert(numbers.end(), own.begin(), own.end());
    }
    tensors.AddElements(prefix + name, TensorType::kF32, std::move(shape),
                        std::span<const float>(numbers));
  };
  add("key_map.center", {heads, dim}, &KeyMap::center);
  if (map.kind() == KeyMapKind::kDiagonal) add("key_map.scale", {heads, dim}, &KeyMap::scale);
  if (!map.query_weights(0).empty()) {
    add("key_map.query_weights", {heads, dim}, &KeyMap::query_weights);
  }
  if (map.kind() == KeyMapKind::kFull) add("key_map.matrix", {heads, dim, dim}, &KeyMap::matrix);
}

void AddObserved(const KvCache::State& state, const std::string& prefix, OwnedTensors& tensors,
                 StringMap& metadata) {
  const ObservedQueries& observed = state.observed;
  const bool held = observed.tokens != 0;
  metadata[prefix + "observed_queries"] = held ? "held" : "none";
  if (!held) return;
  metadata[prefix + "observed_tokens"] = std::to_string(observed.tokens);
  tensors.AddElements(prefix + "observed.queries", TensorType::kF32,
                      {observed.tokens, state.options.query_heads, state.options.format.head_dim},
                      std::span<const float>(observed.rows));
}

}  // namespace

void AddCache(const KvCache::State& state, const std::string& prefix, OwnedTensors& tensors,
              StringMap& metadata) {
  for (auto& [name, text] : TextsOf(state)) metadata[prefix + name] = text;
  const auto number = [&](const char* name, uint64_t count) {
    metadata[prefix + name] = std::to_string(count);
  };
  number("sink_tokens", state.sinks.count());
  number("packed_tokens", state.pages.tokens());
  number("window_tokens", state.window.count());
  number("evicted_tokens", state.evicted);
  number("first_lane", state.pages.first_lane());
  const KeyMapKind held = state.key_map ? state.key_map->kind() : KeyMapKind::kNone;
  metadata[prefix + "key_map_held"] = NameOf(kKeyMapNames, held);
  const bool weights = state.key_map && !state.key_map->query_weights(0).empty();
  if (weights) metadata[prefix + "query_weights_held"] = "true";

  const KvCacheOptions& options = state.options;
  if (options.rope) {
    const std::vector<double>& frequencies = options.rope->inverse_frequencies;
    tensors.AddElements(prefix + "rope.inverse_frequencies", TensorType::kF64, {frequencies.size()},
                        std::span<const double>(frequencies));
  }
  if (state.key_map) AddKeyMap(*state.key_map, prefix, tensors);
  for (const bool values : {false, true}) {
    const KvSide& side = values ? state.parts().values : state.parts().keys;
    const std::string name = SidePrefix(prefix, values);
    AddChannels(state, side, values ? state.value_channels : state.key_channels, name, tensors,
                metadata);
    for (size_t i = 0; i < side.parts.size(); ++i) AddPart(state, side, i, values, name, tensors);
    if (side.exact()) AddPageRows(state, side, name, tensors);
  }
  AddExact(state, state.sinks, prefix + "sinks.", tensors);
  AddExact(state, state.window, prefix + "window.", tensors);
  AddObserved(state, prefix, tensors, metadata);
}

}  // namespace turboquant
