// AVX-512 with VNNI and VBMI: plain intrinsics, because Highway 1.0.3 names the wrong feature for
// its AVX3_DL target (docs/decisions/0003). Bit for bit the reference. The tests compile this file
// a second time against an emulation of the instructions, so that it is checked on any CPU.
#ifdef TURBOQUANT_EMULATE_AVX512  // the including file brought the instructions
#define TURBOQUANT_AVX512_BUILT 1
#elif defined(__x86_64__)
#include <immintrin.h>
#define TURBOQUANT_AVX512_BUILT 1
#endif

#include <hwy/targets.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "src/kernels/kernels.h"
#include "src/kernels/line_layout.h"
#include "src/kernels/pack_row.h"
#include "src/kernels/scratch.h"
#include "src/kernels/table_codes.h"
#include "src/kernels/with_bits.h"

#ifdef TURBOQUANT_AVX512_BUILT

#ifdef TURBOQUANT_EMULATE_AVX512
#define TQ_INLINE inline
#else
#define TQ_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#pragma clang attribute push(                                                               \
    __attribute__((                                                                         \
        target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni,avx2,fma,f16c"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni,avx2,fma,f16c")
#endif
#endif

namespace turboquant::kernels {
namespace {

double NormSquared(const float* row, size_t dim) {
  __m512d low = _mm512_setzero_pd();
  __m512d high = _mm512_setzero_pd();
  float tail[16] = {};
  for (size_t j = 0; j < dim; j += 16) {
    const float* x = row + j;
    if (j + 16 > dim) {
      std::copy(row + j, row + dim, tail);
      x = tail;
    }
    const __m512d a = _mm512_cvtps_pd(_mm256_loadu_ps(x));
    const __m512d b = _mm512_cvtps_pd(_mm256_loadu_ps(x + 8));
    low = _mm512_fmadd_pd(a, a, low);  // a² is exact, so fused or not is the same
    high = _mm512_fmadd_pd(b, b, high);
  }
  alignas(64) double lanes[16];
  _mm512_storeu_pd(lanes, low);
  _mm512_storeu_pd(lanes + 8, high);
  for (size_t width = 1; width < 16; width *= 2) {
    for (size_t i = 0; i < 16; i += 2 * width) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

TQ_INLINE __m512 FlipSigns(__m512 x, __m512i masks) {
  return _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(x), masks));
}

// Strides 1, 2, 4, 8 inside one vector: swapped + (x with the odd half negated).
TQ_INLINE __m512 ButterfliesInside(__m512 v) {
  const int kMinus = static_cast<int>(0x80000000u);
  const __m512i odd1 = _mm512_set_epi32(kMinus, 0, kMinus, 0, kMinus, 0, kMinus, 0, kMinus, 0,
                                        kMinus, 0, kMinus, 0, kMinus, 0);
  const __m512i odd2 = _mm512_set_epi32(kMinus, kMinus, 0, 0, kMinus, kMinus, 0, 0, kMinus, kMinus,
                                        0, 0, kMinus, kMinus, 0, 0);
  const __m512i odd4 = _mm512_set_epi32(kMinus, kMinus, kMinus, kMinus, 0, 0, 0, 0, kMinus, kMinus,
                                        kMinus, kMinus, 0, 0, 0, 0);
  const __m512i odd8 = _mm512_set_epi32(kMinus, kMinus, kMinus, kMinus, kMinus, kMinus, kMinus,
                                        kMinus, 0, 0, 0, 0, 0, 0, 0, 0);
  v = _mm512_add_ps(_mm512_permute_ps(v, 0xB1), FlipSigns(v, odd1));
  v = _mm512_add_ps(_mm512_permute_ps(v, 0x4E), FlipSigns(v, odd2));
  v = _mm512_add_ps(_mm512_shuffle_f32x4(v, v, 0xB1), FlipSigns(v, odd4));
  return _mm512_add_ps(_mm512_shuffle_f32x4(v, v, 0x4E), FlipSigns(v, odd8));
}

TQ_INLINE void Butterfly(__m512& a, __m512& b) {
  const __m512 sum = _mm512_add_ps(a, b);
  b = _mm512_sub_ps(a, b);
  a = sum;
}

// Flips signs (masks may be null), then all strides; count is a power of two >= 16. The outer
// strides run in groups of up to eight vectors.
void Butterflies(const uint32_t* masks, size_t count, float* x) {
  const size_t group = std::min<size_t>(count / 16, 8);  // neighbouring vectors held at once
  __m512 v[8];
  for (size_t j = 0; j < count; j += 16 * group) {
    for (size_t i = 0; i < group; ++i) {
      v[i] = _mm512_loadu_ps(x + j + 16 * i);
      if (masks != nullptr) v[i] = FlipSigns(v[i], _mm512_loadu_si512(masks + j + 16 * i));
      v[i] = ButterfliesInside(v[i]);
    }
    for (size_t stride = 1; stride < group; stride *= 2) {
      for (size_t i = 0; i < group; ++i) {
        if (!(i & stride)) Butterfly(v[i], v[i + stride]);
      }
    }
    for (size_t i = 0; i < group; ++i) _mm512_storeu_ps(x + j + 16 * i, v[i]);
  }
  for (size_t stride = 16 * group; stride < count; stride *= 2) {
    for (size_t j = 0; j < count; j += 2 * stride) {
      for (size_t i = j; i < j + stride; i += 16) {
        __m512 a = _mm512_loadu_ps(x + i);
        __m512 b = _mm512_loadu_ps(x + i + stride);
        Butterfly(a, b);
        _mm512_storeu_ps(x + i, a);
        _mm512_storeu_ps(x + i + stride, b);
      }
    }
  }
}

void FlipAll(const uint32_t* masks, size_t count, float* x) {
  for (size_t j = 0; j < count; ++j)
    x[j] = std::bit_cast<float>(std::bit_cast<uint32_t>(x[j]) ^ masks[j]);
}

void Multiply(float factor, size_t count, float* x) {
  for (size_t j = 0; j < count; ++j) x[j] *= factor;
}

void Rotate(const RotationPlan& plan, float* row) {
  const size_t dim = plan.dim;
  const size_t p = std::bit_floor(dim);
  if (p < 16) return reference::Rotate(plan, row);
  const uint32_t* masks = plan.sign_masks;
  if (p == dim) {
    for (int round = 0; round < plan.rounds; ++round, masks += dim) Butterflies(masks, dim, row);
    return;
  }
  const float factor = static_cast<float>(1.0 / std::sqrt(static_cast<double>(p)));
  const size_t evens = (dim + 1) / 2;
  Scratch<float> riffled(dim);
  for (int round = 0; round < plan.rounds; ++round, masks += dim + p) {
    FlipAll(masks + p, dim - p, row + p);
    Butterflies(masks, p, row);
    Multiply(factor, p, row);
    Butterflies(masks + dim, p, row + (dim - p));
    Multiply(factor, p, row + (dim - p));
    float* out = riffled.data();
    for (size_t j = 0; j < dim; ++j) out[j / 2 + (j % 2 ? evens : 0)] = row[j];
    std::copy_n(out, dim, row);
  }
}

void RotateInverse(const RotationPlan& plan, float* row) {
  const size_t dim = plan.dim;
  const size_t p = std::bit_floor(dim);
  if (p < 16) return reference::RotateInverse(plan, row);
  const size_t masks_per_round = p == dim ? dim : dim + p;
  const float factor = static_cast<float>(1.0 / std::sqrt(static_cast<double>(p)));
  const size_t evens = (dim + 1) / 2;
  Scratch<float> unriffled(p == dim ? 0 : dim);
  for (int round = plan.rounds - 1; round >= 0; --round) {
    const uint32_t* masks = plan.sign_masks + static_cast<size_t>(round) * masks_per_round;
    if (p < dim) {
      float* out = unriffled.data();
      for (size_t j = 0; j < dim; ++j) out[j] = row[j / 2 + (j % 2 ? evens : 0)];
      std::copy_n(out, dim, row);
      Butterflies(nullptr, p, row + (dim - p));
      Multiply(factor, p, row + (dim - p));
      FlipAll(masks + dim, p, row + (dim - p));
    }
    Butterflies(nullptr, p, row);
    if (p < dim) Multiply(factor, p, row);
    FlipAll(masks, dim, row);
  }
}

// Rotated coordinates to the grid, 32 at a time; zero behind dim.
void ToGrid(float* coordinates, size_t dim, float gain, int16_t* grid) {
  std::fill(coordinates + dim, coordinates + RoundUp(dim, 32), 0.0f);
  const __m512 gains = _mm512_set1_ps(gain);
  const __m512i order = _mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0);
  const __m512i lowest = _mm512_set1_epi16(-kGridMax);
  for (size_t j = 0; j < dim; j += 32) {
    // Rounds to nearest even in the default mode; the product stays below 2^22.
    const __m512i a = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(coordinates + j), gains));
    const __m512i b =
        _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(coordinates + j + 16), gains));
    const __m512i z = _mm512_permutexvar_epi64(order, _mm512_packs_epi32(a, b));
    _mm512_storeu_si512(grid + j, _mm512_max_epi16(z, lowest));
  }
}

