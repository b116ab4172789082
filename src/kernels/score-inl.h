// score_keys; included once per target.
#if defined(TURBOQUANT_SRC_KERNELS_SCORE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TURBOQUANT_SRC_KERNELS_SCORE_INL_H_
#undef TURBOQUANT_SRC_KERNELS_SCORE_INL_H_
#else
#define TURBOQUANT_SRC_KERNELS_SCORE_INL_H_
#endif

#include <algorithm>
#include <cstring>

#include "src/kernels/kernels.h"
#include "src/kernels/line_layout.h"
#include "src/kernels/scratch.h"
#include "src/kernels/simd-inl.h"
#include "src/kernels/with_bits.h"

#if TURBOQUANT_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace turboquant::kernels::HWY_NAMESPACE {

inline constexpr size_t kVectorsPerLine = kLineBytes / kVectorBytes;

// Codes of one line unit to levels + offset, quad after quad: kUnitQuads vectors from kUnitLines
// lines.
template <int kBits>
struct LevelDecoder {
  static constexpr size_t kUnitQuads = kBits == 3 ? 8 : 8 / kBits;
  static constexpr size_t kUnitLines = kBits == 3 ? 3 : 1;

  // Tables over the codes at bit 0 and, for widths below 4, at bit kBits of a nibble or byte.
  VU8 at_zero;
  VU8 shifted;
  VU8 uniform;  // 8 bits: what is added to a code

  HWY_INLINE LevelDecoder(const ScorePlan& plan, int offset) {
    alignas(16) uint8_t low[16] = {};
    alignas(16) uint8_t high[16] = {};
    for (int i = 0; i < 16; ++i) {
      const int mask = kBits >= 4 ? 15 : (1 << kBits) - 1;
      low[i] = static_cast<uint8_t>(plan.levels[i & mask] + offset);
      high[i] = static_cast<uint8_t>(plan.levels[(i >> (kBits & 3)) & mask] + offset);
    }
    at_zero = hn::LoadDup128(DU8(), low);
    shifted = hn::LoadDup128(DU8(), high);
    uniform = hn::Set(DU8(), static_cast<uint8_t>(offset - 127));
  }

  static HWY_INLINE VU8 Load(const uint8_t* line) { return hn::LoadU(DU8(), line); }
  static HWY_INLINE VU8 Mask(VU8 v, int mask) {
    return hn::And(v, hn::Set(DU8(), static_cast<uint8_t>(mask)));
  }
  template <int kShift>
  static HWY_INLINE VU8 Right(VU8 v) {  // bits of the neighbour byte are masked off later
    return hn::BitCast(DU8(),
                       hn::ShiftRight<kShift>(hn::BitCast(hn::Repartition<uint16_t, DU8>(), v)));
  }

  HWY_INLINE void operator()(const uint8_t* lines, VU8 levels[kUnitQuads]) const {
    const VU8 a = Load(lines);
    if constexpr (kBits == 8) {  // uniform: level = code - 127
      levels[0] = hn::Add(a, uniform);
    } else if constexpr (kBits == 4) {
      levels[0] = hn::TableLookupBytes(at_zero, Mask(a, 15));
      levels[1] = hn::TableLookupBytes(at_zero, Mask(Right<4>(a), 15));
    } else if constexpr (kBits == 2) {
      const VU8 upper = Right<4>(a);
      levels[0] = hn::TableLookupBytes(at_zero, Mask(a, 3));
      levels[1] = hn::TableLookupBytes(shifted, Mask(a, 12));
      levels[2] = hn::TableLookupBytes(at_zero, Mask(upper, 3));
      levels[3] = hn::TableLookupBytes(shifted, Mask(upper, 12));
    } else if constexpr (kBits == 1) {
      levels[0] = hn::TableLookupBytes(at_zero, Mask(a, 1));
      levels[1] = hn::TableLookupBytes(shifted, Mask(a, 2));
      levels[2] = hn::TableLookupBytes(at_zero, Mask(Right<2>(a), 1));
      levels[3] = hn::TableLookupBytes(shifted, Mask(Right<2>(a), 2));
      levels[4] = hn::TableLookupBytes(at_zero, Mask(Right<4>(a), 1));
      levels[5] = hn::TableLookupBytes(shifted, Mask(Right<4>(a), 2));
      levels[6] = hn::TableLookupBytes(at_zero, Mask(Right<6>(a), 1));
      levels[7] = hn::TableLookupBytes(shifted, Mask(Right<6>(a), 2));
    } else {
      static_assert(kBits == 3);
      const VU8 b = Load(lines + kLineBytes);
      const VU8 c = Load(lines + 2 * kLineBytes);
      levels[0] = hn::TableLookupBytes(at_zero, Mask(a, 7));
      levels[1] = hn::TableLookupBytes(at_zero, Mask(Right<3>(a), 7));
      levels[2] = hn::TableLookupBytes(at_zero, Mask(b, 7));
      levels[3] = hn::TableLookupBytes(at_zero, Mask(Right<3>(b), 7));
      levels[4] = hn::TableLookupBytes(at_zero, Mask(c, 7));
      levels[5] = hn::TableLookupBytes(at_zero, Mask(Right<3>(c), 7));
      levels[6] = hn::TableLookupBytes(at_zero, hn::Or(Mask(Right<6>(a), 3), Mask(Right<4>(c), 4)));
      levels[7] = hn::TableLookupBytes(at_zero, hn::Or(Mask(Right<6>(b), 3), Mask(Right<5>(c), 4)));
    }
  }
};

