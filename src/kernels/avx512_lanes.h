// Masks of lanes, scales of 16 rows and byte products on AVX-512. Private to avx512.cc and amx.cc,
// as avx512_levels.h.
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

// To each lane of sums: its four unsigned bytes times its four signed ones. In assembly, because
// g++ 12 moves the sums of a loop to other registers and back around the intrinsic.
TQ_INLINE void AddByteProducts(__m512i& sums, __m512i unsigned_bytes, __m512i signed_bytes) {
#ifdef TURBOQUANT_EMULATE_AVX512
  sums = _mm512_dpbusd_epi32(sums, unsigned_bytes, signed_bytes);
#else
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(unsigned_bytes), "v"(signed_bytes));
#endif
}

}  // namespace
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_AVX512_LANES_H_