// Cell lookups of one candidate: 3 permutes, a compare and an add for 32 coordinates.
struct Cells {
  __m512i base;
  __m512i threshold;
};

TQ_INLINE Cells LoadCells(const EncodePlan& plan, int candidate) {
  return {_mm512_loadu_si512(plan.cells + candidate * 2 * kCells),
          _mm512_loadu_si512(plan.cells + candidate * 2 * kCells + kCells)};
}

// Number of thresholds below the magnitude.
TQ_INLINE __m512i MagnitudeCell(const Cells& cells, __m512i magnitude) {
  const __m512i cell = _mm512_srli_epi16(
      _mm512_min_epi16(magnitude, _mm512_set1_epi16((kCells << kCellShift) - 1)), kCellShift);
  const __m512i base = _mm512_permutexvar_epi16(cell, cells.base);
  const __mmask32 above =
      _mm512_cmpgt_epi16_mask(magnitude, _mm512_permutexvar_epi16(cell, cells.threshold));
  return _mm512_mask_add_epi16(base, above, base, _mm512_set1_epi16(1));
}

TQ_INLINE __mmask32 LanesBelow(size_t count) {
  return count >= 32 ? ~__mmask32{0} : static_cast<__mmask32>((uint32_t{1} << count) - 1);
}

TQ_INLINE __m512i PositiveLevels(const EncodePlan& plan) {
  alignas(64) int16_t levels[32] = {};
  std::copy_n(plan.levels + plan.codes / 2, plan.codes / 2, levels);
  return _mm512_load_si512(levels);
}

