// Masks of lanes and scales of 16 rows on AVX-512. Private to avx512.cc and amx.cc, as
// avx512_levels.h.
#ifndef TURBOQUANT_SRC_KERNELS_AVX512_LANES_H_
#define TURBOQUANT_SRC_KERNELS_AVX512_LANES_H_

namespace turboquant::kernels {
namespace {

TQ_INLINE __mmask16 FloatsBelow(size_t count) {
  return count >= 16 ? static_cast<__mmask16>(0xFFFF) : static_cast<__mmask16>((1u << count) - 1);
}

TQ_INLINE __m512 LoadScales(const RowScales& scales, size_t r) {
  if (scales.f32 != nullptr) return _mm512_loadu_ps(scales.f32 + r);
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales.f16 + r)));
}

}  // namespace
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_AVX512_LANES_H_
