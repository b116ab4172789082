#include "src/cache/kv_parts.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <string_view>

#include "src/base/half.h"
#include "src/base/try.h"
#include "src/kernels/line_layout.h"
#include "src/quantizers/direction.h"
#include "src/quantizers/residuals.h"
#include "src/quantizers/stored_numbers.h"

namespace turboquant {
namespace {

constexpr std::string_view kRows = "rows";

uint16_t* Scales(const KvPart& part, std::byte* head_bytes) {
  return reinterpret_cast<uint16_t*>(head_bytes + part.scales_offset);
}

MseLanes Lanes(const KvPart& part, bool values, std::byte* head_bytes) {
  auto* blocks = reinterpret_cast<uint8_t*>(head_bytes + part.blocks_offset);
  return {{blocks, part.dim, part.bits, values}, Scales(part, head_bytes), nullptr};
}

// For reading; nothing writes through what it returns.
MseLanes Lanes(const KvPart& part, bool values, const std::byte* head_bytes) {
  return Lanes(part, values, const_cast<std::byte*>(head_bytes));
}

// The part's channels of permuted rows.
template <class T>
MatrixView<T> Channels(const KvPart& part, const MatrixView<T>& rows) {
  return {rows.data + part.first_channel, rows.rows, part.dim, rows.stride};
}

// Signs of what the codes in the same lanes have left of the rows, which have passed their checks.
Result<void> EncodeSigns(const KvPart& codes, const KvPart& signs, size_t head,
                         const MatrixView<const float>& rows, size_t first_lane,
                         std::byte* head_bytes) {
  const size_t dim = signs.dim;
  const MseCore& core = codes.cores[head];
  const MseLanes code_lanes = Lanes(codes, /*values=*/false, head_bytes);
  const MseLanes sign_lanes = Lanes(signs, /*values=*/false, head_bytes);
  std::vector<uint8_t> row_codes(rows.rows * dim);
  std::vector<float> residuals(rows.rows * dim);
  std::vector<double> norms(rows.rows);
  const MatrixView<float> view = {residuals.data(), rows.rows, dim};
  core.kernels().unpack_codes(code_lanes.blocks, first_lane, rows.rows, row_codes.data());
  MakeResiduals(rows, 0, core.rotation(), UnitCentroids(core.codebook(), dim), row_codes, view,
                norms);
  for (size_t r = 0; r < rows.rows; ++r) {
    TQ_TRY(const double residual_norm, ReadDirection(kRows, view, r, view.RowSpan(r)));
    TQ_CHECK(StoreNumber(kRows, r, "residual scale", norms[r] * residual_norm,
                         Scales(signs, head_bytes)[first_lane + r]));
  }
  std::vector<float> projected(rows.rows * dim);
  TQ_CHECK(signs.sketches[head].Project(view, {projected.data(), rows.rows, dim}));
  std::vector<uint8_t>& negative = row_codes;
  std::ranges::transform(projected, negative.begin(), [](float x) { return uint8_t{x < 0.0f}; });
  core.kernels().pack_codes(sign_lanes.blocks, first_lane, rows.rows, negative.data());
  return {};
}

// Adds constant · scale · Sᵀ signs to rotated rows.
void AddSigns(const KvPart& signs, size_t head, const std::byte* head_bytes, size_t first_lane,
              const MatrixView<float>& out) {
  const size_t dim = signs.dim;
  const MseLanes lanes = Lanes(signs, /*values=*/false, head_bytes);
  const kernels::KernelTable& table = signs.cores[head].kernels();
  const QjlSketch& sketch = signs.sketches[head];
  std::vector<uint8_t> negative(out.rows * dim);
  table.unpack_codes(lanes.blocks, first_lane, out.rows, negative.data());
  std::vector<uint8_t> packed(out.rows * CeilDivide(dim, 8));
  table.pack_stream(negative.data(), 1, out.rows, dim, packed.data());
  const std::vector<float> unit_norms(out.rows, 1.0f);
  const Result<SignRows> rows = sketch.Import(packed, unit_norms);
  std::vector<float> directions(out.rows * dim);
  const MatrixView<float> view = {directions.data(), out.rows, dim};
  (void)sketch.Decode(*rows, view);  // the shapes agree
  for (size_t r = 0; r < out.rows; ++r) {
    const float scale = F16ToF32({lanes.scales_f16[first_lane + r]});
    for (size_t j = 0; j < dim; ++j) out.Row(r)[j] += scale * view.Row(r)[j];
  }
}

Result<void> EncodeExact(const KvSide& side, const MatrixView<const float>& rows, size_t first_lane,
                         std::byte* head_bytes) {
  std::byte* first = head_bytes + side.exact_offset;
  for (size_t r = 0; r < rows.rows; ++r) {
    const size_t at = (first_lane + r) * rows.cols;
    if (side.options.method == KvMethod::kF32) {
      std::memcpy(first + at * sizeof(float), rows.Row(r), rows.cols * sizeof(float));
      continue;
    }
    auto* halves = reinterpret_cast<uint16_t*>(first) + at;
    for (size_t j = 0; j < rows.cols; ++j) {
      const float x = rows.Row(r)[j];
      halves[j] = F32ToF16(x).bits;
      if ((halves[j] & 0x7C00u) == 0x7C00u) {
        return Fail(std::isfinite(x) ? ErrorCode::kInvalidArgument : ErrorCode::kNonFinite, kRows,
                    "[", r, "] is ", static_cast<double>(x), " at column ", j,
                    ", beyond what an f16 holds (65504)");
      }
    }
  }
  return {};
}

void DecodeExact(const KvSide& side, const std::byte* head_bytes, size_t first_lane,
                 const MatrixView<float>& out) {
  const std::byte* first = head_bytes + side.exact_offset;
  for (size_t r = 0; r < out.rows; ++r) {
    const size_t at = (first_lane + r) * out.cols;
    if (side.options.method == KvMethod::kF32) {
      std::memcpy(out.Row(r), first + at * sizeof(float), out.cols * sizeof(float));
      continue;
    }
    const auto* halves = reinterpret_cast<const uint16_t*>(first) + at;
    for (size_t j = 0; j < out.cols; ++j) out.Row(r)[j] = F16ToF32({halves[j]});
  }
}

// A block's lanes share bytes: those that stay are written anew.
void ClearLanes(const KvPart& part, bool values, size_t first_lane, size_t count,
                std::byte* head_bytes) {
  const size_t block_rows = values ? kernels::kValueBlockRows : kernels::kKeyBlockRows;
  const size_t block_bytes = part.blocks_bytes / (kPageTokens / block_rows);
  const size_t end = first_lane + count;
  const kernels::KernelTable& table = part.cores[0].kernels();
  const MseLanes lanes = Lanes(part, values, head_bytes);
  std::vector<uint8_t> codes(block_rows * part.dim);
  for (size_t block = first_lane / block_rows; block * block_rows < end; ++block) {
    const size_t block_begin = block * block_rows;
    const size_t block_end = block_begin + block_rows;
    table.unpack_codes(lanes.blocks, block_begin, block_rows, codes.data());
    std::memset(lanes.blocks.blocks + block * block_bytes, 0, block_bytes);
    const auto keep = [&](size_t from, size_t to) {
      if (from >= to) return;
      table.pack_codes(lanes.blocks, from, to - from,
                       codes.data() + (from - block_begin) * part.dim);
    };
    keep(block_begin, std::max(first_lane, block_begin));
    keep(std::min(end, block_end), block_end);
  }
  std::fill_n(lanes.scales_f16 + first_lane, count, uint16_t{0});
}

// Of a query that neither overflowed nor lost bits on its way. Almost all are; the others are found
// out by this.
bool IsUsual(double factor) { return std::isfinite(factor) && factor > 0x1p-60; }

}  // namespace

double PreparePartQuery(const KvPart& part, size_t head, const float* query,
                        const QueryDigitRow& digits, float* scratch) {
  const MseCore& core = part.cores[head];
  const auto prepare = [&](int exponent) {
    const float factor = exponent == 0 ? 1.0f : PowerOfTwo(-exponent);
    for (size_t j = 0; j < part.dim; ++j) scratch[j] = query[part.first_channel + j] * factor;
    core.RotateQuery(scratch);
    if (!part.signs) {
      const double per_level = core.QueryDigits(scratch, digits);
      return exponent == 0 ? per_level : std::ldexp(per_level, exponent);
    }
    // Linear: the rotation's growth is still there, and QueryDigits takes it back.
    float* projected = scratch + part.dim;
    (void)part.sketches[head].Project({scratch, 1, part.dim}, {projected, 1, part.dim});
    const double per_level = core.QueryDigits(projected, digits) / core.sigma_step();
    return std::ldexp(per_level * part.level_step, exponent);
  };
  if (const double factor = prepare(0); IsUsual(factor)) return factor;
  std::copy_n(query + part.first_channel, part.dim, scratch);
  const double norm = std::sqrt(kernels::NormSquared(core.kernels(), scratch, part.dim));
  return prepare(norm == 0.0 ? 0 : PrescaleExponent(norm));
}

bool IsOneHadamardPart(const KvSide& side) {
  return side.parts.size() == 1 && side.options.method == KvMethod::kMse &&
         side.parts[0].cores[0].options().rotation == RotationKind::kHadamard;
}

void PrepareFramedQueries(const KvPart& part, size_t head, const kernels::FramePlan& frame,
                          const kernels::FramedQueries& queries, float* scratch) {
  part.cores[head].FramedQueryDigits(frame, queries, scratch);
  for (size_t q = 0; q < queries.count; ++q) {
    if (!IsUsual(static_cast<double>(queries.largest[q]))) queries.largest[q] = 0.0f;
  }
}

void UnrotatePartSums(const KvPart& part, size_t head, const float* sums, float* permuted_row) {
  const MseCore& core = part.cores[head];
  const float factor = static_cast<float>(part.level_step / core.growth());
  float* row = permuted_row + part.first_channel;
  for (size_t j = 0; j < part.dim; ++j) row[j] = sums[j] * factor;
  core.RotateBack(row);
}

Result<void> EncodeTokens(const KvSide& side, bool values, size_t head,
                          const MatrixView<const float>& rows, size_t first_lane,
                          std::byte* head_bytes, const double* norms_squared, CodeMetric* metric) {
  if (side.exact()) return EncodeExact(side, rows, first_lane, head_bytes);
  for (const KvPart& part : side.parts) {
    if (part.signs) {
      TQ_CHECK(EncodeSigns(side.parts[0], part, head, rows, first_lane, head_bytes));
      continue;
    }
    const double* norms = part.dim == rows.cols ? norms_squared : nullptr;
    TQ_CHECK(part.cores[head].EncodeLanes(kRows, Channels(part, rows), 0, rows.rows,
                                          Lanes(part, values, head_bytes), first_lane, norms,
                                          metric));
  }
  return {};
}

Result<void> EncodeToken(const KvFormat::Parts& parts, bool values,
                         const kernels::QueryRows<const float>& rows,
                         const kernels::QueryRows<const double>& norms_squared, size_t lane,
                         std::byte* page_bytes) {
  const KvPart& part = (values ? parts.values : parts.keys).parts[0];
  MseHeadRow heads[MseCore::kMaxHeadRows];
  for (size_t first = 0, count = 0; first < parts.options.kv_heads; first += count) {
    count = std::min(std::size(heads), parts.options.kv_heads - first);
    for (size_t i = 0; i < count; ++i) {
      const size_t head = first + i;
      heads[i] = {&part.cores[head], rows.data + head * rows.stride,
                  norms_squared.data[head * norms_squared.stride],
                  Lanes(part, values, page_bytes + head * parts.head_bytes)};
    }
    TQ_CHECK(MseCore::EncodeHeads(kRows, {heads, count}, lane));
  }
  return {};
}

void DecodeTokens(const KvSide& side, bool values, size_t head, const std::byte* head_bytes,
                  size_t first_lane, size_t count, MatrixView<float> out) {
  const MatrixView<float> rows = out.Slice(0, count);
  if (side.exact()) return DecodeExact(side, head_bytes, first_lane, rows);
  const bool prod = side.parts.back().signs;
  for (const KvPart& part : side.parts) {
    if (part.signs) {
      AddSigns(part, head, head_bytes, first_lane, rows);
      continue;
    }
    part.cores[head].DecodeLanes(Lanes(part, values, head_bytes), first_lane, count,
                                 /*rotate_back=*/!prod, Channels(part, rows));
  }
  if (prod) (void)side.parts[0].cores[head].rotation().ApplyInverse(rows, rows);
}

void ClearTokens(const KvSide& side, bool values, size_t first_lane, size_t count,
                 std::byte* head_bytes) {
  if (count == 0) return;
  for (const KvPart& part : side.parts) ClearLanes(part, values, first_lane, count, head_bytes);
  if (!side.exact()) return;
  std::memset(head_bytes + side.exact_offset + first_lane * side.exact_row_bytes, 0,
              count * side.exact_row_bytes);
}

}  // namespace turboquant