RowSums CandidateSums(const EncodePlan& plan, int candidate, const int16_t* grid) {
  const Cells cells = LoadCells(plan, candidate);
  const __m512i levels = PositiveLevels(plan);
  const size_t dim = plan.rotation.dim;
  RowSums total = {0, 0};
  for (size_t first = 0; first < dim; first += kMaxInt32Dim) {  // int32 holds 2048 coordinates
    __m512i grid_level = _mm512_setzero_si512();
    __m512i level_level = _mm512_setzero_si512();
    for (size_t j = first; j < std::min(dim, first + kMaxInt32Dim); j += 32) {
      const __m512i magnitude = _mm512_abs_epi16(_mm512_loadu_si512(grid + j));
      const __m512i level = _mm512_maskz_mov_epi16(
          LanesBelow(dim - j), _mm512_permutexvar_epi16(MagnitudeCell(cells, magnitude), levels));
      grid_level = _mm512_dpwssd_epi32(grid_level, magnitude, level);
      level_level = _mm512_dpwssd_epi32(level_level, level, level);
    }
    total.grid_level += _mm512_reduce_add_epi32(grid_level);
    total.level_level += _mm512_reduce_add_epi32(level_level);
  }
  return total;
}

void CandidateCodes(const EncodePlan& plan, int candidate, const int16_t* grid, uint8_t* codes) {
  const Cells cells = LoadCells(plan, candidate);
  const size_t dim = plan.rotation.dim;
  const __m512i half = _mm512_set1_epi16(static_cast<int16_t>(plan.codes / 2));
  for (size_t j = 0; j < dim; j += 32) {
    const __m512i z = _mm512_loadu_si512(grid + j);
    const __m512i cell = MagnitudeCell(cells, _mm512_abs_epi16(z));
    // Above zero half + cell, else half - 1 - cell.
    const __mmask32 positive = _mm512_cmpgt_epi16_mask(z, _mm512_setzero_si512());
    const __m512i below = _mm512_sub_epi16(_mm512_sub_epi16(half, _mm512_set1_epi16(1)), cell);
    const __m512i code = _mm512_mask_add_epi16(below, positive, half, cell);
    const __m512i kept = _mm512_maskz_mov_epi16(LanesBelow(dim - j), code);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + j), _mm512_cvtepi16_epi8(kept));
  }
}

