// The attention kernels on AVX-512. Private to avx512.cc, which brings the instructions and their
// target, and everything else this file names.
#ifndef TURBOQUANT_SRC_KERNELS_AVX512_ATTENTION_H_
#define TURBOQUANT_SRC_KERNELS_AVX512_ATTENTION_H_

namespace turboquant::kernels {
namespace {

TQ_INLINE __mmask16 FloatsBelow(size_t count) {
  return count >= 16 ? static_cast<__mmask16>(0xFFFF) : static_cast<__mmask16>((1u << count) - 1);
}

// As Exp2 of attention-inl.h.
TQ_INLINE __m512 Exp2(__m512 x) {
  const __m512 lowest = _mm512_set1_ps(kExp2Lowest);
  const __m512 magic = _mm512_set1_ps(12582912.0f);
  const __m512 held = Larger(x, lowest);
  const __m512 shifted = _mm512_add_ps(held, magic);
  const __m512 part = _mm512_sub_ps(held, _mm512_sub_ps(shifted, magic));
  __m512 p = _mm512_set1_ps(kExp2Coefficients[6]);
#pragma GCC unroll 6
  for (int i = 5; i >= 0; --i) p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(kExp2Coefficients[i]));
  const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
  const __m512i power = _mm512_add_epi32(_mm512_castps_si512(p), exponent);
  return _mm512_castsi512_ps(
      _mm512_maskz_mov_epi32(_mm512_cmp_ps_mask(x, lowest, _CMP_GE_OQ), power));
}

TQ_INLINE float Exp2(float x) { return FirstLane(Exp2(_mm512_set1_ps(x))); }

// i with i + 8, + 4, + 2, + 1.
TQ_INLINE float AddLanes(__m512 lanes) {
  __m512 sum = _mm512_add_ps(lanes, _mm512_shuffle_f32x4(lanes, lanes, 0x4E));
  sum = _mm512_add_ps(sum, _mm512_shuffle_f32x4(sum, sum, 0xB1));
  sum = _mm512_add_ps(sum, _mm512_permute_ps(sum, 0x4E));
  return FirstLane(_mm512_add_ps(sum, _mm512_permute_ps(sum, 0xB1)));
}

// Lanes of a vector that starts at token t and lie in [begin, end).
TQ_INLINE __mmask16 Seen(size_t t, size_t begin, size_t end) {
  if (t >= begin && t + 16 <= end) return static_cast<__mmask16>(0xFFFF);
  const __mmask16 below_end = FloatsBelow(end - t);
  return t >= begin ? below_end : static_cast<__mmask16>(below_end & ~FloatsBelow(begin - t));
}

float Softmax(float* scores, size_t begin, size_t end, float offset, SoftmaxState& state) {
  const size_t first = begin / 16 * 16;
  const __m512 nothing = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  __m512 largest = nothing;
  for (size_t t = first; t < end; t += 16) {
    const __m512 score = _mm512_loadu_ps(scores + t);
    largest = Larger(largest, _mm512_mask_mov_ps(nothing, Seen(t, begin, end), score));
  }
  const float old_max = state.max;
  state.max = std::max(old_max, LargestLane(largest) + offset);  // rounding keeps order
  const __m512 max = _mm512_set1_ps(state.max);
  const __m512 offsets = _mm512_set1_ps(offset);
  __m512 lanes = _mm512_setzero_ps();
  std::fill(scores, scores + first, 0.0f);
  for (size_t t = first; t < end; t += 16) {
    const __m512 score = _mm512_add_ps(_mm512_loadu_ps(scores + t), offsets);
    const __m512 weight = _mm512_maskz_mov_ps(Seen(t, begin, end), Exp2(_mm512_sub_ps(score, max)));
    lanes = _mm512_add_ps(lanes, weight);
    _mm512_storeu_ps(scores + t, weight);
  }
  const float keep = Exp2(old_max - state.max);
  state.sum = state.sum * keep + AddLanes(lanes);
  return keep;
}

TQ_INLINE __m512 ScaledWeights(const float* weights, const uint16_t* scales) {
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales));
  return _mm512_mul_ps(_mm512_loadu_ps(weights), _mm512_cvtph_ps(halves));
}

