#include "src/cache/attend_plan.h"

#include <cmath>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/quantizers/row_reader.h"

namespace turboquant {
namespace {

constexpr double kLargestQueryNorm = 0x1p40;
// Of a query times the logit scale, of a slope, of a bias: with keys that can be packed, or any of
// like size, logits then stay within float.
constexpr double kLargestScaledNorm = 0x1p60;
constexpr float kLargestSlope = 0x1p40f;
constexpr float kLargestBias = 0x1p100f;
// Differences of positions are taken in int64.
constexpr uint64_t kLargestPosition = uint64_t{1} << 62;

Result<void> CheckExact(std::string_view name, const KvExactTokens& tokens, size_t head_dim) {
  if (tokens.count == 0) return {};
  if (tokens.keys == nullptr || tokens.values == nullptr) {
    return Fail(ErrorCode::kInvalidArgument, name, " has ", tokens.count,
                " tokens but no keys or no values");
  }
  if (tokens.type == RowType::kBF16) {
    return Fail(ErrorCode::kInvalidArgument, name, " is of bf16, exact tokens are f32 or f16");
  }
  if (tokens.count > 1 && tokens.token_stride < head_dim) {
    return Fail(ErrorCode::kInvalidArgument, name, " has token_stride ", tokens.token_stride,
                ", less than head_dim ", head_dim);
  }
  return {};
}

Result<void> CheckChannels(std::string_view name, const KvSideOptions& side,
                           const uint16_t* channels) {
  if ((side.outlier_channels != 0) == (channels != nullptr)) return {};
  return Fail(ErrorCode::kInvalidArgument, "the view has ", channels == nullptr ? "no " : "", name,
              ", the format ", side.outlier_channels, " outlier channels of that side");
}

Result<void> CheckPositions(const KvView& view) {
  for (const uint64_t position : {view.first_position, view.packed_position}) {
    if (position <= kLargestPosition - std::min<uint64_t>(view.tokens(), kLargestPosition))
      continue;
    return Fail(ErrorCode::kInvalidArgument, "the view has ", view.tokens(),
                " tokens from position ", position, " on, positions end at 2^62");
  }
  return {};
}

Result<void> CheckView(const KvView& view) {
  if (view.format == nullptr) return Fail(ErrorCode::kInvalidArgument, "the view has no format");
  const KvFormatOptions& format = view.format->options();
  TQ_CHECK(CheckExact("sinks", view.sinks, format.head_dim));
  TQ_CHECK(CheckExact("window", view.window, format.head_dim));
  const size_t room = view.pages.size() * kPageTokens;
  if (view.first_lane > room || view.packed_tokens > room - view.first_lane) {
    return Fail(ErrorCode::kInvalidArgument, "the view has ", view.packed_tokens,
                " packed tokens from lane ", view.first_lane, ", but ", view.pages.size(),
                " pages of ", kPageTokens);
  }
  TQ_CHECK(CheckPositions(view));
  if (view.packed_tokens != 0) {
    TQ_CHECK(CheckChannels("key_channels", format.keys, view.key_channels));
    TQ_CHECK(CheckChannels("value_channels", format.values, view.value_channels));
  }
  const bool turned = view.key_map != nullptr && view.rotary_dim != 0;
  for (size_t p = 0; p < CeilDivide(view.first_lane + view.packed_tokens, kPageTokens); ++p) {
    if (view.pages[p].bytes == nullptr || (turned && view.pages[p].turns == nullptr)) {
      return Fail(ErrorCode::kInvalidArgument, "page ", p, " of the view has no bytes or no turns");
    }
  }
  if (view.rotary_dim > format.head_dim || view.rotary_dim % 2 != 0) {
    return Fail(ErrorCode::kInvalidArgument, "rotary_dim must be even and at most head_dim ",
                format.head_dim, ", got ", view.rotary_dim);
  }
  if (view.key_map != nullptr && (view.key_map->kv_heads() != format.kv_heads ||
                                  view.key_map->head_dim() != format.head_dim)) {
    return Fail(ErrorCode::kDimensionMismatch, "the key map is of ", view.key_map->kv_heads(),
                " heads of ", view.key_map->head_dim(), ", the format of ", format.kv_heads,
                " heads of ", format.head_dim);
  }
  return {};
}

Result<void> CheckQueries(const HeadsView& queries, const KvFormatOptions& format) {
  if (queries.dim != format.head_dim) {
    return Fail(ErrorCode::kDimensionMismatch, "queries have ", queries.dim,
                " columns, the cache has head_dim ", format.head_dim);
  }
  if (queries.heads == 0 || queries.heads % format.kv_heads != 0) {
    return Fail(ErrorCode::kDimensionMismatch, "queries have ", queries.heads,
                " heads, not a multiple of the cache's ", format.kv_heads);
  }
  if (queries.tokens != 0 && queries.data == nullptr)
    return Fail(ErrorCode::kInvalidArgument, "queries have no data");
  return {};
}

Result<void> CheckSlopes(std::span<const float> slopes, size_t query_heads) {
  if (!slopes.empty() && slopes.size() != query_heads) {
    return Fail(ErrorCode::kDimensionMismatch, "there are ", slopes.size(), " alibi_slopes for ",
                query_heads, " query heads");
  }
  for (size_t h = 0; h < slopes.size(); ++h) {
    if (!std::isfinite(slopes[h]))
      return Fail(ErrorCode::kNonFinite, "alibi_slopes[", h, "] is not finite");
    if (std::fabs(slopes[h]) > kLargestSlope) {
      return Fail(ErrorCode::kInvalidArgument, "alibi_slopes[", h, "] is ",
                  static_cast<double>(slopes[h]), ", the largest taken is 2^40");
    }
  }
  return {};
}

Result<void> CheckBias(const MatrixView<const float>& bias, size_t query_tokens, size_t tokens) {
  if (bias.data == nullptr) return {};
  if (bias.rows != query_tokens || bias.cols != tokens ||
      (bias.rows > 1 && bias.stride < bias.cols)) {
    return Fail(ErrorCode::kDimensionMismatch, "bias is ", bias.rows, " × ", bias.cols,
                " with stride ", bias.stride, ", expected ", query_tokens, " × ", tokens);
  }
  for (size_t t = 0; t < bias.rows; ++t) {
    for (size_t k = 0; k < bias.cols; ++k) {
      const float x = bias.Row(t)[k];
      if (x <= kLargestBias) continue;
      if (std::isfinite(x)) {
        return Fail(ErrorCode::kInvalidArgument, "bias[", t, "] is ", static_cast<double>(x),
                    " at column ", k, ", the largest taken is 2^100");
      }
      return Fail(ErrorCode::kNonFinite, "bias[", t, "] is ", std::isnan(x) ? "NaN" : "infinite",
                  " at column ", k);
    }
  }
  return {};
}

Result<void> CheckOptions(const AttendOptions& options, const HeadsView& queries,
                          const KvView& view) {
  if (!std::isfinite(options.scale) || options.scale < 0.0f) {
    return Fail(ErrorCode::kInvalidArgument, "scale must be finite and not negative, got ",
                static_cast<double>(options.scale));
  }
  if (!std::isfinite(options.logit_softcap) || options.logit_softcap < 0.0f) {
    return Fail(ErrorCode::kInvalidArgument, "logit_softcap must be finite and not negative, got ",
                static_cast<double>(options.logit_softcap));
  }
  if (options.digits != 1 && options.digits != 2)
    return Fail(ErrorCode::kInvalidArgument, "digits must be 1 or 2, got ", options.digits);
  if (options.query_position.value_or(0) > kLargestPosition || queries.tokens > kLargestPosition) {
    return Fail(ErrorCode::kInvalidArgument, "query_position must be at most 2^62, got ",
                options.query_position.value_or(0));
  }
  const size_t rows = queries.tokens * queries.heads;
  if (!options.log_sum_exp.empty() && options.log_sum_exp.size() != rows) {
    return Fail(ErrorCode::kDimensionMismatch, "log_sum_exp has ", options.log_sum_exp.size(),
                " elements, there are ", rows, " queries");
  }
  TQ_CHECK(CheckSlopes(options.alibi_slopes, queries.heads));
  return CheckBias(options.bias, queries.tokens, view.tokens());
}

Result<void> CheckNorm(const float* row, size_t dim, double norm, size_t token, size_t head,
                       const AttendPlan& plan) {
  const double scaled = norm * static_cast<double>(plan.unit);
  if (norm <= kLargestQueryNorm && scaled <= kLargestScaledNorm) return {};
  for (size_t j = 0; j < dim; ++j) {
    if (std::isfinite(row[j])) continue;
    return Fail(ErrorCode::kNonFinite, "queries[", token, "][", head, "] is ",
                std::isnan(row[j]) ? "NaN" : "infinite", " at column ", j);
  }
  if (norm > kLargestQueryNorm) {
    return Fail(ErrorCode::kInvalidArgument, "queries[", token, "][", head, "] has norm ", norm,
                ", the largest taken is 2^40");
  }
  return Fail(ErrorCode::kInvalidArgument, "queries[", token, "][", head, "] has norm ", norm,
              ", times the scale more than the 2^60 that logits bear");
}

// Rows of the queries in the order of the tiles. Errors: kNonFinite, kInvalidArgument.
Result<void> ReadQueries(const HeadsView& queries, AttendPlan& plan) {
  const size_t dim = plan.head_dim;
  plan.queries.resize(queries.tokens * queries.heads * dim);
  float* row = plan.queries.data();
  for (size_t kv_head = 0; kv_head < queries.heads / plan.group; ++kv_head) {
    for (size_t r = 0; r < queries.tokens * plan.group; ++r, row += dim) {
      const size_t token = r / plan.group;
      const size_t head = kv_head * plan.group + r % plan.group;
      ReadRow(queries.Head(head), token, row);
      const double norm = std::sqrt(kernels::NormSquared(*plan.kernels, row, dim));
      TQ_CHECK(CheckNorm(row, dim, norm, token, head, plan));
      for (size_t j = 0; j < dim; ++j) row[j] *= plan.unit;
    }
  }
  return {};
}

// Appends blocks of one kind, and the spans that they make up.
void AddSpans(size_t first_block, bool packed, AttendPlan& plan) {
  for (size_t first = first_block; first < plan.blocks.size(); first += kSpanBlocks)
    plan.spans.push_back({first, std::min(plan.blocks.size(), first + kSpanBlocks), packed});
}

void AddExact(const KvExactTokens& tokens, size_t first_token, uint64_t position,
              AttendPlan& plan) {
  const size_t first_block = plan.blocks.size();
  for (size_t t = 0; t < tokens.count; t += kPageTokens) {
    plan.blocks.push_back({&tokens, nullptr, 0, std::min(kPageTokens, tokens.count - t), t,
                           first_token + t, static_cast<int64_t>(position + t)});
  }
  AddSpans(first_block, false, plan);
}

void AddPages(const KvView& view, AttendPlan& plan) {
  const size_t first_block = plan.blocks.size();
  const size_t end = view.first_lane + view.packed_tokens;
  for (size_t lane = 0; lane < end; lane += kPageTokens) {
    const size_t begin = lane < view.first_lane ? view.first_lane - lane : 0;
    if (begin >= kPageTokens) continue;
    plan.blocks.push_back({nullptr, &view.pages[lane / kPageTokens], begin,
                           std::min(kPageTokens, end - lane), 0,
                           view.sinks.count + lane - view.first_lane,
                           static_cast<int64_t>(view.packed_position) + static_cast<int64_t>(lane) -
                               static_cast<int64_t>(view.first_lane)});
  }
  AddSpans(first_block, true, plan);
}

}  // namespace

Result<AttendPlan> MakeAttendPlan(const HeadsView& queries, const KvView& view,
                                  const AttendOptions& options, double unit_per_scale) {
  TQ_CHECK(CheckView(view));
  const KvFormatOptions& format = view.format->options();
  TQ_CHECK(CheckQueries(queries, format));
  TQ_CHECK(CheckOptions(options, queries, view));
  AttendPlan plan;
  plan.view = &view;
  plan.options = &options;
  plan.parts = &view.format->parts();
  plan.kernels = plan.parts->kernels;
  plan.head_dim = format.head_dim;
  plan.group = queries.heads / format.kv_heads;
  plan.query_tokens = queries.tokens;
  const uint64_t next = view.packed_position + view.packed_tokens + view.window.count;
  if (!options.query_position && queries.tokens > view.tokens() && options.causal) {
    return Fail(ErrorCode::kInvalidArgument, "there are ", queries.tokens,
                " query tokens but only ", view.tokens(),
                " tokens in the view: append before attending, or set query_position");
  }
  plan.query_position = options.query_position
                            ? static_cast<int64_t>(*options.query_position)
                            : static_cast<int64_t>(next) - static_cast<int64_t>(queries.tokens);
  const double scale = options.scale != 0.0f ? static_cast<double>(options.scale)
                                             : 1.0 / std::sqrt(static_cast<double>(plan.head_dim));
  plan.unit = static_cast<float>(scale * unit_per_scale);
  plan.natural_per_unit = static_cast<float>(1.0 / unit_per_scale);
  plan.bends_logits = options.logit_softcap != 0.0f || !options.alibi_slopes.empty() ||
                      options.bias.data != nullptr;
  AddExact(view.sinks, 0, view.first_position, plan);
  AddPages(view, plan);
  AddExact(view.window, view.sinks.count + view.packed_tokens,
           view.packed_position + view.packed_tokens, plan);
  TQ_CHECK(ReadQueries(queries, plan));
  return plan;
}

}  // namespace turboquant
