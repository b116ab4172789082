#include "turboquant/mse_quantizer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "src/base/failure.h"
#include "src/base/half.h"
#include "src/base/try.h"
#include "src/kernels/kernels.h"
#include "src/kernels/line_layout.h"
#include "src/quantizers/fingerprint.h"
#include "src/quantizers/row_reader.h"
#include "src/quantizers/run_tasks.h"
#include "src/quantizers/stored_numbers.h"

namespace turboquant {
namespace {

constexpr size_t kTaskRows = 256;   // encode: whole blocks of both tilings
constexpr size_t kChunkRows = 16;   // encode: rows whose gains are computed together
constexpr size_t kTaskBlocks = 64;  // score: key blocks

// Rows with a norm outside [2^-40, 2^40] are first multiplied by an exact power of two, so that
// the butterflies neither overflow nor lose bits.
int PrescaleExponent(double norm) {
  if (norm >= 0x1p-40 && norm <= 0x1p40) return 0;
  return std::clamp(std::ilogb(norm), -126, 126);
}

float PowerOfTwo(int exponent) { return std::ldexp(1.0f, exponent); }

// Growth of an unnormalised rotation: p^(rounds/2) for a power-of-two dim.
double RotationGrowth(const MseOptions& options) {
  if (options.rotation == RotationKind::kDense || !std::has_single_bit(options.dim)) return 1.0;
  double growth = 1.0;
  for (int round = 0; round < options.rotation_rounds; ++round) {
    growth *= std::sqrt(static_cast<double>(options.dim));
  }
  return growth;
}

Result<void> CheckOptions(const MseOptions& options) {
  if (options.dim < 2 || options.dim > 65536) {
    return Fail(ErrorCode::kInvalidArgument, "dim must be 2 to 65536, got ", options.dim);
  }
  if (options.bits < 1 || options.bits > 8) {
    return Fail(ErrorCode::kInvalidArgument, "bits must be 1 to 8, got ", options.bits);
  }
  if (!(options.unit_norm_tolerance >= 0.0f)) {
    return Fail(ErrorCode::kInvalidArgument, "unit_norm_tolerance must not be negative, got ",
                static_cast<double>(options.unit_norm_tolerance));
  }
  if (options.custom_codebook.has_value() != (options.codebook == CodebookKind::kCustom)) {
    return Fail(ErrorCode::kInvalidArgument,
                "custom_codebook must be given with codebook kCustom, and only then");
  }
  return {};
}

Result<Codebook> MakeCodebook(const MseOptions& options) {
  if (!options.custom_codebook) {
    return Codebook::Create({options.dim, options.bits, options.codebook, options.density});
  }
  const Codebook& codebook = *options.custom_codebook;
  if (codebook.dim() != options.dim || codebook.bits() != options.bits) {
    return Fail(ErrorCode::kInvalidArgument, "custom_codebook has dim ", codebook.dim(), " and ",
                codebook.bits(), " bits, the options ask for dim ", options.dim, " and ",
                options.bits, " bits");
  }
  return codebook;
}

}  // namespace

struct MseQuantizer::EncoderTables {
  std::vector<int16_t> thresholds;   // [candidates × 256]
  std::vector<int16_t> levels;       // 256
  std::vector<int16_t> cells;        // [candidates × 64], symmetric codebooks only
  std::vector<uint8_t> first_codes;  // [candidates × 1024]
  kernels::EncodePlan encode;
  kernels::ScorePlan score;
  double grid_gain;   // grid = rotated coordinate · grid_gain / norm
  double growth;      // of the unnormalised rotation
  double sigma_step;  // step / sqrt(dim): a level on the unit sphere's scale
  double inner_step;  // sum z·level times this is <u, c>
};

namespace {

bool IsSymmetric(const std::vector<int16_t>& thresholds, int candidates, const Codebook& codebook) {
  const size_t codes = codebook.size();
  if (!codebook.int8_levels() || !std::has_single_bit(codes)) return false;
  const auto levels = codebook.levels();
  for (size_t i = 0; i < codes; ++i) {
    if (levels[i] != -levels[codes - 1 - i]) return false;
  }
  for (int k = 0; k < candidates; ++k) {
    const int16_t* t = thresholds.data() + k * 256;
    if (t[codes / 2 - 1] != 0) return false;
    for (size_t i = codes / 2; i + 1 < codes; ++i) {
      if (t[codes - 2 - i] != -t[i] - 1) return false;
    }
  }
  return true;
}

// Grid thresholds of every candidate: a value on a boundary goes to the lower cell.
std::vector<int16_t> MakeThresholds(const Codebook& codebook, bool search) {
  std::vector<int16_t> thresholds((search ? kernels::kCandidates : 1) * 256u, int16_t{32767});
  for (size_t k = 0; k < thresholds.size() / 256; ++k) {
    const int q14 = search ? kernels::kCandidateQ14[k] : 16384;
    for (size_t i = 0; i + 1 < codebook.size(); ++i) {
      const double boundary = std::floor(kernels::kGridPerSigma * codebook.Boundary(i));
      thresholds[k * 256 + i] = kernels::ScaledThreshold(static_cast<int64_t>(boundary), q14);
    }
  }
  return thresholds;
}

uint64_t MseFingerprint(const MseOptions& options, const Codebook& codebook) {
  Fingerprint fingerprint;
  fingerprint.Add('M').Add(options.dim).Add(options.bits).Add(options.rotation);
  fingerprint.Add(options.rotation == RotationKind::kHadamard ? options.rotation_rounds : 0);
  fingerprint.Add(options.seed);
  fingerprint.Add(options.stream.layer).Add(options.stream.head).Add(options.stream.side);
  fingerprint.Add(codebook.fingerprint());
  return fingerprint.value();
}

// The number stored beside the codes, before it is rounded to the scale type.
double StoredScale(Scale scale, double sigma_step, double inner_step, double norm,
                   const kernels::RowSums& sums) {
  // <u, c> and |c|² on the unit sphere's scale.
  const double inner = static_cast<double>(sums.grid_level) * inner_step;
  const double centroid_norm2 = static_cast<double>(sums.level_level) * (sigma_step * sigma_step);
  switch (scale) {
    case Scale::kNorm:
      return norm;
    case Scale::kMatched:
      return norm / std::sqrt(centroid_norm2);
    case Scale::kLeastSquares:
      return norm * inner / centroid_norm2;
    case Scale::kUnbiased:
      return norm / inner;
  }
  return norm;
}

}  // namespace

Result<MseQuantizer> MseQuantizer::Create(const MseOptions& options) {
  TQ_CHECK(CheckOptions(options));
  MseQuantizer quantizer;
  TQ_TRY(quantizer.backend_, ResolveBackend(options.backend));
  quantizer.kernels_ = kernels::FindKernels(quantizer.backend_);
  TQ_TRY(Codebook codebook, MakeCodebook(options));
  TQ_TRY(Rotation rotation,
         Rotation::Create({options.dim, options.rotation, options.rotation_rounds, options.seed,
                           options.stream, /*stage=*/0}));
  quantizer.options_ = options;
  if (!options.scale_search) {
    quantizer.options_.scale_search =
        options.codebook == CodebookKind::kLloydMax && options.bits >= 3 && options.bits <= 7;
  }
  const bool search = *quantizer.options_.scale_search;
  quantizer.fingerprint_ = MseFingerprint(options, codebook);
  quantizer.codebook_ = std::make_shared<const Codebook>(std::move(codebook));
  quantizer.rotation_ = std::make_shared<const Rotation>(std::move(rotation));

  const Codebook& book = *quantizer.codebook_;
  auto tables = std::make_shared<EncoderTables>();
  tables->thresholds = MakeThresholds(book, search);
  tables->levels.assign(256, 0);
  std::ranges::copy(book.levels(), tables->levels.begin());
  const bool hadamard = options.rotation == RotationKind::kHadamard;
  const int candidates = search ? kernels::kCandidates : 1;
  tables->encode = {{options.dim, hadamard ? options.rotation_rounds : 0,
                     quantizer.rotation_->sign_masks().data()},
                    options.bits,
                    candidates,
                    static_cast<int>(book.size()),
                    tables->thresholds.data(),
                    tables->levels.data(),
                    IsSymmetric(tables->thresholds, candidates, book),
                    nullptr,
                    nullptr};
  tables->first_codes.resize(static_cast<size_t>(candidates) * kernels::kFirstCodes);
  kernels::MakeFirstCodes(tables->encode, tables->first_codes.data());
  tables->encode.first_codes = tables->first_codes.data();
  if (tables->encode.symmetric) {
    tables->cells.resize(static_cast<size_t>(candidates) * 2 * kernels::kCells);
    if (kernels::MakeCells(tables->encode, tables->cells.data())) {
      tables->encode.cells = tables->cells.data();
    }
  }
  tables->score = {options.dim, options.bits, static_cast<int>(book.size()), tables->levels.data(),
                   book.int8_levels()};
  const double root_dim = std::sqrt(static_cast<double>(options.dim));
  tables->growth = RotationGrowth(options);
  tables->grid_gain = kernels::kGridPerSigma * root_dim / tables->growth;
  tables->sigma_step = book.step() / root_dim;
  tables->inner_step = tables->sigma_step / (kernels::kGridPerSigma * root_dim);
  quantizer.tables_ = std::move(tables);
  return quantizer;
}

MseRows MseQuantizer::MakeRows(Tiling tiling) const {
  MseRows rows;
  rows.kernels_ = kernels_;
  rows.dim_ = options_.dim;
  rows.bits_ = options_.bits;
  rows.tiling_ = tiling;
  rows.scale_type_ = options_.scale_type;
  rows.quantizer_fingerprint_ = fingerprint_;
  return rows;
}

Result<void> MseQuantizer::CheckRows(const MseRows& rows) const {
  if (rows.quantizer_fingerprint_ == fingerprint_) return {};
  return Fail(ErrorCode::kInvalidArgument, "the rows (dim ", rows.dim_, ", ", rows.bits_,
              " bits) were written by another quantizer than this one (dim ", options_.dim, ", ",
              options_.bits, " bits): their seed, stream, rotation or codebook differ");
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
  TQ_CHECK(CheckShape("rows", rows.cols(), rows.stride(), rows.rows(), options_.dim));
  if (into.scale_type_ != options_.scale_type) {
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
  FirstFailure failure;
  RunTasks(parallel_for, CeilDivide(last_lane, kTaskRows) - first_task, [&](size_t task) {
    const size_t begin = std::max(first_lane, (first_task + task) * kTaskRows);
    const size_t end = std::min(last_lane, (first_task + task + 1) * kTaskRows);
    if (auto done = EncodeLanes(rows, begin - first_lane, end - begin, begin, into); !done) {
      failure.Report(task, std::move(done).error());
    }
  });
  Result<void> result = std::move(failure).Take();
  if (!result) (void)into.Truncate(old_size);
  return result;
}

Result<void> MseQuantizer::EncodeLanes(const RowsView& rows, size_t first_row, size_t count,
                                       size_t first_lane, MseRows& into) const {
  const size_t dim = options_.dim;
  const EncoderTables& tables = *tables_;
  const kernels::PackedBlocks packed = {into.blocks_.data(), dim, options_.bits,
                                        into.tiling_ == Tiling::kValues};
  const bool dense = options_.rotation == RotationKind::kDense;
  std::vector<float> scratch(rows.type() == RowType::kF32 && !dense ? 0 : kChunkRows * dim);
  std::vector<float> rescaled;  // rows of extreme norm only
  double norms[kChunkRows];
  float gains[kChunkRows];
  kernels::RowSums sums[kChunkRows];
  for (size_t done = 0; done < count; done += kChunkRows) {
    const size_t chunk = std::min(kChunkRows, count - done);
    const size_t row = first_row + done;
    MatrixView<const float> source;
    if (rows.type() == RowType::kF32) {
      source = {static_cast<const float*>(rows.data()) + row * rows.stride(), chunk, dim,
                rows.stride()};
    } else {
      for (size_t r = 0; r < chunk; ++r) ReadRow(rows, row + r, scratch.data() + r * dim);
      source = {scratch.data(), chunk, dim};
    }
    bool extreme = false;
    for (size_t r = 0; r < chunk; ++r) {
      TQ_TRY(norms[r], RowNorm(rows, row + r, source.Row(r)));
      extreme |= norms[r] != 0.0 && PrescaleExponent(norms[r]) != 0;
    }
    if (extreme) {
      rescaled.resize(kChunkRows * dim);
      for (size_t r = 0; r < chunk; ++r) {
        const float factor = norms[r] == 0.0 ? 1.0f : PowerOfTwo(-PrescaleExponent(norms[r]));
        for (size_t j = 0; j < dim; ++j) rescaled[r * dim + j] = source.Row(r)[j] * factor;
      }
      source = {rescaled.data(), chunk, dim};
    }
    for (size_t r = 0; r < chunk; ++r) {
      const double norm = std::ldexp(norms[r], extreme ? -PrescaleExponent(norms[r]) : 0);
      gains[r] = norms[r] == 0.0 ? 0.0f : static_cast<float>(tables.grid_gain / norm);
    }
    if (dense) {
      TQ_CHECK(rotation_->Apply(source, {scratch.data(), chunk, dim}));
      source = {scratch.data(), chunk, dim};
    }
    kernels_->encode_rows(tables.encode, source.data, source.stride, chunk, gains, packed,
                          first_lane + done, sums);
    for (size_t r = 0; r < chunk; ++r) {
      TQ_CHECK(StoreScale(row + r, norms[r], sums[r], first_lane + done + r, into));
    }
  }
  return {};
}

Result<double> MseQuantizer::RowNorm(const RowsView& rows, size_t r, const float* row) const {
  const double norm2 = kernels_->norm_squared(row, options_.dim);
  if (!std::isfinite(norm2)) return NonFinite("rows", rows, r);
  const double norm = std::sqrt(norm2);
  if (options_.require_unit_norm &&
      !(std::fabs(norm - 1.0) <= static_cast<double>(options_.unit_norm_tolerance))) {
    return Fail(ErrorCode::kNotUnitNorm, "rows[", r, "] has norm ", norm, ", not 1 within ",
                static_cast<double>(options_.unit_norm_tolerance));
  }
  return norm;
}

Result<void> MseQuantizer::StoreScale(size_t r, double norm, const kernels::RowSums& sums,
                                      size_t lane, MseRows& into) const {
  double scale = 0.0;
  if (norm != 0.0) {
    if (sums.grid_level <= 0 && options_.scale != Scale::kNorm) {
      return Fail(ErrorCode::kInvalidArgument, "rows[", r,
                  "] has no positive inner product with its centroids: this codebook serves no "
                  "scale but kNorm there");
    }
    scale = StoredScale(options_.scale, tables_->sigma_step, tables_->inner_step, norm, sums);
  }
  return WithNumbers(into.scale_type_, into.scales_f16_, into.scales_f32_,
                     [&](auto& scales) { return StoreNumber("scale", r, scale, scales[lane]); });
}

Result<MseRows> MseQuantizer::ImportCanonical(std::span<const uint8_t> packed,
                                              std::span<const float> scales, Tiling tiling) const {
  MseRows rows = MakeRows(tiling);
  const size_t row_bytes = rows.CanonicalRowBytes();
  if (packed.size() / row_bytes != scales.size() || packed.size() % row_bytes != 0) {
    return Fail(ErrorCode::kDimensionMismatch, "packed has ", packed.size(), " bytes, ",
                scales.size(), " rows of ", row_bytes, " bytes were expected");
  }
  const size_t dim = options_.dim;
  const unsigned code_bits_in_last =
      static_cast<unsigned>(dim * static_cast<size_t>(options_.bits) % 8);
  const bool holes = codebook_->size() < size_t{1}
                                             << options_.bits;  // code 255 of a uniform codebook
  std::vector<uint8_t> codes(dim);
  rows.Resize(scales.size());
  const kernels::PackedBlocks into = {rows.blocks_.data(), dim, options_.bits,
                                      tiling == Tiling::kValues};
  for (size_t r = 0; r < scales.size(); ++r) {
    const uint8_t* stream = packed.data() + r * row_bytes;
    if (code_bits_in_last != 0 && stream[row_bytes - 1] >> code_bits_in_last != 0) {
      return Fail(ErrorCode::kCorruptData, "codes[", r, "] has padding bits that are not zero");
    }
    kernels_->unpack_stream(stream, options_.bits, dim, codes.data());
    for (size_t j = 0; j < dim && holes; ++j) {
      if (codes[j] >= codebook_->size()) {
        return Fail(ErrorCode::kCorruptData, "codes[", r, "] has code ", int{codes[j]},
                    " at column ", j, ", the codebook has ", codebook_->size());
      }
    }
    TQ_CHECK(WithNumbers(rows.scale_type_, rows.scales_f16_, rows.scales_f32_, [&](auto& stored) {
      return ImportNumber("scales", r, scales[r], stored[r]);
    }));
    kernels_->pack_codes(into, r, 1, codes.data());
  }
  return rows;
}

Result<void> MseQuantizer::DecodeRotated(const MseRows& encoded, MatrixView<float> out) const {
  TQ_CHECK(CheckDecode(encoded, out));
  DecodeCentroids(encoded, 0, encoded.size_, tables_->sigma_step, out);
  return {};
}

Result<void> MseQuantizer::Decode(const MseRows& encoded, MatrixView<float> out,
                                  const ParallelFor& parallel_for) const {
  TQ_CHECK(CheckDecode(encoded, out));
  const EncoderTables& tables = *tables_;
  const bool dense = options_.rotation == RotationKind::kDense;
  RunTasks(parallel_for, CeilDivide(encoded.size_, kTaskRows), [&](size_t task) {
    const size_t first = task * kTaskRows;
    const size_t count = std::min(kTaskRows, encoded.size_ - first);
    const MatrixView<float> rows = out.Slice(first, count);
    DecodeCentroids(encoded, first, count, tables.sigma_step / tables.growth, rows);
    if (dense) {
      (void)rotation_->ApplyInverse(rows, rows);  // shapes were checked
      return;
    }
    for (size_t r = 0; r < count; ++r)
      kernels_->rotate_inverse(tables.encode.rotation, rows.Row(r));
  });
  return {};
}

Result<void> MseQuantizer::CheckDecode(const MseRows& encoded, const MatrixView<float>& out) const {
  TQ_CHECK(CheckRows(encoded));
  TQ_CHECK(CheckShape("out", out.cols, out.stride, out.rows, options_.dim));
  if (out.rows != encoded.size_) {
    return Fail(ErrorCode::kDimensionMismatch, "out has ", out.rows, " rows, there are ",
                encoded.size_, " to decode");
  }
  return {};
}

void MseQuantizer::DecodeCentroids(const MseRows& encoded, size_t first, size_t count, double step,
                                   const MatrixView<float>& out) const {
  const kernels::PackedBlocks packed = {const_cast<uint8_t*>(encoded.blocks_.data()), options_.dim,
                                        options_.bits, encoded.tiling_ == Tiling::kValues};
  const size_t dim = options_.dim;
  std::vector<uint8_t> codes(kChunkRows * dim);
  for (size_t done = 0; done < count; done += kChunkRows) {
    const size_t chunk = std::min(kChunkRows, count - done);
    kernels_->unpack_codes(packed, encoded.front_ + first + done, chunk, codes.data());
    for (size_t r = 0; r < chunk; ++r) {
      const float factor =
          static_cast<float>(static_cast<double>(encoded.ScaleOf(first + done + r)) * step);
      kernels_->dequantize(tables_->score, codes.data() + r * dim, factor, out.Row(done + r));
    }
  }
}

Result<MseQueries> MseQuantizer::Prepare(MatrixView<const float> queries,
                                         const PrepareOptions& prepare_options) const {
  const size_t dim = options_.dim;
  TQ_CHECK(CheckShape("queries", queries.cols, queries.stride, queries.rows, dim));
  if (prepare_options.digits != 1 && prepare_options.digits != 2) {
    return Fail(ErrorCode::kInvalidArgument, "digits must be 1 or 2, got ", prepare_options.digits);
  }
  const bool two_digits = prepare_options.digits == 2;
  const float digit_max =
      static_cast<float>(two_digits ? kernels::kTwoDigitMax : kernels::kOneDigitMax);
  const size_t stride = kernels::PaddedDim(dim);
  MseQueries prepared;
  prepared.size_ = queries.rows;
  prepared.dim_ = dim;
  prepared.digits_ = prepare_options.digits;
  prepared.quantizer_fingerprint_ = fingerprint_;
  prepared.high_.resize(queries.rows * stride);
  if (two_digits) prepared.low_.resize(queries.rows * stride);
  prepared.factors_.resize(queries.rows);
  std::vector<float> rotated(dim);
  for (size_t q = 0; q < queries.rows; ++q) {
    TQ_TRY(const int exponent, RotateQuery(queries, q, rotated));
    float largest = 0.0f;
    for (const float y : rotated) largest = std::max(largest, std::fabs(y));
    if (largest == 0.0f) continue;  // digits and factor stay 0
    const float inverse_step =
        static_cast<float>(static_cast<double>(digit_max) / static_cast<double>(largest));
    for (size_t j = 0; j < dim; ++j) {
      const int t = static_cast<int>(
          std::lrintf(std::clamp(rotated[j] * inverse_step, -digit_max, digit_max)));
      const int high = two_digits ? (t + 64) >> 7 : t;
      prepared.high_[q * stride + j] = static_cast<int8_t>(high);
      if (two_digits) prepared.low_[q * stride + j] = static_cast<int8_t>(t - 128 * high);
    }
    const double step = static_cast<double>(largest) / static_cast<double>(digit_max);
    prepared.factors_[q] =
        static_cast<float>(std::ldexp(step / tables_->growth * tables_->sigma_step, exponent));
  }
  return prepared;
}

Result<int> MseQuantizer::RotateQuery(const MatrixView<const float>& queries, size_t q,
                                      std::vector<float>& rotated) const {
  const double norm2 = kernels_->norm_squared(queries.Row(q), options_.dim);
  if (!std::isfinite(norm2)) return NonFinite("queries", queries, q);
  const int exponent = norm2 == 0.0 ? 0 : PrescaleExponent(std::sqrt(norm2));
  const float factor = PowerOfTwo(-exponent);
  for (size_t j = 0; j < options_.dim; ++j) rotated[j] = queries.Row(q)[j] * factor;
  if (options_.rotation == RotationKind::kDense) {
    TQ_CHECK(
        rotation_->Apply({rotated.data(), 1, rotated.size()}, {rotated.data(), 1, rotated.size()}));
  } else {
    kernels_->rotate(tables_->encode.rotation, rotated.data());
  }
  return exponent;
}

Result<void> MseQuantizer::Score(const MseQueries& queries, const MseRows& encoded,
                                 MatrixView<float> scores, const ParallelFor& parallel_for) const {
  TQ_CHECK(CheckRows(encoded));
  if (queries.quantizer_fingerprint_ != fingerprint_) {
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

void MseQuantizer::ScoreBlocks(const MseQueries& queries, const MseRows& encoded, size_t first,
                               size_t count, const MatrixView<float>& scores) const {
  constexpr size_t kRows = kernels::kKeyBlockRows;
  const size_t block_bytes = encoded.BlockBytes();
  const bool f16 = encoded.scale_type_ == ScaleType::kF16;
  const kernels::QueryDigits digits = {
      queries.high_.data(), queries.digits_ == 2 ? queries.low_.data() : nullptr,
      kernels::PaddedDim(options_.dim), queries.size_, queries.factors_.data()};
  const auto score = [&](size_t block, size_t blocks, float* out, size_t stride) {
    const kernels::RowScales scales = {f16 ? encoded.scales_f16_.data() + block * kRows : nullptr,
                                       f16 ? nullptr : encoded.scales_f32_.data() + block * kRows};
    kernels_->score_keys(tables_->score, encoded.blocks_.data() + block * block_bytes, blocks,
                         scales, digits, out, stride);
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
