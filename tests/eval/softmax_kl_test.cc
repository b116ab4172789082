// What quantized keys do to attention weights: acceptance rows 21 and 22.
#include <array>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "src/eval/attention_errors.h"
#include "src/eval/metrics.h"
#include "tests/support/random_rows.h"
#include "turboquant/mse_quantizer.h"
#include "turboquant/prod_quantizer.h"

namespace turboquant::eval {
namespace {

constexpr size_t kDim = 128;
constexpr size_t kKeys = 1024;
constexpr size_t kQueries = 24;
constexpr double kLogitStd = 2.0;

using test::Rows;

Rows MseScores(const Rows& keys, const Rows& queries, int bits, Scale scale, bool search,
               uint64_t seed) {
  MseOptions options;
  options.dim = kDim;
  options.bits = bits;
  options.scale = scale;
  options.scale_search = search;
  options.seed = seed;
  const auto quantizer = MseQuantizer::Create(options).value();
  Rows scores(queries.rows, keys.rows);
  const auto scored = quantizer.Score(quantizer.Prepare(queries.view()).value(),
                                      quantizer.Encode(keys.view()).value(), scores.view());
  EXPECT_TRUE(scored.has_value());
  return scores;
}

Rows ProdScores(const Rows& keys, const Rows& queries, int bits, SketchKind sketch, uint64_t seed) {
  ProdOptions options;
  options.dim = kDim;
  options.bits = bits;
  options.sketch = sketch;
  options.seed = seed;
  const auto quantizer = ProdQuantizer::Create(options).value();
  Rows scores(queries.rows, keys.rows);
  const auto scored = quantizer.Score(quantizer.Prepare(queries.view()).value(),
                                      quantizer.Encode(keys.view()).value(), scores.view());
  EXPECT_TRUE(scored.has_value());
  return scores;
}

struct Variant {
  std::string name;
  double kl_at_4_bits;
  double kl_at_3_bits;
  std::function<Rows(const Rows&, const Rows&, int, uint64_t)> score;
};

// In the order that their divergence must have.
std::vector<Variant> Variants() {
  const auto mse = [](Scale scale, bool search) {
    return [=](const Rows& keys, const Rows& queries, int bits, uint64_t seed) {
      return MseScores(keys, queries, bits, scale, search, seed);
    };
  };
  const auto prod = [](SketchKind sketch) {
    return [=](const Rows& keys, const Rows& queries, int bits, uint64_t seed) {
      return ProdScores(keys, queries, bits, sketch, seed);
    };
  };
  return {{"search", .0154, .0636, mse(Scale::kMatched, true)},
          {"matched", .0175, .0651, mse(Scale::kMatched, false)},
          {"unbiased", .0176, .0664, mse(Scale::kUnbiased, false)},
          {"norm", .0189, .0691, mse(Scale::kNorm, false)},
          {"Prod, orthogonal", .0381, .1335, prod(SketchKind::kOrthogonal)},
          {"Prod, Gaussian", .105, .347, prod(SketchKind::kGaussian)}};
}

// KL of each query under one variant's scores.
void AppendDivergences(const Rows& exact, const Rows& estimated, std::vector<double>& kl) {
  const double factor = kLogitStd * std::sqrt(static_cast<double>(kDim));
  for (size_t q = 0; q < exact.rows; ++q) {
    std::vector<double> exact_logits, estimated_logits;
    for (size_t t = 0; t < exact.dim; ++t) {
      exact_logits.push_back(factor * static_cast<double>(exact[q][t]));
      estimated_logits.push_back(factor * static_cast<double>(estimated[q][t]));
    }
    kl.push_back(SoftmaxKl(exact_logits, estimated_logits));
  }
}

class SoftmaxKlTest : public ::testing::TestWithParam<int> {};

TEST_P(SoftmaxKlTest, MethodsStandInTheirOrder) {
  const int bits = GetParam();
  const std::vector<Variant> variants = Variants();
  std::vector<std::vector<double>> kl(variants.size());
  for (uint64_t draw = 0; draw < 12; ++draw) {
    const Rows keys = test::UnitRows(kKeys, kDim, 100 + draw);
    const Rows queries = test::UnitRows(kQueries, kDim, 200 + draw);
    Rows exact(kQueries, kKeys);
    for (size_t q = 0; q < kQueries; ++q) {
      for (size_t t = 0; t < kKeys; ++t) {
        exact[q][t] = static_cast<float>(test::Dot(queries[q], keys[t]));
      }
    }
    for (size_t v = 0; v < variants.size(); ++v) {
      AppendDivergences(exact, variants[v].score(keys, queries, bits, 300 + draw), kl[v]);
    }
  }
  for (size_t v = 0; v < variants.size(); ++v) {
    test::Sample sample;
    for (const double divergence : kl[v]) sample.Add(divergence);
    const double expected = bits == 4 ? variants[v].kl_at_4_bits : variants[v].kl_at_3_bits;
    EXPECT_NEAR(sample.mean() / expected, 1.0, 0.2) << variants[v].name;
    if (v == 0) continue;
    test::Sample step;
    for (size_t i = 0; i < kl[v].size(); ++i) step.Add(kl[v][i] - kl[v - 1][i]);
    if (variants[v].name == "unbiased") {  // at least that of matched
      EXPECT_GT(step.mean(), -2 * step.standard_error());
    } else {
      EXPECT_GT(step.mean(), 0) << variants[v].name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Bits, SoftmaxKlTest, ::testing::Values(3, 4));

// A vector taken from every key changes every logit of a query by the same number.
TEST(SoftmaxTest, AttentionDoesNotSeeAConstantInTheKeys) {
  Rows keys = test::NormalRows(200, 64, 1);
  const Rows values = test::NormalRows(200, 64, 2);
  const Rows queries = test::NormalRows(20, 64, 3);
  const Rows centre = test::NormalRows(1, 64, 4);
  std::vector<size_t> positions;
  for (size_t q = 0; q < queries.rows; ++q) positions.push_back(10 * q + 9);
  const auto attend = [&](MatrixView<const float> with) {
    AttentionCase attention_case;
    attention_case.keys = with;
    attention_case.values = values.view();
    attention_case.queries = queries.view();
    attention_case.positions = positions;
    attention_case.logit_scale = 1.0 / 8.0;
    return ExactAttention(attention_case);
  };
  Rows centred = keys;
  for (size_t t = 0; t < keys.rows; ++t) {
    for (size_t j = 0; j < keys.dim; ++j) centred[t][j] -= 3.0f * centre[0][j];
  }
  const ExactAttention exact = attend(keys.view());
  const ExactAttention shifted = attend(centred.view());
  for (size_t q = 0; q < queries.rows; ++q) {
    EXPECT_GT(std::abs(exact.Scores(q)[0] - shifted.Scores(q)[0]), 1e-3);
    for (size_t j = 0; j < 64; ++j) EXPECT_NEAR(exact.Output(q)[j], shifted.Output(q)[j], 1e-5);
  }
}

}  // namespace
}  // namespace turboquant::eval
