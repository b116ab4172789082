// Rows on their way to codes and scales. The tables that this reads are made in mse_core.cc.
#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <span>
#include <utility>

#include "src/base/aligned_bytes.h"
#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/kernels/line_layout.h"
#include "src/quantizers/mse_core.h"
#include "src/quantizers/row_reader.h"
#include "src/quantizers/stored_numbers.h"

namespace turboquant {
namespace {

constexpr size_t kChunkRows = MseCore::kMaxHeadRows;  // rows whose gains are computed together

constexpr double kNoScale = std::numeric_limits<double>::infinity();  // fits no type

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

// Norms and gains from the squares of norms of which none needs a prescale, as is so but for
// extreme rows; false otherwise.
bool UsualGains(double grid_gain, size_t rows, const double* squares, double* norms, float* gains) {
  bool usual = true;
  for (size_t r = 0; r < rows; ++r) usual &= squares[r] >= 0x1p-80 && squares[r] <= 0x1p80;
  if (!usual) return false;
  for (size_t r = 0; r < rows; ++r) {
    norms[r] = std::sqrt(squares[r]);
    gains[r] = static_cast<float>(grid_gain / norms[r]);
  }
  return true;
}

// The number stored beside the codes of a row that is not zero, before it is rounded to the scale
// type.
inline double StoredScale(Scale scale, double sigma_step, double inner_step, double norm,
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

inline bool StoreAt(double scale, const MseLanes& into, size_t lane) {
  return into.scales_f16 != nullptr ? StoreRounded(scale, into.scales_f16[lane])
                                    : StoreRounded(scale, into.scales_f32[lane]);
}

}  // namespace

// Rows on their way through the encoder.
struct MseCore::Chunk {
  size_t rows;                          // <= kChunkRows
  MatrixView<const float> coordinates;  // of the caller's rows or of one of the buffers
  double squares[kChunkRows];           // of the norms
  double norms[kChunkRows];
  float gains[kChunkRows];
  kernels::EncodeRow encoded[kChunkRows];
  kernels::RowSums sums[kChunkRows];
  double scales[kChunkRows];    // kNoScale where there is none
  std::vector<float> buffer;    // rows that are not f32, or rotated by a matrix
  std::vector<float> rescaled;  // rows of extreme norm
};

inline bool MseCore::HasScale(const kernels::RowSums& sums) const {
  return sums.grid_level > 0 || options_.scale == Scale::kNorm;
}

// Of all rows together: their quotients take turns in the divider.
void MseCore::FindScales(Chunk& chunk) const {
  const double sigma = sigma_step();
  const double inner = inner_step();
  for (size_t r = 0; r < chunk.rows; ++r) {
    const double norm = chunk.norms[r];
    const kernels::RowSums& sums = chunk.sums[r];
    chunk.scales[r] = norm == 0.0      ? 0.0
                      : HasScale(sums) ? StoredScale(options_.scale, sigma, inner, norm, sums)
                                       : kNoScale;
  }
}

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
    EncodeChunk(chunk, into.blocks, first_lane + done);
    FindScales(chunk);
    for (size_t r = 0; r < chunk.rows; ++r) {
      if (!StoreAt(chunk.scales[r], into, first_lane + done + r)) {
        return NoScale(name, row + r, chunk.norms[r], chunk.sums[r]);
      }
    }
  }
  return {};
}

Result<void> MseCore::EncodeHeads(std::string_view name, std::span<const MseHeadRow> rows,
                                  size_t lane) {
  assert(!rows.empty() && rows.size() <= kMaxHeadRows);
  const MseCore& core = *rows[0].core;  // all have its tables
  assert(core.options_.rotation == RotationKind::kHadamard);
  Chunk chunk;
  for (size_t r = 0; r < rows.size(); ++r) chunk.squares[r] = rows[r].norm_squared;
  const bool usual =
      !core.options_.require_unit_norm &&
      UsualGains(core.grid_gain(), rows.size(), chunk.squares, chunk.norms, chunk.gains);
  if (!usual) {
    for (const MseHeadRow& row : rows) {
      const MatrixView<const float> alone = {row.coordinates, 1, core.options_.dim};
      TQ_CHECK(row.core->EncodeLanes(name, alone, 0, 1, row.into, lane, &row.norm_squared));
    }
    return {};
  }
  for (size_t r = 0; r < rows.size(); ++r) {
    chunk.encoded[r] = {&rows[r].core->encode_plan_, rows[r].coordinates, chunk.gains[r],
                        rows[r].into.blocks, lane};
  }
  core.kernels_->encode_rows(chunk.encoded, rows.size(), chunk.sums);
  chunk.rows = rows.size();
  core.FindScales(chunk);
  for (size_t r = 0; r < rows.size(); ++r) {
    if (!StoreAt(chunk.scales[r], rows[r].into, lane)) {
      return core.NoScale(name, r, chunk.norms[r], chunk.sums[r]);
    }
  }
  return {};
}

