// Nearest codes of codebooks of up to 256 levels on AVX-512: those of 5 to 8 bits, and smaller ones
// without cells. Private to avx512.cc, which brings the instructions and their target, and
// everything else this file names.
//
// The code of z is found bit by bit, z > threshold[code so far + half of what is left], for 32
// coordinates at once. No bit needs more than a few permutes: the thresholds that bit b may meet
// are every 2^b-th, so all of them above bit 0 are as many as those of bit 0.
#ifndef TURBOQUANT_SRC_KERNELS_AVX512_WIDE_CODES_H_
#define TURBOQUANT_SRC_KERNELS_AVX512_WIDE_CODES_H_

namespace turboquant::kernels {
namespace {

TQ_INLINE __mmask32 LanesBelow(size_t count) {
  return count >= 32 ? ~__mmask32{0} : static_cast<__mmask32>((uint32_t{1} << count) - 1);
}

// kFirst, kFirst + kStep, ..., 32 of them.
template <int kFirst, int kStep>
TQ_INLINE __m512i WordsFrom() {
  struct alignas(64) Words {
    int16_t word[32];
  };
  static constexpr Words kWords = [] {
    Words words = {};
    for (int i = 0; i < 32; ++i) words.word[i] = static_cast<int16_t>(kFirst + kStep * i);
    return words;
  }();
  return _mm512_load_si512(kWords.word);
}

// Thresholds of one candidate by the bit that meets them. The upper five bits need every
// 2^(kBits - 5)-th, which one vector holds; it is kept rotated so that the code so far, low bits
// zero, is the index as it stands.
template <int kBits>
struct CodeTree {
  static_assert(kBits >= 5 && kBits <= 8);
  static constexpr int kLower = kBits - 5;  // bits below the upper five

  __m512i half;         // of the first bit, in all lanes
  __m512i quarters[2];  // of the second, below and above
  __m512i upper[3];     // of the third, fourth and fifth
  __m512i sixth;        // 32 of them
  __m512i seventh[2];   // 64
  __m512i eighth[4];    // 128

  TQ_INLINE CodeTree(const EncodePlan& plan, int candidate) {
    const __m512i evens = WordsFrom<0, 2>();
    const __m512i odds = WordsFrom<1, 2>();
    const __m512i by_three = WordsFrom<3, 1>();
    const __m512i by_one = WordsFrom<1, 1>();
    __m512i t[1 << kLower];
#pragma GCC unroll 8
    for (int i = 0; i < 1 << kLower; ++i) {
      t[i] = _mm512_loadu_si512(plan.thresholds + candidate * 256 + 32 * i);
    }
    // Those of the last bit are at even places; at odd ones the others, in order.
    const auto split = [&](int pairs, __m512i* even) {
#pragma GCC unroll 4
      for (int i = 0; i < pairs; ++i) {
        even[i] = _mm512_permutex2var_epi16(t[2 * i], evens, t[2 * i + 1]);
        t[i] = _mm512_permutex2var_epi16(t[2 * i], odds, t[2 * i + 1]);
      }
    };
    if constexpr (kLower > 2) split(4, eighth);
    if constexpr (kLower > 1) split(2, seventh);
    if constexpr (kLower > 0) split(1, &sixth);
    half = _mm512_permutexvar_epi16(_mm512_set1_epi16(15), t[0]);
    quarters[0] = _mm512_permutexvar_epi16(_mm512_set1_epi16(7), t[0]);
    quarters[1] = _mm512_permutexvar_epi16(_mm512_set1_epi16(23), t[0]);
    upper[0] = _mm512_permutexvar_epi16(by_three, t[0]);
    upper[1] = _mm512_permutexvar_epi16(by_one, t[0]);
    upper[2] = t[0];
  }
};

// Codes of 32 grid values, and their first two bits as masks: they choose among vectors of a table.
struct WideCodes {
  __m512i code;
  __mmask32 first;
  __mmask32 second;
};

template <int kBits>
TQ_INLINE WideCodes FindCodes(const CodeTree<kBits>& tree, __m512i z) {
  const __m512i one = _mm512_set1_epi16(1);
  WideCodes found;
  found.first = _mm512_cmpgt_epi16_mask(z, tree.half);
  found.second = _mm512_cmpgt_epi16_mask(
      z, _mm512_mask_blend_epi16(found.first, tree.quarters[0], tree.quarters[1]));
  __m512i code = _mm512_maskz_mov_epi16(found.first, _mm512_set1_epi16(16));
  code = _mm512_mask_add_epi16(code, found.second, code, _mm512_set1_epi16(8));
#pragma GCC unroll 3
  for (int i = 0; i < 3; ++i) {
    const __mmask32 above =
        _mm512_cmpgt_epi16_mask(z, _mm512_permutexvar_epi16(code, tree.upper[i]));
    code =
        _mm512_mask_add_epi16(code, above, code, _mm512_set1_epi16(static_cast<int16_t>(4 >> i)));
  }
  const auto append = [&](__m512i threshold) {
    const __mmask32 above = _mm512_cmpgt_epi16_mask(z, threshold);
    const __m512i doubled = _mm512_add_epi16(code, code);
    code = _mm512_mask_add_epi16(doubled, above, doubled, one);
  };
  if constexpr (kBits > 5) append(_mm512_permutexvar_epi16(code, tree.sixth));
  if constexpr (kBits > 6)
    append(_mm512_permutex2var_epi16(tree.seventh[0], code, tree.seventh[1]));
  if constexpr (kBits > 7) {
    append(_mm512_mask_blend_epi16(
        found.first, _mm512_permutex2var_epi16(tree.eighth[0], code, tree.eighth[1]),
        _mm512_permutex2var_epi16(tree.eighth[2], code, tree.eighth[3])));
  }
  found.code = code;
  return found;
}

// A permute looks at the low five or six bits of a code.
template <int kBits>
struct WideLevels {
  __m512i level[1 << (kBits - 5)];