// The digit rows of one pass, kQueries queries of kDigits digits, high digits first. start: what
// takes the levels' offset off a row's sum, -kLevelOffset · sum of digits.
template <size_t kQueries, size_t kDigits>
HWY_INLINE void FindDigits(const QueryDigits& queries, size_t first, size_t padded_dim,
                           const int8_t** rows, int32_t* start) {
  for (size_t q = 0; q < kQueries; ++q) {
    rows[q] = queries.high + (first + q) * queries.stride;
    if constexpr (kDigits == 2) rows[kQueries + q] = queries.low + (first + q) * queries.stride;
  }
  for (size_t r = 0; r < kQueries * kDigits; ++r) {
    int32_t sum = 0;
    for (size_t j = 0; j < padded_dim; ++j) sum += rows[r][j];
    start[r] = -kLevelOffset * sum;
  }
}

// Which operand of a byte product is never negative: levels + kLevelOffset of keys, the digits of
// weights.
enum class Unsigned { kLevels, kDigits };

// Integer sums of kBits codes for the rows of one vector's lanes, kVectors of them side by side.
template <int kBits, size_t kRows, size_t kVectors, Unsigned kUnsigned = Unsigned::kLevels>
HWY_INLINE void SumLanes(const LevelDecoder<kBits>& decoder, const uint8_t* lines, size_t units,
                         const int8_t* const digits[kRows], VI32 sums[kVectors][kRows]) {
  using Decoder = LevelDecoder<kBits>;
  for (size_t unit = 0; unit < units; ++unit) {
    VU8 levels[kVectors][Decoder::kUnitQuads];
    for (size_t v = 0; v < kVectors; ++v) {
      decoder(lines + unit * Decoder::kUnitLines * kLineBytes + v * kVectorBytes, levels[v]);
    }
    for (size_t quad = 0; quad < Decoder::kUnitQuads; ++quad) {
      for (size_t r = 0; r < kRows; ++r) {
        const auto digit = BroadcastQuad(digits[r] + 4 * (unit * Decoder::kUnitQuads + quad));
        for (size_t v = 0; v < kVectors; ++v) {
          const VU8 level = levels[v][quad];
          if constexpr (kUnsigned == Unsigned::kLevels)
            sums[v][r] = DotQuads(sums[v][r], level, digit);
          else
            sums[v][r] = DotQuads(sums[v][r], hn::BitCast(DU8(), digit), hn::BitCast(DI8(), level));
        }
      }
    }
  }
}

#if HWY_TARGET == HWY_AVX2