float MakeWeightDigits(const float* weights, const uint16_t* scales, size_t count, uint8_t* high,
                       uint8_t* low) {
  __m512 largest = _mm512_setzero_ps();
  for (size_t t = 0; t < count; t += 16)
    largest = Larger(largest, ScaledWeights(weights + t, scales + t));
  const float most = low == nullptr ? kOneWeightDigitMax : kTwoWeightDigitsMax;
  const float max = LargestLane(largest);
  const __m512 inverse = _mm512_set1_ps(max < kLeastWeight ? 0.0f : most / max);
  for (size_t t = 0; t < count; t += 16) {
    const __m512i digit =
        _mm512_cvtps_epi32(_mm512_mul_ps(ScaledWeights(weights + t, scales + t), inverse));
    const __m512i upper = low == nullptr ? digit : _mm512_srli_epi32(digit, 7);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(high + t), _mm512_cvtepi32_epi8(upper));
    if (low == nullptr) continue;
    const __m512i lower = _mm512_and_si512(digit, _mm512_set1_epi32(127));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(low + t), _mm512_cvtepi32_epi8(lower));
  }
  return max < kLeastWeight ? 0.0f : max / most;
}

// Sums of kGroups groups of 16 dims side by side, so that a broadcast weight serves them all.
template <int kBits, size_t kQueries, size_t kDigits, size_t kGroups>
TQ_INLINE void AccumulateGroups(const LevelDecoder<kBits>& decoder, const BlocksView& blocks,
                                size_t first_byte, size_t block_bytes, const uint8_t* const* digits,
                                const float* keep, const float* gain, size_t dims, float* sums,
                                size_t stride) {
  using Decoder = LevelDecoder<kBits>;
  constexpr size_t kRows = kQueries * kDigits;
  constexpr size_t kUnits = 16 / Decoder::kUnitQuads;
  __m512i totals[kGroups][kRows];
#pragma GCC unroll 8
  for (size_t g = 0; g < kGroups; ++g) {
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) totals[g][r] = _mm512_setzero_si512();
  }
  for (size_t block = 0; block < blocks.count; ++block) {
    for (size_t unit = 0; unit < kUnits; ++unit) {
      __m512i levels[kGroups][Decoder::kUnitQuads];
#pragma GCC unroll 8
      for (size_t g = 0; g < kGroups; ++g) {
        const size_t at = first_byte + block * block_bytes + g * ValueGroupBytes(kBits) +
                          unit * Decoder::kUnitLines * kLineBytes;
        blocks.ahead.Prefetch(at, Decoder::kUnitLines);
        decoder(blocks.blocks + at, levels[g]);
      }
#pragma GCC unroll 8
      for (size_t quad = 0; quad < Decoder::kUnitQuads; ++quad) {
#pragma GCC unroll 8
        for (size_t r = 0; r < kRows; ++r) {
          const size_t at = block * kValueBlockRows + 4 * (unit * Decoder::kUnitQuads + quad);
          const __m512i digit = BroadcastQuad(reinterpret_cast<const int8_t*>(digits[r] + at));
#pragma GCC unroll 4
          for (size_t g = 0; g < kGroups; ++g)
            totals[g][r] = _mm512_dpbusd_epi32(totals[g][r], digit, levels[g][quad]);
        }
      }
    }
  }
#pragma GCC unroll 8
  for (size_t g = 0; g < kGroups; ++g) {
    const __mmask16 mask = FloatsBelow(dims - 16 * g);
#pragma GCC unroll 8
    for (size_t q = 0; q < kQueries; ++q) {
      __m512i total = totals[g][q];
      if constexpr (kDigits == 2)
        total = _mm512_add_epi32(_mm512_slli_epi32(total, 7), totals[g][kQueries + q]);
      float* row = sums + q * stride + 16 * g;
      const __m512 added = _mm512_mul_ps(_mm512_cvtepi32_ps(total), _mm512_set1_ps(gain[q]));
      const __m512 kept = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, row), _mm512_set1_ps(keep[q]));
      _mm512_mask_storeu_ps(row, mask, _mm512_add_ps(kept, added));
    }
  }
}

