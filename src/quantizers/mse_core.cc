#include "src/quantizers/mse_core.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "src/base/counted_shared.h"
#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/quantizers/fingerprint.h"
#include "src/quantizers/stored_numbers.h"

namespace turboquant {
namespace {

constexpr size_t kDecodeRows = 64;  // rows whose codes are unpacked together

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

}  // namespace

int PrescaleExponent(double norm) {
  if (norm >= 0x1p-40 && norm <= 0x1p40) return 0;
  return std::clamp(std::ilogb(norm), -126, 126);
}

float PowerOfTwo(int exponent) { return std::ldexp(1.0f, exponent); }

// What depends on codebook, dim and search, not on the stream.
struct MseCore::Tables {
  Tables(const MseOptions& options, Codebook book, Backend backend);
  Tables(const Tables&) = delete;  // the plans point into the vectors
  Tables& operator=(const Tables&) = delete;

  size_t HeldBytes() const {  // beyond sizeof(Tables)
    return codebook.HeldBytes() +
           (thresholds.capacity() + levels.capacity() + cells.capacity() +
            signed_cells.capacity()) *
               sizeof(int16_t) +
           grid_codes.capacity();
  }

  Codebook codebook;
  std::vector<int16_t> thresholds;    // [candidates × 256]
  std::vector<int16_t> levels;        // 256
  std::vector<int16_t> cells;         // [candidates × 64], symmetric codebooks only
  std::vector<int16_t> signed_cells;  // [64], without a search
  std::vector<uint8_t> grid_codes;    // [65536], where the kernels read them
  kernels::EncodePlan encode;         // without the rotation's sign masks
  kernels::ScorePlan score;
  double grid_gain;   // grid = rotated coordinate · grid_gain / norm
  double growth;      // of the unnormalised rotation
  double sigma_step;  // step / sqrt(dim): a level on the unit sphere's scale
  double inner_step;  // sum z·level times this is <u, c>
};

MseCore::Tables::Tables(const MseOptions& options, Codebook book, Backend backend)
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
            nullptr};
  if (encode.symmetric) {
    cells.resize(static_cast<size_t>(candidates) * 2 * kernels::kCells);
    if (kernels::MakeCells(encode, cells.data())) encode.cells = cells.data();
  }
  signed_cells.resize(2 * kernels::kCells);
  if (kernels::MakeSignedCells(encode, signed_cells.data())) {
    encode.signed_cells = signed_cells.data();
  }
  if (kernels::NeedsGridCodes(encode, backend)) {
    grid_codes.resize(kernels::kGridCodes);
    if (kernels::MakeGridCodes(encode, grid_codes.data())) encode.grid_codes = grid_codes.data();
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
  core.tables_ = MakeCountedShared<const Tables>(core.table_bytes_, core.options_,
                                                 std::move(codebook), core.backend_);
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
double MseCore::grid_gain() const { return tables_->grid_gain; }
double MseCore::inner_step() const { return tables_->inner_step; }

void MseCore::DecodeLanes(const MseLanes& from, size_t first_lane, size_t count, bool rotate_back,
                          const MatrixView<float>& out) const {
  const size_t dim = options_.dim;
  const double step = rotate_back ? tables_->sigma_step / tables_->growth : tables_->sigma_step;
  const bool dense = options_.rotation == RotationKind::kDense;  // all rows of a chunk at once
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
      if (rotate_back && !dense) RotateBack(row);
    }
    if (rotate_back && dense) {
      const MatrixView<float> rotated = out.Slice(done, chunk);
      (void)rotation_->ApplyInverse(rotated, rotated);  // the shapes agree
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

void MseCore::FramedQueryDigits(const kernels::FramePlan& frame,
                                const kernels::FramedQueries& queries, float* scratch) const {
  kernels_->attention->framed_digits(frame, encode_plan_.rotation, queries, scratch);
  for (size_t q = 0; q < queries.count; ++q) {
    queries.largest[q] = static_cast<float>(PerLevel(queries.largest[q], queries.low != nullptr));
  }
}

}  // namespace turboquant
