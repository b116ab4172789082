#include "src/onnx/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "src/base/failure.h"

namespace turboquant {
namespace {

constexpr StreamId kStream = {.layer = 0, .head = 0, .side = 0, .stage = 16, .round = 0};

}  // namespace

Sampler::Sampler(const SamplingOptions& options)
    : options_(options), random_(options.seed, kStream) {}

Result<Sampler> Sampler::Create(const SamplingOptions& options) {
  if (!std::isfinite(options.temperature) || options.temperature < 0.0) {
    return Fail(ErrorCode::kInvalidArgument, "temperature must be 0 or more, got ",
                options.temperature);
  }
  if (!(options.top_p > 0.0 && options.top_p <= 1.0)) {
    return Fail(ErrorCode::kInvalidArgument, "top_p must be above 0 and at most 1, got ",
                options.top_p);
  }
  return Sampler(options);
}

Result<int64_t> Sampler::Choose(std::span<const float> logits) {
  for (size_t id = 0; id < logits.size(); ++id) {
    // -infinity forbids a token.
    if (std::isnan(logits[id]) || logits[id] == INFINITY) {
      return Fail(ErrorCode::kModel, "the logit of token ", id, " is ", logits[id]);
    }
  }
  if (options_.temperature > 0.0) return Draw(logits);
  return std::ranges::max_element(logits) - logits.begin();
}

int64_t Sampler::Draw(std::span<const float> logits) {
  std::vector<int64_t> order(logits.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  const size_t kept = options_.top_k == 0 ? order.size() : std::min(options_.top_k, order.size());
  std::ranges::partial_sort(
      order, order.begin() + static_cast<std::ptrdiff_t>(kept),
      [&](int64_t a, int64_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  order.resize(kept);
  std::vector<double> weights(kept);
  for (size_t i = 0; i < kept; ++i) {
    weights[i] =
        std::exp((static_cast<double>(logits[order[i]]) - logits[order[0]]) / options_.temperature);
  }
  // The smallest set of likeliest tokens with top_p of the weight.
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  double nucleus = 0.0;
  size_t count = 0;
  while (count < kept && (count == 0 || nucleus < options_.top_p * total)) {
    nucleus += weights[count++];
  }
  double left = random_.NextUniform() * nucleus;
  for (size_t i = 0; i + 1 < count; ++i) {
    if (left < weights[i]) return order[i];
    left -= weights[i];
  }
  return order[count - 1];
}

}  // namespace turboquant
