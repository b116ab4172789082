// Scores and weighted sums of exact rows, f32 or f16, on AVX-512. Private to avx512.cc,
// which brings the instructions, their target and everything else this file names.
#ifndef TURBOQUANT_SRC_KERNELS_AVX512_EXACT_ROWS_H_
#define TURBOQUANT_SRC_KERNELS_AVX512_EXACT_ROWS_H_

namespace turboquant::kernels {
namespace {

// Elements [j, j + 16) of row t under the mask, zero elsewhere.
template <ExactType kType>
TQ_INLINE __m512 LoadExact(const ExactRows& rows, size_t t, size_t j, __mmask16 mask) {
  const size_t at = t * rows.stride + j;
  if constexpr (kType == ExactType::kF32)
    return _mm512_maskz_loadu_ps(mask, static_cast<const float*>(rows.rows) + at);
  else
    return _mm512_cvtph_ps(
        _mm256_maskz_loadu_epi16(mask, static_cast<const uint16_t*>(rows.rows) + at));
}

// The hardware does not foresee columns of rows, nor the next page of memory.
constexpr size_t kExactAhead = 16;

template <ExactType kType>
TQ_INLINE void PrefetchExact(const ExactRows& rows, size_t t, size_t j) {
  constexpr size_t kBytes = kType == ExactType::kF32 ? 4 : 2;
  if (j * kBytes % kLineBytes != 0) return;
  __builtin_prefetch(static_cast<const uint8_t*>(rows.rows) + (t * rows.stride + j) * kBytes);
}

// kTokens rows at a time: more sums in flight, and a query is loaded once for all of them.
template <ExactType kType, size_t kQueries, size_t kTokens>
TQ_INLINE void ScoreExactTokens(const ExactRows& rows, size_t t, const float* query,
                                size_t query_stride, float* scores, size_t score_stride) {
  __m512 lanes[kTokens][kQueries];
  for (size_t i = 0; i < kTokens; ++i) {
#pragma GCC unroll 8
    for (size_t q = 0; q < kQueries; ++q) lanes[i][q] = _mm512_setzero_ps();
  }
  for (size_t j = 0; j < rows.dim; j += 16) {
    const __mmask16 mask = FloatsBelow(rows.dim - j);
    __m512 row[kTokens];
    for (size_t i = 0; i < kTokens; ++i) {
      PrefetchExact<kType>(rows, t + i + kExactAhead, j);
      row[i] = LoadExact<kType>(rows, t + i, j, mask);
    }
#pragma GCC unroll 8
    for (size_t q = 0; q < kQueries; ++q) {
      const __m512 x = _mm512_maskz_loadu_ps(mask, query + q * query_stride + j);
      for (size_t i = 0; i < kTokens; ++i) lanes[i][q] = _mm512_fmadd_ps(x, row[i], lanes[i][q]);
    }
  }
  if constexpr (kTokens * kQueries == 16) {
    alignas(64) float sums[kTokens][kQueries];
    _mm512_store_ps(sums[0], AddLanesOf16(lanes[0]));
    for (size_t q = 0; q < kQueries; ++q) {
      for (size_t i = 0; i < kTokens; ++i) scores[q * score_stride + t + i] = sums[i][q];
    }
    return;
  }
  for (size_t i = 0; i < kTokens; ++i) {
#pragma GCC unroll 8
    for (size_t q = 0; q < kQueries; ++q) scores[q * score_stride + t + i] = AddLanes(lanes[i][q]);
  }
}

template <ExactType kType, size_t kQueries>
void ScoreExactQueries(const ExactRows& rows, size_t count, const float* query, size_t query_stride,
                       float* scores, size_t score_stride) {
  size_t t = 0;
  for (; t + 4 <= count; t += 4) {
    ScoreExactTokens<kType, kQueries, 4>(rows, t, query, query_stride, scores, score_stride);
  }
  for (; t < count; ++t) {
    ScoreExactTokens<kType, kQueries, 1>(rows, t, query, query_stride, scores, score_stride);
  }
}

template <ExactType kType, size_t kQueries>
void AccumulateExactQueries(const ExactRows& rows, size_t count, const float* weights,
                            size_t weight_stride, const float* keep, float* sums, size_t stride) {
  constexpr size_t kVectors = 4;  // 64 dims: whole lines of f16 rows
  for (size_t j = 0; j < rows.dim; j += 16 * kVectors) {
    __mmask16 mask[kVectors];
    for (size_t v = 0; v < kVectors; ++v)
      mask[v] = j + 16 * v < rows.dim ? FloatsBelow(rows.dim - j - 16 * v) : __mmask16{0};
    __m512 total[kQueries][kVectors];
#pragma GCC unroll 8
    for (size_t q = 0; q < kQueries; ++q) {
      for (size_t v = 0; v < kVectors; ++v) total[q][v] = _mm512_setzero_ps();
    }
    for (size_t t = 0; t < count; ++t) {
      __m512 row[kVectors];
      for (size_t v = 0; v < kVectors; ++v) {
        PrefetchExact<kType>(rows, t + kExactAhead, j + 16 * v);
        row[v] =
            mask[v] == 0 ? _mm512_setzero_ps() : LoadExact<kType>(rows, t, j + 16 * v, mask[v]);
      }
#pragma GCC unroll 8
      for (size_t q = 0; q < kQueries; ++q) {
        const __m512 weight = _mm512_set1_ps(weights[q * weight_stride + t]);
        for (size_t v = 0; v < kVectors; ++v)
          total[q][v] = _mm512_fmadd_ps(weight, row[v], total[q][v]);
      }
    }
#pragma GCC unroll 8
    for (size_t q = 0; q < kQueries; ++q) {
      for (size_t v = 0; v < kVectors && mask[v] != 0; ++v) {
        float* row = sums + q * stride + j + 16 * v;
        const __m512 kept =
            _mm512_mul_ps(_mm512_maskz_loadu_ps(mask[v], row), _mm512_set1_ps(keep[q]));
        _mm512_mask_storeu_ps(row, mask[v], _mm512_add_ps(kept, total[q][v]));
      }
    }
  }
}

// Calls pass.operator()<type, queries>(first) for all queries, four at a time.
template <class Pass>
TQ_INLINE void ForExactQueries(const ExactRows& rows, size_t query_count, const Pass& pass) {
  const auto all = [&]<ExactType kType>() {
    size_t first = 0;
    for (; query_count - first >= 4; first += 4) pass.template operator()<kType, 4>(first);
    for (; first < query_count; ++first) pass.template operator()<kType, 1>(first);
  };
  if (rows.type == ExactType::kF32) return all.template operator()<ExactType::kF32>();
  all.template operator()<ExactType::kF16>();
}

void ScoreExact(const ExactRows& rows, size_t count, const QueryRows<const float>& queries,
                size_t query_count, const QueryRows<float>& scores) {
  ForExactQueries(rows, query_count, [&]<ExactType kType, size_t kQueries>(size_t first) {
    ScoreExactQueries<kType, kQueries>(rows, count, queries.data + first * queries.stride,
                                       queries.stride, scores.data + first * scores.stride,
                                       scores.stride);
  });
}

void AccumulateExact(const ExactRows& rows, size_t count, const QueryRows<const float>& weights,
                     size_t query_count, const float* keep, const QueryRows<float>& sums) {
  ForExactQueries(rows, query_count, [&]<ExactType kType, size_t kQueries>(size_t first) {
    AccumulateExactQueries<kType, kQueries>(rows, count, weights.data + first * weights.stride,
                                            weights.stride, keep + first,
                                            sums.data + first * sums.stride, sums.stride);
  });
}

}  // namespace
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_AVX512_EXACT_ROWS_H_
