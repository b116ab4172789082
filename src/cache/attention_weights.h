// How much each query makes of each key: the weights of a key map's statistics.
#ifndef TURBOQUANT_SRC_CACHE_ATTENTION_WEIGHTS_H_
#define TURBOQUANT_SRC_CACHE_ATTENTION_WEIGHTS_H_

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "turboquant/matrix_view.h"

namespace turboquant {

// Keys and values of one KV head, a sequence from its first token on, prepared for many queries.
//
// Query i at token t attends to tokens 0 to t with p_ij = softmax(scale · <q_i, k_j>) and has the
// output o_i. The weight of (i, j) is w_ij = p_ij² |v_j - o_i|², the square of what an error of 1
// in the logit changes in the output; 0 for the sinks and for token t itself, which are exact when
// the query is asked. All in float, in one order of operations, without libm.
class AttentionWeights {
 public:
  // Both [tokens × dim].
  AttentionWeights(MatrixView<const float> keys, MatrixView<const float> values, size_t sinks,
                   float scale);

  // visit(i, weights) for each query [queries × dim], in order; positions ascend, < tokens.
  // weights[j] belongs to token j <= positions[i]. False, with the rest not visited, if logits
  // overflow. 3 · dim multiplications a pair of query and token before it.
  [[nodiscard]] bool ForQueries(
      MatrixView<const float> queries, std::span<const size_t> positions,
      const std::function<void(size_t query, std::span<const float> weights)>& visit) const;

 private:
  // row[j] = p_ij becomes w_ij, for dots[j] = <o_i, v_j>; the last is the query's own token.
  void Weigh(std::span<const float> output, const float* dots, std::span<float> row) const;

  size_t tokens_;
  size_t dim_;
  size_t sinks_;
  float scale_;
  std::vector<float> keys_transposed_;    // [dim × tokens]
  std::vector<float> values_;             // [tokens × dim]
  std::vector<float> values_transposed_;  // [dim × tokens]
  std::vector<float> value_squares_;      // |v_j|²
};

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_CACHE_ATTENTION_WEIGHTS_H_
