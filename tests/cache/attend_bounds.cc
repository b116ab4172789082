#include "tests/cache/attend_bounds.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "src/base/half.h"
#include "src/kernels/kernels.h"

namespace turboquant::test {
namespace {

constexpr double kRmsOfUniform = 0.28867513459481287;  // 1/sqrt(12), of a width of 1
constexpr double kFloat = 2e-6;                        // what sums in float are off, relatively

}  // namespace

AttendBounds::AttendBounds(const KvCache& cache, const DenseAttention& dense)
    : cache_(cache),
      dense_(dense),
      view_(cache.view()),
      parts_(cache.format().parts()),
      heads_(parts_.options.kv_heads) {
  for (size_t head = 0; head < heads_.size(); ++head) {
    ReadKeys(head, heads_[head]);
    ReadValues(head, heads_[head]);
  }
}

void AttendBounds::ReadKeys(size_t head, Head& into) const {
  for (const KvPart& part : parts_.keys.parts) {
    std::vector<double>& l1 = into.key_l1.emplace_back();
    std::vector<double>& l2 = into.key_l2.emplace_back();
    std::vector<uint8_t> codes(part.dim);
    for (size_t i = 0; i < view_.packed_tokens; ++i) {
      const size_t lane = (view_.first_lane + i) % kPageTokens;
      const std::byte* bytes = view_.pages[PageOf(i)].bytes + head * parts_.head_bytes;
      auto* blocks = reinterpret_cast<uint8_t*>(const_cast<std::byte*>(bytes)) + part.blocks_offset;
      kernels::reference::UnpackCodes({blocks, part.dim, part.bits, false}, lane, 1, codes.data());
      double sum = 0.0;
      double squares = 0.0;
      for (const uint8_t code : codes) {
        const double level = part.score.levels[code];
        sum += std::fabs(level);
        squares += level * level;
      }
      const auto* scales = reinterpret_cast<const uint16_t*>(bytes + part.scales_offset);
      const double step = static_cast<double>(F16ToF32({scales[lane]})) * part.level_step;
      l1.push_back(sum * step);
      l2.push_back(std::sqrt(squares) * step);
    }
  }
}

void AttendBounds::ReadValues(size_t head, Head& into) const {
  const size_t dim = parts_.options.head_dim;
  for (size_t t = 0; t < dense_.tokens(); ++t) {
    const std::span<const float> value = dense_.decoded().Row(true, t, head);
    const auto stored = ToStored(std::vector<double>(value.begin(), value.end()), head);
    into.stored_values.insert(into.stored_values.end(), stored.begin(), stored.end());
  }
  for (const KvPart& part : parts_.values.parts) {
    std::vector<double>& numbers = into.value_scales.emplace_back();
    for (size_t i = 0; i < view_.packed_tokens; ++i) {
      const std::byte* bytes = view_.pages[PageOf(i)].bytes + head * parts_.head_bytes;
      const auto* scales = reinterpret_cast<const uint16_t*>(bytes + part.scales_offset);
      numbers.push_back(
          static_cast<double>(F16ToF32({scales[(view_.first_lane + i) % kPageTokens]})));
    }
  }
  EXPECT_EQ(into.stored_values.size(), dense_.tokens() * dim);
}

// The query in the frame of a page, channels in the order of the parts: in double.
std::vector<float> AttendBounds::Framed(std::span<const float> query, size_t head,
                                        size_t page) const {
  std::vector<double> row(query.begin(), query.end());
  const size_t dim = row.size();
  if (view_.key_map != nullptr) {
    const uint64_t base = view_.packed_position - view_.first_lane + page * kPageTokens;
    const size_t pairs = view_.rotary_dim / 2;
    for (size_t i = 0; i < pairs; ++i) {
      const bool half = view_.rope_pairing == RopePairing::kHalf;
      double& x = row[half ? i : 2 * i];
      double& y = row[half ? i + pairs : 2 * i + 1];
      const double angle =
          static_cast<double>(base) * cache_.options().rope->inverse_frequencies[i];
      const double turned = x * std::cos(angle) + y * std::sin(angle);
      y = y * std::cos(angle) - x * std::sin(angle);
      x = turned;
    }
    const std::span<const float> inverse = view_.key_map->inverse_scale(head);
    for (size_t j = 0; j < inverse.size(); ++j) row[j] *= static_cast<double>(inverse[j]);
    const std::span<const float> matrix = view_.key_map->inverse_transpose(head);
    if (!matrix.empty()) {
      std::vector<double> product(dim, 0.0);
      for (size_t i = 0; i < dim; ++i) {
        for (size_t j = 0; j < dim; ++j)
          product[i] += static_cast<double>(matrix[i * dim + j]) * row[j];
      }
      row = product;
    }
  }
  std::vector<float> framed(dim);
  for (size_t j = 0; j < dim; ++j) {
    framed[j] = static_cast<float>(
        row[view_.key_channels == nullptr ? j : view_.key_channels[head * dim + j]]);
  }
  return framed;
}

// The largest coordinate that the part's digits have to reach.
double AttendBounds::Largest(const KvPart& part, size_t head,
                             const std::vector<float>& framed) const {
  std::vector<float> projected(part.dim);
  const MatrixView<float> row = {projected.data(), 1, part.dim};
  EXPECT_TRUE(
      part.cores[head].rotation().Apply({framed.data() + part.first_channel, 1, part.dim}, row));
  if (part.signs) {
    const std::vector<float> rotated = projected;
    EXPECT_TRUE(part.sketches[head].Project({rotated.data(), 1, part.dim}, row));
  }
  double largest = 0.0;
  for (const float x : projected) largest = std::max(largest, std::fabs(static_cast<double>(x)));
  return largest;
}

ErrorBound AttendBounds::Logits(std::span<const float> query, size_t kv_head,
                                const AttendOptions& options) const {
  const double scale = LogitScale(options, query.size());
  const double digit_max = options.digits == 2 ? kernels::kTwoDigitMax : kernels::kOneDigitMax;
  const Head& head = heads_[kv_head];
  const double query_norm = Norm(query);
  ErrorBound bound;
  for (size_t t = 0; t < dense_.tokens(); ++t) {
    const double norms = query_norm * Norm(dense_.decoded().Row(false, t, kv_head));
    bound.slack.push_back(1e-6 + kFloat * scale * norms);
  }
  bound.worst = bound.slack;
  bound.rms.assign(bound.slack.size(), 0.0);
  std::vector<float> framed;
  std::vector<double> steps;
  double offset = 0.0;
  for (size_t i = 0; i < view_.packed_tokens; ++i) {
    const size_t t = view_.sinks.count + i;
    if (i == 0 || PageOf(i) != PageOf(i - 1)) {
      framed = Framed(query, kv_head, PageOf(i));
      if (view_.key_map != nullptr) offset = query_norm * Norm(view_.key_map->center(kv_head));
      steps.clear();
      for (const KvPart& part : parts_.keys.parts)
        steps.push_back(Largest(part, kv_head, framed) / digit_max * scale);
    }
    double squares = 0.0;
    double norms = offset;
    for (size_t p = 0; p < steps.size(); ++p) {
      bound.worst[t] += 1.0001 * steps[p] / 2.0 * head.key_l1[p][i];
      squares += steps[p] * steps[p] * head.key_l2[p][i] * head.key_l2[p][i];
      norms += Norm(framed) * head.key_l2[p][i];
    }
    bound.rms[t] = std::sqrt(squares) * kRmsOfUniform;
    bound.slack[t] += kFloat * scale * norms;
    bound.worst[t] += kFloat * scale * norms;
  }
  return bound;
}

std::vector<float> AttendBounds::ToStored(std::span<const double> row, size_t kv_head) const {
  const size_t dim = row.size();
  std::vector<float> stored(dim);
  for (size_t j = 0; j < dim; ++j) {
    stored[j] = static_cast<float>(
        row[view_.value_channels == nullptr ? j : view_.value_channels[kv_head * dim + j]]);
  }
  for (const KvPart& part : parts_.values.parts) {
    const MatrixView<float> channels = {stored.data() + part.first_channel, 1, part.dim};
    EXPECT_TRUE(part.cores[kv_head].rotation().Apply(channels, channels));
  }
  return stored;
}

std::vector<AttendBounds::DigitError> AttendBounds::DigitErrors(const DenseRow& row,
                                                                const std::vector<double>& scales,
                                                                double digit_max) const {
  std::vector<DigitError> errors(view_.packed_tokens, {0.0, 0.0});
  for (size_t first = 0; first < errors.size();) {
    size_t end = first;
    double largest = 0.0;
    while (end < errors.size() && PageOf(end) == PageOf(first)) {
      largest = std::max(largest, row.weights[view_.sinks.count + end] * scales[end]);
      ++end;
    }
    const double step = largest / digit_max;
    for (; first < end; ++first) {
      const double p = row.weights[view_.sinks.count + first] * scales[first];
      if (p == 0.0) continue;
      // A weight that rounds to nothing is off by itself.
      errors[first] = {std::min(1.01 * step / 2.0, p) / scales[first],
                       std::min(step * kRmsOfUniform, p) / scales[first]};
    }
  }
  return errors;
}

ErrorBound AttendBounds::Output(const DenseRow& row, size_t kv_head, const ErrorBound& logits,
                                const AttendOptions& options) const {
  const size_t dim = parts_.options.head_dim;
  const Head& head = heads_[kv_head];
  const double digit_max =
      options.digits == 2 ? kernels::kTwoWeightDigitsMax : kernels::kOneWeightDigitMax;
  const std::vector<float> output = ToStored(row.output, kv_head);
  ErrorBound bound = {std::vector<double>(dim), std::vector<double>(dim), std::vector<double>(dim)};
  // A weight is off by a factor within exp(+-e), their sum as well.
  double growth = 1.0;
  double reach = 0.0;  // what float sums are relative to
  for (size_t t = 0; t < row.weights.size(); ++t) {
    if (row.weights[t] == 0.0) continue;
    const double error = logits.worst.empty() ? 0.0 : logits.worst[t];
    const double change = row.weights[t] * std::expm1(error);
    growth = std::max(growth, std::exp(error));
    const float* value = head.stored_values.data() + t * dim;
    float largest = 0.0f;
    for (size_t j = 0; j < dim; ++j) {
      bound.worst[j] += change * static_cast<double>(std::fabs(value[j] - output[j]));
      largest = std::max(largest, std::fabs(value[j]));
    }
    reach += row.weights[t] * static_cast<double>(largest);
  }
  std::vector<double> digits(dim);
  std::vector<double> squares(dim);
  for (size_t p = 0; p < parts_.values.parts.size(); ++p) {
    const KvPart& part = parts_.values.parts[p];
    const std::vector<DigitError> errors = DigitErrors(row, head.value_scales[p], digit_max);
    for (size_t i = 0; i < errors.size(); ++i) {
      const float* value = head.stored_values.data() + (view_.sinks.count + i) * dim;
      for (size_t j = part.first_channel; j < part.first_channel + part.dim; ++j) {
        const double level = static_cast<double>(std::fabs(value[j]));
        digits[j] += errors[i].worst * level;
        squares[j] += errors[i].rms * level * errors[i].rms * level;
      }
    }
  }
  for (size_t j = 0; j < dim; ++j) {
    bound.slack[j] = kFloat * reach;
    bound.worst[j] = growth * (bound.worst[j] + growth * digits[j]) + bound.slack[j];
    bound.rms[j] = std::sqrt(squares[j]);
  }
  return bound;
}

namespace {

// Checks row r of the logits; returns how far they may be off.
ErrorBound ExpectLogits(const DenseRow& row, std::span<const float> logits, ErrorBound bound) {
  double reach = 0.0;  // of logits that count
  for (size_t t = 0; t < row.logits.size(); ++t)
    if (row.weights[t] != 0.0) reach = std::max(reach, std::fabs(row.logits[t]));
  for (size_t t = 0; t < row.logits.size(); ++t) {
    const double own = row.logits[t] == kHidden ? 0.0 : std::fabs(row.logits[t]);
    bound.worst[t] += 5e-7 * std::max(reach, own);
    const double logit = static_cast<double>(logits[t]);
    EXPECT_EQ(logit == kHidden, row.logits[t] == kHidden) << "token " << t << ": " << logit;
    if (logit == kHidden || row.logits[t] == kHidden) continue;
    EXPECT_NEAR(logit, row.logits[t], bound.worst[t]) << "token " << t;
    if (testing::Test::HasFailure()) break;
  }
  return bound;
}

// Returns the largest error over its bound.
double ExpectOutput(const AttendBounds& bounds, const DenseRow& row, std::span<const float> output,
                    size_t kv_head, const ErrorBound& bound) {
  std::vector<double> difference(output.begin(), output.end());
  for (size_t j = 0; j < output.size(); ++j) difference[j] -= row.output[j];
  const std::vector<float> stored = bounds.ToStored(difference, kv_head);
  double ratio = 0.0;
  for (size_t j = 0; j < stored.size(); ++j) {
    const double error = std::fabs(static_cast<double>(stored[j]));
    EXPECT_LE(error, bound.worst[j]) << "column " << j;
    if (error != 0.0) ratio = std::max(ratio, error / bound.worst[j]);
  }
  return ratio;
}

}  // namespace

double ExpectAttends(const KvCache& cache, const Queries& queries, const AttendOptions& options) {
  const DenseAttention dense(cache);
  const AttendBounds bounds(cache, dense);
  const std::vector<float> logits = LogitsOf(cache, queries, options);
  const Attended attended(cache, queries, options);
  double ratio = 0.0;
  for (size_t r = 0; r < queries.tokens * queries.heads; ++r) {
    const size_t token = r / queries.heads;
    const size_t head = r % queries.heads;
    SCOPED_TRACE("query token " + std::to_string(token) + ", head " + std::to_string(head));
    const size_t kv_head = dense.KvHead(queries, head);
    const DenseRow row = dense.Attend(queries, token, head, options);
    const ErrorBound logit_bound =
        ExpectLogits(row, std::span(logits).subspan(r * dense.tokens(), dense.tokens()),
                     bounds.Logits(queries.Row(token, head), kv_head, options));
    const auto output = std::span(attended.outputs).subspan(r * queries.dim, queries.dim);
    const double log_sum_exp = static_cast<double>(attended.log_sum_exp[r]);
    if (row.log_sum_exp == kHidden) {
      EXPECT_EQ(log_sum_exp, kHidden);
      for (const float x : output) EXPECT_EQ(x, 0.0f);
      continue;
    }
    double logit_error = 0.0;
    for (size_t t = 0; t < dense.tokens(); ++t)
      if (row.weights[t] != 0.0) logit_error = std::max(logit_error, logit_bound.worst[t]);
    EXPECT_NEAR(log_sum_exp, row.log_sum_exp, logit_error);
    const ErrorBound bound = bounds.Output(row, kv_head, logit_bound, options);
    ratio = std::max(ratio, ExpectOutput(bounds, row, output, kv_head, bound));
    if (testing::Test::HasFailure()) break;
  }
  return ratio;
}

}  // namespace turboquant::test
