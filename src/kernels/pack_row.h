// One row's code bytes into and out of key lanes, eight codes at a time in 64-bit words. The same
// bytes as reference::PackCodes; little-endian CPUs only (asserted at compile time).
#ifndef TURBOQUANT_SRC_KERNELS_PACK_ROW_H_
#define TURBOQUANT_SRC_KERNELS_PACK_ROW_H_

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "src/kernels/line_layout.h"

namespace turboquant::kernels {

static_assert(std::endian::native == std::endian::little);

namespace pack_row_internal {

inline uint64_t Load64(const uint8_t* from) {
  uint64_t word;
  std::memcpy(&word, from, sizeof(word));
  return word;
}

inline uint32_t Load32(const uint8_t* from) {
  uint32_t word;
  std::memcpy(&word, from, sizeof(word));
  return word;
}

inline void Store64(uint64_t word, uint8_t* to) { std::memcpy(to, &word, sizeof(word)); }
inline void Store32(uint64_t word, uint8_t* to) {
  const uint32_t low = static_cast<uint32_t>(word);
  std::memcpy(to, &low, sizeof(low));
}

inline constexpr uint64_t kBytes = 0x0101010101010101u;

// A word holds two quads, the even one low. Folded: even | odd << bits in each low byte.
inline uint64_t FoldQuads(uint64_t word, int bits) { return word | word >> (32 - bits); }

}  // namespace pack_row_internal

namespace pack_row_internal {

// Bits [kFrom, kFrom + kRunBits) of every code's byte.
template <int kBits, int kRunBits, int kFrom>
inline uint64_t RunOf(uint64_t codes) {
  if constexpr (kRunBits == kBits) return codes;
  return codes >> kFrom & ((1u << kRunBits) - 1) * kBytes;
}

// The run of these bits.
template <int kBits, int kRunBits, int kFrom>
inline void PackKeyRun(const uint8_t* codes, size_t dim, uint8_t* lane) {
  const auto load = [&](size_t j) { return RunOf<kBits, kRunBits, kFrom>(Load64(codes + j)); };
  if constexpr (kRunBits == 4) {
    for (size_t j = 0; j < dim; j += 8, lane += kLineBytes) Store32(FoldQuads(load(j), 4), lane);
  } else if constexpr (kRunBits == 2) {
    for (size_t j = 0; j < dim; j += 16, lane += kLineBytes) {
      Store32(FoldQuads(load(j), 2) | FoldQuads(load(j + 8), 2) << 4, lane);
    }
  } else if constexpr (kRunBits == 1) {
    for (size_t j = 0; j < dim; j += 32, lane += kLineBytes) {
      const uint64_t low = FoldQuads(load(j), 1) | FoldQuads(load(j + 8), 1) << 2;
      const uint64_t high = FoldQuads(load(j + 16), 1) | FoldQuads(load(j + 24), 1) << 2;
      Store32(low | high << 4, lane);
    }
  } else if constexpr (kRunBits == 8) {
    for (size_t j = 0; j < dim; j += 4, lane += kLineBytes) Store32(Load32(codes + j), lane);
  } else {
    static_assert(kRunBits == 3);
    for (size_t j = 0; j < dim; j += 32, lane += 3 * kLineBytes) {
      const uint64_t last = load(j + 24);  // quads 6 and 7
      const uint64_t sixth = last & 0xFFFFFFFFu;
      const uint64_t seventh = last >> 32;
      Store32(FoldQuads(load(j), 3) | (sixth & 3 * kBytes) << 6, lane);
      Store32(FoldQuads(load(j + 8), 3) | (seventh & 3 * kBytes) << 6, lane + kLineBytes);
      Store32(
          FoldQuads(load(j + 16), 3) | (sixth >> 2 & kBytes) << 6 | (seventh >> 2 & kBytes) << 7,
          lane + 2 * kLineBytes);
    }
  }
}

// The reverse: ORs the run to the codes.
template <int kRunBits, int kFrom>
inline void UnpackKeyRun(const uint8_t* lane, size_t dim, uint8_t* codes) {
  const auto merge = [&](uint64_t word, size_t j) {
    Store64(Load64(codes + j) | word << kFrom, codes + j);
  };
  if constexpr (kRunBits == 8) {
    for (size_t j = 0; j < dim; j += 4, lane += kLineBytes) {
      std::memcpy(codes + j, lane, 4);
    }
  } else if constexpr (kRunBits != 3) {
    constexpr size_t kQuads = 8 / kRunBits;
    constexpr uint64_t kMask = ((1u << kRunBits) - 1) * kBytes;
    for (size_t j = 0; j < dim; j += 4 * kQuads, lane += kLineBytes) {
      const uint64_t word = Load32(lane);
      for (size_t pair = 0; pair < kQuads / 2; ++pair) {
        const uint64_t folded = word >> (2 * kRunBits * pair);
        merge((folded | folded << (32 - kRunBits)) & kMask, j + 8 * pair);
      }
    }
  } else {
    constexpr uint64_t kMask = 7 * kBytes;
    for (size_t j = 0; j < dim; j += 32, lane += 3 * kLineBytes) {
      const uint64_t a = Load32(lane);
      const uint64_t b = Load32(lane + kLineBytes);
      const uint64_t c = Load32(lane + 2 * kLineBytes);
      merge((a | a << 29) & kMask, j);
      merge((b | b << 29) & kMask, j + 8);
      merge((c | c << 29) & kMask, j + 16);
      const uint64_t sixth = (a >> 6 & 3 * kBytes) | (c >> 4 & 4 * kBytes);
      const uint64_t seventh = (b >> 6 & 3 * kBytes) | (c >> 5 & 4 * kBytes);
      merge((sixth & 0xFFFFFFFFu) | seventh << 32, j + 24);
    }
  }
}

// Calls function.template operator()<run bits, first bit>(bytes before the run) for each run.
template <int kBits, class Function>
inline void ForEachRun(size_t dim, const Function& function) {
  constexpr int kFirst = FirstRunBits(kBits);
  function.template operator()<kFirst, 0>(size_t{0});
  if constexpr (kFirst != kBits) {
    function.template operator()<kBits - kFirst, kFirst>(kLineBytes *
                                                         RunLines(kFirst, CeilDivide(dim, 4)));
  }
}

}  // namespace pack_row_internal

// codes: RoundUp(dim, 32) bytes, zero behind dim. lane: the row's four bytes in line 0 of its
// block.
template <int kBits>
inline void PackKeyRow(const uint8_t* codes, size_t dim, uint8_t* lane) {
  pack_row_internal::ForEachRun<kBits>(dim, [&]<int kRunBits, int kFrom>(size_t offset) {
    pack_row_internal::PackKeyRun<kBits, kRunBits, kFrom>(codes, dim, lane + offset);
  });
}

// The reverse: ORs to RoundUp(dim, 32) zero bytes or fewer, all of dim.
template <int kBits>
inline void UnpackKeyRow(const uint8_t* lane, size_t dim, uint8_t* codes) {
  pack_row_internal::ForEachRun<kBits>(dim, [&]<int kRunBits, int kFrom>(size_t offset) {
    pack_row_internal::UnpackKeyRun<kRunBits, kFrom>(lane + offset, dim, codes);
  });
}

namespace pack_row_internal {

// Fields of `width` bits, `period` apart: ones in every second field's place.
template <int kWidth, int kPeriod>
inline constexpr uint64_t kEvenFields = [] {
  uint64_t mask = 0;
  for (int at = 0; at < 64; at += kPeriod) mask |= ((uint64_t{1} << kWidth) - 1) << at;
  return mask;
}();

// Moves the upper field of each pair `kShift` up.
template <int kWidth, int kPeriod>
constexpr uint64_t Spread(uint64_t x) {
  constexpr uint64_t kLow = kEvenFields<kWidth, kPeriod * 2>;
  constexpr uint64_t kHigh = kLow << kWidth;
  return (x & kLow) | (x & kHigh) << (kPeriod - kWidth);
}

template <int kWidth, int kPeriod>
constexpr uint64_t Gather(uint64_t x) {
  constexpr uint64_t kLow = kEvenFields<kWidth, kPeriod * 2>;
  return (x & kLow) | (x >> (kPeriod - kWidth) & kLow << kWidth);
}

}  // namespace pack_row_internal

// The canonical stream, eight codes (kBits bytes) at a time: 8b bits halve into 4b per 32, 2b per
// 16, b per 8.
template <int kBits>
inline void UnpackStreamFixed(const uint8_t* stream, size_t count, uint8_t* codes) {
  using namespace pack_row_internal;
  if constexpr (kBits == 8) {
    std::copy_n(stream, count, codes);
    return;
  }
  const auto spread = [](uint64_t word) {
    return Spread<kBits, 8>(Spread<2 * kBits, 16>(Spread<4 * kBits, 32>(word)));
  };
  const uint8_t* end = stream + CeilDivide(count * kBits, 8);
  size_t j = 0;
  // Whole words, while there are any: one put together from kBits bytes stalls.
  for (; j + 8 <= count && end - stream >= 8; j += 8, stream += kBits) {
    Store64(spread(Load64(stream)), codes + j);
  }
  for (; j + 8 <= count; j += 8, stream += kBits) {
    uint64_t word = 0;
    std::memcpy(&word, stream, kBits);
    Store64(spread(word), codes + j);
  }
  for (size_t bit = 0; j < count; ++j) {
    unsigned code = 0;
    for (int k = 0; k < kBits; ++k, ++bit) code |= (stream[bit / 8] >> (bit % 8) & 1u) << k;
    codes[j] = static_cast<uint8_t>(code);
  }
}

template <int kBits>
inline void PackStreamFixed(const uint8_t* codes, size_t count, uint8_t* stream) {
  using namespace pack_row_internal;
  if constexpr (kBits == 8) {
    std::copy_n(codes, count, stream);
    return;
  }
  size_t j = 0;
  for (; j + 8 <= count; j += 8, stream += kBits) {
    const uint64_t word =
        Gather<4 * kBits, 32>(Gather<2 * kBits, 16>(Gather<kBits, 8>(Load64(codes + j))));
    std::memcpy(stream, &word, kBits);
  }
  const size_t tail_bytes = CeilDivide((count - j) * kBits, 8);
  std::memset(stream, 0, tail_bytes);
  for (size_t bit = 0; j < count; ++j) {
    for (int k = 0; k < kBits; ++k, ++bit) {
      stream[bit / 8] = static_cast<uint8_t>(stream[bit / 8] | (codes[j] >> k & 1u) << (bit % 8));
    }
  }
}

}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_PACK_ROW_H_
