#include "src/math/gauss_legendre.h"

#include <numbers>

namespace turboquant {
namespace {

struct Legendre {
  double polynomial;  // P_n(x)
  double derivative;  // P_n'(x), |x| < 1
};

Legendre EvaluateLegendre(size_t n, double x) {
  double previous = 1.0;
  double current = x;
  for (size_t k = 2; k <= n; ++k) {
    const double order = static_cast<double>(k);
    const double next = ((2.0 * order - 1.0) * x * current - (order - 1.0) * previous) / order;
    previous = current;
    current = next;
  }
  return {current, static_cast<double>(n) * (previous - x * current) / (1.0 - x * x)};
}

GaussLegendreRule ComputeRule() {
  GaussLegendreRule rule;
  const size_t n = rule.nodes.size();
  for (size_t i = 0; i < n / 2; ++i) {
    // Tricomi's estimate of root i from above is good to 1e-4, so that Newton's third step is
    // exact.
    double x = std::cos(std::numbers::pi * (static_cast<double>(i) + 0.75) /
                        (static_cast<double>(n) + 0.5));
    for (int step = 0; step < 5; ++step) {
      const Legendre p = EvaluateLegendre(n, x);
      x -= p.polynomial / p.derivative;
    }
    const double derivative = EvaluateLegendre(n, x).derivative;
    const double weight = 2.0 / ((1.0 - x * x) * derivative * derivative);
    rule.nodes[i] = -x;
    rule.nodes[n - 1 - i] = x;
    rule.weights[i] = rule.weights[n - 1 - i] = weight;
  }
  return rule;
}

}  // namespace

const GaussLegendreRule& GaussLegendre32() {
  static const GaussLegendreRule rule = ComputeRule();
  return rule;
}

}  // namespace turboquant
