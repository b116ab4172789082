// Scores and weighted sums of exact rows, f32 or f16. Included once per target.
#if defined(TURBOQUANT_SRC_KERNELS_EXACT_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TURBOQUANT_SRC_KERNELS_EXACT_ROWS_INL_H_
#undef TURBOQUANT_SRC_KERNELS_EXACT_ROWS_INL_H_
#else
#define TURBOQUANT_SRC_KERNELS_EXACT_ROWS_INL_H_
#endif

#include <hwy/cache_control.h>

#include <algorithm>

#include "src/kernels/attention.h"
#include "src/kernels/line_layout.h"
#include "src/kernels/scratch.h"
#include "src/kernels/simd-inl.h"
#include "src/kernels/softmax-inl.h"

#if TURBOQUANT_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace turboquant::kernels::HWY_NAMESPACE {

// Elements [j, j + kFloats) of row t, zero from dim on. kWhole: dim is a multiple of 32.
template <ExactType kType, bool kWhole>
HWY_INLINE VF LoadExact(const ExactRows& rows, size_t t, size_t j) {
  const DF d;
  const size_t at = t * rows.stride + j;
  if (kWhole || HWY_LIKELY(j + kFloats <= rows.dim)) {
    if constexpr (kType == ExactType::kF32)
      return hn::LoadU(d, static_cast<const float*>(rows.rows) + at);
    return LoadF16(static_cast<const uint16_t*>(rows.rows) + at);
  }
  using Stored = std::conditional_t<kType == ExactType::kF32, float, uint16_t>;
  Stored last[kFloats] = {};
  for (size_t i = 0; j + i < rows.dim; ++i) last[i] = static_cast<const Stored*>(rows.rows)[at + i];
  if constexpr (kType == ExactType::kF32)
    return hn::LoadU(d, last);
  else
    return LoadF16(last);
}

template <bool kWhole>
HWY_INLINE VF LoadQuery(const float* query, size_t j, size_t dim) {
  return LoadExact<ExactType::kF32, kWhole>({query, ExactType::kF32, 0, dim}, 0, j);
}

template <ExactType kType, bool kWhole, size_t kQueries>
HWY_NOINLINE void ScoreExactQueries(const ExactRows& rows, size_t count,
                                    const QueryRows<const float>& queries, size_t first,
                                    const QueryRows<float>& scores) {
  const float* query = queries.data + first * queries.stride;
  for (size_t t = 0; t < count; ++t) {
    VF lanes[kQueries][kLaneVectors];
    for (size_t q = 0; q < kQueries; ++q) {
      for (VF& lane : lanes[q]) lane = hn::Zero(DF());
    }
    for (size_t j = 0; j < rows.dim; j += 16) {
      for (size_t v = 0; v < kLaneVectors; ++v) {
        const size_t at = j + v * kFloats;
        if (!kWhole && at >= rows.dim) break;
        const VF row = LoadExact<kType, kWhole>(rows, t, at);
        for (size_t q = 0; q < kQueries; ++q) {
          lanes[q][v] = hn::MulAdd(LoadQuery<kWhole>(query + q * queries.stride, at, rows.dim), row,
                                   lanes[q][v]);
        }
      }
    }
    for (size_t q = 0; q < kQueries; ++q)
      scores.data[(first + q) * scores.stride + t] = AddLanes(lanes[q]);
  }
}

template <ExactType kType>
HWY_INLINE void PrefetchExact(const ExactRows& rows, size_t t, size_t j) {
  constexpr size_t kBytes = kType == ExactType::kF32 ? 4 : 2;
  hwy::Prefetch(static_cast<const uint8_t*>(rows.rows) + (t * rows.stride + j) * kBytes);
}

// Tokens in groups that stay in L1 while the dims are gone through.
inline constexpr size_t kExactTokens = 64;