RowSums Codes(const EncodePlan& plan, const int16_t* grid, uint8_t* codes) {
  const size_t dim = plan.rotation.dim;
  if (plan.cells == nullptr) {
    std::fill(codes + dim, codes + RoundUp(dim, 32), uint8_t{0});
    return TableSearchCodes(plan, grid, codes);
  }
  int best = 0;
  RowSums best_sums = CandidateSums(plan, 0, grid);
  double best_cosine = SquaredCosine(best_sums);
  for (int k = 1; k < plan.candidates; ++k) {
    const RowSums sums = CandidateSums(plan, k, grid);
    if (const double cosine = SquaredCosine(sums); cosine > best_cosine) {
      best = k;
      best_cosine = cosine;
      best_sums = sums;
    }
  }
  CandidateCodes(plan, best, grid, codes);
  return best_sums;
}

// ORs 16 codes, one per lane, into a line at a bit position of each 32-bit lane.
TQ_INLINE void OrLine(const uint8_t* codes, int mask, int right, int left, uint8_t* line) {
  __m512i word = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
  word =
      _mm512_and_si512(_mm512_srl_epi32(word, _mm_cvtsi32_si128(right)), _mm512_set1_epi32(mask));
  word = _mm512_sll_epi32(word, _mm_cvtsi32_si128(left));
  _mm512_storeu_si512(line, _mm512_or_si512(_mm512_loadu_si512(line), word));
}

template <int kBits>
void PackValueRow(const uint8_t* codes, size_t dim, size_t lane, uint8_t* block) {
  const size_t quad = lane / 4;
  const int byte = 8 * static_cast<int>(lane % 4);
  for (size_t j = 0; j < dim; j += kLanes, block += ValueGroupBytes(kBits)) {
    if constexpr (kBits == 3) {
      uint8_t* triple = block + quad / 8 * 3 * kLineBytes;
      const size_t k = quad % 8;
      if (k < 6) {
        OrLine(codes + j, 7, 0, byte + 3 * static_cast<int>(k % 2), triple + k / 2 * kLineBytes);
      } else {
        OrLine(codes + j, 3, 0, byte + 6, triple + (k - 6) * kLineBytes);
        OrLine(codes + j, 1, 2, byte + static_cast<int>(k), triple + 2 * kLineBytes);
      }
    } else {
      constexpr size_t kPerLine = 8 / kBits;
      OrLine(codes + j, 0xFF, 0, byte + kBits * static_cast<int>(quad % kPerLine),
             block + quad / kPerLine * kLineBytes);
    }
  }
}

template <int kBits>
void PackRow(const PackedBlocks& into, size_t lane, const uint8_t* codes) {
  if (into.values) {
    PackValueRow<kBits>(codes, into.dim, lane % kValueBlockRows,
                        into.blocks + lane / kValueBlockRows * ValueBlockBytes(into.dim, kBits));
  } else {
    PackKeyRow<kBits>(codes, into.dim,
                      into.blocks + lane / kKeyBlockRows * KeyBlockBytes(into.dim, kBits) +
                          4 * (lane % kKeyBlockRows));
  }
}

bool HasOneRun(int bits) {
  return FirstRunBits(static_cast<size_t>(bits)) == static_cast<size_t>(bits);
}

void EncodeRows(const EncodePlan& plan, const float* rows, size_t stride, size_t count,
                const float* gains, const PackedBlocks& into, size_t first_lane, RowSums* sums) {
  const size_t dim = plan.rotation.dim;
  const size_t padded = RoundUp(dim, 32);
  Scratch<float> coordinates(padded);
  Scratch<int16_t> grid(padded);
  Scratch<uint8_t> codes(padded);
  for (size_t r = 0; r < count; ++r) {
    sums[r] = {0, 0};
    if (gains[r] == 0.0f) continue;
    std::copy_n(rows + r * stride, dim, coordinates.data());
    Rotate(plan.rotation, coordinates.data());
    ToGrid(coordinates.data(), dim, gains[r], grid.data());
    sums[r] = Codes(plan, grid.data(), codes.data());
    if (!HasOneRun(into.bits)) {
      reference::PackCodes(into, first_lane + r, 1, codes.data());
      continue;
    }
    WithBits(into.bits, [&]<int kBits>() {
      if constexpr (FirstRunBits(kBits) == kBits)
        PackRow<kBits>(into, first_lane + r, codes.data());
    });
  }
}

