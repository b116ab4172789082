// The attention kernels for AVX2 and NEON; included once per target.
#if defined(TURBOQUANT_SRC_KERNELS_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TURBOQUANT_SRC_KERNELS_ATTENTION_INL_H_
#undef TURBOQUANT_SRC_KERNELS_ATTENTION_INL_H_
#else
#define TURBOQUANT_SRC_KERNELS_ATTENTION_INL_H_
#endif

#include <hwy/cache_control.h>

#include <algorithm>
#include <limits>

#include "src/kernels/attention.h"
#include "src/kernels/kernels.h"
#include "src/kernels/line_layout.h"
#include "src/kernels/score-inl.h"
#include "src/kernels/scratch.h"
#include "src/kernels/simd-inl.h"

#if TURBOQUANT_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace turboquant::kernels::HWY_NAMESPACE {

inline constexpr size_t kLaneVectors = 16 / kFloats;  // of the 16 accumulators of a float sum

// 14 operations. Adding 1.5 · 2^23 rounds to an integer, whose low bits are those of the sum.
HWY_INLINE VF Exp2(VF x) {
  const DF d;
  const VF lowest = hn::Set(d, kExp2Lowest);
  const VF magic = hn::Set(d, 12582912.0f);
  const VF shifted = hn::Add(hn::Max(x, lowest), magic);
  const VF part = hn::Sub(hn::Max(x, lowest), hn::Sub(shifted, magic));
  VF p = hn::Set(d, kExp2Coefficients[6]);
  for (int i = 5; i >= 0; --i) p = hn::MulAdd(p, part, hn::Set(d, kExp2Coefficients[i]));
  const VI32 exponent = hn::ShiftLeft<23>(hn::BitCast(DI32(), shifted));
  const VF power = hn::BitCast(d, hn::Add(hn::BitCast(DI32(), p), exponent));
  return hn::IfThenElseZero(hn::Ge(x, lowest), power);
}

HWY_INLINE float Exp2(float x) { return hn::GetLane(Exp2(hn::Set(DF(), x))); }

// 16 accumulators: i with i + 8, + 4, + 2, + 1.
HWY_INLINE float AddLanes(const VF* lanes) {
  const hn::FixedTag<float, 4> d4;
#if HWY_TARGET == HWY_AVX2
  const VF eight = hn::Add(lanes[0], lanes[1]);
  const auto four = hn::Add(hn::LowerHalf(d4, eight), hn::UpperHalf(d4, eight));
#else
  const auto four = hn::Add(hn::Add(lanes[0], lanes[2]), hn::Add(lanes[1], lanes[3]));
#endif
  const auto two = hn::Add(four, hn::Shuffle1032(four));
  return hn::GetLane(hn::Add(two, hn::Shuffle2301(two)));
}

// Lanes [begin - t, end - t) of a vector that starts at token t.
HWY_INLINE hn::Mask<DF> Seen(size_t t, size_t begin, size_t end) {
  const DF d;
  const DI32 di;
  const VI32 token = hn::Iota(di, static_cast<int32_t>(t));
  const auto below_end = hn::Lt(token, hn::Set(di, static_cast<int32_t>(end)));
  const auto below_begin = hn::Lt(token, hn::Set(di, static_cast<int32_t>(begin)));
  return hn::RebindMask(d, hn::AndNot(below_begin, below_end));
}

inline float Softmax(float* scores, size_t begin, size_t end, float offset, SoftmaxState& state) {
  const DF d;
  const size_t stop = RoundUp(end, 16);
  const size_t first = begin / kFloats * kFloats;
  VF largest = hn::Set(d, -std::numeric_limits<float>::infinity());
  for (size_t t = first; t < end; t += kFloats) {
    VF score = hn::LoadU(d, scores + t);
    if (HWY_UNLIKELY(t < begin || t + kFloats > end))
      score = hn::IfThenElse(Seen(t, begin, end), score, largest);
    largest = hn::Max(largest, score);
  }
  const float old_max = state.max;
  // Rounding keeps order: the largest score plus the offset is the largest of the sums.
  state.max = std::max(old_max, hn::GetLane(hn::MaxOfLanes(d, largest)) + offset);
  const VF max = hn::Set(d, state.max);
  const VF offsets = hn::Set(d, offset);
  VF lanes[kLaneVectors];
  for (VF& lane : lanes) lane = hn::Zero(d);
  std::fill(scores, scores + begin / 16 * 16, 0.0f);
  for (size_t t = begin / 16 * 16; t < stop; t += 16) {
    for (size_t v = 0; v < kLaneVectors; ++v) {
      const size_t at = t + v * kFloats;
      VF weight = Exp2(hn::Sub(hn::Add(hn::LoadU(d, scores + at), offsets), max));
      if (HWY_UNLIKELY(at < begin || at + kFloats > end))
        weight = hn::IfThenElseZero(Seen(at, begin, end), weight);
      lanes[v] = hn::Add(lanes[v], weight);
      hn::StoreU(weight, d, scores + at);
    }
  }
  const float keep = Exp2(old_max - state.max);
  state.sum = state.sum * keep + AddLanes(lanes);
  return keep;
}

