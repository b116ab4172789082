// Codes of rows from registers into their lanes on AVX-512, for the narrow codes of short rows.
// Private to avx512_short_rows.h.
//
// Codes lie as _mm512_packs_epi32 leaves 32 coordinates of two vectors: in each quarter of a vector
// of words four coordinates of the first, then four of the second. Packed to bytes, a quarter holds
// one quad of four vectors.
#ifndef TURBOQUANT_SRC_KERNELS_AVX512_PACK_CODES_H_
#define TURBOQUANT_SRC_KERNELS_AVX512_PACK_CODES_H_

namespace turboquant::kernels {
namespace {

// 16-coordinate vectors to vectors of 32 words, the last half empty where their number is odd.
template <size_t kVectors>
inline constexpr size_t kPairsOf = (kVectors + 1) / 2;

template <size_t kVectors>
using Words = __m512i[kPairsOf<kVectors>];

// Zero behind the last coordinate.
template <size_t kVectors>
TQ_INLINE __m512i Inside(size_t pair, __m512i words) {
  return 2 * pair + 1 < kVectors ? words : _mm512_maskz_mov_epi16(0x0F0F0F0F, words);
}

// The 32-bit lane, in two vectors of bytes, of one of their 32 quads.
constexpr int32_t LaneOfQuad(int quad) { return quad / 16 * 16 + quad % 4 * 4 + quad % 16 / 4; }

// Quads kFirst, kFirst + kStep, ..., each shifted left.
template <int kFirst, int kStep, int kShift>
TQ_INLINE __m512i Quads(__m512i a, __m512i b) {
  struct alignas(64) Lanes {
    int32_t lane[16];
  };
  static constexpr Lanes kPlaces = [] {
    Lanes places = {};
    for (int i = 0; i < 16; ++i) places.lane[i] = LaneOfQuad((kFirst + kStep * i) % 32);
    return places;
  }();
  const __m512i quads = _mm512_permutex2var_epi32(a, _mm512_load_si512(kPlaces.lane), b);
  return kShift == 0 ? quads : _mm512_slli_epi16(quads, kShift);
}

TQ_INLINE __m512i Or(__m512i a, __m512i b) { return _mm512_or_si512(a, b); }
TQ_INLINE __m512i Or3(__m512i a, __m512i b, __m512i c) {
  return _mm512_ternarylogic_epi32(a, b, c, 0xFE);
}

// Word w of the result is the row's share of line w; see line_layout.h.
template <int kBits>
TQ_INLINE __m512i KeyWords(__m512i a, __m512i b) {
  if constexpr (kBits == 4) {
    return Or(Quads<0, 2, 0>(a, b), Quads<1, 2, 4>(a, b));
  } else if constexpr (kBits == 2) {
    const __m512i low = Or3(Quads<0, 4, 0>(a, b), Quads<1, 4, 2>(a, b), Quads<2, 4, 4>(a, b));
    return Or(low, Quads<3, 4, 6>(a, b));
  } else {
    static_assert(kBits == 1);
    const __m512i low = Or3(Quads<0, 8, 0>(a, b), Quads<1, 8, 1>(a, b), Quads<2, 8, 2>(a, b));
    const __m512i middle = Or3(Quads<3, 8, 3>(a, b), Quads<4, 8, 4>(a, b), Quads<5, 8, 5>(a, b));
    return Or(Or3(low, middle, Quads<6, 8, 6>(a, b)), Quads<7, 8, 7>(a, b));
  }
}

// Bits `mask` of b added to a.
TQ_INLINE __m512i OrMasked(__m512i a, __m512i b, __m512i mask) {
  return _mm512_ternarylogic_epi32(a, b, mask, 0xF8);
}

// With 3 bits line 3t + s of triple t holds quads 8t + 2s and 8t + 2s + 1, and above them: the low
// two bits of quad 8t + 6 (s = 0) or 8t + 7 (s = 1), the third bit of both (s = 2).
template <>
TQ_INLINE __m512i KeyWords<3>(__m512i a, __m512i b) {
  struct alignas(64) Lanes {
    int32_t even[16], odd[16], sixth[16], seventh[16], shift[16], mask[16];
  };
  static constexpr Lanes kLines = [] {
    Lanes lines = {};
    for (int i = 0; i < 12; ++i) {
      const int first = i / 3 * 8;
      const int s = i % 3;
      lines.even[i] = LaneOfQuad(first + 2 * s);
      lines.odd[i] = LaneOfQuad(first + 2 * s + 1);
      lines.sixth[i] = LaneOfQuad(first + (s == 1 ? 7 : 6));
      lines.seventh[i] = LaneOfQuad(first + 7);
      lines.shift[i] = s == 2 ? 4 : 6;
      lines.mask[i] = s == 2 ? 0x40404040 : static_cast<int32_t>(0xC0C0C0C0);
    }
    return lines;
  }();
  const auto quads = [&](const int32_t* places) {
    return _mm512_permutex2var_epi32(a, _mm512_load_si512(places), b);
  };
  const __m512i two = _mm512_or_si512(quads(kLines.even), _mm512_slli_epi16(quads(kLines.odd), 3));
  const __m512i above = _mm512_sllv_epi32(quads(kLines.sixth), _mm512_load_si512(kLines.shift));
  const __m512i last = _mm512_maskz_mov_epi32(
      0x924, _mm512_slli_epi32(quads(kLines.seventh), 5));  // in lines 2, 5, 8, 11
  return OrMasked(OrMasked(two, above, _mm512_load_si512(kLines.mask)), last,
                  _mm512_set1_epi32(static_cast<int>(0x80808080)));
}

TQ_INLINE void StoreLines(__m512i words, size_t count, uint8_t* lane) {
  alignas(64) uint8_t bytes[64];
  _mm512_store_si512(bytes, words);
  for (size_t i = 0; i < count; ++i) std::memcpy(lane + i * kLineBytes, bytes + 4 * i, 4);
}

// Of two rows in lanes side by side: words `first` and `second` of line i become one of 64 bits.
TQ_INLINE void StoreLines(__m512i first, __m512i second, size_t count, uint8_t* lane) {
  const __m512i low = _mm512_unpacklo_epi32(first, second);  // lines 0, 1, 4, 5, 8, 9, 12, 13
  const __m512i high = _mm512_unpackhi_epi32(first, second);
  const auto four = [&](size_t line, __m128i two, __m128i next_two) {
    const auto store = [&](size_t i, __m128i pair) {
      if (line + i < count) {
        _mm_storel_epi64(reinterpret_cast<__m128i*>(lane + (line + i) * kLineBytes), pair);
      }
      if (line + i + 1 < count) {
        _mm_storeh_pd(reinterpret_cast<double*>(lane + (line + i + 1) * kLineBytes),
                      _mm_castsi128_pd(pair));
      }
    };
    store(0, two);
    store(2, next_two);
  };
  four(0, _mm512_castsi512_si128(low), _mm512_castsi512_si128(high));
  four(4, _mm512_extracti32x4_epi32(low, 1), _mm512_extracti32x4_epi32(high, 1));
  four(8, _mm512_extracti32x4_epi32(low, 2), _mm512_extracti32x4_epi32(high, 2));
  four(12, _mm512_extracti32x4_epi32(low, 3), _mm512_extracti32x4_epi32(high, 3));
}

template <size_t kVectors, int kBits>
TQ_INLINE __m512i KeyWordsAt(const Words<kVectors>& codes, size_t first_vector) {
  const auto bytes = [&](size_t vector) {
    const size_t pair = vector / 2;
    const __m512i zero = _mm512_setzero_si512();
    return _mm512_packus_epi16(pair < kPairsOf<kVectors> ? codes[pair] : zero,
                               pair + 1 < kPairsOf<kVectors> ? codes[pair + 1] : zero);
  };
  return KeyWords<kBits>(bytes(first_vector), bytes(first_vector + 4));
}

// Into one lane, or with two rows into this one and the next, which is then even.
template <size_t kVectors, int kBits, size_t kRows>
TQ_INLINE void PackKeyCodes(const Words<kVectors>* codes, uint8_t* blocks, size_t lane) {
  constexpr size_t kBlockBytes = KeyBlockBytes(16 * kVectors, kBits);
  uint8_t* at = blocks + lane / kKeyBlockRows * kBlockBytes + 4 * (lane % kKeyBlockRows);
#pragma GCC unroll 2
  for (size_t v = 0; v < kVectors; v += 8, at += kLineBytes * CodeLines(kBits, 32)) {
    const size_t lines = CodeLines(kBits, 4 * std::min<size_t>(8, kVectors - v));
    if constexpr (kRows == 1) {
      StoreLines(KeyWordsAt<kVectors, kBits>(codes[0], v), lines, at);
    } else {
      StoreLines(KeyWordsAt<kVectors, kBits>(codes[0], v), KeyWordsAt<kVectors, kBits>(codes[1], v),
                 lines, at);
    }
  }
}

// As PackKeyCodes. Rows of a quad of lanes share words: a second row lies one byte higher.
template <size_t kVectors, int kBits, size_t kRows>
TQ_INLINE void PackValueCodes(const Words<kVectors>* codes, uint8_t* blocks, size_t lane) {
  const ValuePieces pieces = PiecesOfValueRow(kBits, lane % kValueBlockRows);
  uint8_t* group = blocks + lane / kValueBlockRows * ValueBlockBytes(16 * kVectors, kBits);
  const auto merge = [&](uint8_t* line, __m512i words) {
    _mm512_storeu_si512(line, _mm512_or_si512(_mm512_loadu_si512(line), words));
  };
#pragma GCC unroll 16
  for (size_t v = 0; v < kVectors; ++v, group += ValueGroupBytes(kBits)) {
    const __m512i zero = _mm512_setzero_si512();
    __m512i both = codes[0][v / 2];
    if constexpr (kRows == 2) both = _mm512_or_si512(both, _mm512_slli_epi16(codes[1][v / 2], 8));
    const __m512i words =
        v % 2 == 0 ? _mm512_unpacklo_epi16(both, zero) : _mm512_unpackhi_epi16(both, zero);
    if (pieces.count == 1) {  // the whole code
      merge(group + pieces.piece[0].offset,
            _mm512_sll_epi32(words, _mm_cvtsi32_si128(pieces.piece[0].left)));
      continue;
    }
    for (size_t p = 0; p < pieces.count; ++p) {
      const ValuePiece& piece = pieces.piece[p];
      const __m512i mask = _mm512_set1_epi32(static_cast<int>(piece.mask * 0x101));
      const __m512i part =
          _mm512_and_si512(_mm512_srl_epi32(words, _mm_cvtsi32_si128(piece.right)), mask);
      merge(group + piece.offset, _mm512_sll_epi32(part, _mm_cvtsi32_si128(piece.left)));
    }
  }
}

}  // namespace
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_AVX512_PACK_CODES_H_