void PackCodes(const PackedBlocks& into, size_t first_lane, size_t count, const uint8_t* codes) {
  if (!HasOneRun(into.bits)) return reference::PackCodes(into, first_lane, count, codes);
  const size_t dim = into.dim;
  Scratch<uint8_t> padded(RoundUp(dim, 32));
  std::fill(padded.data() + dim, padded.data() + RoundUp(dim, 32), uint8_t{0});
  for (size_t r = 0; r < count; ++r) {
    std::copy_n(codes + r * dim, dim, padded.data());
    WithBits(into.bits, [&]<int kBits>() {
      if constexpr (FirstRunBits(kBits) == kBits)
        PackRow<kBits>(into, first_lane + r, padded.data());
    });
  }
}

TQ_INLINE __m128i TakeLine(const uint8_t* line, int right, int mask) {
  const __m512i words = _mm512_srl_epi32(_mm512_loadu_si512(line), _mm_cvtsi32_si128(right));
  return _mm512_cvtepi32_epi8(_mm512_and_si512(words, _mm512_set1_epi32(mask)));
}

template <int kBits>
void UnpackValueRow(const uint8_t* block, size_t dim, size_t lane, uint8_t* codes) {
  const size_t quad = lane / 4;
  const int byte = 8 * static_cast<int>(lane % 4);
  for (size_t j = 0; j < dim; j += kLanes, block += ValueGroupBytes(kBits)) {
    __m128i row;
    if constexpr (kBits == 3) {
      const uint8_t* triple = block + quad / 8 * 3 * kLineBytes;
      const size_t k = quad % 8;
      if (k < 6) {
        row = TakeLine(triple + k / 2 * kLineBytes, byte + 3 * static_cast<int>(k % 2), 7);
      } else {
        const __m128i high = TakeLine(triple + 2 * kLineBytes, byte + static_cast<int>(k), 1);
        row = _mm_or_si128(TakeLine(triple + (k - 6) * kLineBytes, byte + 6, 3),
                           _mm_slli_epi16(high, 2));
      }
    } else {
      constexpr size_t kPerLine = 8 / kBits;
      row = TakeLine(block + quad / kPerLine * kLineBytes,
                     byte + kBits * static_cast<int>(quad % kPerLine), (1 << kBits) - 1);
    }
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + j), row);
  }
}

void UnpackCodes(const PackedBlocks& from, size_t first_lane, size_t count, uint8_t* codes) {
  if (!HasOneRun(from.bits)) return reference::UnpackCodes(from, first_lane, count, codes);
  const size_t dim = from.dim;
  Scratch<uint8_t> padded(RoundUp(dim, 32));
  for (size_t r = 0; r < count; ++r) {
    const size_t lane = first_lane + r;
    WithBits(from.bits, [&]<int kBits>() {
      if constexpr (FirstRunBits(kBits) == kBits) {
        if (from.values) {
          UnpackValueRow<kBits>(from.blocks + lane / kValueBlockRows * ValueBlockBytes(dim, kBits),
                                dim, lane % kValueBlockRows, padded.data());
        } else {
          UnpackKeyRow<kBits>(from.blocks + lane / kKeyBlockRows * KeyBlockBytes(dim, kBits) +
                                  4 * (lane % kKeyBlockRows),
                              dim, padded.data());
        }
      }
    });
    std::copy_n(padded.data(), dim, codes + r * dim);
  }
}

// Small codebooks by a 32-entry permute; others from the table in memory.
void Dequantize(const ScorePlan& plan, const uint8_t* codes, float factor, float* out) {
  if (plan.codes > 32) return reference::Dequantize(plan, codes, factor, out);
  const __m512i levels = _mm512_loadu_si512(plan.levels);
  const __m512 factors = _mm512_set1_ps(factor);
  size_t j = 0;
  for (; j + 16 <= plan.dim; j += 16) {
    const __m256i wide =
        _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + j)));
    const __m512i level = _mm512_permutexvar_epi16(_mm512_castsi256_si512(wide), levels);
    const __m512 values = _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm512_castsi512_si256(level)));
    _mm512_storeu_ps(out + j, _mm512_mul_ps(values, factors));
  }
  for (; j < plan.dim; ++j) out[j] = static_cast<float>(plan.levels[codes[j]]) * factor;
}

void UnpackStream(const uint8_t* stream, int bits, size_t count, uint8_t* codes) {
  WithBits(bits, [&]<int kBits>() { UnpackStreamFixed<kBits>(stream, count, codes); });
}