  TQ_INLINE explicit WideLevels(const EncodePlan& plan) {
#pragma GCC unroll 8
    for (int i = 0; i < 1 << (kBits - 5); ++i) {
      level[i] = _mm512_loadu_si512(plan.levels + 32 * i);
    }
  }

  TQ_INLINE __m512i operator()(const WideCodes& codes) const {
    const auto pair = [&](int i) {
      return _mm512_permutex2var_epi16(level[2 * i], codes.code, level[2 * i + 1]);
    };
    if constexpr (kBits == 5) {
      return _mm512_permutexvar_epi16(codes.code, level[0]);
    } else if constexpr (kBits == 6) {
      return pair(0);
    } else if constexpr (kBits == 7) {
      return _mm512_mask_blend_epi16(codes.first, pair(0), pair(1));
    } else {
      return _mm512_mask_blend_epi16(codes.first,
                                     _mm512_mask_blend_epi16(codes.second, pair(0), pair(1)),
                                     _mm512_mask_blend_epi16(codes.second, pair(2), pair(3)));
    }
  }
};

// Lanes of int32 as eight of int64 with the same sum.
TQ_INLINE __m512i Widen(__m512i sums) {
  return _mm512_add_epi64(_mm512_cvtepi32_epi64(_mm512_castsi512_si256(sums)),
                          _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(sums, 1)));
}

// Sums of one candidate, and its codes if kStore. grid: whole vectors; codes: RoundUp(dim, 32)
// bytes, which get zeros behind dim.
template <int kBits, bool kStore>
TQ_INLINE RowSums WideCandidate(const CodeTree<kBits>& tree, const WideLevels<kBits>& levels,
                                size_t dim, const int16_t* grid, uint8_t* codes) {
  __m512i grid_level = _mm512_setzero_si512();
  __m512i level_level = _mm512_setzero_si512();
  // Levels are within kMaxLevel = 2^13, so that int32 holds four sums of two products: 8 · 32767 ·
  // 2^13 < 2^31.
  constexpr size_t kInt32Sums = 4 * 32;
  for (size_t first = 0; first < dim; first += kInt32Sums) {
    __m512i products = _mm512_setzero_si512();
    __m512i squares = _mm512_setzero_si512();
#pragma GCC unroll 4
    for (size_t j = first; j < first + kInt32Sums; j += 32) {
      if (j >= dim) break;
      const __m512i z = _mm512_loadu_si512(grid + j);
      const WideCodes found = FindCodes(tree, z);
      const __mmask32 inside = LanesBelow(dim - j);
      const __m512i level = _mm512_maskz_mov_epi16(inside, levels(found));
      products = _mm512_dpwssd_epi32(products, z, level);
      squares = _mm512_dpwssd_epi32(squares, level, level);
      if constexpr (kStore) {
        const __m512i kept = _mm512_maskz_mov_epi16(inside, found.code);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + j), _mm512_cvtepi16_epi8(kept));
      }
    }
    grid_level = _mm512_add_epi64(grid_level, Widen(products));
    level_level = _mm512_add_epi64(level_level, Widen(squares));
  }
  const __m512i both = _mm512_add_epi64(_mm512_unpacklo_epi64(grid_level, level_level),
                                        _mm512_unpackhi_epi64(grid_level, level_level));
  const __m256i four =
      _mm256_add_epi64(_mm512_castsi512_si256(both), _mm512_extracti64x4_epi64(both, 1));
  alignas(16) int64_t sums[2];
  _mm_store_si128(reinterpret_cast<__m128i*>(sums),
                  _mm_add_epi64(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1)));
  return {sums[0], sums[1]};
}

// What rows of one call share: the tables of the levels, and the first candidate's.
template <int kBits>
struct WideBook {
  WideLevels<kBits> levels;
  CodeTree<kBits> first;

  TQ_INLINE explicit WideBook(const EncodePlan& plan) : levels(plan), first(plan, 0) {}
};

// The winning candidate's codes and sums; see reference::SearchCodes. One function for all dims:
// one for each would be 180 KB of code more and 5 % faster at best.
template <int kBits>
RowSums WideSearch(const EncodePlan& plan, const WideBook<kBits>& book, size_t dim,
                   const int16_t* grid, uint8_t* codes) {
  if (plan.candidates == 1) {
    return WideCandidate<kBits, true>(book.first, book.levels, dim, grid, codes);
  }
  int best = 0;
  double best_cosine = -1.0;
  for (int k = 0; k < plan.candidates; ++k) {
    const CodeTree<kBits> tree(plan, k);
    const double cosine =
        SquaredCosine(WideCandidate<kBits, false>(tree, book.levels, dim, grid, codes));
    // The first of the largest; which one it is cannot be predicted, so no branch may hang on it.
    best = cosine > best_cosine ? k : best;
    best_cosine = std::max(best_cosine, cosine);
  }
  const CodeTree<kBits> tree(plan, best);
  return WideCandidate<kBits, true>(tree, book.levels, dim, grid, codes);
}

// A row of any dim and width; codebooks below 5 bits are 5-bit ones with thresholds out of reach.
RowSums WideRowCodes(const EncodePlan& plan, const int16_t* grid, uint8_t* codes) {
  return WithBits(plan.bits, [&]<int kBits>() {
    constexpr int kWide = kBits < 5 ? 5 : kBits;
    return WideSearch<kWide>(plan, WideBook<kWide>(plan), plan.rotation.dim, grid, codes);
  });
}

}  // namespace
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_AVX512_WIDE_CODES_H_
