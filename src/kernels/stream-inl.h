// The canonical bit stream to codes and back; included once per target. Up to 4 bits 32 codes at a
// time, the others and what is left as pack_row.h does it.
#if defined(TURBOQUANT_SRC_KERNELS_STREAM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TURBOQUANT_SRC_KERNELS_STREAM_INL_H_
#undef TURBOQUANT_SRC_KERNELS_STREAM_INL_H_
#else
#define TURBOQUANT_SRC_KERNELS_STREAM_INL_H_
#endif

#include <algorithm>
#include <array>
#include <cstring>

#include "src/kernels/codes-inl.h"
#include "src/kernels/kernels.h"
#include "src/kernels/line_layout.h"
#include "src/kernels/pack_row.h"
#include "src/kernels/simd-inl.h"
#include "src/kernels/with_bits.h"

#if TURBOQUANT_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace turboquant::kernels::HWY_NAMESPACE {

inline constexpr size_t kStreamCodes = 32;  // codes a step: 4·bits bytes
inline constexpr size_t kVectors = kStreamCodes / kVectorBytes;

// Exactly 4·kBits bytes, repeated in every block: with 3 bits bytes 0-7 and 4-11, else from byte 0.
template <int kBits>
HWY_INLINE VU8 LoadStream(const uint8_t* stream) {
  using pack_row_internal::Load32;
  using pack_row_internal::Load64;
  const hn::Repartition<uint64_t, DF> d64;
  if constexpr (kBits == 4) return hn::LoadDup128(DU8(), stream);
  if constexpr (kBits == 1) return hn::BitCast(DU8(), hn::Set(DU32(), Load32(stream)));
  const auto low = hn::Set(d64, Load64(stream));
  if constexpr (kBits == 2) return hn::BitCast(DU8(), low);
  return hn::BitCast(DU8(), hn::InterleaveLower(d64, low, hn::Set(d64, Load64(stream + 4))));
}

// Where a quad's 4·kBits bits come from: bytes of LoadStream for each 32-bit lane. 4 bits go to a
// 16-bit lane each right away.
template <int kBits>
inline constexpr auto kSpreadBytes = [] {
  std::array<uint8_t, kStreamCodes> bytes{};
  for (size_t quad = 0; quad < kStreamCodes / 4; ++quad) {
    const size_t first = 4 * kBits * quad / 8;
    const size_t last = (4 * kBits * (quad + 1) - 1) / 8;
    const auto in_load = [](size_t byte) {
      return static_cast<uint8_t>(kBits == 3 && byte >= 8 ? byte + 4 : byte);
    };
    bytes[4 * quad] = in_load(first);
    for (size_t i = 1; i < 4; ++i) bytes[4 * quad + i] = 0x80;  // zero
    if (last > first) bytes[4 * quad + (kBits == 4 ? 2 : 1)] = in_load(last);
  }
  return bytes;
}();

template <int kBits>
HWY_INLINE VU8 SpreadStream(VU8 loaded, size_t vector) {
  const DU32 d;
  const VU8 order = hn::LoadU(DU8(), kSpreadBytes<kBits>.data() + vector * kVectorBytes);
  VU32 w = hn::BitCast(d, hn::TableLookupBytesOr0(loaded, order));
  if constexpr (kBits % 2 == 1) {  // odd quads begin in the middle of a byte
    const VU32 middle = hn::ShiftRight<4>(w);
    w = hn::OddEven(middle, w);
  }
  // A copy at its new place beside the old one, and the mask that keeps one field of each.
  if constexpr (kBits < 4) {
    constexpr uint32_t kPairs = ((1u << (2 * kBits)) - 1) * 0x00010001u;
    w = hn::And(hn::Or(w, hn::ShiftLeft<16 - 2 * kBits>(w)), hn::Set(d, kPairs));
  }
  w = hn::Or(w, hn::ShiftLeft<8 - kBits>(w));
  return hn::BitCast(DU8(), AndBytes(w, (1u << kBits) - 1));
}

template <int kBits>
inline void UnpackStreamSteps(const uint8_t* stream, size_t count, uint8_t* codes) {
  size_t j = 0;
  if constexpr (kBits <= 4) {
    for (; j + kStreamCodes <= count; j += kStreamCodes, stream += 4 * kBits) {
      const VU8 loaded = LoadStream<kBits>(stream);
      for (size_t v = 0; v < kVectors; ++v) {
        hn::StoreU(SpreadStream<kBits>(loaded, v), DU8(), codes + j + v * kVectorBytes);
      }
    }
  }
  if (j < count) UnpackStreamFixed<kBits>(stream, count - j, codes + j);
}

