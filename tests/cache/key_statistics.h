// The statistics of key maps in double, straight from their definition: what the estimator is
// compared with. One KV head.
#ifndef TURBOQUANT_TESTS_CACHE_KEY_STATISTICS_H_
#define TURBOQUANT_TESTS_CACHE_KEY_STATISTICS_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/base/random.h"
#include "turboquant/key_map.h"
#include "turboquant/kv_format.h"

namespace turboquant::testing {

using Rows = std::vector<std::vector<double>>;

inline std::vector<double> TurnedBack(const RopeParameters& rope, double position,
                                      std::vector<double> row) {
  const size_t pairs = rope.inverse_frequencies.size();
  for (size_t i = 0; i < pairs; ++i) {
    const bool half = rope.pairing == RopePairing::kHalf;
    double& x = row[half ? i : 2 * i];
    double& y = row[half ? i + pairs : 2 * i + 1];
    const double angle = -position * rope.inverse_frequencies[i];
    const double turned = x * std::cos(angle) - y * std::sin(angle);
    y = y * std::cos(angle) + x * std::sin(angle);
    x = turned;
  }
  return row;
}

// One sequence: rows of every token; queries of each query head.
struct Sequence {
  Rows keys;
  Rows values;
  std::vector<Rows> queries;
};

struct KeyStatistics {
  std::vector<double> center;  // m
  Rows key_covariance;         // Ck, of trace dim
  Rows query_moment;           // Cq, of trace dim
};

inline double DotOf(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0.0;
  for (size_t j = 0; j < a.size(); ++j) sum += a[j] * b[j];
  return sum;
}

// w_ij for the query of token i, before sinks are left out; [i + 1].
inline std::vector<double> WeightsOf(const Sequence& sequence, const std::vector<double>& query,
                                     size_t i, double scale) {
  std::vector<double> p(i + 1);
  double largest = -1e300;
  for (size_t j = 0; j <= i; ++j) {
    p[j] = scale * DotOf(query, sequence.keys[j]);
    largest = std::max(largest, p[j]);
  }
  double sum = 0.0;
  for (double& x : p) sum += x = std::exp(x - largest);
  std::vector<double> output(query.size());
  for (size_t j = 0; j <= i; ++j) {
    p[j] /= sum;
    for (size_t c = 0; c < query.size(); ++c) output[c] += p[j] * sequence.values[j][c];
  }
  for (size_t j = 0; j <= i; ++j) {
    double distance = 0.0;
    for (size_t c = 0; c < query.size(); ++c) {
      distance += std::pow(sequence.values[j][c] - output[c], 2);
    }
    p[j] *= p[j] * distance;
  }
  p[i] = 0.0;  // the newest token is exact
  return p;
}

inline void AddOuter(double weight, const std::vector<double>& row, Rows& sums) {
  for (size_t a = 0; a < row.size(); ++a) {
    for (size_t b = 0; b < row.size(); ++b) sums[a][b] += weight * row[a] * row[b];
  }
}

inline void MakeTraceDim(Rows& matrix) {
  double trace = 0.0;
  for (size_t j = 0; j < matrix.size(); ++j) trace += matrix[j][j];
  for (std::vector<double>& row : matrix) {
    for (double& x : row) x *= static_cast<double>(matrix.size()) / trace;
  }
}

// Statistics from the queries of the given tokens.
inline KeyStatistics StatisticsOf(const Sequence& sequence, const RopeParameters& rope,
                                  size_t sinks, uint64_t first_position,
                                  const std::vector<size_t>& query_tokens) {
  const size_t tokens = sequence.keys.size();
  const size_t dim = sequence.keys[0].size();
  const auto page_of = [&](size_t j) { return (j - sinks) / kPageTokens; };
  const auto base_of = [&](size_t page) {
    return static_cast<double>(first_position + sinks + page * kPageTokens);
  };
  KeyStatistics statistics{std::vector<double>(dim), Rows(dim, std::vector<double>(dim)),
                           Rows(dim, std::vector<double>(dim))};
  Rows framed(tokens);
  for (size_t j = sinks; j < tokens; ++j) {
    framed[j] = TurnedBack(rope, base_of(page_of(j)), sequence.keys[j]);
    for (size_t c = 0; c < dim; ++c) {
      statistics.center[c] += framed[j][c] / static_cast<double>(tokens - sinks);
    }
  }
  std::vector<double> key_weights(tokens);
  for (const Rows& head : sequence.queries) {
    for (const size_t i : query_tokens) {
      const std::vector<double> weights =
          WeightsOf(sequence, head[i], i, 1.0 / std::sqrt(static_cast<double>(dim)));
      std::vector<double> page_weights(page_of(tokens - 1) + 1);
      for (size_t j = sinks; j < weights.size(); ++j) {
        key_weights[j] += weights[j];
        page_weights[page_of(j)] += weights[j];
      }
      for (size_t page = 0; page < page_weights.size(); ++page) {
        if (page_weights[page] == 0.0) continue;
        AddOuter(page_weights[page], TurnedBack(rope, base_of(page), head[i]),
                 statistics.query_moment);
      }
    }
  }
  for (size_t j = sinks; j < tokens; ++j) {
    for (size_t c = 0; c < dim; ++c) framed[j][c] -= statistics.center[c];
    AddOuter(key_weights[j], framed[j], statistics.key_covariance);
  }
  MakeTraceDim(statistics.key_covariance);
  MakeTraceDim(statistics.query_moment);
  return statistics;
}

inline std::vector<float> Flat(const Rows& rows) {
  std::vector<float> flat;
  for (const std::vector<double>& row : rows) {
    for (const double x : row) flat.push_back(static_cast<float>(x));
  }
  return flat;
}

// [tokens × heads × dim] from rows of each head.
inline std::vector<float> Interleave(const std::vector<Rows>& heads) {
  std::vector<float> flat;
  for (size_t t = 0; t < heads[0].size(); ++t) {
    for (const Rows& head : heads) {
      for (const double x : head[t]) flat.push_back(static_cast<float>(x));
    }
  }
  return flat;
}

// Rows of float numbers whose coordinates differ in size and have an offset.
inline Rows RandomRows(size_t tokens, size_t dim, uint64_t seed) {
  RandomBits bits(seed, {.stage = 15});
  Rows rows(tokens, std::vector<double>(dim));
  for (std::vector<double>& row : rows) {
    for (size_t j = 0; j < dim; ++j) {
      const double size = 0.3 + static_cast<double>((j * 7 + seed) % 5);
      row[j] = static_cast<float>(size * bits.NextNormal() + static_cast<double>(j % 3));
    }
  }
  return rows;
}

}  // namespace turboquant::testing

#endif  // TURBOQUANT_TESTS_CACHE_KEY_STATISTICS_H_
