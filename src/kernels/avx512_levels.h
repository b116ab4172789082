// Levels of packed lines on AVX-512. Private to avx512.cc and amx.cc, which bring the instructions,
// their target and everything else this file names.
#ifndef TURBOQUANT_SRC_KERNELS_AVX512_LEVELS_H_
#define TURBOQUANT_SRC_KERNELS_AVX512_LEVELS_H_

namespace turboquant::kernels {
namespace {

// 0, 1, ..., 63.
TQ_INLINE __m512i ByteIndices() {
  const __m512i quads = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  return _mm512_add_epi8(_mm512_mullo_epi32(quads, _mm512_set1_epi32(0x04040404)),
                         _mm512_set1_epi32(0x03020100));
}

// A line, read once: g++ folds a load into every use of it, and loads are what one query waits for.
TQ_INLINE __m512i ReadLine(const uint8_t* line) {
  __m512i codes = _mm512_loadu_si512(line);
#ifndef TURBOQUANT_EMULATE_AVX512
  __asm__("" : "+v"(codes));
#endif
  return codes;
}

// Codes of one line unit to levels + offset. A byte permute looks at six index bits only, so tables
// repeated over the others need no mask: shifted-in neighbours do no harm.
template <int kBits>
struct LevelDecoder {
  static constexpr size_t kUnitQuads = kBits == 3 ? 8 : 8 / kBits;
  static constexpr size_t kUnitLines = kBits == 3 ? 3 : 1;

  // Table t is over index bits t·kBits and up; with 8 bits, what is added to a code.
  static constexpr int kTables = kBits == 8 || kBits == 4 ? 1 : kBits == 3 ? 2 : 3;
  __m512i table[kTables];

  TQ_INLINE LevelDecoder(const ScorePlan& plan, int offset) {
    if constexpr (kBits == 8) {
      table[0] = _mm512_set1_epi8(static_cast<char>(offset - 127));
    } else {
      const __m128i levels =
          _mm256_cvtsepi16_epi8(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(plan.levels)));
      const __m512i all =
          _mm512_broadcast_i32x4(_mm_add_epi8(levels, _mm_set1_epi8(static_cast<char>(offset))));
      const __m512i mask = _mm512_set1_epi8((1 << kBits) - 1);
      const __m512i index = ByteIndices();
      const __m512i shifted[3] = {index, _mm512_srli_epi16(index, kBits),
                                  _mm512_srli_epi16(index, 2 * kBits)};
#pragma GCC unroll 3
      for (int t = 0; t < kTables; ++t) {
        table[t] = _mm512_permutexvar_epi8(_mm512_and_si512(shifted[t], mask), all);
      }
    }
  }

  TQ_INLINE __m512i Look(__m512i codes, int t) const {
    return _mm512_permutexvar_epi8(codes, table[t]);
  }

  TQ_INLINE void operator()(const uint8_t* lines, __m512i* levels) const {
    const __m512i a = ReadLine(lines);
    if constexpr (kBits == 8) {  // uniform: level = code - 127
      levels[0] = _mm512_add_epi8(a, table[0]);
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

}  // namespace
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_AVX512_LEVELS_H_
