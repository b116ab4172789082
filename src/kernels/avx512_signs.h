// sum_where_set on AVX-512. Private to avx512.cc, which brings the instructions, their target and
// everything else this file names.
#ifndef TURBOQUANT_SRC_KERNELS_AVX512_SIGNS_H_
#define TURBOQUANT_SRC_KERNELS_AVX512_SIGNS_H_

namespace turboquant::kernels {
namespace {

// Sums of 16 rows, a row of signs being masks of 16 lanes.
TQ_INLINE __m512 SumsOf16Rows(const uint8_t* const* rows, size_t row_bytes, const float* numbers) {
  __m512 lanes[16];
#pragma GCC unroll 16
  for (size_t r = 0; r < 16; ++r) lanes[r] = _mm512_setzero_ps();
  size_t byte = 0;
  for (; byte + 2 <= row_bytes; byte += 2) {
    const __m512 number = _mm512_loadu_ps(numbers + 8 * byte);
#pragma GCC unroll 16
    for (size_t r = 0; r < 16; ++r) {
      uint16_t bits;
      std::memcpy(&bits, rows[r] + byte, sizeof(bits));
      lanes[r] = _mm512_mask_add_ps(lanes[r], bits, lanes[r], number);
    }
  }
  if (byte < row_bytes) {
    const __m512 number = _mm512_loadu_ps(numbers + 8 * byte);
#pragma GCC unroll 16
    for (size_t r = 0; r < 16; ++r)
      lanes[r] = _mm512_mask_add_ps(lanes[r], rows[r][byte], lanes[r], number);
  }
  return AddLanesOf16(lanes);
}

void SumWhereSet(const SignRowsView& rows, const QueryRows<const float>& numbers,
                 size_t query_count, const QueryRows<float>& sums) {
  for (size_t r = 0; r < rows.count; r += 16) {
    const __mmask16 mask = FloatsBelow(rows.count - r);
    const uint8_t* streams[16];  // the last row again where there are fewer
    for (size_t i = 0; i < 16; ++i)
      streams[i] = rows.bytes + std::min(r + i, rows.count - 1) * rows.row_bytes;
    for (size_t q = 0; q < query_count; ++q) {
      const __m512 sum = SumsOf16Rows(streams, rows.row_bytes, numbers.data + q * numbers.stride);
      _mm512_mask_storeu_ps(sums.data + q * sums.stride + r, mask, sum);
    }
  }
}

}  // namespace
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_AVX512_SIGNS_H_
