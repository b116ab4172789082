// sum_where_set. Included once per target.
#if defined(TURBOQUANT_SRC_KERNELS_SIGNS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TURBOQUANT_SRC_KERNELS_SIGNS_INL_H_
#undef TURBOQUANT_SRC_KERNELS_SIGNS_INL_H_
#else
#define TURBOQUANT_SRC_KERNELS_SIGNS_INL_H_
#endif

#include <cstring>

#include "src/kernels/kernels.h"
#include "src/kernels/simd-inl.h"
#include "src/kernels/softmax-inl.h"

#if TURBOQUANT_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace turboquant::kernels::HWY_NAMESPACE {

// Lanes whose bit is set in the lowest of `bits`.
HWY_INLINE hn::Mask<DF> LanesSet(uint32_t bits) {
  const DI32 di;
  const VI32 lane_bit = hn::Shl(hn::Set(di, 1), hn::Iota(di, 0));
  return hn::RebindMask(DF(), hn::TestBit(hn::Set(di, static_cast<int32_t>(bits)), lane_bit));
}

// One row for kQueries queries, whose masks serve them all.
template <size_t kQueries>
HWY_INLINE void SumRow(const uint8_t* row, size_t row_bytes, const QueryRows<const float>& numbers,
                       float* sums, size_t sum_stride) {
  const DF d;
  VF lanes[kQueries][kLaneVectors];
  for (auto& query : lanes) {
    for (VF& lane : query) lane = hn::Zero(d);
  }
  for (size_t byte = 0; byte < row_bytes; byte += 2) {
    const uint32_t high = byte + 1 < row_bytes ? row[byte + 1] : 0u;
    const uint32_t bits = row[byte] | high << 8;
    for (size_t v = 0; v < kLaneVectors; ++v) {
      const auto set = LanesSet(bits >> (v * kFloats));
      for (size_t q = 0; q < kQueries; ++q) {
        const VF number = hn::LoadU(d, numbers.data + q * numbers.stride + 8 * byte + v * kFloats);
        // Adding zero changes nothing: no accumulator is ever -0.
        lanes[q][v] = hn::Add(lanes[q][v], hn::IfThenElseZero(set, number));
      }
    }
  }
  for (size_t q = 0; q < kQueries; ++q) sums[q * sum_stride] = AddLanes(lanes[q]);
}

inline void SumWhereSet(const SignRowsView& rows, const QueryRows<const float>& numbers,
                        size_t query_count, const QueryRows<float>& sums) {
  size_t first = 0;
  const auto pass = [&]<size_t kQueries>() HWY_ATTR {
    for (; query_count - first >= kQueries; first += kQueries) {
      const QueryRows<const float> own = {numbers.data + first * numbers.stride, numbers.stride};
      for (size_t r = 0; r < rows.count; ++r) {
        SumRow<kQueries>(rows.bytes + r * rows.row_bytes, rows.row_bytes, own,
                         sums.data + first * sums.stride + r, sums.stride);
      }
    }
  };
  pass.template operator()<4>();
  pass.template operator()<1>();
}

}  // namespace turboquant::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // TURBOQUANT_SIMD_TARGET

#endif  // per-target include guard