template <int kBits, size_t kQueries, size_t kDigits>
void AccumulateQueries(const ScorePlan& plan, const BlocksView& blocks, const WeightDigits& weights,
                       size_t first, const float* keep, const float* gain, float* sums,
                       size_t stride) {
  const LevelDecoder<kBits> decoder(plan, 0);
  const uint8_t* digits[kQueries * kDigits];
  for (size_t r = 0; r < kQueries * kDigits; ++r) {
    digits[r] = (r < kQueries ? weights.high : weights.low) + (first + r % kQueries) * kBlockTokens;
  }
  const size_t block_bytes = ValueBlockBytes(plan.dim, kBits);
  size_t j = 0;
  for (; j + 16 < plan.dim; j += 32) {
    AccumulateGroups<kBits, kQueries, kDigits, 2>(
        decoder, blocks, j / kLanes * ValueGroupBytes(kBits), block_bytes, digits, keep + first,
        gain + first, plan.dim - j, sums + first * stride + j, stride);
  }
  if (j < plan.dim) {
    AccumulateGroups<kBits, kQueries, kDigits, 1>(
        decoder, blocks, j / kLanes * ValueGroupBytes(kBits), block_bytes, digits, keep + first,
        gain + first, plan.dim - j, sums + first * stride + j, stride);
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

void AccumulateValues(const ScorePlan& plan, const BlocksView& blocks, const WeightDigits& weights,
                      size_t queries, const float* keep, const float* gain,
                      const QueryRows<float>& sums) {
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

void Merge(SoftmaxState& into, float* into_sums, const SoftmaxState& from, const float* from_sums,
           size_t count) {
  if (from.max == -std::numeric_limits<float>::infinity()) return;
  const float max = std::max(into.max, from.max);
  const float keep = Exp2(into.max - max);
  const float add = Exp2(from.max - max);
  into.max = max;
  into.sum = into.sum * keep + from.sum * add;
  for (size_t j = 0; j < count; j += 16) {
    const __mmask16 mask = FloatsBelow(count - j);
    const __m512 kept =
        _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, into_sums + j), _mm512_set1_ps(keep));
    const __m512 added =
        _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, from_sums + j), _mm512_set1_ps(add));
    _mm512_mask_storeu_ps(into_sums + j, mask, _mm512_add_ps(kept, added));
  }
}

// R^T row. Only half pairing is worth vectors; models with interleaved pairs are rare.
void TurnBack(const FramePlan& plan, const float* row, float* out) {
  const size_t pairs = plan.rotary_dim / 2;
  for (size_t i = 0; !plan.interleaved && i < pairs; i += 16) {
    const __mmask16 mask = FloatsBelow(pairs - i);
    const __m512 x = _mm512_maskz_loadu_ps(mask, row + i);
    const __m512 y = _mm512_maskz_loadu_ps(mask, row + pairs + i);
    const __m512 cosine = _mm512_maskz_loadu_ps(mask, plan.cosines + i);
    const __m512 sine = _mm512_maskz_loadu_ps(mask, plan.sines + i);
    _mm512_mask_storeu_ps(out + i, mask,
                          _mm512_add_ps(_mm512_mul_ps(x, cosine), _mm512_mul_ps(y, sine)));
    _mm512_mask_storeu_ps(out + pairs + i, mask,
                          _mm512_sub_ps(_mm512_mul_ps(y, cosine), _mm512_mul_ps(x, sine)));
  }
  for (size_t i = 0; plan.interleaved && i < pairs; ++i) {
    const float x = row[2 * i];
    const float y = row[2 * i + 1];
    out[2 * i] = x * plan.cosines[i] + y * plan.sines[i];
    out[2 * i + 1] = y * plan.cosines[i] - x * plan.sines[i];
  }
  if (out != row) std::copy(row + plan.rotary_dim, row + plan.dim, out + plan.rotary_dim);
}

void FrameKey(const FramePlan& plan, const float* key, float* out) {
  TurnBack(plan, key, out);
  for (size_t j = 0; j < plan.dim; j += 16) {
    const __mmask16 mask = FloatsBelow(plan.dim - j);
    __m512 x = _mm512_maskz_loadu_ps(mask, out + j);
    if (plan.center != nullptr) x = _mm512_sub_ps(x, _mm512_maskz_loadu_ps(mask, plan.center + j));
    if (plan.scale != nullptr) x = _mm512_mul_ps(x, _mm512_maskz_loadu_ps(mask, plan.scale + j));
    _mm512_mask_storeu_ps(out + j, mask, x);
  }
}

float FrameQuery(const FramePlan& plan, const float* query, float* out) {
  TurnBack(plan, query, out);
  __m512 offset = _mm512_setzero_ps();
  for (size_t j = 0; j < plan.dim; j += 16) {
    const __mmask16 mask = FloatsBelow(plan.dim - j);
    const __m512 x = _mm512_maskz_loadu_ps(mask, out + j);
    if (plan.center != nullptr)
      offset = _mm512_fmadd_ps(x, _mm512_maskz_loadu_ps(mask, plan.center + j), offset);
    if (plan.scale != nullptr) {
      _mm512_mask_storeu_ps(out + j, mask,
                            _mm512_mul_ps(x, _mm512_maskz_loadu_ps(mask, plan.scale + j)));
    }
  }
  return plan.center == nullptr ? 0.0f : AddLanes(offset);
}

constexpr AttentionKernels kAttention = {
    .softmax = Softmax,
    .weight_digits = MakeWeightDigits,
    .accumulate_values = AccumulateValues,
    .score_exact = ScoreExact,
    .accumulate_exact = AccumulateExact,
    .merge = Merge,
    .frame_key = FrameKey,
    .frame_query = FrameQuery,
};

}  // namespace
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_AVX512_ATTENTION_H_
