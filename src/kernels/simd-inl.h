// Names for what Highway 1.0.3 has no op for, one for every target; included once per target.
#if defined(TURBOQUANT_SRC_KERNELS_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TURBOQUANT_SRC_KERNELS_SIMD_INL_H_
#undef TURBOQUANT_SRC_KERNELS_SIMD_INL_H_
#else
#define TURBOQUANT_SRC_KERNELS_SIMD_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>
#include <cstring>

#undef TURBOQUANT_SIMD_TARGET
#define TURBOQUANT_SIMD_TARGET (HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_NEON)

#if TURBOQUANT_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace turboquant::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using DI32 = hn::ScalableTag<int32_t>;
using DI16 = hn::ScalableTag<int16_t>;
using DU8 = hn::ScalableTag<uint8_t>;
using DI8 = hn::ScalableTag<int8_t>;
using VF = hn::Vec<DF>;
using VI32 = hn::Vec<DI32>;
using VI16 = hn::Vec<DI16>;
using VU8 = hn::Vec<DU8>;

inline constexpr size_t kFloats = HWY_TARGET == HWY_NEON ? 4 : 8;  // lanes of a float vector
inline constexpr size_t kShorts = 2 * kFloats;                     // lanes of an int16 vector

// Two int32 vectors, saturated to int16, in their own order.
HWY_INLINE VI16 NarrowOrdered(VI32 a, VI32 b) {
  const VI16 packed = hn::ReorderDemote2To(DI16(), a, b);
#if HWY_TARGET == HWY_AVX2
  return VI16{_mm256_permute4x64_epi64(packed.raw, 0xD8)};  // a0 b0 a1 b1 -> a0 a1 b0 b1
#else
  return packed;
#endif
}

// Two int16 vectors within int8, in their own order.
HWY_INLINE VU8 NarrowBytes(VI16 a, VI16 b) {
#if HWY_TARGET == HWY_AVX2
  return VU8{_mm256_permute4x64_epi64(_mm256_packs_epi16(a.raw, b.raw), 0xD8)};
#else
  return VU8(
      vcombine_u8(vreinterpret_u8_s8(vmovn_s16(a.raw)), vreinterpret_u8_s8(vmovn_s16(b.raw))));
#endif
}

// Four int32 vectors to bytes by way of two int16 vectors, whose order is their own in between.
HWY_INLINE VI16 NarrowUnordered(VI32 a, VI32 b) { return hn::ReorderDemote2To(DI16(), a, b); }
HWY_INLINE VU8 NarrowToOrder(VI16 ab, VI16 cd) {
#if HWY_TARGET == HWY_AVX2
  // a0 b0 c0 d0 | a1 b1 c1 d1, four bytes each.
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  return VU8{_mm256_permutevar8x32_epi32(_mm256_packs_epi16(ab.raw, cd.raw), order)};
#else
  return NarrowBytes(ab, cd);
#endif
}

inline constexpr size_t kVectorBytes = 4 * kFloats;
inline constexpr size_t kVectorBlocks = kVectorBytes / 16;  // 128-bit blocks

// 16 bytes into each block of a vector, and out of it. NEON has the low block alone.
HWY_INLINE VU8 LoadBlocks(const uint8_t* low, const uint8_t* high) {
#if HWY_TARGET == HWY_AVX2
  const __m128i low_block = _mm_loadu_si128(reinterpret_cast<const __m128i*>(low));
  const __m128i high_block = _mm_loadu_si128(reinterpret_cast<const __m128i*>(high));
  return VU8{_mm256_inserti128_si256(_mm256_castsi128_si256(low_block), high_block, 1)};
#else
  (void)high;
  return hn::LoadU(DU8(), low);
#endif
}

HWY_INLINE void StoreBlocks(VU8 v, uint8_t* low, uint8_t* high) {
#if HWY_TARGET == HWY_AVX2
  _mm_storeu_si128(reinterpret_cast<__m128i*>(low), _mm256_castsi256_si128(v.raw));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(high), _mm256_extracti128_si256(v.raw, 1));
#else
  (void)high;
  hn::StoreU(v, DU8(), low);
#endif
}

#if HWY_TARGET == HWY_AVX2

// Levels are kept as level + 128, so that they are the unsigned operand.
inline constexpr int kLevelOffset = 128;

// acc + sum of the four products of each 32-bit lane. For keys (levels + 128) · digits, where the
// initial acc takes 128·digits off; for values digits · levels. 255·64·2 and 127·127·2 fit int16,
// so pmaddubsw never saturates.
HWY_INLINE VI32 DotQuads(VI32 acc, VU8 a, hn::Vec<DI8> b) {
  const __m256i pairs = _mm256_maddubs_epi16(a.raw, b.raw);
  return VI32{_mm256_add_epi32(acc.raw, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))};
}

#else  // NEON

inline constexpr int kLevelOffset = 0;

HWY_INLINE VI32 DotQuads(VI32 acc, VU8 a, hn::Vec<DI8> b) {
  const int8x16_t s = vreinterpretq_s8_u8(a.raw);
  // 127·127·2 fits int16.
  const int16x8_t pairs =
      vpaddq_s16(vmull_s8(vget_low_s8(s), vget_low_s8(b.raw)), vmull_high_s8(s, b.raw));
  return VI32(vpadalq_s16(acc.raw, pairs));
}

#endif

// Four digits in every 32-bit lane.
HWY_INLINE hn::Vec<DI8> BroadcastQuad(const int8_t* digits) {
  int32_t quad;
  std::memcpy(&quad, digits, sizeof(quad));
  return hn::BitCast(DI8(), hn::Set(DI32(), quad));
}

}  // namespace turboquant::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // TURBOQUANT_SIMD_TARGET

#endif  // per-target include guard
