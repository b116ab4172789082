// The canonical bit stream to codes and back on AVX-512, 64 codes a step: 8 in each 64-bit lane,
// which take as many bytes of the stream as a code has bits. Private to avx512.cc, which brings the
// instructions and their target, and everything else this file names.
#ifndef TURBOQUANT_SRC_KERNELS_AVX512_STREAM_H_
#define TURBOQUANT_SRC_KERNELS_AVX512_STREAM_H_

namespace turboquant::kernels {
namespace {

struct alignas(64) ByteTable {
  uint8_t byte[64];
};

TQ_INLINE __m512i LoadTable(const ByteTable& table) { return _mm512_load_si512(table.byte); }

TQ_INLINE __mmask64 BytesBelow(size_t count) {
  return count >= 64 ? ~__mmask64{0} : (__mmask64{1} << count) - 1;
}

// Codes [j, j + 64) of a stream: their number, and the bytes that hold them.
struct StreamStep {
  __mmask64 codes;
  __mmask64 bytes;

  TQ_INLINE StreamStep(size_t count, size_t bits)
      : codes(BytesBelow(count)),
        bytes(BytesBelow(CeilDivide(std::min<size_t>(count, 64) * bits, 8))) {}
};

// 64 codes of the 8 · kBits bytes that hold them.
template <int kBits>
TQ_INLINE __m512i UnpackStep(__m512i bytes) {
  static constexpr ByteTable kSpread = [] {  // kBits bytes of the stream to each lane
    ByteTable table = {};
    for (int i = 0; i < 64; ++i)
      table.byte[i] = static_cast<uint8_t>(i / 8 * kBits + std::min(i % 8, kBits - 1));
    return table;
  }();
  static constexpr ByteTable kFirstBit = [] {
    ByteTable table = {};
    for (int i = 0; i < 64; ++i) table.byte[i] = static_cast<uint8_t>(i % 8 * kBits);
    return table;
  }();
  const __m512i lanes = _mm512_permutexvar_epi8(LoadTable(kSpread), bytes);
  const __m512i fields = _mm512_multishift_epi64_epi8(LoadTable(kFirstBit), lanes);
  return _mm512_and_si512(fields, _mm512_set1_epi8((1 << kBits) - 1));
}

// The reverse; zero behind the last byte.
template <int kBits>
TQ_INLINE __m512i PackStep(__m512i codes) {
  static constexpr ByteTable kGather = [] {
    ByteTable table = {};
    for (int i = 0; i < 8 * kBits; ++i)
      table.byte[i] = static_cast<uint8_t>(i / kBits * 8 + i % kBits);
    return table;
  }();
  const __m512i pairs = _mm512_set1_epi16(static_cast<int16_t>((1 << (8 + kBits)) + 1));
  const __m512i fours = _mm512_set1_epi32((1 << (16 + 2 * kBits)) + 1);
  // code + 2^b · next code, as words; the same of those; and of those.
  const __m512i quads = _mm512_madd_epi16(_mm512_maddubs_epi16(pairs, codes), fours);
  const __m512i lanes = _mm512_or_si512(_mm512_and_si512(quads, _mm512_set1_epi64(0xFFFFFFFF)),
                                        _mm512_slli_epi64(_mm512_srli_epi64(quads, 32), 4 * kBits));
  return _mm512_permutexvar_epi8(LoadTable(kGather), lanes);
}

// A masked store takes twice as long as one of a whole vector, so only the last step has one.
template <int kBits>
TQ_INLINE void UnpackSteps(const uint8_t* stream, size_t count, uint8_t* codes) {
  size_t j = 0;
  for (; j + 64 <= count; j += 64, stream += 8 * kBits) {
    const __m512i bytes = _mm512_maskz_loadu_epi8(BytesBelow(8 * kBits), stream);
    _mm512_storeu_si512(codes + j, UnpackStep<kBits>(bytes));
  }
  if (j == count) return;
  const StreamStep step(count - j, kBits);
  _mm512_mask_storeu_epi8(codes + j, step.codes,
                          UnpackStep<kBits>(_mm512_maskz_loadu_epi8(step.bytes, stream)));
}

template <int kBits>
TQ_INLINE void PackSteps(const uint8_t* codes, size_t count, uint8_t* stream) {
  for (size_t j = 0; j < count; j += 64, stream += 8 * kBits) {
    const StreamStep step(count - j, kBits);
    const __m512i bytes = _mm512_maskz_loadu_epi8(step.codes, codes + j);
    _mm512_mask_storeu_epi8(stream, step.bytes, PackStep<kBits>(bytes));
  }
}

void UnpackStream(const uint8_t* stream, int bits, size_t rows, size_t dim, uint8_t* codes) {
  const StreamRows all(bits, rows, dim);
  WithBits(bits, [&]<int kBits>() {
    if constexpr (kBits == 8) {
      std::copy_n(stream, all.dim, codes);
    } else {
      for (size_t r = 0; r < all.rows; ++r) {
        UnpackSteps<kBits>(stream + r * all.row_bytes, all.dim, codes + r * all.dim);
      }
    }
  });
}

void PackStream(const uint8_t* codes, int bits, size_t rows, size_t dim, uint8_t* stream) {
  const StreamRows all(bits, rows, dim);
  WithBits(bits, [&]<int kBits>() {
    if constexpr (kBits == 8) {
      std::copy_n(codes, all.dim, stream);
    } else {
      for (size_t r = 0; r < all.rows; ++r) {
        PackSteps<kBits>(codes + r * all.dim, all.dim, stream + r * all.row_bytes);
      }
    }
  });
}

}  // namespace
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_AVX512_STREAM_H_
