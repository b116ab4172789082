#include "src/cache/pack_tokens.h"

#include <algorithm>
#include <mutex>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "src/base/half.h"
#include "src/cache/key_frame.h"
#include "src/cache/kv_state.h"
#include "src/quantizers/row_reader.h"
#include "src/quantizers/run_tasks.h"
#include "turboquant/outlier_quantizer.h"

namespace turboquant {
namespace {

// Pending tokens [token, token + count) of one head and side as a page packs them, except that
// channels are where they came from, to rows [count × head_dim].
void ReadFramed(const PackFormat& format, bool values, size_t head, const PendingTokens& pending,
                const PageRef& page, size_t token, size_t count, float* rows) {
  const size_t dim = format.parts->options.head_dim;
  for (size_t r = 0; r < count; ++r) pending.Read(values, token + r, head, rows + r * dim);
  if (values) return;
  const float* turns = format.rope == nullptr ? nullptr : page.view().turns;
  KeyFrame frame(*format.parts->kernels, format.key_map, head, turns,
                 turns == nullptr ? 0 : format.rope->rotary_dim(),
                 format.rope == nullptr ? RopePairing::kHalf : format.rope->pairing, dim);
  for (size_t r = 0; r < count; ++r) frame.Apply(rows + r * dim, rows + r * dim);
}

std::vector<float> FramedRows(const PackFormat& format, bool values, size_t head,
                              const PendingTokens& pending, const PageRef& page, size_t token,
                              size_t count) {
  std::vector<float> rows(count * format.parts->options.head_dim);
  ReadFramed(format, values, head, pending, page, token, count, rows.data());
  return rows;
}

// The same where they lie in the caller's memory, if that is what is packed; else data is null.
MatrixView<const float> RowsAsTheyAre(const PackFormat& format, bool values, size_t head,
                                      const PendingTokens& pending, size_t token, size_t count) {
  const HeadsView& source = values ? pending.values : pending.keys;
  const bool framed = !values && (format.key_map != nullptr || format.rope != nullptr);
  if (token < pending.window->count() || source.type != RowType::kF32 || framed ||
      pending.round_to_f16) {
    return {};
  }
  const RowsView rows = source.Head(head).Slice(token - pending.window->count(), count);
  return {static_cast<const float*>(rows.data()), count, rows.cols(), rows.stride()};
}

void Permute(const uint16_t* channels, size_t dim, std::vector<float>& rows) {
  std::vector<float> row(dim);
  for (size_t first = 0; first < rows.size(); first += dim) {
    std::copy_n(rows.data() + first, dim, row.data());
    for (size_t j = 0; j < dim; ++j) rows[first + j] = row[channels[j]];
  }
}

// "rows[0] ..." is the only row, which the caller names better.
std::string WithoutRow(const std::string& message) {
  constexpr std::string_view kRow = "rows[0] ";
  return message.starts_with(kRow) ? "it " + message.substr(kRow.size()) : message;
}

// Encodes rows one by one into memory of its own to tell which one fails.
PackFailure FindFailure(const PackFormat& format, bool values, size_t head, size_t token,
                        const MatrixView<const float>& rows) {
  const KvSide& side = values ? format.parts->values : format.parts->keys;
  for (size_t r = 0; r < rows.rows; ++r) {
    AlignedBytes bytes(format.parts->head_bytes);
    const auto done = EncodeTokens(side, values, head, rows.Slice(r, 1), 0, bytes.data());
    if (done) continue;
    return {token + r, head, values, {done.error().code, WithoutRow(done.error().message)}};
  }
  return {token, head, values, {ErrorCode::kInternal, "rows failed together, not one by one"}};
}

// One side of the span's only token, all heads together; false where that is not possible, or
// fails.
bool PackedTogether(const PackFormat& format, bool values, const PendingTokens& pending,
                    const PageSpan& span) {
  const KvFormat::Parts& parts = *format.parts;
  if (!IsOneHadamardPart(values ? parts.values : parts.keys)) return false;
  if (!values && format.UsesWeights()) return false;
  const size_t heads = parts.options.kv_heads;
  const size_t dim = parts.options.head_dim;
  const size_t token = span.Token(0);
  const auto encode = [&](const kernels::QueryRows<const float>& rows,
                          const kernels::QueryRows<const double>& norms) {
    std::byte* page_bytes = span.pages[0].bytes();
    return EncodeToken(parts, values, rows, norms, span.Begin(0), page_bytes).has_value();
  };
  const MatrixView<const float> first = RowsAsTheyAre(format, values, 0, pending, token, 1);
  if (first.data != nullptr) {
    const SquaredNorms& norms = values ? pending.value_norms : pending.key_norms;
    return encode({first.data, (values ? pending.values : pending.keys).head_stride},
                  {norms.At(0, token - pending.window->count()), norms.head_stride});
  }
  std::vector<float> framed(heads * dim);
  for (size_t head = 0; head < heads; ++head) {
    ReadFramed(format, values, head, pending, span.pages[0], token, 1, framed.data() + head * dim);
  }
  std::vector<double> norms(heads);
  parts.kernels->norms_squared({framed.data(), dim}, heads, dim, norms.data());
  return encode({framed.data(), dim}, {norms.data(), 1});
}

}  // namespace

void PendingTokens::Read(bool of_values, size_t i, size_t head, float* out) const {
  if (i < window->count()) return window->Read(of_values, i, head, out);
  const HeadsView& rows = of_values ? values : keys;
  ReadRow(rows.Head(head), i - window->count(), out);
  if (!round_to_f16) return;
  for (size_t j = 0; j < rows.dim; ++j) out[j] = F16ToF32(F32ToF16(out[j]));
}

size_t PageSpan::Begin(size_t i) const {
  const size_t page_begin = (first_page + i) * kPageTokens;
  return std::max(first_lane, page_begin) - page_begin;
}

size_t PageSpan::End(size_t i) const {
  const size_t page_begin = (first_page + i) * kPageTokens;
  return std::min(end_lane, page_begin + kPageTokens) - page_begin;
}

size_t PageSpan::Token(size_t i) const {
  return (first_page + i) * kPageTokens + Begin(i) - first_lane;
}

std::vector<uint16_t> ChooseChannels(const PackFormat& format, bool values,
                                     const PendingTokens& pending, const PageSpan& span) {
  const size_t dim = format.parts->options.head_dim;
  const size_t heads = format.parts->options.kv_heads;
  const KvSide& side = values ? format.parts->values : format.parts->keys;
  std::vector<uint16_t> order;
  order.reserve(heads * dim);
  for (size_t head = 0; head < heads; ++head) {
    std::vector<float> rows;
    size_t tokens = 0;
    for (size_t i = 0; i < span.pages.size() && tokens < kKeyMapMaxTokens; ++i) {
      const size_t count = span.End(i) - span.Begin(i);
      const std::vector<float> framed =
          FramedRows(format, values, head, pending, span.pages[i], span.Token(i), count);
      rows.insert(rows.end(), framed.begin(), framed.end());
      tokens += count;
    }
    // Framed rows that are not finite fail when they are encoded, whatever the order.
    std::vector<uint32_t> outliers(side.options.outlier_channels);
    std::iota(outliers.begin(), outliers.end(), 0u);
    const MatrixView<const float> view = {rows.data(), tokens, dim};
    if (auto chosen = ChooseOutlierChannels(view, outliers.size())) outliers = *std::move(chosen);
    for (const uint32_t channel : outliers) order.push_back(static_cast<uint16_t>(channel));
    for (uint32_t channel = 0; channel < dim; ++channel) {
      if (std::ranges::binary_search(outliers, channel)) continue;
      order.push_back(static_cast<uint16_t>(channel));
    }
  }
  return order;
}

std::optional<PackFailure> PackTokens(const PackFormat& format, const PendingTokens& pending,
                                      const PageSpan& span, const ParallelFor& parallel_for) {
  const KvFormat::Parts& parts = *format.parts;
  const size_t dim = parts.options.head_dim;
  const size_t tasks_per_page = 2 * parts.options.kv_heads;
  bool packed[2] = {};  // keys, values
  if (span.pages.size() == 1 && span.End(0) - span.Begin(0) == 1) {
    for (const bool values : {false, true}) {
      packed[values] = PackedTogether(format, values, pending, span);
    }
    if (packed[0] && packed[1]) return std::nullopt;
  }
  std::mutex mutex;
  std::optional<PackFailure> failure;
  size_t failed_task = 0;
  RunTasks(parallel_for, span.pages.size() * tasks_per_page, [&](size_t task) {
    const size_t i = task / tasks_per_page;
    const size_t head = task % tasks_per_page / 2;
    const bool values = task % 2 != 0;
    if (packed[values]) return;
    const size_t count = span.End(i) - span.Begin(i);
    const uint16_t* channels = values ? format.value_channels : format.key_channels;
    MatrixView<const float> view =
        RowsAsTheyAre(format, values, head, pending, span.Token(i), count);
    const double* norms_squared = nullptr;
    std::vector<float> rows;
    if (view.data != nullptr && channels == nullptr) {
      const SquaredNorms& norms = values ? pending.value_norms : pending.key_norms;
      norms_squared = norms.At(head, span.Token(i) - pending.window->count());
    } else {
      rows = FramedRows(format, values, head, pending, span.pages[i], span.Token(i), count);
      if (channels != nullptr) Permute(channels + head * dim, dim, rows);
      view = {rows.data(), count, dim};
    }
    std::byte* bytes = span.pages[i].bytes() + head * parts.head_bytes;
    const KvSide& side = values ? parts.values : parts.keys;
    std::optional<CodeMetric> metric;
    if (!values && format.UsesWeights()) {
      metric.emplace(*parts.kernels, format.key_map->query_weights(head));
    }
    if (EncodeTokens(side, values, head, view, span.Begin(i), bytes, norms_squared,
                     metric ? &*metric : nullptr)) {
      return;
    }
    PackFailure found = FindFailure(format, values, head, span.Token(i), view);
    const std::lock_guard lock(mutex);
    if (failure && failed_task < task) return;
    failure = std::move(found);
    failed_task = task;
  });
  return failure;
}

}  // namespace turboquant
