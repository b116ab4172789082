// Estimates one inner product with the sign sketch (QJL), with TurboQuant-Prod, and with the MSE
// quantizer's unbiased scale, over many seeds: none is biased, and the last has the least variance.
#include <cmath>
#include <cstdio>
#include <expected>
#include <functional>

#include "examples/example_rows.h"
#include "turboquant/mse_quantizer.h"
#include "turboquant/prod_quantizer.h"
#include "turboquant/qjl.h"

using turboquant::Result;

namespace {

constexpr size_t kDim = 128;
constexpr unsigned kSeeds = 400;

// All three have the same verbs.
template <class Quantizer>
Result<float> ScoreWith(const Result<Quantizer>& quantizer, const ExampleRows& query,
                        const ExampleRows& row) {
  if (!quantizer) return std::unexpected(quantizer.error());
  const auto encoded = quantizer->Encode(row.view());
  if (!encoded) return std::unexpected(encoded.error());
  const auto prepared = quantizer->Prepare(query.view());
  if (!prepared) return std::unexpected(prepared.error());
  float score = 0.0f;
  if (const auto done = quantizer->Score(*prepared, *encoded, {&score, 1, 1}); !done) {
    return std::unexpected(done.error());
  }
  return score;
}

struct Spread {
  double mean_error;
  double deviation;
};

// Of score(seed) around `exact`, in units of `unit`.
Result<Spread> Measure(double exact, double unit,
                       const std::function<Result<float>(uint64_t seed)>& score) {
  double sum = 0.0;
  double squares = 0.0;
  for (unsigned seed = 0; seed < kSeeds; ++seed) {
    const auto estimate = score(seed);
    if (!estimate) return std::unexpected(estimate.error());
    const double error = (static_cast<double>(*estimate) - exact) / unit;
    sum += error;
    squares += error * error;
  }
  return Spread{sum / kSeeds, std::sqrt(squares / kSeeds)};
}

}  // namespace

int main() {
  const ExampleRows row = NormalRows(1, kDim, /*seed=*/1);
  const ExampleRows query = NormalRows(1, kDim, /*seed=*/2);
  const double exact = Dot(row.values.data(), query.values.data(), kDim);
  const double unit = std::sqrt(Dot(row.values.data(), row.values.data(), kDim) *
                                Dot(query.values.data(), query.values.data(), kDim));
  const struct {
    const char* name;
    std::function<Result<float>(uint64_t)> score;
  } methods[] = {
      {"QJL, 1 bit",
       [&](uint64_t seed) {
         return ScoreWith(turboquant::QjlSketch::Create({.dim = kDim, .seed = seed}), query, row);
       }},
      {"Prod, 3 bits",
       [&](uint64_t seed) {
         return ScoreWith(turboquant::ProdQuantizer::Create({.dim = kDim, .bits = 3, .seed = seed}),
                          query, row);
       }},
      {"MSE, 3 bits",
       [&](uint64_t seed) {
         return ScoreWith(turboquant::MseQuantizer::Create({.dim = kDim, .bits = 3, .seed = seed}),
                          query, row);
       }},
  };
  double last = 1.0;
  for (const auto& method : methods) {
    const auto spread = Measure(exact, unit, method.score);
    if (!spread) {
      std::fprintf(stderr, "%s\n", spread.error().message.c_str());
      return 1;
    }
    std::printf("%-12s mean error %+.5f, standard deviation %.5f of |query| |row|\n", method.name,
                spread->mean_error, spread->deviation);
    const double standard_error = spread->deviation / std::sqrt(static_cast<double>(kSeeds));
    if (std::fabs(spread->mean_error) > 4.0 * standard_error) return 1;
    if (spread->deviation >= last) return 1;
    last = spread->deviation;
  }
  return 0;
}
