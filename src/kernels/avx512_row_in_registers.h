// Rotations of a row, or of rows side by side, that stay in registers, 16 coordinates a vector.
// Private to avx512.cc, which brings the instructions and their target, and everything else this
// file names.
#ifndef TURBOQUANT_SRC_KERNELS_AVX512_ROW_IN_REGISTERS_H_
#define TURBOQUANT_SRC_KERNELS_AVX512_ROW_IN_REGISTERS_H_

namespace turboquant::kernels {
namespace {

TQ_INLINE __m512 FlipSigns(__m512 x, __m512i masks) {
  return _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(x), masks));
}

TQ_INLINE __m512 Signs(__mmask16 minus) {
  return _mm512_mask_mov_ps(_mm512_set1_ps(1.0f), minus, _mm512_set1_ps(-1.0f));
}

// Strides 1, 2, 4, 8 inside one vector: swapped + x·(1 or, in the odd half, -1). The product is
// exact, so fused or not is the same.
TQ_INLINE __m512 ButterfliesInside(__m512 v) {
  v = _mm512_fmadd_ps(v, Signs(0xAAAA), _mm512_permute_ps(v, 0xB1));
  v = _mm512_fmadd_ps(v, Signs(0xCCCC), _mm512_permute_ps(v, 0x4E));
  v = _mm512_fmadd_ps(v, Signs(0xF0F0), _mm512_shuffle_f32x4(v, v, 0xB1));
  return _mm512_fmadd_ps(v, Signs(0xFF00), _mm512_shuffle_f32x4(v, v, 0x4E));
}

TQ_INLINE void Butterfly(__m512& a, __m512& b) {
  const __m512 sum = _mm512_add_ps(a, b);
  b = _mm512_sub_ps(a, b);
  a = sum;
}

// v[vector][row]; all strides of 16 · kCount coordinates.
template <size_t kCount, size_t kRows>
TQ_INLINE void ButterfliesOf(__m512 (*v)[kRows]) {
#pragma GCC unroll 16
  for (size_t i = 0; i < kCount; ++i) {
#pragma GCC unroll 2
    for (size_t r = 0; r < kRows; ++r) v[i][r] = ButterfliesInside(v[i][r]);
  }
#pragma GCC unroll 4
  for (size_t step = 1; step < kCount; step *= 2) {
#pragma GCC unroll 16
    for (size_t i = 0; i < kCount; ++i) {
      if (i & step) continue;
#pragma GCC unroll 2
      for (size_t r = 0; r < kRows; ++r) Butterfly(v[i][r], v[i + step][r]);
    }
  }
}

// The words of row r begin at masks[r] + first.
template <size_t kCount, size_t kRows>
TQ_INLINE void FlipVectors(const uint32_t* const (&masks)[kRows], size_t first,
                           __m512 (*v)[kRows]) {
#pragma GCC unroll 16
  for (size_t i = 0; i < kCount; ++i) {
#pragma GCC unroll 2
    for (size_t r = 0; r < kRows; ++r) {
      v[i][r] = FlipSigns(v[i][r], _mm512_loadu_si512(masks[r] + first + 16 * i));
    }
  }
}

template <size_t kCount, size_t kRows>
TQ_INLINE void MultiplyVectors(float factor, __m512 (*v)[kRows]) {
#pragma GCC unroll 16
  for (size_t i = 0; i < kCount; ++i) {
#pragma GCC unroll 2
    for (size_t r = 0; r < kRows; ++r) v[i][r] = _mm512_mul_ps(v[i][r], _mm512_set1_ps(factor));
  }
}

// Indices of a permute of two vectors: lanes of kFirst, kFirst + kStep, ... and from the middle on
// of kSecond, kSecond + kStep, ...; interleaved if kInterleaved.
template <int kFirst, int kSecond, int kStep, bool kInterleaved>
TQ_INLINE __m512i HalvesOf() {
  struct alignas(64) Lanes {
    int32_t lane[16];
  };
  static constexpr Lanes kOrder = [] {
    Lanes order = {};
    for (int i = 0; i < 8; ++i) {
      order.lane[kInterleaved ? 2 * i : i] = kFirst + kStep * i;
      order.lane[kInterleaved ? 2 * i + 1 : 8 + i] = kSecond + kStep * i;
    }
    return order;
  }();
  return _mm512_load_si512(kOrder.lane);
}

// Even coordinates first, then the odd ones. In halves of vectors: half h of the result is the even
// lanes of vector h, or the odd ones of vector h - kVectors.
template <size_t kVectors, size_t kRows>
TQ_INLINE void Riffle(__m512 (&v)[kVectors][kRows]) {
  const __m512i evens = HalvesOf<0, 16, 2, false>();
  const __m512i both = HalvesOf<0, 17, 2, false>();
  const __m512i odds = HalvesOf<1, 17, 2, false>();
#pragma GCC unroll 2
  for (size_t r = 0; r < kRows; ++r) {
    __m512 out[kVectors];
#pragma GCC unroll 16
    for (size_t i = 0; i < kVectors; ++i) {
      const size_t low = 2 * i;
      const size_t high = 2 * i + 1;
      const __m512i order = high < kVectors ? evens : low < kVectors ? both : odds;
      out[i] = _mm512_permutex2var_ps(v[low % kVectors][r], order, v[high % kVectors][r]);
    }
#pragma GCC unroll 16
    for (size_t i = 0; i < kVectors; ++i) v[i][r] = out[i];
  }
}

