// Which of many caches to choose: those good enough for the gates, smallest first.
#ifndef TURBOQUANT_SRC_EVAL_SWEEP_H_
#define TURBOQUANT_SRC_EVAL_SWEEP_H_

#include <optional>
#include <string>
#include <vector>

#include "src/eval/real_model_row.h"

namespace turboquant::eval {

// What a cache must reach in every source that has the number; unset: anything.
struct SweepGates {
  std::optional<double> min_token_match = {};  // of prompts
  std::optional<double> min_top_k_agreement = {};
  std::optional<double> max_kl = {};  // nats, mean over a source's predictions
};

// One cache, or plain format, over all sources.
struct SweepEntry {
  std::string name;            // "balanced K4V4, 4 + 64 exact"
  double bytes_per_token = 0;  // true, of keys and values at the end of a sample; mean of sources
  double compression_vs_f16 = 0;
  // Over the predictions of all sources; unset: there were none.
  std::optional<double> kl_mean;
  std::optional<double> top_k_agreement;
  std::optional<double> token_match_rate;   // mean of prompts
  std::optional<double> perplexity_change;  // of texts: mean of the logs, as a factor minus 1
  std::string missed;                       // gates, with the numbers; empty: it passes
};

struct SweepRanking {
  SweepGates gates;
  // Those that pass, by bytes, then KL; then the others, by KL. Equals by name.
  std::vector<SweepEntry> entries;
};

// "balanced K4V4, 4 + 64 exact" or "q4_0, 4 + 64 exact": sinks + window.
std::string RealModelName(const RealModelRow& row);

// Rows of compare runs: every source begins with the exact run's row, behind which the caches stand
// in the same order.
SweepRanking RankSweep(const std::vector<RealModelRow>& rows, const SweepGates& gates);

// As a table for people, and the same in Markdown.
std::string SweepTable(const SweepRanking& ranking);
std::string SweepMarkdown(const SweepRanking& ranking, const std::string& model);

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_SWEEP_H_
