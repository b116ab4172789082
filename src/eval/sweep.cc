#include "src/eval/sweep.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "src/eval/cache_spec.h"
#include "src/eval/metrics.h"

namespace turboquant::eval {
namespace {

// Sums of one cache over the sources.
struct SweepSums {
  const RealModelRow* first = nullptr;
  Mean bytes_per_token;
  Mean f16_bytes_per_token;
  Mean kl;
  Mean top_k_agreement;
  Mean token_match_rate;
  Mean cross_entropy_change;
  std::vector<std::string> missed;
};

void AddPredictions(const std::optional<double>& number, size_t predictions, Mean& mean) {
  if (number) mean.AddSum(*number * static_cast<double>(predictions), predictions);
}

void CheckGates(const RealModelRow& row, const SweepGates& gates, SweepSums& sums) {
  const auto miss = [&](std::string_view what, double number, std::string_view than, double gate) {
    sums.missed.push_back(
        fmt::format("{} {:.4g} {} {:.4g} ({})", what, number, than, gate, row.source));
  };
  if (gates.min_token_match && row.token_match_rate &&
      *row.token_match_rate < *gates.min_token_match) {
    miss("token match", *row.token_match_rate, "<", *gates.min_token_match);
  }
  if (gates.min_top_k_agreement && row.top_k_agreement &&
      *row.top_k_agreement < *gates.min_top_k_agreement) {
    miss("top k", *row.top_k_agreement, "<", *gates.min_top_k_agreement);
  }
  if (gates.max_kl && row.kl_mean && *row.kl_mean > *gates.max_kl) {
    miss("KL", *row.kl_mean, ">", *gates.max_kl);
  }
}

void AddRow(const RealModelRow& row, const SweepGates& gates, SweepSums& sums) {
  if (sums.first == nullptr) sums.first = &row;
  const double tokens = static_cast<double>(row.packed_tokens + row.exact_tokens);
  sums.bytes_per_token.Add(row.kv_bytes / tokens);
  sums.f16_bytes_per_token.Add(row.kv_bytes_f16 / tokens);
  AddPredictions(row.kl_mean, row.predictions, sums.kl);
  AddPredictions(row.top_k_agreement, row.predictions, sums.top_k_agreement);
  if (row.token_match_rate) sums.token_match_rate.Add(*row.token_match_rate);
  if (row.protocol == "teacher-forced" && row.cross_entropy && row.cross_entropy_exact) {
    AddPredictions(*row.cross_entropy - *row.cross_entropy_exact, row.predictions,
                   sums.cross_entropy_change);
  }
  CheckGates(row, gates, sums);
}

SweepEntry Entry(const SweepSums& sums) {
  SweepEntry entry;
  entry.name = RealModelName(*sums.first);
  entry.bytes_per_token = sums.bytes_per_token.Value();
  entry.compression_vs_f16 = sums.f16_bytes_per_token.Value() / entry.bytes_per_token;
  if (sums.kl.count() > 0) {
    entry.kl_mean = sums.kl.Value();
    entry.top_k_agreement = sums.top_k_agreement.Value();
  }
  if (sums.token_match_rate.count() > 0) entry.token_match_rate = sums.token_match_rate.Value();
  if (sums.cross_entropy_change.count() > 0) {
    entry.perplexity_change = std::exp(sums.cross_entropy_change.Value()) - 1.0;
  }
  entry.missed = fmt::format("{}", fmt::join(sums.missed, "; "));
  return entry;
}

bool Before(const SweepEntry& a, const SweepEntry& b) {
  if (a.missed.empty() != b.missed.empty()) return a.missed.empty();
  // No number is no merit.
  const double a_kl = a.kl_mean.value_or(std::numeric_limits<double>::infinity());
  const double b_kl = b.kl_mean.value_or(std::numeric_limits<double>::infinity());
  if (!a.missed.empty()) return std::tie(a_kl, a.name) < std::tie(b_kl, b.name);
  return std::tie(a.bytes_per_token, a_kl, a.name) < std::tie(b.bytes_per_token, b_kl, b.name);
}

}  // namespace

std::string RealModelName(const RealModelRow& row) {
  if (row.method == "exact") return "exact";
  std::string name = row.method;
  if (row.method == "cache") {
    name = fmt::format("{} {}", row.policy,
                       WidthsName(row.key_method, row.key_bits, row.value_method, row.value_bits));
  }
  return fmt::format("{}, {} + {} exact{}", name, row.sinks, row.window,
                     ChoicesInName(row.policy, row.scale_search, row.key_codes));
}

SweepRanking RankSweep(const std::vector<RealModelRow>& rows, const SweepGates& gates) {
  std::vector<SweepSums> caches;
  size_t place = 0;
  for (const RealModelRow& row : rows) {
    if (row.method == "exact") {
      place = 0;
      continue;
    }
    if (place == caches.size()) caches.emplace_back();
    AddRow(row, gates, caches[place++]);
  }
  SweepRanking ranking{gates, {}};
  for (const SweepSums& sums : caches) ranking.entries.push_back(Entry(sums));
  std::ranges::sort(ranking.entries, Before);
  return ranking;
}

}  // namespace turboquant::eval