// A block's 16 codes lie folded in the first bytes of each unit: 4 bits in 1 of 2, 2 bits in 1 of
// 4, 1 and 3 bits in that many of 8. Their 2·kBits bytes go to their place among the 4·kBits of a
// step.
template <int kBits>
inline constexpr auto kGatherBytes = [] {
  constexpr size_t kUnit = kBits == 4 ? 2 : kBits == 2 ? 4 : 8;
  constexpr size_t kUsed = kUnit * kBits / 8;
  std::array<uint8_t, kStreamCodes> bytes{};
  for (size_t block = 0; block < 2; ++block) {
    for (size_t i = 0; i < 16; ++i) {
      const size_t at = i - block * 2 * kBits;  // wraps below the block's first
      const bool mine = at < 2 * kBits;
      bytes[16 * block + i] =
          static_cast<uint8_t>(mine ? at / kUsed * kUnit + at % kUsed : 0x80);  // 0x80: zero
    }
  }
  return bytes;
}();

template <int kBits>
HWY_INLINE VU8 GatherStream(VU8 codes, size_t vector) {
  const DU32 d;
  VU32 w = hn::BitCast(d, codes);
  // What is left behind above the fields does no harm until a shift brings it into one: only the
  // long shifts of 3 bits do.
  w = hn::Or(w, hn::ShiftRight<8 - kBits>(w));
  if constexpr (kBits == 3) w = hn::And(w, hn::Set(d, 0x003F003Fu));
  if constexpr (kBits < 4) w = hn::Or(w, hn::ShiftRight<16 - 2 * kBits>(w));
  if constexpr (kBits == 3) w = hn::And(w, hn::Set(d, 0xFFFu));
  if constexpr (kBits % 2 == 1) {
    const auto x = hn::BitCast(hn::Repartition<uint64_t, DF>(), w);
    w = hn::BitCast(d, hn::Or(x, hn::ShiftRight<32 - 4 * kBits>(x)));
  }
  const VU8 order = hn::LoadU(DU8(), kGatherBytes<kBits>.data() + vector * kVectorBytes);
  return hn::TableLookupBytesOr0(hn::BitCast(DU8(), w), order);
}

// Exactly 4·kBits bytes.
template <int kBits>
HWY_INLINE void StoreStream(const VU8* gathered, uint8_t* stream) {
#if HWY_TARGET == HWY_AVX2
  const __m128i high = _mm256_extracti128_si256(gathered[0].raw, 1);
  const hn::Vec128<uint8_t> bytes{_mm_or_si128(_mm256_castsi256_si128(gathered[0].raw), high)};
#else
  const VU8 bytes = hn::Or(gathered[0], gathered[1]);
#endif
  const hn::FixedTag<uint8_t, 16> d;
  if constexpr (kBits == 4) {
    hn::StoreU(bytes, d, stream);
  } else {
    alignas(16) uint8_t whole[16];
    hn::Store(bytes, d, whole);
    std::memcpy(stream, whole, 4 * kBits);
  }
}

template <int kBits>
inline void PackStreamSteps(const uint8_t* codes, size_t count, uint8_t* stream) {
  size_t j = 0;
  if constexpr (kBits <= 4) {
    for (; j + kStreamCodes <= count; j += kStreamCodes, stream += 4 * kBits) {
      VU8 gathered[kVectors];
      for (size_t v = 0; v < kVectors; ++v) {
        gathered[v] = GatherStream<kBits>(hn::LoadU(DU8(), codes + j + v * kVectorBytes), v);
      }
      StoreStream<kBits>(gathered, stream);
    }
  }
  if (j < count) PackStreamFixed<kBits>(codes + j, count - j, stream);
}

inline void UnpackStream(const uint8_t* stream, int bits, size_t rows, size_t dim, uint8_t* codes) {
  const StreamRows all(bits, rows, dim);
  WithBits(bits, [&]<int kBits>() HWY_ATTR {
    for (size_t r = 0; r < all.rows; ++r) {
      UnpackStreamSteps<kBits>(stream + r * all.row_bytes, all.dim, codes + r * all.dim);
    }
  });
}

inline void PackStream(const uint8_t* codes, int bits, size_t rows, size_t dim, uint8_t* stream) {
  const StreamRows all(bits, rows, dim);
  WithBits(bits, [&]<int kBits>() HWY_ATTR {
    for (size_t r = 0; r < all.rows; ++r) {
      PackStreamSteps<kBits>(codes + r * all.dim, all.dim, stream + r * all.row_bytes);
    }
  });
}

}  // namespace turboquant::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // TURBOQUANT_SIMD_TARGET

#endif  // per-target include guard