template <size_t kVectors, size_t kRows>
TQ_INLINE void Unriffle(__m512 (&v)[kVectors][kRows]) {
  const __m512i low_low = HalvesOf<0, 16, 1, true>();
  const __m512i low_high = HalvesOf<0, 24, 1, true>();
  const __m512i high_low = HalvesOf<8, 16, 1, true>();
  const __m512i high_high = HalvesOf<8, 24, 1, true>();
#pragma GCC unroll 2
  for (size_t r = 0; r < kRows; ++r) {
    __m512 out[kVectors];
#pragma GCC unroll 16
    for (size_t i = 0; i < kVectors; ++i) {
      const size_t even = i;  // halves that hold this vector's even and odd lanes
      const size_t odd = kVectors + i;
      const __m512i order = even % 2 == 0  ? (odd % 2 == 0 ? low_low : low_high)
                            : odd % 2 == 0 ? high_low
                                           : high_high;
      out[i] = _mm512_permutex2var_ps(v[even / 2][r], order, v[odd / 2][r]);
    }
#pragma GCC unroll 16
    for (size_t i = 0; i < kVectors; ++i) v[i][r] = out[i];
  }
}

template <size_t kVectors>
inline constexpr size_t kPowerOf = std::bit_floor(kVectors);

// See RotationPlan; 16 · kVectors coordinates. masks[r]: the sign masks of row r.
template <size_t kVectors, size_t kRows>
TQ_INLINE void RotateVectors(int rounds, const uint32_t* const (&masks)[kRows],
                             __m512 (&v)[kVectors][kRows]) {
  constexpr size_t kPower = kPowerOf<kVectors>;
  constexpr size_t kTail = kVectors - kPower;
  const float factor = static_cast<float>(1.0 / std::sqrt(16.0 * kPower));
  constexpr size_t kMasks = 16 * (kTail > 0 ? kVectors + kPower : kVectors);
  for (int round = 0; round < rounds; ++round) {
    const size_t first = static_cast<size_t>(round) * kMasks;
    FlipVectors<kVectors>(masks, first, v);
    ButterfliesOf<kPower>(v);
    if constexpr (kTail > 0) {
      MultiplyVectors<kPower>(factor, v);
      FlipVectors<kPower>(masks, first + 16 * kVectors, v + kTail);
      ButterfliesOf<kPower>(v + kTail);
      MultiplyVectors<kPower>(factor, v + kTail);
      Riffle(v);
    }
  }
}

template <size_t kVectors>
TQ_INLINE void RotateVectorsBack(const RotationPlan& plan, __m512 (&v)[kVectors][1]) {
  constexpr size_t kPower = kPowerOf<kVectors>;
  constexpr size_t kTail = kVectors - kPower;
  const float factor = static_cast<float>(1.0 / std::sqrt(16.0 * kPower));
  constexpr size_t kMasks = 16 * (kTail > 0 ? kVectors + kPower : kVectors);
  for (int round = plan.rounds - 1; round >= 0; --round) {
    const uint32_t* const masks[1] = {plan.sign_masks + static_cast<size_t>(round) * kMasks};
    if constexpr (kTail > 0) {
      Unriffle(v);
      ButterfliesOf<kPower>(v + kTail);
      MultiplyVectors<kPower>(factor, v + kTail);
      FlipVectors<kPower>(masks, 16 * kVectors, v + kTail);
    }
    ButterfliesOf<kPower>(v);
    if constexpr (kTail > 0) MultiplyVectors<kPower>(factor, v);
    FlipVectors<kVectors>(masks, 0, v);
  }
}

template <size_t kVectors, bool kBack>
void RotateRow(const RotationPlan& plan, float* row) {
  __m512 v[kVectors][1];
#pragma GCC unroll 16
  for (size_t i = 0; i < kVectors; ++i) v[i][0] = _mm512_loadu_ps(row + 16 * i);
  if constexpr (kBack) {
    RotateVectorsBack(plan, v);
  } else {
    RotateVectors(plan.rounds, {plan.sign_masks}, v);
  }
#pragma GCC unroll 16
  for (size_t i = 0; i < kVectors; ++i) _mm512_storeu_ps(row + 16 * i, v[i][0]);
}

// Rows that fit the registers and that models have, whose dim is no power of two; false for others.
template <bool kBack>
bool RotatedInRegisters(const RotationPlan& plan, float* row) {
  switch (plan.dim) {
    case 48:
      RotateRow<3, kBack>(plan, row);
      return true;
    case 80:
      RotateRow<5, kBack>(plan, row);
      return true;
    case 96:
      RotateRow<6, kBack>(plan, row);
      return true;
    case 112:
      RotateRow<7, kBack>(plan, row);
      return true;
    case 160:
      RotateRow<10, kBack>(plan, row);
      return true;
    case 192:
      RotateRow<12, kBack>(plan, row);
      return true;
    default:
      return false;
  }
}

}  // namespace
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_AVX512_ROW_IN_REGISTERS_H_
