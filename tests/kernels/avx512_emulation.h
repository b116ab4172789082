// The AVX-512 instructions that src/kernels/avx512.cc uses, on any CPU: SIMDe where it has them,
// and plain loops written from the instruction set reference for those it lacks (0.7.4).
#ifndef TURBOQUANT_TESTS_KERNELS_AVX512_EMULATION_H_
#define TURBOQUANT_TESTS_KERNELS_AVX512_EMULATION_H_

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#ifdef __clang__
#define SIMDE_NO_NATIVE  // its names for bfloat16 vectors clash with clang 19's
#endif
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx2.h>
#include <simde/x86/avx512.h>
#pragma GCC diagnostic pop

#include <cmath>
#include <cstdint>
#include <cstring>

#include "src/base/half.h"

namespace turboquant::emulation {

template <class To, class From>
To Cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

template <class T, size_t kCount>
struct Lanes {
  T lane[kCount];
};

using F32x16 = Lanes<float, 16>;
using I32x16 = Lanes<int32_t, 16>;
using I16x32 = Lanes<int16_t, 32>;

inline simde__m512i CvtpsEpi32(simde__m512 v) {
  const auto in = Cast<F32x16>(v);
  I32x16 out;
  for (int i = 0; i < 16; ++i) out.lane[i] = static_cast<int32_t>(std::nearbyint(in.lane[i]));
  return Cast<simde__m512i>(out);
}

inline simde__m512 Cvtepi32Ps(simde__m512i v) {
  const auto in = Cast<I32x16>(v);
  F32x16 out;
  for (int i = 0; i < 16; ++i) out.lane[i] = static_cast<float>(in.lane[i]);
  return Cast<simde__m512>(out);
}

inline simde__m512d CvtpsPd(simde__m256 v) {
  const auto in = Cast<Lanes<float, 8>>(v);
  Lanes<double, 8> out;
  for (int i = 0; i < 8; ++i) out.lane[i] = in.lane[i];
  return Cast<simde__m512d>(out);
}

inline simde__m512 CvtphPs(simde__m256i v) {
  const auto in = Cast<Lanes<uint16_t, 16>>(v);
  F32x16 out;
  for (int i = 0; i < 16; ++i) out.lane[i] = F16ToF32({in.lane[i]});
  return Cast<simde__m512>(out);
}

inline simde__m512i Cvtepu8Epi32(simde__m128i v) {
  const auto in = Cast<Lanes<uint8_t, 16>>(v);
  I32x16 out;
  for (int i = 0; i < 16; ++i) out.lane[i] = in.lane[i];
  return Cast<simde__m512i>(out);
}

inline simde__m512i Cvtepi16Epi32(simde__m256i v) {
  const auto in = Cast<Lanes<int16_t, 16>>(v);
  I32x16 out;
  for (int i = 0; i < 16; ++i) out.lane[i] = in.lane[i];
  return Cast<simde__m512i>(out);
}

inline simde__m512i Cvtepi32Epi64(simde__m256i v) {
  const auto in = Cast<Lanes<int32_t, 8>>(v);
  Lanes<int64_t, 8> out;
  for (int i = 0; i < 8; ++i) out.lane[i] = in.lane[i];
  return Cast<simde__m512i>(out);
}

inline simde__m128i Cvtepi32Epi8(simde__m512i v) {
  const auto in = Cast<I32x16>(v);
  Lanes<uint8_t, 16> out;
  for (int i = 0; i < 16; ++i) out.lane[i] = static_cast<uint8_t>(in.lane[i]);
  return Cast<simde__m128i>(out);
}

inline simde__mmask32 CmpgtEpi16Mask(simde__m512i a, simde__m512i b) {
  const auto x = Cast<I16x32>(a);
  const auto y = Cast<I16x32>(b);
  simde__mmask32 mask = 0;
  for (int i = 0; i < 32; ++i) mask |= static_cast<simde__mmask32>(x.lane[i] > y.lane[i]) << i;
  return mask;
}

// Within each 128-bit quarter, lane i takes lane (control >> 2i) & 3.
inline simde__m512 PermutePs(simde__m512 v, int control) {
  const auto in = Cast<F32x16>(v);
  F32x16 out;
  for (int i = 0; i < 16; ++i) out.lane[i] = in.lane[i / 4 * 4 + ((control >> (2 * (i % 4))) & 3)];
  return Cast<simde__m512>(out);
}

inline int32_t ReduceAddEpi32(simde__m512i v) {
  const auto in = Cast<I32x16>(v);
  uint32_t sum = 0;
  for (const int32_t x : in.lane) sum += static_cast<uint32_t>(x);
  return static_cast<int32_t>(sum);
}

inline simde__m512 FmaddPs(simde__m512 a, simde__m512 b, simde__m512 c) {
  const auto x = Cast<F32x16>(a);
  const auto y = Cast<F32x16>(b);
  auto sum = Cast<F32x16>(c);
  for (int i = 0; i < 16; ++i) sum.lane[i] = std::fma(x.lane[i], y.lane[i], sum.lane[i]);
  return Cast<simde__m512>(sum);
}

inline simde__mmask16 CmpgePsMask(simde__m512 a, simde__m512 b) {
  const auto x = Cast<F32x16>(a);
  const auto y = Cast<F32x16>(b);
  unsigned mask = 0;
  for (int i = 0; i < 16; ++i) mask |= static_cast<unsigned>(x.lane[i] >= y.lane[i]) << i;
  return static_cast<simde__mmask16>(mask);
}

// Masked loads read, and masked stores write, nothing where the mask is zero.
inline simde__m512 MaskzLoaduPs(simde__mmask16 mask, const float* from) {
  F32x16 out = {};
  for (int i = 0; i < 16; ++i)
    if ((mask >> i) & 1) out.lane[i] = from[i];
  return Cast<simde__m512>(out);
}

inline simde__m256i MaskzLoaduEpi16(simde__mmask16 mask, const void* from) {
  Lanes<uint16_t, 16> out = {};
  for (int i = 0; i < 16; ++i)
    if ((mask >> i) & 1) out.lane[i] = static_cast<const uint16_t*>(from)[i];
  return Cast<simde__m256i>(out);
}

inline void MaskStoreuPs(float* into, simde__mmask16 mask, simde__m512 v) {
  const auto in = Cast<F32x16>(v);
  for (int i = 0; i < 16; ++i)
    if ((mask >> i) & 1) into[i] = in.lane[i];
}

inline simde__m512i MaskzLoaduEpi8(simde__mmask64 mask, const void* from) {
  Lanes<uint8_t, 64> out = {};
  for (int i = 0; i < 64; ++i)
    if ((mask >> i) & 1) out.lane[i] = static_cast<const uint8_t*>(from)[i];
  return Cast<simde__m512i>(out);
}

inline void MaskStoreuEpi8(void* into, simde__mmask64 mask, simde__m512i v) {
  const auto in = Cast<Lanes<uint8_t, 64>>(v);
  for (int i = 0; i < 64; ++i)
    if ((mask >> i) & 1) static_cast<uint8_t*>(into)[i] = in.lane[i];
}

}  // namespace turboquant::emulation