// Two digits at once: 128·high + low as int16, each quad's as (0, 2, 1, 3), against levels +
// kLevelOffset widened to int16. Two pmaddwd and two adds per quad and query where two digits take
// twice three. Sums may wrap on the way: what `start` took off brings them back.
template <int kBits, size_t kQueries, size_t kVectors>
HWY_INLINE void SumLanesWide(const LevelDecoder<kBits>& decoder, const uint8_t* lines, size_t units,
                             const int16_t* digits, size_t digit_stride,
                             VI32 sums[kVectors][kQueries]) {
  using Decoder = LevelDecoder<kBits>;
  const DI32 di;
  const auto pair = [&](const int16_t* from) HWY_ATTR {
    int32_t both;
    std::memcpy(&both, from, sizeof(both));
    return hn::BitCast(DI16(), hn::Set(di, both));
  };
  for (size_t unit = 0; unit < units; ++unit) {
    VU8 levels[kVectors][Decoder::kUnitQuads];
    for (size_t v = 0; v < kVectors; ++v) {
      decoder(lines + unit * Decoder::kUnitLines * kLineBytes + v * kVectorBytes, levels[v]);
    }
    for (size_t quad = 0; quad < Decoder::kUnitQuads; ++quad) {
      const int16_t* at = digits + 4 * (unit * Decoder::kUnitQuads + quad);
      VI16 even[kVectors], odd[kVectors];
      for (size_t v = 0; v < kVectors; ++v) {
        const auto level = hn::BitCast(hn::Repartition<uint16_t, DU8>(), levels[v][quad]);
        even[v] = hn::And(hn::BitCast(DI16(), level), hn::Set(DI16(), 255));
        odd[v] = hn::BitCast(DI16(), hn::ShiftRight<8>(level));
      }
      for (size_t q = 0; q < kQueries; ++q) {
        const VI16 first = pair(at + q * digit_stride);
        const VI16 second = pair(at + q * digit_stride + 2);
        for (size_t v = 0; v < kVectors; ++v) {
          const __m256i products = _mm256_add_epi32(_mm256_madd_epi16(even[v].raw, first.raw),
                                                    _mm256_madd_epi16(odd[v].raw, second.raw));
          sums[v][q] = hn::Add(sums[v][q], VI32{products});
          // Keeps g++ from gathering the products of all queries before it adds any: 13 % slower.
          asm("" : "+x"(sums[v][q].raw));
        }
      }
    }
  }
}

// Digits of queries [first, first + kQueries) in the order SumLanesWide reads, and what takes the
// levels' offset off their sums; padded_dim is a multiple of 16.
template <size_t kQueries>
HWY_INLINE void WidenDigits(const QueryDigits& queries, size_t first, size_t padded_dim,
                            int16_t* wide, int32_t* start) {
  const hn::FixedTag<int8_t, 16> d8;
  const DI16 d16;
  const DI32 d32;
  alignas(16) static constexpr int8_t kOrder[16] = {0, 2,  1, 3,  4,  6,  5,  7,
                                                    8, 10, 9, 11, 12, 14, 13, 15};
  const auto order = hn::Load(d8, kOrder);
  const auto widen = [&](const int8_t* digits) HWY_ATTR {
    return hn::PromoteTo(d16, hn::TableLookupBytes(hn::LoadU(d8, digits), order));
  };
  for (size_t q = 0; q < kQueries; ++q) {
    const int8_t* high = queries.high + (first + q) * queries.stride;
    const int8_t* low = queries.low + (first + q) * queries.stride;
    VI32 sum = hn::Zero(d32);
    for (size_t j = 0; j < padded_dim; j += 16) {
      const VI16 both = hn::Add(hn::ShiftLeft<7>(widen(high + j)), widen(low + j));
      sum.raw = _mm256_add_epi32(sum.raw, _mm256_madd_epi16(both.raw, _mm256_set1_epi16(1)));
      hn::StoreU(both, d16, wide + q * padded_dim + j);
    }
    start[q] = -kLevelOffset * hn::GetLane(hn::SumOfLanes(d32, sum));
  }
}

#endif  // HWY_AVX2

HWY_INLINE VF LoadScales(const RowScales& scales, size_t r) {
  const DF d;
  if (scales.f32 != nullptr) return hn::LoadU(d, scales.f32 + r);
  const hn::Rebind<hwy::float16_t, DF> dh;
  return hn::PromoteTo(d, hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(scales.f16 + r)));
}

// Integer sums to scores: (float(sum) · factor) · scale.
template <size_t kQueries>
HWY_INLINE void StoreScores(const VI32* sums, const RowScales& scales, size_t row,
                            const float* factors, float* scores, size_t score_stride) {
  const DF d;
  const VF scale = LoadScales(scales, row);
  for (size_t q = 0; q < kQueries; ++q) {
    const VF product = hn::Mul(hn::ConvertTo(d, sums[q]), hn::Set(d, factors[q]));
    hn::StoreU(hn::Mul(product, scale), d, scores + q * score_stride + row);
  }
}

