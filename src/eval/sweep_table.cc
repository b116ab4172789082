#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "src/eval/sweep.h"

namespace turboquant::eval {
namespace {

std::string Gates(const SweepGates& gates) {
  std::vector<std::string> parts;
  if (gates.min_token_match)
    parts.push_back(fmt::format("token match >= {}", *gates.min_token_match));
  if (gates.min_top_k_agreement) {
    parts.push_back(fmt::format("top k >= {}", *gates.min_top_k_agreement));
  }
  if (gates.max_kl) parts.push_back(fmt::format("KL <= {}", *gates.max_kl));
  return parts.empty() ? "none" : fmt::format("{}", fmt::join(parts, ", "));
}

size_t Passing(const SweepRanking& ranking) {
  return static_cast<size_t>(std::ranges::count_if(
      ranking.entries, [](const SweepEntry& entry) { return entry.missed.empty(); }));
}

std::string Optional(const std::optional<double>& number) {
  return number ? fmt::format("{:.4g}", *number) : "-";
}

// Cells of one entry, behind its rank.
std::vector<std::string> Cells(const SweepEntry& entry) {
  return {entry.name,
          fmt::format("{:.0f}", entry.bytes_per_token),
          fmt::format("{:.2f}", entry.compression_vs_f16),
          Optional(entry.kl_mean),
          Optional(entry.top_k_agreement),
          Optional(entry.token_match_rate),
          entry.perplexity_change ? fmt::format("{:+.2f}", 100.0 * *entry.perplexity_change) : "-",
          entry.missed.empty() ? "passes" : entry.missed};
}

std::string Headline(const SweepRanking& ranking) {
  return fmt::format("{} of {} pass the gates ({}); smallest first, then the others by KL",
                     Passing(ranking), ranking.entries.size(), Gates(ranking.gates));
}

}  // namespace

std::string SweepTable(const SweepRanking& ranking) {
  size_t widest = 5;
  for (const SweepEntry& entry : ranking.entries) widest = std::max(widest, entry.name.size());
  std::string text = "sweep: " + Headline(ranking) + "\n";
  const auto line = [&](const std::string& rank, const std::vector<std::string>& cells) {
    fmt::format_to(std::back_inserter(text),
                   "{:>4} {:<{}} {:>8} {:>6} {:>9} {:>7} {:>6} {:>8}  {}\n", rank, cells[0], widest,
                   cells[1], cells[2], cells[3], cells[4], cells[5], cells[6], cells[7]);
  };
  line("", {"cache", "B/token", "x f16", "kl", "top k", "match", "ppl %", "gates"});
  for (size_t i = 0; i < ranking.entries.size(); ++i) {
    line(fmt::format("{}", i + 1), Cells(ranking.entries[i]));
  }
  return text + "\n";
}

std::string SweepMarkdown(const SweepRanking& ranking, const std::string& model) {
  std::string text = fmt::format("# Sweep of caches: {}\n\n{}.\n\n", model, Headline(ranking));
  text +=
      "Bytes per token are true: codes, scales and exact tokens, keys and values of all layers. "
      "KL, "
      "in nats, is the mean over all predictions.\n\n"
      "| | cache | bytes per token | against f16 | KL | top k | token match | perplexity, % | "
      "gates "
      "|\n|---|---|---|---|---|---|---|---|---|\n";
  for (size_t i = 0; i < ranking.entries.size(); ++i) {
    fmt::format_to(std::back_inserter(text), "| {} |", i + 1);
    for (std::string cell : Cells(ranking.entries[i])) {
      std::ranges::replace(cell, '|', '/');  // of a file's name
      text += " " + cell + " |";
    }
    text += "\n";
  }
  return text;
}

}  // namespace turboquant::eval