template <ExactType kType, bool kWhole, size_t kQueries>
HWY_NOINLINE void AccumulateExactQueries(const ExactRows& rows, size_t count,
                                         const QueryRows<const float>& weights, size_t first,
                                         const float* keep, const QueryRows<float>& sums) {
  constexpr size_t kVectors = kQueries >= 4 ? 2 : 4;
  const DF d;
  const size_t padded = RoundUp(rows.dim, kVectors * kFloats);
  Scratch<float> scratch(kQueries * padded);
  float* partial = scratch.data();
  std::fill_n(partial, kQueries * padded, 0.0f);
  for (size_t begin = 0; begin < count; begin += kExactTokens) {
    const size_t end = std::min(count, begin + kExactTokens);
    for (size_t j = 0; j < rows.dim; j += kVectors * kFloats) {
      VF total[kQueries][kVectors];
      for (size_t q = 0; q < kQueries; ++q) {
        for (size_t v = 0; v < kVectors; ++v)
          total[q][v] = hn::LoadU(d, partial + q * padded + j + v * kFloats);
      }
      for (size_t t = begin; t < end; ++t) {
        // The hardware does not foresee the next group in columns of 32 bytes.
        if (kWhole) PrefetchExact<kType>(rows, t + kExactTokens, j);
        VF row[kVectors];
        for (size_t v = 0; v < kVectors; ++v) {
          const size_t at = j + v * kFloats;
          row[v] = kWhole || at < rows.dim ? LoadExact<kType, kWhole>(rows, t, at) : hn::Zero(d);
        }
        for (size_t q = 0; q < kQueries; ++q) {
          const VF weight = hn::Set(d, weights.data[(first + q) * weights.stride + t]);
          for (size_t v = 0; v < kVectors; ++v)
            total[q][v] = hn::MulAdd(weight, row[v], total[q][v]);
        }
      }
      for (size_t q = 0; q < kQueries; ++q) {
        for (size_t v = 0; v < kVectors; ++v)
          hn::StoreU(total[q][v], d, partial + q * padded + j + v * kFloats);
      }
    }
  }
  for (size_t q = 0; q < kQueries; ++q) {
    float* row = sums.data + (first + q) * sums.stride;
    for (size_t j = 0; j < rows.dim; ++j)
      row[j] = row[j] * keep[first + q] + partial[q * padded + j];
  }
}

// Calls pass.operator()<type, whole, queries>(first) for all queries, four at a time.
template <class Pass>
HWY_INLINE void ForExactQueries(const ExactRows& rows, size_t query_count, const Pass& pass) {
  const auto all = [&]<ExactType kType, bool kWhole>() {
    size_t first = 0;
    for (; query_count - first >= 4; first += 4) pass.template operator()<kType, kWhole, 4>(first);
    for (; first < query_count; ++first) pass.template operator()<kType, kWhole, 1>(first);
  };
  const bool whole = rows.dim % 32 == 0;
  if (rows.type == ExactType::kF32) {
    return whole ? all.template operator()<ExactType::kF32, true>()
                 : all.template operator()<ExactType::kF32, false>();
  }
  return whole ? all.template operator()<ExactType::kF16, true>()
               : all.template operator()<ExactType::kF16, false>();
}

inline void ScoreExact(const ExactRows& rows, size_t count, const QueryRows<const float>& queries,
                       size_t query_count, const QueryRows<float>& scores) {
  ForExactQueries(rows, query_count,
                  [&]<ExactType kType, bool kWhole, size_t kQueries>(size_t first) {
                    ScoreExactQueries<kType, kWhole, kQueries>(rows, count, queries, first, scores);
                  });
}

inline void AccumulateExact(const ExactRows& rows, size_t count,
                            const QueryRows<const float>& weights, size_t query_count,
                            const float* keep, const QueryRows<float>& sums) {
  ForExactQueries(
      rows, query_count, [&]<ExactType kType, bool kWhole, size_t kQueries>(size_t first) {
        AccumulateExactQueries<kType, kWhole, kQueries>(rows, count, weights, first, keep, sums);
      });
}

}  // namespace turboquant::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // TURBOQUANT_SIMD_TARGET

#endif  // per-target include guard
