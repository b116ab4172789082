#include "src/webgpu/mse_kernels.h"

#include <algorithm>
#include <bit>
#include <string_view>
#include <vector>

#include "src/base/checked.h"
#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/kernels/line_layout.h"
#include "src/quantizers/row_reader.h"
#include "src/webgpu/shader_constants.h"
#include "src/webgpu/shaders.h"

namespace turboquant::webgpu {
namespace {

constexpr size_t kQueriesOfThread = 8;  // score_keys.wgsl

uint32_t Words(size_t count) { return static_cast<uint32_t>(count); }

// The digits of four queries, a low and a high byte for every coordinate.
size_t TileBytes(const MseCore& core) { return 4 * 2 * RoundUp(core.options().dim, 4); }

}  // namespace

Result<std::shared_ptr<const MseKernels>> MseKernels::Make(Gpu& gpu, MseCore core,
                                                           size_t sign_words) {
  const MseOptions& options = core.options();
  if (options.rotation != RotationKind::kHadamard) {
    return Fail(ErrorCode::kUnsupported, "a dense rotation does not run on the GPU: use kHadamard");
  }
  const GroupShape group = ChooseGroupShape(core, sign_words, gpu.limits().workgroup_bytes);
  const size_t workgroup_bytes = WorkgroupBytes(core, sign_words, group);
  if (workgroup_bytes > gpu.limits().workgroup_bytes) {
    return Fail(ErrorCode::kUnsupported, "dim ", options.dim, " needs ", workgroup_bytes,
                " bytes of workgroup memory, the device has ", gpu.limits().workgroup_bytes);
  }
  const RowFormat format = {kernels::kLineBytes * BlockLines(core), sign_words};
  auto kernels = std::shared_ptr<MseKernels>(new MseKernels(std::move(core), format, group));
  TQ_TRY(kernels->rows_per_run_, RowsPerRun(gpu, kernels->core_.options().dim * sizeof(float)));
  TQ_TRY(const size_t tiles, RowsPerRun(gpu, TileBytes(kernels->core_)));
  kernels->queries_per_chunk_ = std::min(4 * tiles, kernels->rows_per_run_ / 4 * 4);
  TQ_CHECK(Segments::LargestSegment(gpu, format));
  if (kernels->queries_per_chunk_ == 0) {
    return Fail(ErrorCode::kUnsupported, "four queries need a buffer of ",
                4 * kernels->core_.options().dim * sizeof(float), " bytes, the device's limit is ",
                gpu.limits().max_buffer_bytes);
  }
  TQ_CHECK(kernels->UploadTables(gpu));
  kernels->WriteShaders();
  return kernels;
}

Result<void> MseKernels::UploadTables(Gpu& gpu) {
  TQ_TRY(masks_, gpu.MakeBuffer("sign masks", std::as_bytes(core_.rotation().sign_masks())));
  const kernels::EncodePlan& plan = core_.encode_plan();
  const size_t codes = size_t{1} << core_.options().bits;
  std::vector<int32_t> codebook(plan.levels, plan.levels + codes);
  for (size_t t = 0; t < codes; ++t) {
    for (int k = 0; k < plan.candidates; ++k) codebook.push_back(plan.thresholds[k * 256 + t]);
  }
  TQ_TRY(codebook_, gpu.MakeBuffer("codebook", std::as_bytes(std::span(codebook))));
  return {};
}

uint32_t MseKernels::GroupsOf(size_t rows) const { return Words(CeilDivide(rows, group_.rows)); }

void MseKernels::WriteShaders() {
  const std::string constants = MseConstants(core_, group_).Word("kSpanRows", kSpanRows).text();
  const auto source = [&](std::initializer_list<std::string_view> parts) {
    std::string text = constants;
    for (const std::string_view part : parts) text += part;
    return text;
  };
  encode_ = {"encode_rows",
             source({kReal, kNormSquared, kRotate, kCodes, kPackCodes, kEncodeRows})};
  decode_ = {"decode_rows", source({kReal, kRotate, kCodes, kDecodeRows})};
  prepare_ = {"query_digits", source({kReal, kNormSquared, kRotate, kQueryDigits})};
  score_ = {"score_keys", source({kReal, kCodes, kScoreKeys})};
  sum_values_ = {"weighted_sum", source({kReal, kCodes, kWeightedSum})};
  outputs_ = {"attention_output", source({kReal, kRotate, kAttentionOutput})};
}

Result<void> MseKernels::Encode(Gpu& gpu, const Buffer& floats, size_t first_row, size_t count,
                                const Segment& into, const RowStatus& status) const {
  return gpu.Run(encode_, {Words(count), Words(first_row), Words(into.rows)},
                 {&floats, &masks_, &codebook_, &into.blocks, &into.scales, &status.buffer()},
                 GroupsOf(count));
}

Result<void> MseKernels::Decode(Gpu& gpu, const Segment& from, size_t first_lane, size_t count,
                                const Buffer& decoded) const {
  return gpu.Run(decode_, {Words(count), Words(first_lane)},
                 {&masks_, &codebook_, &from.blocks, &from.scales, &decoded}, GroupsOf(count));
}

Result<QueryChunk> MseKernels::Prepare(Gpu& gpu, const Buffer& floats, size_t queries, int digits,
                                       const RowStatus& status) const {
  QueryChunk chunk;
  chunk.queries = queries;
  chunk.digits_each = digits;
  TQ_TRY(chunk.digits,
         gpu.MakeBuffer("digits of queries", CeilDivide(queries, 4) * TileBytes(core_)));
  TQ_TRY(chunk.factors, gpu.MakeBuffer("factors of queries", queries * sizeof(float)));
  const int digit_max = digits == 1 ? kernels::kOneDigitMax : kernels::kTwoDigitMax;
  TQ_CHECK(gpu.Run(prepare_, {Words(queries), static_cast<uint32_t>(digit_max)},
                   {&floats, &masks_, &chunk.digits, &chunk.factors, &status.buffer()},
                   GroupsOf(queries)));
  return chunk;
}

Result<void> MseKernels::Score(Gpu& gpu, const Segment& rows, const QueryChunk& chunk,
                               size_t first_query, size_t queries, const Buffer& scores,
                               size_t stride, size_t first_score) const {
  return gpu.Run(score_,
                 {Words(rows.rows), Words(queries), Words(first_query), Words(stride),
                  Words(first_score), static_cast<uint32_t>(chunk.digits_each)},
                 {&codebook_, &rows.blocks, &rows.scales, &chunk.digits, &chunk.factors, &scores},
                 Words(CeilDivide(rows.rows, kThreads)),
                 Words(CeilDivide(queries, kQueriesOfThread)));
}

Result<void> MseKernels::SumValues(Gpu& gpu, const Segment& rows, const Buffer& scores,
                                   const SpanPlace& place, const Buffer& sums,
                                   const Buffer& spans) const {
  return gpu.Run(
      sum_values_,
      {Words(rows.rows), Words(place.tokens), Words(place.first_token), Words(place.first_span),
       Words(place.queries), std::bit_cast<uint32_t>(place.scale)},
      {&codebook_, &rows.blocks, &rows.scales, &scores, &sums, &spans},
      Words(CeilDivide(rows.rows, kSpanRows)), Words(place.queries));
}

Result<void> MseKernels::FinishOutputs(Gpu& gpu, const Buffer& sums, const Buffer& spans,
                                       size_t span_count, size_t queries,
                                       const Buffer& outputs) const {
  return gpu.Run(outputs_, {Words(span_count), Words(queries)}, {&masks_, &sums, &spans, &outputs},
                 GroupsOf(queries));
}

Error MseKernels::RowError(const RowsView& rows, size_t row) const {
  std::vector<uint8_t> block(format_.block_bytes);
  float scale[kernels::kKeyBlockRows];
  uint16_t half[kernels::kKeyBlockRows];
  const bool f16 = core_.options().scale_type == ScaleType::kF16;
  const MseLanes lanes = {{block.data(), core_.options().dim, core_.options().bits, false},
                          f16 ? half : nullptr,
                          f16 ? nullptr : scale};
  if (auto done = core_.EncodeLanes("rows", rows, row, 1, lanes, 0); !done) {
    return std::move(done).error();
  }
  return {ErrorCode::kInternal, "the device took rows[" + std::to_string(row) + "] for faulty"};
}

}  // namespace turboquant::webgpu