using __mmask16 = simde__mmask16;  // NOLINT(bugprone-reserved-identifier)
using __mmask32 = simde__mmask32;  // NOLINT(bugprone-reserved-identifier)
using __mmask64 = simde__mmask64;  // NOLINT(bugprone-reserved-identifier)

// The names avx512.cc calls; SIMDe's aliases cover the others.
#undef _mm512_cvtps_epi32
#define _mm512_cvtps_epi32(v) turboquant::emulation::CvtpsEpi32(v)
#undef _mm512_cvtepi32_ps
#define _mm512_cvtepi32_ps(v) turboquant::emulation::Cvtepi32Ps(v)
#undef _mm512_cvtps_pd
#define _mm512_cvtps_pd(v) turboquant::emulation::CvtpsPd(v)
#undef _mm512_cvtph_ps
#define _mm512_cvtph_ps(v) turboquant::emulation::CvtphPs(v)
#undef _mm512_cvtepu8_epi32
#define _mm512_cvtepu8_epi32(v) turboquant::emulation::Cvtepu8Epi32(v)
#undef _mm512_cvtepi16_epi32
#define _mm512_cvtepi16_epi32(v) turboquant::emulation::Cvtepi16Epi32(v)
#undef _mm512_cvtepi32_epi64
#define _mm512_cvtepi32_epi64(v) turboquant::emulation::Cvtepi32Epi64(v)
#undef _mm512_cvtepi32_epi8
#define _mm512_cvtepi32_epi8(v) turboquant::emulation::Cvtepi32Epi8(v)
#undef _mm512_cmpgt_epi16_mask
#define _mm512_cmpgt_epi16_mask(a, b) turboquant::emulation::CmpgtEpi16Mask(a, b)
#undef _mm512_permute_ps
#define _mm512_permute_ps(v, control) turboquant::emulation::PermutePs(v, control)
#undef _mm512_shuffle_f32x4
#define _mm512_shuffle_f32x4(a, b, control)                                       \
  simde_mm512_castsi512_ps(simde_mm512_shuffle_i32x4(simde_mm512_castps_si512(a), \
                                                     simde_mm512_castps_si512(b), control))
#undef _mm512_reduce_add_epi32
#define _mm512_reduce_add_epi32(v) turboquant::emulation::ReduceAddEpi32(v)

#undef _mm512_fmadd_ps
#define _mm512_fmadd_ps(a, b, c) turboquant::emulation::FmaddPs(a, b, c)
#undef _mm512_cmp_ps_mask
#define _mm512_cmp_ps_mask(a, b, predicate) turboquant::emulation::CmpgePsMask(a, b)  // _CMP_GE_OQ
#undef _mm512_maskz_loadu_ps
#define _mm512_maskz_loadu_ps(mask, from) turboquant::emulation::MaskzLoaduPs(mask, from)
#undef _mm256_maskz_loadu_epi16
#define _mm256_maskz_loadu_epi16(mask, from) turboquant::emulation::MaskzLoaduEpi16(mask, from)
#undef _mm512_mask_storeu_ps
#define _mm512_mask_storeu_ps(into, mask, v) turboquant::emulation::MaskStoreuPs(into, mask, v)
#undef _mm512_maskz_loadu_epi8
#define _mm512_maskz_loadu_epi8(mask, from) turboquant::emulation::MaskzLoaduEpi8(mask, from)
#undef _mm512_mask_storeu_epi8
#define _mm512_mask_storeu_epi8(into, mask, v) turboquant::emulation::MaskStoreuEpi8(into, mask, v)
#undef _mm512_madd_epi16  // SIMDe gives the name to its masked one
#define _mm512_madd_epi16(a, b) simde_mm512_madd_epi16(a, b)

#endif  // TURBOQUANT_TESTS_KERNELS_AVX512_EMULATION_H_
