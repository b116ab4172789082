#include "src/quantizers/mse_core.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <span>
#include <utility>

#include "src/base/aligned_bytes.h"
#include "src/base/counted_shared.h"
#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/kernels/line_layout.h"
#include "src/quantizers/fingerprint.h"
#include "src/quantizers/row_reader.h"
#include "src/quantizers/stored_numbers.h"

namespace turboquant {
namespace {

constexpr size_t kChunkRows = 16;   // encode: rows whose gains are computed together
constexpr size_t kDecodeRows = 64;  // decode: rows whose codes are unpacked together

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

// kernels::reference::ToGrid, in a form that compilers make vectors of: adding 1.5 · 2^23 rounds to
// the nearest even integer.
void RoundToGrid(std::span<const float> coordinates, float gain, std::span<int16_t> grid) {
  constexpr float kMax = kernels::kGridMax;
  constexpr float kMagic = 12582912.0f;
  for (size_t j = 0; j < grid.size(); ++j) {
    const float product = coordinates[j] * gain;
    const float held = product < -kMax ? -kMax : product > kMax ? kMax : product;
    grid[j] = static_cast<int16_t>(static_cast<int32_t>((held + kMagic) - kMagic));
  }
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

int PrescaleExponent(double norm) {
  if (norm >= 0x1p-40 && norm <= 0x1p40) return 0;
  return std::clamp(std::ilogb(norm), -126, 126);
}

float PowerOfTwo(int exponent) { return std::ldexp(1.0f, exponent); }

// What depends on codebook, dim and search, not on the stream.
struct MseCore::Tables {
  Tables(const MseOptions& options, Codebook book);
  Tables(const Tables&) = delete;  // the plans point into the vectors
  Tables& operator=(const Tables&) = delete;

  size_t HeldBytes() const {  // beyond sizeof(Tables)
    return codebook.HeldBytes() +
           (thresholds.capacity() + levels.capacity() + cells.capacity()) * sizeof(int16_t) +
           first_codes.capacity();
  }

  Codebook codebook;
  std::vector<int16_t> thresholds;   // [candidates × 256]
  std::vector<int16_t> levels;       // 256
  std::vector<int16_t> cells;        // [candidates × 64], symmetric codebooks only
  std::vector<uint8_t> first_codes;  // [candidates × 1024], where the kernels read them
  kernels::EncodePlan encode;        // without the rotation's sign masks
  kernels::ScorePlan score;
  double grid_gain;   // grid = rotated coordinate · grid_gain / norm
  double growth;      // of the unnormalised rotation
  double sigma_step;  // step / sqrt(dim): a level on the unit sphere's scale
  double inner_step;  // sum z·level times this is <u, c>
};

MseCore::Tables::Tables(const MseOptions& options, Codebook book)
    : codebook(std::move(book)),
      thresholds(MakeThresholds(codebook, *options.scale_search)),
      levels(256) {
  std::ranges::copy(codebook.levels(), levels.begin());
  const bool hadamard = options.rotation == RotationKind::kHadamard;
  const int candidates = *options.scale_search ? kernels::kCandidates : 1;
  const int codes = static_cast<int>(codebook.size());
  encode = {{options.dim, hadamard ? options.rotation_rounds : 0, nullptr},
            options.bits,
            candidates,
            codes,
            thresholds.data(),
            levels.data(),
            IsSymmetric(thresholds, candidates, codebook),
            nullptr,
            nullptr,
            0};
  if (encode.symmetric) {
    cells.resize(static_cast<size_t>(candidates) * 2 * kernels::kCells);
    if (kernels::MakeCells(encode, cells.data())) encode.cells = cells.data();
  }
  if (kernels::NeedsFirstCodes(encode)) {
    first_codes.resize(static_cast<size_t>(candidates) * kernels::kFirstCodes);
    encode.cell_thresholds = kernels::MakeFirstCodes(encode, first_codes.data());
    encode.first_codes = first_codes.data();
  }
  score = {options.dim, options.bits, codes, levels.data(), codebook.int8_levels()};
  const double root_dim = std::sqrt(static_cast<double>(options.dim));
  growth = RotationGrowth(options);
  grid_gain = kernels::kGridPerSigma * root_dim / growth;
  sigma_step = codebook.step() / root_dim;
  inner_step = sigma_step / (kernels::kGridPerSigma * root_dim);
}

Result<MseCore> MseCore::Create(const MseOptions& options) {
  TQ_CHECK(CheckOptions(options));
  MseCore core;
  TQ_TRY(core.backend_, ResolveBackend(options.backend));
  core.kernels_ = kernels::FindKernels(core.backend_);
  TQ_TRY(Codebook codebook, MakeCodebook(options));
  core.options_ = options;
  if (!options.scale_search) {
    core.options_.scale_search =
        options.codebook == CodebookKind::kLloydMax && options.bits >= 3 && options.bits <= 7;
  }
  TQ_CHECK(core.MakeRotation());
  core.tables_ =
      MakeCountedShared<const Tables>(core.table_bytes_, core.options_, std::move(codebook));
  core.table_bytes_ += core.tables_->HeldBytes();
  core.UseTables();
  return core;
}

Result<MseCore> MseCore::WithStream(RandomStream stream) const {
  MseCore core = *this;
  core.options_.stream = stream;
  TQ_CHECK(core.MakeRotation());
  core.UseTables();
  return core;
}

Result<void> MseCore::MakeRotation() {
  TQ_TRY(Rotation rotation,
         Rotation::Create({options_.dim, options_.rotation, options_.rotation_rounds, options_.seed,
                           options_.stream, /*stage=*/0}));
  rotation_bytes_ = rotation.HeldBytes();
  rotation_ = MakeCountedShared<const Rotation>(rotation_bytes_, std::move(rotation));
  return {};
}

void MseCore::UseTables() {
  encode_plan_ = tables_->encode;
  encode_plan_.rotation.sign_masks = rotation_->sign_masks().data();
  fingerprint_ = MseFingerprint(options_, tables_->codebook);
}

const Codebook& MseCore::codebook() const { return tables_->codebook; }
const kernels::ScorePlan& MseCore::score_plan() const { return tables_->score; }
double MseCore::growth() const { return tables_->growth; }
double MseCore::sigma_step() const { return tables_->sigma_step; }

// Rows on their way through the encoder.
struct MseCore::Chunk {
  size_t rows;                          // <= kChunkRows
  MatrixView<const float> coordinates;  // of the caller's rows or of one of the buffers
  double norms[kChunkRows];
  float gains[kChunkRows];
  kernels::RowSums sums[kChunkRows];
  std::vector<float> buffer;    // rows that are not f32, or rotated by a matrix
  std::vector<float> rescaled;  // rows of extreme norm
};

Result<void> MseCore::EncodeLanes(std::string_view name, const RowsView& rows, size_t first_row,
                                  size_t count, const MseLanes& into, size_t first_lane,
                                  const double* norms_squared, CodeMetric* metric) const {
  const size_t dim = options_.dim;
  const bool dense = options_.rotation == RotationKind::kDense;
  Chunk chunk;
  if (rows.type() != RowType::kF32 || dense) chunk.buffer.resize(kChunkRows * dim);
  for (size_t done = 0; done < count; done += kChunkRows) {
    chunk.rows = std::min(kChunkRows, count - done);
    const size_t row = first_row + done;
    const double* chunk_norms = norms_squared == nullptr ? nullptr : norms_squared + done;
    TQ_CHECK(ReadChunk(name, rows, row, chunk_norms, chunk));
    if (dense) {
      const MatrixView<float> rotated = {chunk.buffer.data(), chunk.rows, dim};
      TQ_CHECK(rotation_->Apply(chunk.coordinates, rotated));
      chunk.coordinates = rotated;
    }
    if (metric != nullptr) {
      TQ_CHECK(EncodeByMetric(name, row, chunk, into, first_lane + done, *metric));
      continue;
    }
    kernels_->encode_rows(encode_plan_, chunk.coordinates.data, chunk.coordinates.stride,
                          chunk.rows, chunk.gains, into.blocks, first_lane + done, chunk.sums);
    for (size_t r = 0; r < chunk.rows; ++r) {
      TQ_CHECK(
          StoreScale(name, row + r, chunk.norms[r], chunk.sums[r], into, first_lane + done + r));
    }
  }
  return {};
}

// Nearest codes, found in blocks of their own, then those that the metric makes of them.
Result<void> MseCore::EncodeByMetric(std::string_view name, size_t first_row, const Chunk& chunk,
                                     const MseLanes& into, size_t first_lane,
                                     CodeMetric& metric) const {
  const size_t dim = options_.dim;
  AlignedBytes bytes(kernels::KeyBlockBytes(dim, static_cast<size_t>(options_.bits)));
  static_assert(kChunkRows == kernels::kKeyBlockRows);
  const kernels::PackedBlocks nearest = {reinterpret_cast<uint8_t*>(bytes.data()), dim,
                                         options_.bits, /*values=*/false};
  kernels::RowSums sums[kChunkRows];
  kernels_->encode_rows(encode_plan_, chunk.coordinates.data, chunk.coordinates.stride, chunk.rows,
                        chunk.gains, nearest, 0, sums);
  std::vector<uint8_t> codes(chunk.rows * dim);
  kernels_->unpack_codes(nearest, 0, chunk.rows, codes.data());
  std::vector<float> rotated(dim);
  std::vector<int16_t> grid(dim);
  for (size_t r = 0; r < chunk.rows; ++r) {
    const size_t lane = first_lane + r;
    uint8_t* row_codes = codes.data() + r * dim;
    std::optional<double> shaped;
    if (chunk.gains[r] != 0.0f) {
      std::copy_n(chunk.coordinates.Row(r), dim, rotated.data());
      kernels_->rotate(encode_plan_.rotation, rotated.data());
      RoundToGrid(rotated, chunk.gains[r], grid);
      shaped = metric.Shape(codebook(), grid.data(), sums[r], row_codes);
      kernels_->pack_codes(into.blocks, lane, 1, row_codes);
    }
    if (shaped) {
      TQ_CHECK(StoreNumber(name, first_row + r, "scale", chunk.norms[r] * *shaped,
                           into.scales_f16[lane]));
    } else {
      TQ_CHECK(StoreScale(name, first_row + r, chunk.norms[r], sums[r], into, lane));
    }
  }
  return {};
}

// Rows [row, row + chunk.rows) as floats, prescaled where that is needed, and their gains.
Result<void> MseCore::ReadChunk(std::string_view name, const RowsView& rows, size_t row,
                                const double* norms_squared, Chunk& chunk) const {
  const size_t dim = options_.dim;
  MatrixView<const float>& source = chunk.coordinates;
  if (rows.type() == RowType::kF32) {
    source = {static_cast<const float*>(rows.data()) + row * rows.stride(), chunk.rows, dim,
              rows.stride()};
  } else {
    for (size_t r = 0; r < chunk.rows; ++r) ReadRow(rows, row + r, chunk.buffer.data() + r * dim);
    source = {chunk.buffer.data(), chunk.rows, dim};
  }
  for (size_t r = 0; r < chunk.rows; ++r) {
    chunk.norms[r] =
        norms_squared != nullptr ? norms_squared[r] : kernels_->norm_squared(source.Row(r), dim);
  }
  bool extreme = false;
  for (size_t r = 0; r < chunk.rows; ++r) {
    if (!std::isfinite(chunk.norms[r])) return NonFinite(name, rows, row + r);
    chunk.norms[r] = std::sqrt(chunk.norms[r]);
    if (options_.require_unit_norm) TQ_CHECK(CheckUnitNorm(name, row + r, chunk.norms[r]));
    extreme |= chunk.norms[r] != 0.0 && PrescaleExponent(chunk.norms[r]) != 0;
  }
  if (extreme) {
    chunk.rescaled.resize(kChunkRows * dim);
    for (size_t r = 0; r < chunk.rows; ++r) {
      const double norm = chunk.norms[r];
      const float factor = norm == 0.0 ? 1.0f : PowerOfTwo(-PrescaleExponent(norm));
      for (size_t j = 0; j < dim; ++j) chunk.rescaled[r * dim + j] = source.Row(r)[j] * factor;
    }
    source = {chunk.rescaled.data(), chunk.rows, dim};
  }
  for (size_t r = 0; r < chunk.rows; ++r) {
    const double norm =
        extreme ? std::ldexp(chunk.norms[r], -PrescaleExponent(chunk.norms[r])) : chunk.norms[r];
    chunk.gains[r] = chunk.norms[r] == 0.0 ? 0.0f : static_cast<float>(tables_->grid_gain / norm);
  }
  return {};
}

Result<void> MseCore::CheckUnitNorm(std::string_view name, size_t r, double norm) const {
  const double tolerance = static_cast<double>(options_.unit_norm_tolerance);
  if (std::fabs(norm - 1.0) <= tolerance) return {};
  return Fail(ErrorCode::kNotUnitNorm, name, "[", r, "] has norm ", norm, ", not 1 within ",
              tolerance);
}

Result<void> MseCore::StoreScale(std::string_view name, size_t r, double norm,
                                 const kernels::RowSums& sums, const MseLanes& into,
                                 size_t lane) const {
  double scale = 0.0;
  if (norm != 0.0) {
    if (sums.grid_level <= 0 && options_.scale != Scale::kNorm) {
      return Fail(ErrorCode::kInvalidArgument, name, "[", r,
                  "] has no positive inner product with its centroids: this codebook serves no "
                  "scale but kNorm there");
    }
    scale = StoredScale(options_.scale, tables_->sigma_step, tables_->inner_step, norm, sums);
  }
  if (into.scales_f16 != nullptr) {
    return StoreNumber(name, r, "scale", scale, into.scales_f16[lane]);
  }
  return StoreNumber(name, r, "scale", scale, into.scales_f32[lane]);
}

void MseCore::DecodeLanes(const MseLanes& from, size_t first_lane, size_t count, bool rotate_back,
                          const MatrixView<float>& out) const {
  const size_t dim = options_.dim;
  const double step = rotate_back ? tables_->sigma_step / tables_->growth : tables_->sigma_step;
  std::vector<uint8_t> codes(std::min(kDecodeRows, count) * dim);
  for (size_t done = 0, chunk = 0; done < count; done += chunk) {
    // Whole blocks where they are: from one multiple of kDecodeRows to the next.
    chunk = std::min(kDecodeRows - (first_lane + done) % kDecodeRows, count - done);
    kernels_->unpack_codes(from.blocks, first_lane + done, chunk, codes.data());
    for (size_t r = 0; r < chunk; ++r) {
      const size_t lane = first_lane + done + r;
      const float scale = from.scales_f16 != nullptr ? NumberAt(from.scales_f16[lane])
                                                     : NumberAt(from.scales_f32[lane]);
      const float factor = static_cast<float>(static_cast<double>(scale) * step);
      float* row = out.Row(done + r);
      kernels_->dequantize(tables_->score, codes.data() + r * dim, factor, row);
      if (rotate_back) RotateBack(row);
    }
  }
}

void MseCore::RotateQuery(float* query) const {
  if (options_.rotation == RotationKind::kDense) {
    const MatrixView<float> row = {query, 1, options_.dim};
    (void)rotation_->Apply(row, row);  // the shapes agree
    return;
  }
  kernels_->rotate(encode_plan_.rotation, query);
}

void MseCore::RotateBack(float* row) const {
  if (options_.rotation == RotationKind::kDense) {
    const MatrixView<float> view = {row, 1, options_.dim};
    (void)rotation_->ApplyInverse(view, view);  // the shapes agree
    return;
  }
  kernels_->rotate_inverse(encode_plan_.rotation, row);
}

// What a level times a digit is worth, if the largest coordinate of the rotated query is the
// largest digit.
double MseCore::PerLevel(float largest, bool two_digits) const {
  const int digit_max = two_digits ? kernels::kTwoDigitMax : kernels::kOneDigitMax;
  const double step = static_cast<double>(largest) / static_cast<double>(digit_max);
  return step / tables_->growth * tables_->sigma_step;
}

double MseCore::QueryDigits(const float* rotated, const QueryDigitRow& digits) const {
  const float largest = kernels_->query_digits(rotated, options_.dim, digits.high, digits.low);
  return PerLevel(largest, digits.low != nullptr);
}

double MseCore::FramedQueryDigits(const kernels::FramePlan& frame, const float* query,
                                  float* scratch, const QueryDigitRow& digits,
                                  float& offset) const {
  const float largest = kernels_->attention->framed_digits(
      frame, encode_plan_.rotation, query, scratch, digits.high, digits.low, offset);
  return PerLevel(largest, digits.low != nullptr);
}

}  // namespace turboquant