HWY_INLINE VF LoadF16(const uint16_t* numbers) {
  const hn::Rebind<hwy::float16_t, DF> dh;
  return hn::PromoteTo(DF(), hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(numbers)));
}

inline float MakeWeightDigits(const float* weights, const uint16_t* scales, size_t count,
                              uint8_t* high, uint8_t* low) {
  const DF d;
  const hn::Repartition<uint32_t, DF> du;
  const hn::Rebind<uint8_t, DF> d8;
  VF largest = hn::Zero(d);
  for (size_t t = 0; t < count; t += kFloats)
    largest = hn::Max(largest, hn::Mul(hn::LoadU(d, weights + t), LoadF16(scales + t)));
  const float most = low == nullptr ? kOneWeightDigitMax : kTwoWeightDigitsMax;
  const float max = hn::GetLane(hn::MaxOfLanes(d, largest));
  const VF inverse = hn::Set(d, max < kLeastWeight ? 0.0f : most / max);
  for (size_t t = 0; t < count; t += kFloats) {
    const VF p = hn::Mul(hn::LoadU(d, weights + t), LoadF16(scales + t));
    const auto digit = hn::BitCast(du, hn::NearestInt(hn::Mul(p, inverse)));
    if (low == nullptr) {
      hn::StoreU(hn::U8FromU32(digit), d8, high + t);
      continue;
    }
    hn::StoreU(hn::U8FromU32(hn::ShiftRight<7>(digit)), d8, high + t);
    hn::StoreU(hn::U8FromU32(hn::And(digit, hn::Set(du, 127u))), d8, low + t);
  }
  return max < kLeastWeight ? 0.0f : max / most;
}

// Sums of one vector of dims over all tokens to a row of sums.
template <size_t kQueries>
HWY_INLINE void StoreSums(const VI32* totals, const float* keep, const float* gain, size_t dims,
                          float* sums, size_t stride) {
  const DF d;
  for (size_t q = 0; q < kQueries; ++q) {
    float* row = sums + q * stride;
    const VF added = hn::Mul(hn::ConvertTo(d, totals[q]), hn::Set(d, gain[q]));
    if (HWY_LIKELY(dims >= kFloats)) {
      hn::StoreU(hn::Add(hn::Mul(hn::LoadU(d, row), hn::Set(d, keep[q])), added), d, row);
      continue;
    }
    alignas(64) float last[kFloats];
    hn::Store(added, d, last);
    for (size_t j = 0; j < dims; ++j) row[j] = row[j] * keep[q] + last[j];
  }
}

