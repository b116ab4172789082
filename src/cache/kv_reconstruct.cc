#include <algorithm>
#include <vector>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/cache/check_heads.h"
#include "src/cache/key_frame.h"
#include "src/cache/kv_state.h"
#include "turboquant/kv_cache.h"

namespace turboquant {
namespace {

// Packed tokens of one page and side: lanes [first_lane, first_lane + count), which are tokens
// [token, token + count) of the output.
struct Run {
  size_t page;
  size_t first_lane;
  size_t count;
  size_t token;
};

void ReconstructRun(const KvCache::State& state, const KvView& view, bool values, const Run& run,
                    const HeadsOutput& out) {
  const KvFormat::Parts& parts = state.parts();
  const size_t dim = parts.options.head_dim;
  const KvPage& page = view.pages[run.page];
  const uint16_t* channels = values ? view.value_channels : view.key_channels;
  std::vector<float> rows(run.count * dim);
  for (size_t head = 0; head < parts.options.kv_heads; ++head) {
    DecodeTokens(values ? parts.values : parts.keys, values, head,
                 page.bytes + head * parts.head_bytes, run.first_lane, run.count,
                 {rows.data(), run.count, dim});
    KeyFrame frame(*parts.kernels, view.key_map, head, page.turns, view.rotary_dim,
                   view.rope_pairing, dim);
    for (size_t r = 0; r < run.count; ++r) {
      const float* row = rows.data() + r * dim;
      float* written = out.Row(run.token + r, head);
      for (size_t j = 0; j < dim; ++j) {
        written[channels == nullptr ? j : channels[head * dim + j]] = row[j];
      }
      if (!values) frame.Undo(written);
    }
  }
}

// Visible tokens [first, first + count) of one side.
void ReconstructSide(const KvCache::State& state, const KvView& view, bool values, size_t first,
                     size_t count, const HeadsOutput& out) {
  const size_t sinks = view.sinks.count;
  for (size_t token = 0; token < count;) {
    const size_t visible = first + token;
    if (visible >= sinks && visible < sinks + view.packed_tokens) {
      const size_t lane = view.first_lane + visible - sinks;
      const size_t page_end = (lane / kPageTokens + 1) * kPageTokens;
      const size_t end = std::min(page_end, view.first_lane + view.packed_tokens);
      const Run run = {lane / kPageTokens, lane % kPageTokens, std::min(end - lane, count - token),
                       token};
      ReconstructRun(state, view, values, run, out);
      token += run.count;
      continue;
    }
    const bool sink = visible < sinks;
    const ExactTokens& exact = sink ? state.sinks : state.window;
    const size_t at = sink ? visible : visible - sinks - view.packed_tokens;
    for (size_t head = 0; head < out.heads; ++head) {
      exact.Read(values, at, head, out.Row(token, head));
    }
    ++token;
  }
}

}  // namespace

Result<void> KvCache::Reconstruct(size_t first, size_t count, const HeadsOutput& keys,
                                  const HeadsOutput& values) const {
  if (first > size() || count > size() - first) {
    return Fail(ErrorCode::kInvalidArgument, "tokens ", first, " to ", first, " + ", count,
                " were asked for, there are ", size());
  }
  const KvFormatOptions& format = state_->options.format;
  TQ_CHECK(CheckOutput("keys", keys, count, format.kv_heads, format.head_dim));
  TQ_CHECK(CheckOutput("values", values, count, format.kv_heads, format.head_dim));
  const KvView seen = view();
  ReconstructSide(*state_, seen, /*values=*/false, first, count, keys);
  ReconstructSide(*state_, seen, /*values=*/true, first, count, values);
  return {};
}

}  // namespace turboquant