void PackStream(const uint8_t* codes, int bits, size_t count, uint8_t* stream) {
  WithBits(bits, [&]<int kBits>() { PackStreamFixed<kBits>(codes, count, stream); });
}

// Digits of 32 coordinates; no clamp, see query-inl.h.
TQ_INLINE void Round32(const float* x, __m512 gain, int8_t* high, int8_t* low) {
  const __m512i order = _mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0);
  const __m512i a = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), gain));
  const __m512i b = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + 16), gain));
  const __m512i t = _mm512_permutexvar_epi64(order, _mm512_packs_epi32(a, b));
  __m512i upper = t;
  if (low != nullptr) {
    upper = _mm512_srai_epi16(_mm512_add_epi16(t, _mm512_set1_epi16(64)), 7);
    const __m512i rest = _mm512_sub_epi16(t, _mm512_slli_epi16(upper, 7));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(low), _mm512_cvtepi16_epi8(rest));
  }
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(high), _mm512_cvtepi16_epi8(upper));
}

// By way of a mask of all lanes, because g++ 12 warns of its own unmasked maximum.
TQ_INLINE __m512 LargerMagnitude(__m512 most, __m512 x) {
  return _mm512_maskz_max_ps(0xFFFF, most, _mm512_abs_ps(x));
}

float RoundQuery(const float* rotated, size_t dim, int8_t* high, int8_t* low) {
  const size_t whole = dim / 32 * 32;
  alignas(64) float tail[32] = {};  // the row ends where it ends
  std::copy(rotated + whole, rotated + dim, tail);
  __m512 peaks = LargerMagnitude(_mm512_abs_ps(_mm512_load_ps(tail)), _mm512_load_ps(tail + 16));
  for (size_t j = 0; j < whole; j += 16) {
    peaks = LargerMagnitude(peaks, _mm512_loadu_ps(rotated + j));
  }
  alignas(64) float lanes[16];
  _mm512_store_ps(lanes, peaks);
  const float largest = *std::max_element(lanes, lanes + 16);
  if (largest == 0.0f) {
    std::fill_n(high, PaddedDim(dim), int8_t{0});
    if (low != nullptr) std::fill_n(low, PaddedDim(dim), int8_t{0});
    return 0.0f;
  }
  const int digit_max = low == nullptr ? kOneDigitMax : kTwoDigitMax;
  const __m512 gain = _mm512_set1_ps(QueryGain(largest, digit_max));
  for (size_t j = 0; j < whole; j += 32) {
    Round32(rotated + j, gain, high + j, low == nullptr ? nullptr : low + j);
  }
  if (whole < dim) Round32(tail, gain, high + whole, low == nullptr ? nullptr : low + whole);
  return largest;
}

// Codes of one line unit to levels + 128. A byte permute looks at six index bits only, so tables
// repeated over the others need no mask: shifted-in neighbours do no harm.
template <int kBits>
struct LevelDecoder {
  static constexpr size_t kUnitQuads = kBits == 3 ? 8 : 8 / kBits;
  static constexpr size_t kUnitLines = kBits == 3 ? 3 : 1;

  __m512i table[3];  // over index bits 0.., kBits.., 2·kBits..

  explicit TQ_INLINE LevelDecoder(const ScorePlan& plan) {
    for (int t = 0; t < 3; ++t) {
      alignas(64) uint8_t levels[64];
      for (int i = 0; i < 64; ++i) {
        const int code = (i >> (kBits * t)) & ((1 << kBits) - 1);
        levels[i] = static_cast<uint8_t>(kBits == 8 ? 0 : plan.levels[code] + 128);
      }
      table[t] = _mm512_load_si512(levels);
    }
  }

  TQ_INLINE __m512i Look(__m512i codes, int t) const {
    return _mm512_permutexvar_epi8(codes, table[t]);
  }

