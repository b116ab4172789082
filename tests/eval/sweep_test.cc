#include "src/eval/sweep.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/eval/report.h"
#include "src/eval/result_output.h"

namespace turboquant::eval {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

RealModelRow Exact(const std::string& source) {
  RealModelRow row;
  row.method = "exact";
  row.model = "a model";
  row.source = source;
  row.protocol = source == "prompts" ? "prompts" : "teacher-forced";
  return row;
}

// A cache of 10 tokens whose predictions are 100.
RealModelRow Cache(const std::string& source, int bits, double bytes, double kl) {
  RealModelRow row = Exact(source);
  row.method = "cache";
  row.policy = "balanced";
  row.key_method = row.value_method = "mse";
  row.key_bits = row.value_bits = bits;
  row.sinks = 4;
  row.packed_tokens = 6;
  row.exact_tokens = 4;
  row.kv_bytes = bytes * 10;
  row.kv_bytes_f16 = 1000 * 10;
  row.predictions = 100;
  row.kl_mean = kl;
  row.top_k_agreement = 1.0 - kl;
  row.cross_entropy_exact = 2.0;
  row.cross_entropy = 2.0 + kl;
  return row;
}

// Three caches over a text and prompts: 4 bits is the best and largest.
std::vector<RealModelRow> Rows() {
  std::vector<RealModelRow> rows = {Exact("a.txt"),
                                    Cache("a.txt", 4, 400, 0.01),
                                    Cache("a.txt", 3, 300, 0.03),
                                    Cache("a.txt", 2, 200, 0.2),  //
                                    Exact("prompts"),
                                    Cache("prompts", 4, 440, 0.02),
                                    Cache("prompts", 3, 340, 0.05),
                                    Cache("prompts", 2, 240, 0.4)};
  rows[5].token_match_rate = 0.95;
  rows[6].token_match_rate = 0.8;
  rows[7].token_match_rate = 0.3;
  for (size_t r = 5; r < 8; ++r) rows[r].predictions = 300;
  return rows;
}

std::vector<std::string> Names(const SweepRanking& ranking) {
  std::vector<std::string> names;
  for (const SweepEntry& entry : ranking.entries) names.push_back(entry.name);
  return names;
}

constexpr const char* kK2 = "balanced K2V2, 4 + 0 exact";
constexpr const char* kK3 = "balanced K3V3, 4 + 0 exact";
constexpr const char* kK4 = "balanced K4V4, 4 + 0 exact";

TEST(SweepTest, WithoutGatesTheSmallestIsFirst) {
  const SweepRanking ranking = RankSweep(Rows(), {});
  EXPECT_THAT(Names(ranking), ElementsAre(kK2, kK3, kK4));
  const SweepEntry& best = ranking.entries[2];
  EXPECT_DOUBLE_EQ(best.bytes_per_token, 420.0);
  EXPECT_DOUBLE_EQ(best.compression_vs_f16, 1000.0 / 420.0);
  EXPECT_DOUBLE_EQ(*best.kl_mean, 0.01 * 0.25 + 0.02 * 0.75);  // by predictions
  EXPECT_DOUBLE_EQ(*best.top_k_agreement, 0.99 * 0.25 + 0.98 * 0.75);
  EXPECT_DOUBLE_EQ(*best.token_match_rate, 0.95);
  EXPECT_NEAR(*best.perplexity_change, 0.01005, 1e-5);  // of the text alone
  EXPECT_EQ(best.missed, "");
}

TEST(SweepTest, WhatMissesAGateInAnySourceStandsBehindByKl) {
  // 3 bits pass on the text, not on the prompts.
  SweepRanking ranking = RankSweep(Rows(), {.max_kl = 0.04});
  EXPECT_THAT(Names(ranking), ElementsAre(kK4, kK3, kK2));
  EXPECT_EQ(ranking.entries[1].missed, "KL 0.05 > 0.04 (prompts)");
  EXPECT_EQ(ranking.entries[2].missed, "KL 0.2 > 0.04 (a.txt); KL 0.4 > 0.04 (prompts)");
  ranking = RankSweep(Rows(), {.min_token_match = 0.8});
  EXPECT_THAT(Names(ranking), ElementsAre(kK3, kK4, kK2));
  EXPECT_EQ(ranking.entries[2].missed, "token match 0.3 < 0.8 (prompts)");
  ranking = RankSweep(Rows(), {.min_top_k_agreement = 0.96});
  EXPECT_THAT(Names(ranking), ElementsAre(kK4, kK3, kK2));
  EXPECT_EQ(ranking.entries[1].missed, "top k 0.95 < 0.96 (prompts)");
}

TEST(SweepTest, OfEqualSizesTheLowerKlIsFirst) {
  std::vector<RealModelRow> rows = {Exact("a.txt"), Cache("a.txt", 3, 300, 0.03),
                                    Cache("a.txt", 4, 300, 0.01)};
  EXPECT_THAT(Names(RankSweep(rows, {})), ElementsAre(kK4, kK3));
  // Nothing was predicted: no number, which is not the best of numbers.
  rows[1].kl_mean.reset();
  rows[1].predictions = 0;
  EXPECT_FALSE(RankSweep(rows, {.max_kl = 1.0}).entries[1].kl_mean);
}

TEST(SweepTest, TableAndMarkdownSayTheSame) {
  const SweepRanking ranking = RankSweep(Rows(), {.max_kl = 0.04});
  const std::string table = SweepTable(ranking);
  EXPECT_THAT(table, HasSubstr("1 of 3 pass the gates (KL <= 0.04)"));
  EXPECT_THAT(table, HasSubstr("   1 balanced K4V4, 4 + 0 exact      420   2.38    0.0175"));
  const std::string markdown = SweepMarkdown(ranking, "a model");
  EXPECT_THAT(markdown, HasSubstr("# Sweep of caches: a model\n"));
  EXPECT_THAT(markdown, HasSubstr("| 1 | balanced K4V4, 4 + 0 exact | 420 | 2.38 | 0.0175 | "));
  EXPECT_THAT(markdown, HasSubstr(" | KL 0.05 > 0.04 (prompts) |\n"));
  std::vector<RealModelRow> rows = Rows();
  for (RealModelRow& row : rows) {
    if (row.source == "a.txt") row.source = "a|b.txt";
  }
  EXPECT_THAT(SweepMarkdown(RankSweep(rows, {.max_kl = 0.0}), "m"), HasSubstr("(a/b.txt)"));
}

TEST(SweepTest, TheReportRanksAndDrawsTheFrontier) {
  BenchmarkResult result;
  result.workload = "real-model";
  result.real_model_rows = Rows();
  EXPECT_THAT(RenderReport(result), HasSubstr("frontier"));
  EXPECT_THAT(RenderReport(result), HasSubstr(">balanced K4V4</text>"));
  EXPECT_THAT(RenderReport(result), Not(HasSubstr("Ranking")));
  result.sweep = RankSweep(result.real_model_rows, {});
  EXPECT_THAT(RenderReport(result), HasSubstr("Ranking: what passes the gates, smallest first"));
  EXPECT_THAT(ToTable(result), HasSubstr("3 of 3 pass the gates (none)"));
  EXPECT_THAT(ToTable(result), Not(HasSubstr("logit err")));
  // One that is larger and worse is no part of it.
  result.real_model_rows.resize(2);
  EXPECT_THAT(RenderReport(result), Not(HasSubstr("frontier")));
}

}  // namespace
}  // namespace turboquant::eval
