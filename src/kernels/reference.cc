#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <vector>

#include "src/base/half.h"
#include "src/kernels/kernels.h"
#include "src/kernels/line_layout.h"

namespace turboquant::kernels {

int16_t ScaledThreshold(int64_t threshold, int q14) {
  // z·q + 2^13 >= (t + 1)·2^14  <=>  z >= ceil(((t + 1)·2^14 - 2^13) / q).
  const int64_t numerator = (threshold + 1) * 16384 - 8192;
  const int64_t quotient = numerator / q14;
  const int64_t ceiling = quotient + (numerator % q14 > 0 ? 1 : 0);
  return static_cast<int16_t>(std::clamp<int64_t>(ceiling - 1, -32768, 32767));
}

bool MakeCells(const EncodePlan& plan, int16_t* cells) {
  const int half = plan.codes / 2;
  for (int k = 0; k < plan.candidates; ++k, cells += 2 * kCells) {
    const int16_t* first = plan.thresholds + k * 256 + half;
    const int16_t* last = plan.thresholds + k * 256 + plan.codes - 1;
    for (int cell = 0; cell < kCells; ++cell) {
      // Thresholds below the cell's first magnitude, and those below its last.
      const auto below = std::lower_bound(first, last, cell << kCellShift);
      const auto up_to = std::lower_bound(first, last, ((cell + 1) << kCellShift) - 1);
      if (up_to - below > 1 || (cell == kCells - 1 && up_to != last)) return false;
      cells[cell] = static_cast<int16_t>(below - first);
      cells[kCells + cell] = up_to == below ? int16_t{32767} : *below;
    }
  }
  return true;
}

bool MakeSignedCells(const EncodePlan& plan, int16_t* cells) {
  constexpr int kLimit = kGridCodes / 4;  // doubled, a threshold stays within int16
  const auto is_int8 = [](int16_t level) { return level >= -127 && level <= 127; };
  if (plan.candidates != 1 || plan.codes > 16) return false;
  if (!std::all_of(plan.levels, plan.levels + plan.codes, is_int8)) return false;
  const int16_t* first = plan.thresholds;
  const int16_t* last = first + plan.codes - 1;
  if (first != last && (*first < -kLimit || last[-1] >= kLimit)) return false;
  constexpr int kWidth = 1 << (kSignedCellShift - 1);  // on the grid
  for (int c = 0; c < kCells; ++c) {
    const int low = (c < kCells / 2 ? c : c - kCells) * kWidth;
    const auto below = std::lower_bound(first, last, low);
    const auto up_to = std::lower_bound(first, last, low + kWidth);
    if (up_to - below > 1) return false;
    cells[c] = static_cast<int16_t>(below - first);
    cells[kCells + c] = static_cast<int16_t>(up_to == below ? 32767 : 2 * *below);
  }
  return true;
}

bool MakeGridCodes(const EncodePlan& plan, uint8_t* grid_codes) {
  const int16_t* thresholds = plan.thresholds + (plan.candidates == 1 ? 0 : kPlainCandidate * 256);
  const int last = plan.codes - 1;
  if (plan.candidates > 1 && last > 0 && thresholds[last - 1] == kGridMax) return false;
  uint8_t* next = grid_codes;
  for (int code = 0; code < last; ++code) {
    uint8_t* end = grid_codes + (thresholds[code] + 32768) + 1;  // of values up to the threshold
    if (end > next) next = std::fill_n(next, end - next, static_cast<uint8_t>(code));
  }
  std::fill(next, grid_codes + kGridCodes, static_cast<uint8_t>(last));
  return true;
}

namespace reference {
namespace {

void FlipSigns(const uint32_t* masks, size_t count, float* x) {
  for (size_t j = 0; j < count; ++j)
    x[j] = std::bit_cast<float>(std::bit_cast<uint32_t>(x[j]) ^ masks[j]);
}

void Butterflies(size_t count, float* x) {
  for (size_t stride = 1; stride < count; stride *= 2) {
    for (size_t j = 0; j < count; ++j) {
      if (j & stride) continue;
      const float a = x[j];
      const float b = x[j + stride];
      x[j] = a + b;
      x[j + stride] = a - b;
    }
  }
}

void Multiply(float factor, size_t count, float* x) {
  for (size_t j = 0; j < count; ++j) x[j] *= factor;
}

float InverseSqrt(size_t p) { return static_cast<float>(1.0 / std::sqrt(static_cast<double>(p))); }

float ScaleAt(const RowScales& scales, size_t r) {
  return scales.f16 != nullptr ? F16ToF32({scales.f16[r]}) : scales.f32[r];
}

struct CodePlace {
  const uint8_t* lines;
  size_t quads;
  size_t quad;
  size_t byte;
};

// Where coordinate j of lane `lane` lies.
CodePlace Place(const PackedBlocks& packed, size_t lane, size_t j) {
  const size_t bits = static_cast<size_t>(packed.bits);
  if (packed.values) {
    const uint8_t* block =
        packed.blocks + lane / kValueBlockRows * ValueBlockBytes(packed.dim, bits);
    return {block + j / kLanes * ValueGroupBytes(bits), 16, lane % kValueBlockRows / 4,
            4 * (j % kLanes) + lane % 4};
  }
  const uint8_t* block = packed.blocks + lane / kKeyBlockRows * KeyBlockBytes(packed.dim, bits);
  return {block, CeilDivide(packed.dim, 4), j / 4, 4 * (lane % kKeyBlockRows) + j % 4};
}

}  // namespace

void NormsSquared(const QueryRows<const float>& rows, size_t count, size_t dim,
                  double* norms_squared) {
  for (size_t r = 0; r < count; ++r) {
    double sums[16] = {};
    for (size_t j = 0; j < dim; ++j) {
      const double x = rows.data[r * rows.stride + j];
      sums[j % 16] += x * x;
    }
    for (size_t width = 1; width < 16; width *= 2) {
      for (size_t i = 0; i < 16; i += 2 * width) sums[i] += sums[i + width];
    }
    norms_squared[r] = sums[0];
  }
}

void Rotate(const RotationPlan& plan, float* row) {
  const size_t dim = plan.dim;
  const size_t p = std::bit_floor(dim);
  const uint32_t* masks = plan.sign_masks;
  std::vector<float> riffled(p < dim ? dim : 0);
  for (int round = 0; round < plan.rounds; ++round) {
    FlipSigns(masks, dim, row);
    masks += dim;
    Butterflies(p, row);
    if (p == dim) continue;
    Multiply(InverseSqrt(p), p, row);
    float* tail = row + (dim - p);
    FlipSigns(masks, p, tail);
    masks += p;
    Butterflies(p, tail);
    Multiply(InverseSqrt(p), p, tail);
    const size_t evens = CeilDivide(dim, 2);
    for (size_t j = 0; j < dim; ++j) riffled[j / 2 + (j % 2 ? evens : 0)] = row[j];
    std::ranges::copy(riffled, row);
  }
}

void RotateInverse(const RotationPlan& plan, float* row) {
  const size_t dim = plan.dim;
  const size_t p = std::bit_floor(dim);
  const size_t masks_per_round = p == dim ? dim : dim + p;
  std::vector<float> unriffled(p < dim ? dim : 0);
  for (int round = plan.rounds - 1; round >= 0; --round) {
    const uint32_t* masks = plan.sign_masks + static_cast<size_t>(round) * masks_per_round;
    if (p < dim) {
      const size_t evens = CeilDivide(dim, 2);
      for (size_t j = 0; j < dim; ++j) unriffled[j] = row[j / 2 + (j % 2 ? evens : 0)];
      std::ranges::copy(unriffled, row);
      float* tail = row + (dim - p);
      Butterflies(p, tail);
      Multiply(InverseSqrt(p), p, tail);
      FlipSigns(masks + dim, p, tail);
    }
    Butterflies(p, row);
    if (p < dim) Multiply(InverseSqrt(p), p, row);
    FlipSigns(masks, dim, row);
  }
}

int16_t ToGrid(float coordinate, float gain) {
  const float z =
      std::clamp(coordinate * gain, -static_cast<float>(kGridMax), static_cast<float>(kGridMax));
  return static_cast<int16_t>(std::lrintf(z));  // the default rounding mode: to nearest even
}

RowSums NearestCodes(const EncodePlan& plan, int candidate, const int16_t* grid, uint8_t* codes) {
  const int16_t* first = plan.thresholds + candidate * 256;
  const int16_t* last = first + plan.codes - 1;
  RowSums sums = {0, 0};
  for (size_t j = 0; j < plan.rotation.dim; ++j) {
    // The number of thresholds below z.
    const auto code = std::lower_bound(first, last, grid[j]) - first;
    const int64_t level = plan.levels[code];
    codes[j] = static_cast<uint8_t>(code);
    sums.grid_level += grid[j] * level;
    sums.level_level += level * level;
  }
  return sums;
}

RowSums SearchCodes(const EncodePlan& plan, const int16_t* grid, uint8_t* codes) {
  int best = 0;
  double best_cosine = -1.0;  // squared, up to the norm of the grid row
  for (int k = 0; k < plan.candidates; ++k) {
    const RowSums sums = NearestCodes(plan, k, grid, codes);
    const double cosine = SquaredCosine(sums);
    if (cosine > best_cosine) {
      best = k;
      best_cosine = cosine;
    }
  }
  return NearestCodes(plan, best, grid, codes);
}

void EncodeRows(const EncodeRow* rows, size_t count, RowSums* sums) {
  for (size_t r = 0; r < count; ++r) {
    const EncodeRow& row = rows[r];
    sums[r] = {0, 0};
    if (row.gain == 0.0f) continue;
    const RotationPlan& rotation = row.plan->rotation;
    std::vector<float> coordinates(row.coordinates, row.coordinates + rotation.dim);
    Rotate(rotation, coordinates.data());
    std::vector<int16_t> grid(rotation.dim);
    for (size_t j = 0; j < rotation.dim; ++j) grid[j] = ToGrid(coordinates[j], row.gain);
    std::vector<uint8_t> codes(rotation.dim);
    sums[r] = SearchCodes(*row.plan, grid.data(), codes.data());
    PackCodes(row.into, row.lane, 1, codes.data());
  }
}

float RoundQuery(const float* rotated, size_t dim, int8_t* high, int8_t* low) {
  float largest = 0.0f;
  for (size_t j = 0; j < dim; ++j) largest = std::max(largest, std::fabs(rotated[j]));
  std::fill_n(high, PaddedDim(dim), int8_t{0});
  if (low != nullptr) std::fill_n(low, PaddedDim(dim), int8_t{0});
  if (largest == 0.0f) return largest;
  const int digit_max = low == nullptr ? kOneDigitMax : kTwoDigitMax;
  const float bound = static_cast<float>(digit_max);
  const float gain = QueryGain(largest, digit_max);
  for (size_t j = 0; j < dim; ++j) {
    const int t = static_cast<int>(std::lrintf(std::clamp(rotated[j] * gain, -bound, bound)));
    const int upper = low == nullptr ? t : (t + 64) >> 7;
    high[j] = static_cast<int8_t>(upper);
    if (low != nullptr) low[j] = static_cast<int8_t>(t - 128 * upper);
  }
  return largest;
}

void ScoreKeys(const ScorePlan& plan, const BlocksView& blocks, const RowScales& scales,
               const QueryDigits& queries, float* scores, size_t score_stride) {
  const PackedBlocks packed = {const_cast<uint8_t*>(blocks.blocks), plan.dim, plan.bits, false};
  std::vector<uint8_t> codes(plan.dim);
  for (size_t r = 0; r < blocks.count * kKeyBlockRows; ++r) {
    UnpackCodes(packed, r, 1, codes.data());
    for (size_t q = 0; q < queries.queries; ++q) {
      const int8_t* high = queries.high + q * queries.stride;
      const int8_t* low = queries.low == nullptr ? nullptr : queries.low + q * queries.stride;
      int64_t sum = 0;
      for (size_t j = 0; j < plan.dim; ++j) {
        const int64_t digits = low == nullptr ? high[j] : 128 * high[j] + low[j];
        sum += plan.levels[codes[j]] * digits;
      }
      scores[q * score_stride + r] =
          static_cast<float>(sum) * queries.factors[q] * ScaleAt(scales, r);
    }
  }
}

void UnpackCodes(const PackedBlocks& from, size_t first_lane, size_t count, uint8_t* codes) {
  for (size_t r = 0; r < count; ++r) {
    for (size_t j = 0; j < from.dim; ++j) {
      const CodePlace at = Place(from, first_lane + r, j);
      codes[r * from.dim + j] = static_cast<uint8_t>(
          GetCode(at.lines, static_cast<size_t>(from.bits), at.quads, at.quad, at.byte));
    }
  }
}

void PackCodes(const PackedBlocks& into, size_t first_lane, size_t count, const uint8_t* codes) {
  for (size_t r = 0; r < count; ++r) {
    for (size_t j = 0; j < into.dim; ++j) {
      const CodePlace at = Place(into, first_lane + r, j);
      OrCode(into.blocks + (at.lines - into.blocks), static_cast<size_t>(into.bits), at.quads,
             at.quad, at.byte, codes[r * into.dim + j]);
    }
  }
}

void Dequantize(const ScorePlan& plan, const uint8_t* codes, float factor, float* out) {
  for (size_t j = 0; j < plan.dim; ++j) out[j] = static_cast<float>(plan.levels[codes[j]]) * factor;
}

void UnpackStream(const uint8_t* stream, int bits, size_t rows, size_t dim, uint8_t* codes) {
  const size_t width = static_cast<size_t>(bits);
  for (size_t r = 0; r < rows; ++r, stream += CeilDivide(dim * width, 8), codes += dim) {
    for (size_t j = 0; j < dim; ++j) {
      unsigned code = 0;
      for (size_t k = 0; k < width; ++k) {
        const size_t bit = j * width + k;
        code |= ((stream[bit / 8] >> (bit % 8)) & 1u) << k;
      }
      codes[j] = static_cast<uint8_t>(code);
    }
  }
}

void PackStream(const uint8_t* codes, int bits, size_t rows, size_t dim, uint8_t* stream) {
  const size_t width = static_cast<size_t>(bits);
  std::fill_n(stream, rows * CeilDivide(dim * width, 8), uint8_t{0});
  for (size_t r = 0; r < rows; ++r, stream += CeilDivide(dim * width, 8), codes += dim) {
    for (size_t j = 0; j < dim; ++j) {
      for (size_t k = 0; k < width; ++k) {
        const size_t bit = j * width + k;
        stream[bit / 8] =
            static_cast<uint8_t>(stream[bit / 8] | ((codes[j] >> k) & 1u) << (bit % 8));
      }
    }
  }
}

float AddLanes(const float (&lanes)[16]) {
  float sums[16];
  std::ranges::copy(lanes, sums);
  for (size_t width = 8; width > 0; width /= 2) {
    for (size_t i = 0; i < width; ++i) sums[i] += sums[i + width];
  }
  return sums[0];
}

void SumWhereSet(const SignRowsView& rows, const QueryRows<const float>& numbers,
                 size_t query_count, const QueryRows<float>& sums) {
  for (size_t r = 0; r < rows.count; ++r) {
    const uint8_t* row = rows.bytes + r * rows.row_bytes;
    for (size_t q = 0; q < query_count; ++q) {
      const float* number = numbers.data + q * numbers.stride;
      float lanes[16] = {};
      for (size_t j = 0; j < 8 * rows.row_bytes; ++j) {
        if (row[j / 8] >> (j % 8) & 1) lanes[j % 16] += number[j];
      }
      sums.data[q * sums.stride + r] = AddLanes(lanes);
    }
  }
}

void MultiplyDense(const DenseMatrix& matrix, const QueryRows<const float>& vectors, size_t count,
                   const QueryRows<double>& sums) {
  for (size_t v = 0; v < count; ++v) {
    const float* vector = vectors.data + v * vectors.stride;
    for (size_t i = 0; i < matrix.rows; ++i) {
      double sum = 0.0;
      for (size_t j = 0; j < matrix.dim; ++j) {
        const float entry = matrix.data[i * matrix.row_stride + j * matrix.column_stride];
        sum += static_cast<double>(entry) * static_cast<double>(vector[j]);
      }
      sums.data[v * sums.stride + i] = sum;
    }
  }
}

const KernelTable kTable = {
    .backend = Backend::kScalar,
    .norms_squared = NormsSquared,
    .rotate = Rotate,
    .rotate_inverse = RotateInverse,
    .encode_rows = EncodeRows,
    .query_digits = RoundQuery,
    .score_keys = ScoreKeys,
    .unpack_codes = UnpackCodes,
    .dequantize = Dequantize,
    .pack_codes = PackCodes,
    .unpack_stream = UnpackStream,
    .pack_stream = PackStream,
    .sum_where_set = SumWhereSet,
    .multiply_dense = MultiplyDense,
    .attention = &kAttention,
};

}  // namespace reference
}  // namespace turboquant::kernels