  TQ_INLINE void operator()(const uint8_t* lines, __m512i* levels) const {
    const __m512i a = _mm512_loadu_si512(lines);
    if constexpr (kBits == 8) {  // uniform: level = code - 127
      levels[0] = _mm512_add_epi8(a, _mm512_set1_epi8(1));
    } else if constexpr (kBits == 4) {
      levels[0] = Look(a, 0);
      levels[1] = Look(_mm512_srli_epi16(a, 4), 0);
    } else if constexpr (kBits == 2) {
      levels[0] = Look(a, 0);
      levels[1] = Look(a, 1);
      levels[2] = Look(a, 2);
      levels[3] = Look(_mm512_srli_epi16(a, 6), 0);
    } else if constexpr (kBits == 1) {
      const __m512i middle = _mm512_srli_epi16(a, 3);
      const __m512i high = _mm512_srli_epi16(a, 6);
      for (int t = 0; t < 3; ++t) {
        levels[t] = Look(a, t);
        levels[3 + t] = Look(middle, t);
      }
      levels[6] = Look(high, 0);
      levels[7] = Look(high, 1);
    } else {
      static_assert(kBits == 3);
      const __m512i b = _mm512_loadu_si512(lines + kLineBytes);
      const __m512i c = _mm512_loadu_si512(lines + 2 * kLineBytes);
      levels[0] = Look(a, 0);
      levels[1] = Look(a, 1);
      levels[2] = Look(b, 0);
      levels[3] = Look(b, 1);
      levels[4] = Look(c, 0);
      levels[5] = Look(c, 1);
      // Bit 2 from line C, the rest from A or B: (mask & c) | (~mask & a).
      const __m512i bit2 = _mm512_set1_epi8(4);
      levels[6] = Look(
          _mm512_ternarylogic_epi32(bit2, _mm512_srli_epi16(c, 4), _mm512_srli_epi16(a, 6), 0xCA),
          0);
      levels[7] = Look(
          _mm512_ternarylogic_epi32(bit2, _mm512_srli_epi16(c, 5), _mm512_srli_epi16(b, 6), 0xCA),
          0);
    }
  }
};

TQ_INLINE __m512i BroadcastQuad(const int8_t* digits) {
  int32_t quad;
  std::memcpy(&quad, digits, sizeof(quad));
  return _mm512_set1_epi32(quad);
}

TQ_INLINE __m512 LoadScales(const RowScales& scales, size_t r) {
  if (scales.f32 != nullptr) return _mm512_loadu_ps(scales.f32 + r);
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales.f16 + r)));
}

// One pass over the blocks for kQueries queries, kBlocks blocks side by side so that a broadcast
// digit serves them all. Stores blocks [block, block + kBlocks).
template <int kBits, size_t kQueries, size_t kDigits, size_t kBlocks>
TQ_INLINE void ScoreBlocks(const LevelDecoder<kBits>& decoder, size_t units, size_t block_bytes,
                           const uint8_t* blocks, size_t block, const RowScales& scales,
                           const int8_t* const* digits, const int32_t* start, const float* factors,
                           float* scores, size_t score_stride) {
  using Decoder = LevelDecoder<kBits>;
  constexpr size_t kRows = kQueries * kDigits;
  __m512i sums[kBlocks][kRows];
  for (size_t b = 0; b < kBlocks; ++b) {
    for (size_t r = 0; r < kRows; ++r) sums[b][r] = _mm512_set1_epi32(start[r]);
  }
  for (size_t unit = 0; unit < units; ++unit) {
    __m512i levels[kBlocks][Decoder::kUnitQuads];
    for (size_t b = 0; b < kBlocks; ++b) {
      decoder(blocks + (block + b) * block_bytes + unit * Decoder::kUnitLines * kLineBytes,
              levels[b]);
    }
#pragma GCC unroll 8
    for (size_t quad = 0; quad < Decoder::kUnitQuads; ++quad) {
#pragma GCC unroll 8
      for (size_t r = 0; r < kRows; ++r) {
        const __m512i digit = BroadcastQuad(digits[r] + 4 * (unit * Decoder::kUnitQuads + quad));
#pragma GCC unroll 4
        for (size_t b = 0; b < kBlocks; ++b) {
          sums[b][r] = _mm512_dpbusd_epi32(sums[b][r], levels[b][quad], digit);
        }
      }
    }
  }
  for (size_t b = 0; b < kBlocks; ++b) {
    const size_t row = (block + b) * kKeyBlockRows;
    const __m512 scale = LoadScales(scales, row);
    for (size_t q = 0; q < kQueries; ++q) {
      __m512i sum = sums[b][q];
      if constexpr (kDigits == 2)
        sum = _mm512_add_epi32(_mm512_slli_epi32(sum, 7), sums[b][kQueries + q]);
      const __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(factors[q]));
      _mm512_storeu_ps(scores + q * score_stride + row, _mm512_mul_ps(product, scale));
    }
  }
}

