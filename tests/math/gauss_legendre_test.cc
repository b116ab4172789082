#include "src/math/gauss_legendre.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace turboquant {
namespace {

TEST(GaussLegendreTest, NodesAndWeightsAreThoseOfTheTables) {
  const GaussLegendreRule& rule = GaussLegendre32();
  // Abramowitz & Stegun, table 25.4, n = 32.
  EXPECT_NEAR(rule.nodes[16], 0.048307665687738316, 1e-16);
  EXPECT_NEAR(rule.weights[16], 0.096540088514727801, 1e-16);
  EXPECT_NEAR(rule.nodes[31], 0.997263861849481564, 2e-16);
  EXPECT_NEAR(rule.weights[31], 0.007018610009470097, 1e-16);
  for (size_t i = 0; i < 32; ++i) {
    EXPECT_EQ(rule.nodes[i], -rule.nodes[31 - i]);
    EXPECT_EQ(rule.weights[i], rule.weights[31 - i]);
    if (i > 0) {
      EXPECT_LT(rule.nodes[i - 1], rule.nodes[i]);
    }
  }
}

TEST(GaussLegendreTest, ExactForEveryPowerUpTo63) {
  const GaussLegendreRule& rule = GaussLegendre32();
  for (int power = 0; power <= 63; ++power) {
    double sum = 0.0;
    for (size_t i = 0; i < 32; ++i) sum += rule.weights[i] * std::pow(rule.nodes[i], power);
    EXPECT_NEAR(sum, power % 2 == 0 ? 2.0 / (power + 1) : 0.0, 1e-15) << "power " << power;
  }
}

TEST(GaussLegendreTest, IntegratesOnPanels) {
  const auto gaussian = [](double z) { return std::exp(-0.5 * z * z); };
  EXPECT_NEAR(Integrate(gaussian, -12.0, 12.0, 0.5), std::sqrt(2.0 * std::numbers::pi), 1e-14);
  EXPECT_NEAR(Integrate(gaussian, 0.1, 0.7, 0.5),
              std::sqrt(std::numbers::pi / 2.0) *
                  (std::erf(0.7 / std::numbers::sqrt2) - std::erf(0.1 / std::numbers::sqrt2)),
              1e-15);
}

TEST(GaussLegendreTest, UsesTheFewestPanelsAndNoneWhenEmpty) {
  int calls = 0;
  const auto counted = [&calls](double) {
    ++calls;
    return 1.0;
  };
  EXPECT_DOUBLE_EQ(Integrate(counted, 1.0, 2.0, 0.5), 1.0);
  EXPECT_EQ(calls, 2 * 32);
  calls = 0;
  EXPECT_DOUBLE_EQ(Integrate(counted, 0.0, 1.01, 0.5), 1.01);
  EXPECT_EQ(calls, 3 * 32);
  calls = 0;
  EXPECT_EQ(Integrate(counted, 1.0, 1.0, 0.5), 0.0);
  EXPECT_EQ(Integrate(counted, 2.0, 1.0, 0.5), 0.0);
  EXPECT_EQ(Integrate(counted, 0.0, std::nan(""), 0.5), 0.0);
  EXPECT_EQ(calls, 0);
}

}  // namespace
}  // namespace turboquant