template <int kBits, size_t kQueries, size_t kDigits>
HWY_NOINLINE void AccumulateQueries(const ScorePlan& plan, const BlocksView& blocks,
                                    const WeightDigits& weights, size_t first, const float* keep,
                                    const float* gain, float* sums, size_t stride) {
  using Decoder = LevelDecoder<kBits>;
  constexpr bool kWide = HWY_TARGET == HWY_AVX2 && kDigits == 2;
  constexpr size_t kRows = kWide ? kQueries : kQueries * kDigits;
  constexpr size_t kVectors = kRows <= 4 ? 2 : 1;
  constexpr size_t kUnits = 16 / Decoder::kUnitQuads;
  const DI32 di;
  const size_t tokens = kValueBlockRows * blocks.count;
  const Decoder decoder(plan, 0);
  const uint8_t* low = weights.low == nullptr ? nullptr : weights.low + first * kBlockTokens;
  const QueryDigits as_queries = {
      reinterpret_cast<const int8_t*>(weights.high + first * kBlockTokens),
      reinterpret_cast<const int8_t*>(low), kBlockTokens, kQueries, nullptr};
#if HWY_TARGET == HWY_AVX2
  alignas(64) int16_t wide[kWide ? kQueries * kBlockTokens : 1];
  if constexpr (kWide) WidenDigits<kQueries>(as_queries, 0, tokens, wide);
#endif
  for (size_t j = 0; j < plan.dim; j += kVectors * kFloats) {
    const uint8_t* lines = blocks.blocks + j / kLanes * ValueGroupBytes(kBits) + 4 * (j % kLanes);
    VI32 totals[kVectors][kRows];
    for (auto& vector : totals) {
      for (VI32& total : vector) total = hn::Zero(di);
    }
    for (size_t block = 0; block < blocks.count;
         ++block, lines += ValueBlockBytes(plan.dim, kBits)) {
      if (j % kLanes == 0) {
        constexpr size_t kLines = ValueGroupBytes(kBits) / kLineBytes;
        blocks.ahead.Prefetch(static_cast<size_t>(lines - blocks.blocks), kLines);
      }
#if HWY_TARGET == HWY_AVX2
      if constexpr (kWide) {
        SumLanesWide<kBits, kQueries, kVectors>(decoder, lines, kUnits,
                                                wide + block * kValueBlockRows, tokens, totals);
        continue;
      }
#endif
      if constexpr (!kWide) {
        const int8_t* rows[kRows];
        for (size_t r = 0; r < kRows; ++r) {
          const int8_t* digits = r < kQueries ? as_queries.high : as_queries.low;
          rows[r] = digits + r % kQueries * kBlockTokens + block * kValueBlockRows;
        }
        SumLanes<kBits, kRows, kVectors, Unsigned::kDigits>(decoder, lines, kUnits, rows, totals);
      }
    }
    for (size_t v = 0; v < kVectors && j + v * kFloats < plan.dim; ++v) {
      if constexpr (!kWide && kDigits == 2) {
        for (size_t q = 0; q < kQueries; ++q)
          totals[v][q] = hn::Add(hn::ShiftLeft<7>(totals[v][q]), totals[v][kQueries + q]);
      }
      const size_t at = j + v * kFloats;
      StoreSums<kQueries>(totals[v], keep + first, gain + first, plan.dim - at,
                          sums + first * stride + at, stride);
    }
  }
}

template <int kBits, size_t kDigits>
void AccumulateFixed(const ScorePlan& plan, BlocksView blocks, const WeightDigits& weights,
                     size_t queries, const float* keep, const float* gain,
                     const QueryRows<float>& sums) {
  constexpr size_t kMost = 8 / kDigits;
  size_t first = 0;
  const auto pass = [&]<size_t kQueries>() {
    AccumulateQueries<kBits, kQueries, kDigits>(plan, blocks, weights, first, keep, gain, sums.data,
                                                sums.stride);
    blocks.ahead = {};  // once is enough
    return kQueries;
  };
  while (queries - first >= kMost) first += pass.template operator()<kMost>();
  if (queries - first >= 4) first += pass.template operator()<4>();
  if (queries - first >= 2) first += pass.template operator()<2>();
  if (queries - first >= 1) first += pass.template operator()<1>();
}

