// Keys and queries in the frame of their page on AVX-512. Private to avx512.cc,
// which brings the instructions, their target and everything else this file names.
#ifndef TURBOQUANT_SRC_KERNELS_AVX512_FRAME_H_
#define TURBOQUANT_SRC_KERNELS_AVX512_FRAME_H_

namespace turboquant::kernels {
namespace {

// R^T row. Only half pairing is worth vectors; models with interleaved pairs are rare.
void TurnBack(const FramePlan& plan, const float* row, float* out) {
  const size_t pairs = plan.rotary_dim / 2;
  for (size_t i = 0; !plan.interleaved && i < pairs; i += 16) {
    const __mmask16 mask = FloatsBelow(pairs - i);
    const __m512 x = _mm512_maskz_loadu_ps(mask, row + i);
    const __m512 y = _mm512_maskz_loadu_ps(mask, row + pairs + i);
    const __m512 cosine = _mm512_maskz_loadu_ps(mask, plan.cosines + i);
    const __m512 sine = _mm512_maskz_loadu_ps(mask, plan.sines + i);
    _mm512_mask_storeu_ps(out + i, mask,
                          _mm512_add_ps(_mm512_mul_ps(x, cosine), _mm512_mul_ps(y, sine)));
    _mm512_mask_storeu_ps(out + pairs + i, mask,
                          _mm512_sub_ps(_mm512_mul_ps(y, cosine), _mm512_mul_ps(x, sine)));
  }
  for (size_t i = 0; plan.interleaved && i < pairs; ++i) {
    const float x = row[2 * i];
    const float y = row[2 * i + 1];
    out[2 * i] = x * plan.cosines[i] + y * plan.sines[i];
    out[2 * i + 1] = y * plan.cosines[i] - x * plan.sines[i];
  }
  if (out != row) std::copy(row + plan.rotary_dim, row + plan.dim, out + plan.rotary_dim);
}

void FrameKey(const FramePlan& plan, const float* key, float* out) {
  TurnBack(plan, key, out);
  for (size_t j = 0; j < plan.dim; j += 16) {
    const __mmask16 mask = FloatsBelow(plan.dim - j);
    __m512 x = _mm512_maskz_loadu_ps(mask, out + j);
    if (plan.center != nullptr) x = _mm512_sub_ps(x, _mm512_maskz_loadu_ps(mask, plan.center + j));
    if (plan.scale != nullptr) x = _mm512_mul_ps(x, _mm512_maskz_loadu_ps(mask, plan.scale + j));
    _mm512_mask_storeu_ps(out + j, mask, x);
  }
}

float FrameQuery(const FramePlan& plan, const float* query, float* out) {
  TurnBack(plan, query, out);
  __m512 offset = _mm512_setzero_ps();
  for (size_t j = 0; j < plan.dim; j += 16) {
    const __mmask16 mask = FloatsBelow(plan.dim - j);
    const __m512 x = _mm512_maskz_loadu_ps(mask, out + j);
    if (plan.center != nullptr)
      offset = _mm512_fmadd_ps(x, _mm512_maskz_loadu_ps(mask, plan.center + j), offset);
    if (plan.scale != nullptr) {
      _mm512_mask_storeu_ps(out + j, mask,
                            _mm512_mul_ps(x, _mm512_maskz_loadu_ps(mask, plan.scale + j)));
    }
  }
  return plan.center == nullptr ? 0.0f : AddLanes(offset);
}

}  // namespace
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_AVX512_FRAME_H_