template <int kBits, size_t kQueries, size_t kDigits>
HWY_NOINLINE void ScoreQueries(const ScorePlan& plan, const BlocksView& blocks,
                               const RowScales& scales, const QueryDigits& queries, size_t first,
                               float* scores, size_t score_stride) {
  using Decoder = LevelDecoder<kBits>;
  constexpr bool kWide = HWY_TARGET == HWY_AVX2 && kDigits == 2;
  constexpr size_t kRows = kWide ? kQueries : kQueries * kDigits;
  constexpr size_t kVectors = kRows <= 2 || kWide ? 2 : 1;
  const DI32 di;
  const size_t units = CeilDivide(CeilDivide(plan.dim, 4), Decoder::kUnitQuads);
  const size_t padded_dim = 4 * units * Decoder::kUnitQuads;
  const Decoder decoder(plan, kLevelOffset);
  const int8_t* rows[kRows];
  int32_t start[kRows];
#if HWY_TARGET == HWY_AVX2
  const size_t wide_stride = RoundUp(padded_dim, 16);
  Scratch<int16_t> wide(kWide ? kQueries * wide_stride : 0);
  if constexpr (kWide) WidenDigits<kQueries>(queries, first, wide_stride, wide.data(), start);
#endif
  if constexpr (!kWide) FindDigits<kQueries, kDigits>(queries, first, padded_dim, rows, start);
  const size_t block_bytes = KeyBlockBytes(plan.dim, kBits);
  for (size_t block = 0; block < blocks.count; ++block) {
    blocks.ahead.Prefetch(block * block_bytes, block_bytes / kLineBytes);
    for (size_t lane_vector = 0; lane_vector < kVectorsPerLine; lane_vector += kVectors) {
      const uint8_t* lines = blocks.blocks + block * block_bytes + lane_vector * kVectorBytes;
      VI32 sums[kVectors][kRows];
      for (size_t v = 0; v < kVectors; ++v) {
        for (size_t r = 0; r < kRows; ++r) sums[v][r] = hn::Set(di, start[r]);
      }
#if HWY_TARGET == HWY_AVX2
      if constexpr (kWide) {
        SumLanesWide<kBits, kQueries, kVectors>(decoder, lines, units, wide.data(), wide_stride,
                                                sums);
      } else {
        SumLanes<kBits, kRows, kVectors>(decoder, lines, units, rows, sums);
      }
#else
      SumLanes<kBits, kRows, kVectors>(decoder, lines, units, rows, sums);
#endif
      for (size_t v = 0; v < kVectors; ++v) {
        if constexpr (!kWide && kDigits == 2) {
          for (size_t q = 0; q < kQueries; ++q) {
            sums[v][q] = hn::Add(hn::ShiftLeft<7>(sums[v][q]), sums[v][kQueries + q]);
          }
        }
        StoreScores<kQueries>(sums[v], scales, block * kKeyBlockRows + (lane_vector + v) * kFloats,
                              queries.factors + first, scores + first * score_stride, score_stride);
      }
    }
  }
}

template <int kBits, size_t kDigits>
void ScoreFixed(const ScorePlan& plan, BlocksView blocks, const RowScales& scales,
                const QueryDigits& queries, float* scores, size_t score_stride) {
  constexpr size_t kMost = 8 / kDigits;
  size_t first = 0;
  const auto pass = [&]<size_t kQueries>() {
    ScoreQueries<kBits, kQueries, kDigits>(plan, blocks, scales, queries, first, scores,
                                           score_stride);
    blocks.ahead = {};  // once is enough
    return kQueries;
  };
  while (queries.queries - first >= kMost) first += pass.template operator()<kMost>();
  if (queries.queries - first >= 4) first += pass.template operator()<4>();
  if (queries.queries - first >= 2) first += pass.template operator()<2>();
  if (queries.queries - first >= 1) first += pass.template operator()<1>();
}

inline void ScoreKeys(const ScorePlan& plan, const BlocksView& blocks, const RowScales& scales,
                      const QueryDigits& queries, float* scores, size_t score_stride) {
  const auto fixed = [&]<int kBits>() HWY_ATTR {
    if (queries.low != nullptr) {
      ScoreFixed<kBits, 2>(plan, blocks, scales, queries, scores, score_stride);
    } else {
      ScoreFixed<kBits, 1>(plan, blocks, scales, queries, scores, score_stride);
    }
  };
  if (plan.int8_levels && plan.dim <= kMaxInt32Dim && WithByteLevels(plan.bits, fixed)) return;
  reference::ScoreKeys(plan, blocks, scales, queries, scores, score_stride);
}

}  // namespace turboquant::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // TURBOQUANT_SIMD_TARGET

#endif  // per-target include guard
