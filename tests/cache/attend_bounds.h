// How far Attend may be from attention in double: the bounds of src/kernels/attention.h, computed
// from the digit steps of one query and of its weights, and the root mean squares that independent
// roundings have.
#ifndef TURBOQUANT_TESTS_CACHE_ATTEND_BOUNDS_H_
#define TURBOQUANT_TESTS_CACHE_ATTEND_BOUNDS_H_

#include <cstddef>
#include <span>
#include <vector>

#include "src/cache/kv_parts.h"
#include "tests/cache/attend_reference.h"
#include "turboquant/kv_cache.h"

namespace turboquant::test {

// Of numbers that are off by a bounded, roughly uniform error.
struct ErrorBound {
  std::vector<double> worst;
  std::vector<double> rms;    // of the digits alone
  std::vector<double> slack;  // float arithmetic; part of worst, not of rms
};

class AttendBounds {
 public:
  // `dense` is of `cache`; both stay.
  AttendBounds(const KvCache& cache, const DenseAttention& dense);

  // Of the logits of all tokens, natural, without soft-cap.
  ErrorBound Logits(std::span<const float> query, size_t kv_head,
                    const AttendOptions& options) const;

  // A row of values as they are stored: rotated, part by part.
  std::vector<float> ToStored(std::span<const double> row, size_t kv_head) const;

  // Of an output as ToStored writes it. `logits` bounds the logits (empty: they are exact).
  ErrorBound Output(const DenseRow& row, size_t kv_head, const ErrorBound& logits,
                    const AttendOptions& options) const;

 private:
  struct Head {
    // Per part of the keys and packed token: the decoded rotated key's norms.
    std::vector<std::vector<double>> key_l1;
    std::vector<std::vector<double>> key_l2;
    std::vector<float> stored_values;               // [tokens × head_dim]
    std::vector<std::vector<double>> value_scales;  // per part of the values and packed token
  };
  void ReadKeys(size_t head, Head& into) const;
  void ReadValues(size_t head, Head& into) const;
  std::vector<float> Framed(std::span<const float> query, size_t head, size_t page) const;
  double Largest(const KvPart& part, size_t head, const std::vector<float>& framed) const;
  // Per packed token: what half a digit, and a digit's root mean square, are in units of value over
  // scale.
  struct DigitError {
    double worst;
    double rms;
  };
  std::vector<DigitError> DigitErrors(const DenseRow& row, const std::vector<double>& scales,
                                      double digit_max) const;
  size_t PageOf(size_t packed) const { return (view_.first_lane + packed) / kPageTokens; }

  const KvCache& cache_;
  const DenseAttention& dense_;
  KvView view_;
  const KvFormat::Parts& parts_;
  std::vector<Head> heads_;
};

// Attends and compares every row with attention in double: which tokens are seen, their logits, the
// log-sum-exp, the outputs. Returns the largest error of an output over its bound.
double ExpectAttends(const KvCache& cache, const Queries& queries, const AttendOptions& options);

}  // namespace turboquant::test

#endif  // TURBOQUANT_TESTS_CACHE_ATTEND_BOUNDS_H_
