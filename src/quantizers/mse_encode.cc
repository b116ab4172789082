// Rows on their way to codes and scales. The tables that this reads are made in mse_core.cc.
#include <algorithm>
#include <cmath>
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

constexpr size_t kChunkRows = 16;  // rows whose gains are computed together

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

Result<void> StoreAt(std::string_view name, size_t r, double scale, const MseLanes& into,
                     size_t lane) {
  if (into.scales_f16 != nullptr) {
    return StoreNumber(name, r, "scale", scale, into.scales_f16[lane]);
  }
  return StoreNumber(name, r, "scale", scale, into.scales_f32[lane]);
}

}  // namespace

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
Result<void> MseCore::EncodeByMetric(std::string_view name, size_t first_row, Chunk& chunk,
                                     const MseLanes& into, size_t first_lane,
                                     CodeMetric& metric) const {
  const size_t dim = options_.dim;
  AlignedBytes bytes(kernels::KeyBlockBytes(dim, static_cast<size_t>(options_.bits)));
  static_assert(kChunkRows == kernels::kKeyBlockRows);
  const kernels::PackedBlocks nearest = {reinterpret_cast<uint8_t*>(bytes.data()), dim,
                                         options_.bits, /*values=*/false};
  kernels_->encode_rows(encode_plan_, chunk.coordinates.data, chunk.coordinates.stride, chunk.rows,
                        chunk.gains, nearest, 0, chunk.sums);
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
    if (shaped) {
      TQ_CHECK(StoreAt(name, first_row + r, chunk.norms[r] * *shaped, into, lane));
    } else {
      TQ_CHECK(StoreScale(name, first_row + r, chunk.norms[r], chunk.sums[r], into, lane));
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
    chunk.gains[r] = chunk.norms[r] == 0.0 ? 0.0f : static_cast<float>(grid_gain() / norm);
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
    scale = StoredScale(options_.scale, sigma_step(), inner_step(), norm, sums);
  }
  return StoreAt(name, r, scale, into, lane);
}

}  // namespace turboquant
