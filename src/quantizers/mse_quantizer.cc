#include "turboquant/mse_quantizer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "src/base/aligned_bytes.h"
#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/kernels/kernels.h"
#include "src/kernels/line_layout.h"
#include "src/quantizers/mse_core.h"
#include "src/quantizers/row_reader.h"
#include "src/quantizers/run_tasks.h"
#include "src/quantizers/stored_numbers.h"

namespace turboquant {
namespace {

constexpr size_t kTaskRows = 256;   // encode: whole blocks of both tilings
constexpr size_t kTaskBlocks = 64;  // score: key blocks

// Rows of an import and their codes. Whether all are sound costs little; which is the first at
// fault is asked only where one is.
struct CanonicalRows {
  const uint8_t* packed;
  size_t row_bytes;
  const uint8_t* codes;
  size_t dim;
  size_t bits_in_last;  // of codes in a row's last byte, 0 for all
  size_t valid_codes;

  bool PaddingIsZero(size_t r) const {
    return bits_in_last == 0 || packed[(r + 1) * row_bytes - 1] >> bits_in_last == 0;
  }
  bool CodesAreValid(size_t count) const {
    uint8_t largest = 0;
    for (size_t i = 0; i < count * dim; ++i) largest = std::max(largest, codes[i]);
    return largest < valid_codes;
  }
};

// Of rows that are not sound; their first is row `first` to the caller.
Error FirstFault(const CanonicalRows& rows, size_t first, std::span<const float> scales,
                 ScaleType scale_type) {
  for (size_t r = 0; r < scales.size(); ++r) {
    if (!rows.PaddingIsZero(r)) {
      return Fail(ErrorCode::kCorruptData, "codes[", first + r,
                  "] has padding bits that are not zero")
          .error();
    }
    for (size_t j = 0; j < rows.dim; ++j) {
      const uint8_t code = rows.codes[r * rows.dim + j];
      if (code < rows.valid_codes) continue;
      return Fail(ErrorCode::kCorruptData, "codes[", first + r, "] has code ", int{code},
                  " at column ", j, ", the codebook has ", rows.valid_codes)
          .error();
    }
    uint16_t half;
    float single;
    auto done = scale_type == ScaleType::kF16
                    ? ImportNumber("scales", first + r, scales[r], half)
                    : ImportNumber("scales", first + r, scales[r], single);
    if (!done) return std::move(done).error();
  }
  return {ErrorCode::kInternal, "sound rows were taken for corrupt"};
}

}  // namespace

Result<MseQuantizer> MseQuantizer::Create(const MseOptions& options) {
  TQ_TRY(MseCore core, MseCore::Create(options));
  MseQuantizer quantizer;
  quantizer.core_ = std::make_shared<const MseCore>(std::move(core));
  return quantizer;
}

const MseOptions& MseQuantizer::options() const { return core_->options(); }
Backend MseQuantizer::backend() const { return core_->backend(); }
const Codebook& MseQuantizer::codebook() const { return core_->codebook(); }
const Rotation& MseQuantizer::rotation() const { return core_->rotation(); }
bool MseQuantizer::scale_search() const { return *core_->options().scale_search; }
uint64_t MseQuantizer::fingerprint() const { return core_->fingerprint(); }

MseRows MseQuantizer::MakeRows(Tiling tiling) const {
  MseRows rows;
  rows.kernels_ = &core_->kernels();
  rows.dim_ = options().dim;
  rows.bits_ = options().bits;
  rows.tiling_ = tiling;
  rows.scale_type_ = options().scale_type;
  rows.quantizer_fingerprint_ = fingerprint();
  return rows;
}

Result<void> MseQuantizer::CheckRows(const MseRows& rows) const {
  if (rows.quantizer_fingerprint_ == fingerprint()) return {};
  return Fail(ErrorCode::kInvalidArgument, "the rows (dim ", rows.dim_, ", ", rows.bits_,
              " bits) were written by another quantizer than this one (dim ", options().dim, ", ",
              options().bits, " bits): their seed, stream, rotation or codebook differ");
}

Result<MseRows> MseQuantizer::Encode(RowsView rows, Tiling tiling,
                                     const ParallelFor& parallel_for) const {
  MseRows encoded = MakeRows(tiling);
  TQ_CHECK(Append(rows, encoded, parallel_for));
  return encoded;
}

Result<void> MseQuantizer::Append(RowsView rows, MseRows& into,
                                  const ParallelFor& parallel_for) const {
  TQ_CHECK(CheckRows(into));
  TQ_CHECK(CheckShape("rows", rows.cols(), rows.stride(), rows.rows(), options().dim));
  if (into.scale_type_ != options().scale_type) {
    return Fail(ErrorCode::kInvalidArgument,
                "the rows hold scales of another type than this quantizer's");
  }
  if (rows.rows() == 0) return {};
  const size_t old_size = into.size_;
  const size_t first_lane = into.front_ + old_size;
  into.Resize(old_size + rows.rows());

  // Tasks end where blocks end, so that no two write the same line.
  const size_t last_lane = first_lane + rows.rows();
  const size_t first_task = first_lane / kTaskRows;
  const MseLanes lanes = LanesOf(into);
  FirstFailure failure;
  RunTasks(parallel_for, CeilDivide(last_lane, kTaskRows) - first_task, [&](size_t task) {
    const size_t begin = std::max(first_lane, (first_task + task) * kTaskRows);
    const size_t end = std::min(last_lane, (first_task + task + 1) * kTaskRows);
    if (auto done = core_->EncodeLanes("rows", rows, begin - first_lane, end - begin, lanes, begin);
        !done) {
      failure.Report(task, std::move(done).error());
    }
  });
  Result<void> result = std::move(failure).Take();
  if (!result) (void)into.Truncate(old_size);
  return result;
}

// Where the codes and scales of `rows` lie, for an encoder or a decoder: the latter writes nothing.
MseLanes MseQuantizer::LanesOf(const MseRows& rows) {
  const bool f16 = rows.scale_type_ == ScaleType::kF16;
  return {{const_cast<uint8_t*>(rows.blocks_.data()), rows.dim_, rows.bits_,
           rows.tiling_ == Tiling::kValues},
          f16 ? const_cast<uint16_t*>(rows.scales_f16_.data()) : nullptr,
          f16 ? nullptr : const_cast<float*>(rows.scales_f32_.data())};
}

Result<MseRows> MseQuantizer::ImportCanonical(std::span<const uint8_t> packed,
                                              std::span<const float> scales, Tiling tiling) const {
  MseRows rows = MakeRows(tiling);
  const size_t row_bytes = rows.CanonicalRowBytes();
  if (packed.size() / row_bytes != scales.size() || packed.size() % row_bytes != 0) {
    return Fail(ErrorCode::kDimensionMismatch, "packed has ", packed.size(), " bytes, ",
                scales.size(), " rows of ", row_bytes, " bytes were expected");
  }
  rows.Resize(scales.size());
  constexpr size_t kChunkRows = 64;  // whole blocks of both tilings
  const size_t dim = options().dim;
  AlignedBytes aligned(std::min(kChunkRows, scales.size()) * dim);
  uint8_t* const codes = reinterpret_cast<uint8_t*>(aligned.data());
  for (size_t first = 0; first < scales.size(); first += kChunkRows) {
    const size_t count = std::min(kChunkRows, scales.size() - first);
    const CanonicalRows chunk = {packed.data() + first * row_bytes,
                                 row_bytes,
                                 codes,
                                 dim,
                                 dim * static_cast<size_t>(options().bits) % 8,
                                 codebook().size()};
    core_->kernels().unpack_stream(chunk.packed, options().bits, count, dim, codes);
    bool sound = true;
    for (size_t r = 0; r < count; ++r) sound &= chunk.PaddingIsZero(r);
    if (chunk.valid_codes < size_t{1} << options().bits) sound &= chunk.CodesAreValid(count);
    WithNumbers(rows.scale_type_, rows.scales_f16_, rows.scales_f32_, [&](auto& stored) {
      for (size_t r = first; r < first + count; ++r) sound &= StoreExactly(scales[r], stored[r]);
    });
    if (!sound) {
      return std::unexpected(
          FirstFault(chunk, first, scales.subspan(first, count), rows.scale_type_));
    }
    core_->kernels().pack_codes(LanesOf(rows).blocks, first, count, codes);
  }
  return rows;
}

Result<void> MseQuantizer::DecodeRotated(const MseRows& encoded, MatrixView<float> out) const {
  TQ_CHECK(CheckDecode(encoded, out));
  core_->DecodeLanes(LanesOf(encoded), encoded.front_, encoded.size_, /*rotate_back=*/false, out);
  return {};
}

Result<void> MseQuantizer::Decode(const MseRows& encoded, MatrixView<float> out,
                                  const ParallelFor& parallel_for) const {
  TQ_CHECK(CheckDecode(encoded, out));
  ForRowSpans(parallel_for, encoded.size_, kTaskRows, [&](size_t first, size_t count) {
    core_->DecodeLanes(LanesOf(encoded), encoded.front_ + first, count, /*rotate_back=*/true,
                       out.Slice(first, count));
  });
  return {};
}

Result<void> MseQuantizer::CheckDecode(const MseRows& encoded, const MatrixView<float>& out) const {
  TQ_CHECK(CheckRows(encoded));
  TQ_CHECK(CheckShape("out", out.cols, out.stride, out.rows, options().dim));
  if (out.rows != encoded.size_) {
    return Fail(ErrorCode::kDimensionMismatch, "out has ", out.rows, " rows, there are ",
                encoded.size_, " to decode");
  }
  return {};
}

Result<MseQueries> MseQuantizer::Prepare(MatrixView<const float> queries,
                                         const PrepareOptions& prepare_options) const {
  const size_t dim = options().dim;
  TQ_CHECK(CheckShape("queries", queries.cols, queries.stride, queries.rows, dim));
  if (prepare_options.digits != 1 && prepare_options.digits != 2) {
    return Fail(ErrorCode::kInvalidArgument, "digits must be 1 or 2, got ", prepare_options.digits);
  }
  const size_t stride = kernels::PaddedDim(dim);
  MseQueries prepared;
  prepared.size_ = queries.rows;
  prepared.dim_ = dim;
  prepared.digits_ = prepare_options.digits;
  prepared.quantizer_fingerprint_ = fingerprint();
  prepared.high_.resize(queries.rows * stride);
  if (prepared.digits_ == 2) prepared.low_.resize(queries.rows * stride);
  prepared.factors_.resize(queries.rows);
  std::vector<float> rotated(dim);
  for (size_t q = 0; q < queries.rows; ++q) {
    const float* query = queries.Row(q);
    const double norm2 = kernels::NormSquared(core_->kernels(), query, dim);
    if (!std::isfinite(norm2)) return NonFinite("queries", queries, q);
    const int exponent = norm2 == 0.0 ? 0 : PrescaleExponent(std::sqrt(norm2));
    const float factor = PowerOfTwo(-exponent);
    for (size_t j = 0; j < dim; ++j) rotated[j] = query[j] * factor;
    core_->RotateQuery(rotated.data());
    const double per_sum = core_->QueryDigits(
        rotated.data(), {prepared.high_.data() + q * stride,
                         prepared.digits_ == 2 ? prepared.low_.data() + q * stride : nullptr});
    prepared.factors_[q] = static_cast<float>(std::ldexp(per_sum, exponent));
  }
  return prepared;
}

Result<void> MseQuantizer::Score(const MseQueries& queries, const MseRows& encoded,
                                 MatrixView<float> scores, const ParallelFor& parallel_for) const {
  TQ_CHECK(CheckRows(encoded));
  if (queries.quantizer_fingerprint_ != fingerprint()) {
    return Fail(ErrorCode::kInvalidArgument, "the queries were prepared by another quantizer");
  }
  if (encoded.tiling_ != Tiling::kKeys) {
    return Fail(ErrorCode::kInvalidArgument,
                "rows in Tiling::kValues are summed, not scored: encode them in Tiling::kKeys");
  }
  if (scores.rows != queries.size_ || scores.cols != encoded.size_ ||
      (scores.rows > 1 && scores.stride < scores.cols)) {
    return Fail(ErrorCode::kDimensionMismatch, "scores are ", scores.rows, " × ", scores.cols,
                " with stride ", scores.stride, ", expected ", queries.size_, " × ", encoded.size_);
  }
  if (queries.size_ == 0 || encoded.size_ == 0) return {};
  const size_t blocks = CeilDivide(encoded.front_ + encoded.size_, kernels::kKeyBlockRows);
  RunTasks(parallel_for, CeilDivide(blocks, kTaskBlocks), [&](size_t task) {
    const size_t first = task * kTaskBlocks;
    ScoreBlocks(queries, encoded, first, std::min(kTaskBlocks, blocks - first), scores);
  });
  return {};
}

// How far rows are read before they are scored: a second level of cache away, and past the end of a
// page of memory, which the hardware does not read ahead of.
constexpr size_t kAheadBytes = 8192;

void MseQuantizer::ScoreBlocks(const MseQueries& queries, const MseRows& encoded, size_t first,
                               size_t count, const MatrixView<float>& scores) const {
  constexpr size_t kRows = kernels::kKeyBlockRows;
  const size_t block_bytes = encoded.BlockBytes();
  const bool f16 = encoded.scale_type_ == ScaleType::kF16;
  const kernels::QueryDigits digits = {
      queries.high_.data(), queries.digits_ == 2 ? queries.low_.data() : nullptr,
      kernels::PaddedDim(options().dim), queries.size_, queries.factors_.data()};
  const auto score = [&](size_t block, size_t blocks, float* out, size_t stride) {
    const kernels::RowScales scales = {f16 ? encoded.scales_f16_.data() + block * kRows : nullptr,
                                       f16 ? nullptr : encoded.scales_f32_.data() + block * kRows};
    const uint8_t* bytes = encoded.blocks_.data() + block * block_bytes;
    kernels::ReadAhead ahead;
    if (blocks * block_bytes > kAheadBytes)
      ahead = {bytes + kAheadBytes, blocks * block_bytes - kAheadBytes};
    core_->kernels().score_keys(core_->score_plan(), {bytes, blocks, ahead}, scales, digits, out,
                                stride);
  };
  const size_t begin = encoded.front_;  // lanes of real rows
  const size_t end = encoded.front_ + encoded.size_;
  std::vector<float> partial;
  for (size_t block = first; block < first + count;) {
    const size_t whole_end = std::min(first + count, end / kRows);
    if (block * kRows >= begin && block < whole_end) {
      score(block, whole_end - block, scores.data + (block * kRows - begin), scores.stride);
      block = whole_end;
      continue;
    }
    partial.resize(queries.size_ *
                   kRows);  // a block with lanes before the first or past the last row
    score(block, 1, partial.data(), kRows);
    const size_t lane_begin = std::max(begin, block * kRows);
    const size_t lane_end = std::min(end, (block + 1) * kRows);
    for (size_t q = 0; q < queries.size_; ++q) {
      std::copy_n(partial.data() + q * kRows + (lane_begin - block * kRows), lane_end - lane_begin,
                  scores.Row(q) + (lane_begin - begin));
    }
    ++block;
  }
}

}  // namespace turboquant