void MseCore::EncodeChunk(Chunk& chunk, const kernels::PackedBlocks& into,
                          size_t first_lane) const {
  for (size_t r = 0; r < chunk.rows; ++r) {
    chunk.encoded[r] = {&encode_plan_, chunk.coordinates.Row(r), chunk.gains[r], into,
                        first_lane + r};
  }
  kernels_->encode_rows(chunk.encoded, chunk.rows, chunk.sums);
}

// Nearest codes, found in blocks of their own, then those that the metric makes of them.
Result<void> MseCore::EncodeByMetric(std::string_view name, size_t first_row, Chunk& chunk,
                                     const MseLanes& into, size_t first_lane,
                                     CodeMetric& metric) const {
  const size_t dim = options_.dim;
  AlignedBytes bytes(kernels::KeyBlockBytes(dim, static_cast<size_t>(options_.bits)));
  static_assert(kChunkRows == kernels::kKeyBlockRows);
  const kernels::PackedBlocks nearest = {reinterpret_cast<uint8_t*>(bytes.data()), dim,
                                         options_.bits, /*values=*/false};
  EncodeChunk(chunk, nearest, 0);
  FindScales(chunk);
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
      shaped = metric.Shape(codebook(), grid.data(), chunk.sums[r], row_codes);
      kernels_->pack_codes(into.blocks, lane, 1, row_codes);
    }
    if (!shaped) {
      if (!StoreAt(chunk.scales[r], into, lane)) {
        return NoScale(name, first_row + r, chunk.norms[r], chunk.sums[r]);
      }
    } else if (const double scale = chunk.norms[r] * *shaped; !StoreAt(scale, into, lane)) {
      return DoesNotFit(name, first_row + r, "scale", scale, options_.scale_type);
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
  if (norms_squared != nullptr) {
    std::copy_n(norms_squared, chunk.rows, chunk.squares);
  } else {
    kernels_->norms_squared({source.data, source.stride}, chunk.rows, dim, chunk.squares);
  }
  const bool usual = UsualGains(grid_gain(), chunk.rows, chunk.squares, chunk.norms, chunk.gains);
  for (size_t r = 0; r < chunk.rows; ++r) {
    if (!usual) {
      if (!std::isfinite(chunk.squares[r])) return NonFinite(name, rows, row + r);
      chunk.norms[r] = std::sqrt(chunk.squares[r]);
    }
    if (options_.require_unit_norm) TQ_CHECK(CheckUnitNorm(name, row + r, chunk.norms[r]));
  }
  if (!usual) Prescale(chunk);
  return {};
}

// Multiplies rows of extreme norm, and sets all gains.
void MseCore::Prescale(Chunk& chunk) const {
  const size_t dim = options_.dim;
  chunk.rescaled.resize(kChunkRows * dim);
  for (size_t r = 0; r < chunk.rows; ++r) {
    const float* row = chunk.coordinates.Row(r);
    const double norm = chunk.norms[r];
    const int exponent = norm == 0.0 ? 0 : PrescaleExponent(norm);
    const float factor = PowerOfTwo(-exponent);
    for (size_t j = 0; j < dim; ++j) chunk.rescaled[r * dim + j] = row[j] * factor;
    chunk.gains[r] =
        norm == 0.0 ? 0.0f : static_cast<float>(grid_gain() / std::ldexp(norm, -exponent));
  }
  chunk.coordinates = {chunk.rescaled.data(), chunk.rows, dim};
}

Result<void> MseCore::CheckUnitNorm(std::string_view name, size_t r, double norm) const {
  const double tolerance = static_cast<double>(options_.unit_norm_tolerance);
  if (std::fabs(norm - 1.0) <= tolerance) return {};
  return Fail(ErrorCode::kNotUnitNorm, name, "[", r, "] has norm ", norm, ", not 1 within ",
              tolerance);
}

// Why StoreAt took none of the scales that FindScales found.
std::unexpected<Error> MseCore::NoScale(std::string_view name, size_t r, double norm,
                                        const kernels::RowSums& sums) const {
  if (!HasScale(sums)) {
    return Fail(ErrorCode::kInvalidArgument, name, "[", r,
                "] has no positive inner product with its centroids: this codebook serves no "
                "scale but kNorm there");
  }
  const double scale = StoredScale(options_.scale, sigma_step(), inner_step(), norm, sums);
  return DoesNotFit(name, r, "scale", scale, options_.scale_type);
}

}  // namespace turboquant