template <int kBits, size_t kQueries, size_t kDigits>
void ScoreQueries(const ScorePlan& plan, const uint8_t* blocks, size_t block_count,
                  const RowScales& scales, const QueryDigits& queries, size_t first, float* scores,
                  size_t score_stride) {
  using Decoder = LevelDecoder<kBits>;
  constexpr size_t kRows = kQueries * kDigits;
  constexpr size_t kBlocks = kRows <= 2 ? 4 : 2;
  const Decoder decoder(plan);
  const size_t units = CeilDivide(CeilDivide(plan.dim, 4), Decoder::kUnitQuads);
  const size_t block_bytes = KeyBlockBytes(plan.dim, kBits);
  const int8_t* digits[kRows];
  int32_t start[kRows];  // takes the levels' offset off: -128 · sum of digits
  for (size_t r = 0; r < kRows; ++r) {
    digits[r] =
        (r < kQueries ? queries.high : queries.low) + (first + r % kQueries) * queries.stride;
    int32_t sum = 0;
    for (size_t j = 0; j < 4 * units * Decoder::kUnitQuads; ++j) sum += digits[r][j];
    start[r] = -128 * sum;
  }
  float* out = scores + first * score_stride;
  const float* factors = queries.factors + first;
  size_t block = 0;
  for (; block + kBlocks <= block_count; block += kBlocks) {
    ScoreBlocks<kBits, kQueries, kDigits, kBlocks>(decoder, units, block_bytes, blocks, block,
                                                   scales, digits, start, factors, out,
                                                   score_stride);
  }
  for (; block < block_count; ++block) {
    ScoreBlocks<kBits, kQueries, kDigits, 1>(decoder, units, block_bytes, blocks, block, scales,
                                             digits, start, factors, out, score_stride);
  }
}

template <int kBits, size_t kDigits>
void ScoreFixed(const ScorePlan& plan, const uint8_t* blocks, size_t block_count,
                const RowScales& scales, const QueryDigits& queries, float* scores,
                size_t score_stride) {
  constexpr size_t kMost = 8 / kDigits;
  size_t first = 0;
  const auto pass = [&]<size_t kQueries>() {
    ScoreQueries<kBits, kQueries, kDigits>(plan, blocks, block_count, scales, queries, first,
                                           scores, score_stride);
    first += kQueries;
  };
  while (queries.queries - first >= kMost) pass.template operator()<kMost>();
  if (queries.queries - first >= 4) pass.template operator()<4>();
  if (queries.queries - first >= 2) pass.template operator()<2>();
  if (queries.queries - first >= 1) pass.template operator()<1>();
}

void ScoreKeys(const ScorePlan& plan, const uint8_t* blocks, size_t block_count,
               const RowScales& scales, const QueryDigits& queries, float* scores,
               size_t score_stride) {
  const auto fixed = [&]<int kBits>() {
    if (queries.low != nullptr) {
      ScoreFixed<kBits, 2>(plan, blocks, block_count, scales, queries, scores, score_stride);
    } else {
      ScoreFixed<kBits, 1>(plan, blocks, block_count, scales, queries, scores, score_stride);
    }
  };
  if (plan.int8_levels && plan.dim <= kMaxInt32Dim) {
    switch (plan.bits) {
      case 1:
        return fixed.template operator()<1>();
      case 2:
        return fixed.template operator()<2>();
      case 3:
        return fixed.template operator()<3>();
      case 4:
        return fixed.template operator()<4>();
      case 8:
        return fixed.template operator()<8>();
      default:
        break;
    }
  }
  reference::ScoreKeys(plan, blocks, block_count, scales, queries, scores, score_stride);
}

constexpr KernelTable kTable = {
    .backend = Backend::kAvx512,
    .norm_squared = NormSquared,
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
};

}  // namespace
}  // namespace turboquant::kernels

#ifndef TURBOQUANT_EMULATE_AVX512
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

#endif  // TURBOQUANT_AVX512_BUILT

namespace turboquant::kernels {

#ifdef TURBOQUANT_EMULATE_AVX512

const KernelTable* EmulatedAvx512Kernels() { return &kTable; }

#else

const KernelTable* Avx512Kernels() {
#ifdef TURBOQUANT_AVX512_BUILT
  // AVX3_DL is Highway's name for this feature set; its run-time test is right.
  if ((hwy::SupportedTargets() & HWY_AVX3_DL) != 0) return &kTable;
#endif
  return nullptr;
}

#endif

}  // namespace turboquant::kernels