inline void AccumulateValues(const ScorePlan& plan, const BlocksView& blocks,
                             const WeightDigits& weights, size_t queries, const float* keep,
                             const float* gain, const QueryRows<float>& sums) {
  const auto fixed = [&]<int kBits>() {
    const auto accumulate =
        weights.low != nullptr ? AccumulateFixed<kBits, 2> : AccumulateFixed<kBits, 1>;
    accumulate(plan, blocks, weights, queries, keep, gain, sums);
  };
  if (plan.int8_levels) {
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
  reference::kAttention.accumulate_values(plan, blocks, weights, queries, keep, gain, sums);
}

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

inline void Merge(SoftmaxState& into, float* into_sums, const SoftmaxState& from,
                  const float* from_sums, size_t count) {
  if (from.max == -std::numeric_limits<float>::infinity()) return;
  const DF d;
  const float max = std::max(into.max, from.max);
  const float keep = Exp2(into.max - max);
  const float add = Exp2(from.max - max);
  into.max = max;
  into.sum = into.sum * keep + from.sum * add;
  size_t j = 0;
  for (; j + kFloats <= count; j += kFloats) {
    const VF kept = hn::Mul(hn::LoadU(d, into_sums + j), hn::Set(d, keep));
    const VF added = hn::Mul(hn::LoadU(d, from_sums + j), hn::Set(d, add));
    hn::StoreU(hn::Add(kept, added), d, into_sums + j);
  }
  for (; j < count; ++j) into_sums[j] = into_sums[j] * keep + from_sums[j] * add;
}

// R^T row. Only half pairing is worth vectors; models with interleaved pairs are rare.
inline void TurnBack(const FramePlan& plan, const float* row, float* out) {
  const DF d;
  const size_t pairs = plan.rotary_dim / 2;
  size_t i = 0;
  for (; !plan.interleaved && i + kFloats <= pairs; i += kFloats) {
    const VF x = hn::LoadU(d, row + i);
    const VF y = hn::LoadU(d, row + pairs + i);
    const VF cosine = hn::LoadU(d, plan.cosines + i);
    const VF sine = hn::LoadU(d, plan.sines + i);
    hn::StoreU(hn::Add(hn::Mul(x, cosine), hn::Mul(y, sine)), d, out + i);
    hn::StoreU(hn::Sub(hn::Mul(y, cosine), hn::Mul(x, sine)), d, out + pairs + i);
  }
  for (; i < pairs; ++i) {
    const size_t first = plan.interleaved ? 2 * i : i;
    const size_t second = plan.interleaved ? 2 * i + 1 : i + pairs;
    const float x = row[first];
    const float y = row[second];
    out[first] = x * plan.cosines[i] + y * plan.sines[i];
    out[second] = y * plan.cosines[i] - x * plan.sines[i];
  }
  if (out != row) std::copy(row + plan.rotary_dim, row + plan.dim, out + plan.rotary_dim);
}

inline void FrameKey(const FramePlan& plan, const float* key, float* out) {
  const DF d;
  TurnBack(plan, key, out);
  size_t j = 0;
  for (; j + kFloats <= plan.dim; j += kFloats) {
    VF x = hn::LoadU(d, out + j);
    if (plan.center != nullptr) x = hn::Sub(x, hn::LoadU(d, plan.center + j));
    if (plan.scale != nullptr) x = hn::Mul(x, hn::LoadU(d, plan.scale + j));
    hn::StoreU(x, d, out + j);
  }
  for (; j < plan.dim; ++j) {
    if (plan.center != nullptr) out[j] -= plan.center[j];
    if (plan.scale != nullptr) out[j] *= plan.scale[j];
  }
}

inline float FrameQuery(const FramePlan& plan, const float* query, float* out) {
  const DF d;
  TurnBack(plan, query, out);
  float offset = 0.0f;
  if (plan.center != nullptr) {
    VF lanes[kLaneVectors];
    for (VF& lane : lanes) lane = hn::Zero(d);
    for (size_t j = 0; j < plan.dim; j += kFloats) {
      VF& lane = lanes[j / kFloats % kLaneVectors];
      lane = hn::MulAdd(LoadQuery<false>(out, j, plan.dim),
                        LoadQuery<false>(plan.center, j, plan.dim), lane);
    }
    offset = AddLanes(lanes);
  }
  if (plan.scale == nullptr) return offset;
  size_t j = 0;
  for (; j + kFloats <= plan.dim; j += kFloats)
    hn::StoreU(hn::Mul(hn::LoadU(d, out + j), hn::LoadU(d, plan.scale + j)), d, out + j);
  for (; j < plan.dim; ++j) out[j] *= plan.scale[j];
  return offset;
}

inline constexpr AttentionKernels kAttention = {
    .softmax = Softmax,
    .weight_digits = MakeWeightDigits,
    .accumulate_values = AccumulateValues,
    .score_exact = ScoreExact,
    .accumulate_exact = AccumulateExact,
    .merge = Merge,
    .frame_key = FrameKey,
    .frame_query = FrameQuery,
};

}  // namespace turboquant::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // TURBOQUANT_SIMD_TARGET

#endif  // per-target include guard
