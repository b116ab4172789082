#include <fmt/format.h>

#include <algorithm>

#include "src/eval/cache_spec.h"
#include "src/eval/result_output.h"

namespace turboquant::eval {
namespace {

// What rows of traces, and of random directions, say about where they come from.
template <class Row>
std::string SourceTitle(const Row& row) {
  std::string title = row.source;
  if (row.model) title += fmt::format(", {}", *row.model);
  if (row.layer) title += fmt::format(", layer {}", *row.layer);
  if (row.head) title += fmt::format(", head {}", *row.head);
  return title;
}

std::string Title(const BenchmarkRow& row) {
  std::string title = SourceTitle(row);
  if (row.rope) title += fmt::format(", rope {}", *row.rope);
  title += fmt::format(": dim {}, {} rows, {} queries", row.dim, row.rows, row.queries);
  if (row.samples > 1) title += fmt::format(", {} samples", row.samples);
  if (row.logit_std) title += fmt::format(", logit std {}", *row.logit_std);
  return title;
}

std::string Title(const CacheRow& row) {
  std::string title = "caches, " + SourceTitle(row);
  title += fmt::format(", rope {}: head_dim {}, {} tokens, {} queries", row.rope, row.dim,
                       row.tokens, row.queries);
  if (row.samples > 1) title += fmt::format(", {} samples", row.samples);
  return title;
}

std::string Title(const AttentionRow& row) {
  return fmt::format("attention: {} query heads, {} KV heads, head_dim {}, {} thread{}",
                     row.query_heads, row.kv_heads, row.head_dim, row.threads,
                     row.threads == 1 ? "" : "s");
}

template <class Row>
std::vector<GroupOf<Row>> Group(const std::vector<Row>& rows) {
  std::vector<GroupOf<Row>> groups;
  for (const Row& row : rows) {
    const std::string title = Title(row);
    auto group = std::ranges::find(groups, title, &GroupOf<Row>::title);
    if (group == groups.end()) group = groups.insert(groups.end(), GroupOf<Row>{title, {}});
    group->rows.push_back(&row);
  }
  return groups;
}

}  // namespace

std::vector<RowGroup> GroupRows(const BenchmarkResult& result) { return Group(result.rows); }

std::vector<CacheGroup> GroupCaches(const BenchmarkResult& result) {
  return Group(result.cache_rows);
}

std::vector<AttentionGroup> GroupAttention(const BenchmarkResult& result) {
  return Group(result.attention_rows);
}

std::string SeriesName(const BenchmarkRow& row) {
  return row.policy == "default" ? row.method : fmt::format("{} ({})", row.method, row.policy);
}

std::string CacheName(const CacheRow& row) {
  std::string name = row.method;
  if (row.method == "cache") {
    name = fmt::format("{} {}", row.policy,
                       WidthsName(row.key_method, row.key_bits, row.value_method, row.value_bits));
  }
  name += fmt::format(", {} + {} exact", row.sinks, row.window);
  name += ChoicesInName(row.policy, row.scale_search, row.key_codes);
  if (row.key_map != "none") name += ", " + row.key_map;
  return row.waits_for_map ? name + ", waiting" : name;
}

std::string CacheName(const AttentionRow& row) {
  std::string name =
      fmt::format("{} {}", row.policy,
                  WidthsName(row.key_method, row.key_bits, row.value_method, row.value_bits));
  return row.key_map == "none" ? name : name + ", " + row.key_map;
}

}  // namespace turboquant::eval
