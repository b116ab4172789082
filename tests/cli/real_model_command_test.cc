#include "src/cli/real_model_command.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/cli/builtin_prompts.h"
#include "src/cli/command_line.h"
#include "tests/eval/json_schema.h"
#include "tests/support/temporary_folder.h"

namespace turboquant::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// The tiny decoder of tests/onnx, run by the program.
class RealModelCommandTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::filesystem::path tiny = TURBOQUANT_SOURCE_DIR "/tests/onnx/tiny";
    for (const char* name : {"config.json", "tokenizer.json", "weights.bin"}) {
      std::filesystem::copy(tiny / name, folder_ / name);
    }
    std::filesystem::copy(tiny / "plain.onnx", folder_ / "model.onnx");
    if (Run({"generate", "--model", model(), "--prompt", "a", "--max-new-tokens", "1"}) != 0) {
      if (err_.find("no real models") != std::string::npos ||
          err_.find("no ONNX Runtime") != std::string::npos ||
          err_.find("no tokenizer") != std::string::npos) {
        GTEST_SKIP() << err_;
      }
      FAIL() << err_;
    }
  }

  int Run(const std::vector<std::string>& arguments) {
    std::ostringstream out;
    std::ostringstream err;
    const int code = RunCommandLine(arguments, out, err, /*err_is_terminal=*/false);
    out_ = out.str();
    err_ = err.str();
    return code;
  }

  int Benchmark(std::vector<std::string> flags) {
    flags.insert(flags.begin(),
                 {"benchmark", "--workload", "real-model", "--real-model-dir", model()});
    return Run(flags);
  }

  std::string Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name) << text;
    return folder_ / name;
  }

  std::string Text() {
    std::string text;
    for (int i = 0; i < 30; ++i) text += "The cache keeps keys and values of every token. ";
    return Write("text.txt", text);
  }

  std::string model() const { return folder_ / ""; }

  std::string out_;
  std::string err_;

 private:
  test::TemporaryFolder folder_;
};

TEST_F(RealModelCommandTest, TheOtherBenchmarksCommandWorks) {
  for (const char* bits : {"2", "3", "4", "8"}) {
    for (const char* strategy : {"mse", "prod"}) {
      for (const char* mode : {"exact", "quantized", "compare"}) {
        ASSERT_EQ(
            Benchmark({"--prompt", "The cache, and its tokens", "--real-eval-mode", mode, "--bits",
                       bits, "--real-key-strategy", strategy, "--max-new-tokens", "4", "--json"}),
            0)
            << err_;
        const auto json = nlohmann::json::parse(out_);
        ASSERT_EQ(json["rows"].size(), std::string(mode) == "compare" ? 2u : 1u);
        const auto& row = json["rows"].back();
        EXPECT_EQ(row["mode"], mode);
        EXPECT_EQ(row["workload"], "real-model");
        if (std::string(mode) == "exact") continue;
        EXPECT_EQ(row["key_method"], strategy);
        EXPECT_EQ(row["key_bits"].get<double>(), std::stod(bits));
        EXPECT_EQ(row["value_bits"].get<double>(), std::stod(bits));
      }
    }
  }
}

TEST_F(RealModelCommandTest, RowsAreAsTheSchemaSays) {
  const std::string prompts = Write("prompts.txt", "The cache\n\nkeeps keys\r\nand values\n");
  ASSERT_EQ(Benchmark({"--text", Text(), "--context", "150", "--max-contexts", "1", "--prompts",
                       prompts, "--max-prompts", "2", "--policy", "safe,small", "--baselines",
                       "--json", "--top-k", "3", "--layer-damage"}),
            0)
      << err_;
  const auto json = nlohmann::json::parse(out_);
  std::ifstream file(TURBOQUANT_SOURCE_DIR "/docs/benchmark.schema.json");
  EXPECT_THAT(test::JsonSchema(nlohmann::json::parse(file)).Validate(json), IsEmpty());
  EXPECT_EQ(json["workload"], "real-model");
  EXPECT_EQ(json["rows"].size(), 2u * (1 + 2 + 7));
  std::set<std::string> sources;
  for (const auto& row : json["rows"]) {
    sources.insert(row["source"]);
    EXPECT_EQ(row["kind"], "real-model");
    EXPECT_EQ(row["model"], "tiny");
    EXPECT_EQ(row["top_k"], 3);
    EXPECT_EQ(row["samples"], row["source"] == "prompts" ? 2 : 1);
    const bool measured = row["source"] == "text.txt" && row["method"] != "exact";
    EXPECT_EQ(row["worst_layer_logit_correlation"].is_number(), measured);
  }
  EXPECT_EQ(sources, (std::set<std::string>{"prompts", "text.txt"}));
}

TEST_F(RealModelCommandTest, PromptsAreBuiltIn) {
  const auto samples = [&](std::vector<std::string> flags) {
    flags.insert(flags.end(), {"--real-eval-mode", "exact", "--max-new-tokens", "2", "--json"});
    EXPECT_EQ(Benchmark(flags), 0) << err_;
    size_t prompts = 0;
    const auto json = nlohmann::json::parse(out_);
    for (const auto& row : json["rows"]) {
      if (row["source"] == "prompts") prompts += row["samples"].get<size_t>();
    }
    return prompts;
  };
  EXPECT_EQ(samples({}), 6u);
  EXPECT_EQ(samples({"--builtin-prompts", "code,reasoning"}), 2u);
  EXPECT_EQ(samples({"--builtin-prompts", "all", "--prompt", "The cache"}), 7u);
  EXPECT_EQ(samples({"--prompt", "The cache"}), 1u);
  EXPECT_EQ(samples({"--text", Text(), "--context", "150"}), 0u);
}

TEST(BuiltinPromptsTest, OneOfEachKind) {
  std::string names;
  for (const BuiltinPrompt& prompt : BuiltinPrompts()) {
    names += std::string(prompt.name) + " ";
    EXPECT_GT(prompt.text.size(), 100u) << prompt.name;
    EXPECT_EQ(*FindBuiltinPrompts({std::string(prompt.name)}),
              std::vector<std::string>{std::string(prompt.text)});
  }
  EXPECT_EQ(names, "explanation rewrite classification extraction reasoning code ");
}

TEST_F(RealModelCommandTest, ASearchedScaleIsNoWorse) {
  ASSERT_EQ(Benchmark({"--text", Text(), "--context", "150", "--max-contexts", "1", "--bits", "2",
                       "--window", "0", "--scale-search", "off,on", "--json"}),
            0)
      << err_;
  const auto rows = nlohmann::json::parse(out_)["rows"];
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0]["scale_search"], "");
  EXPECT_EQ(rows[1]["scale_search"], "off");
  EXPECT_EQ(rows[2]["scale_search"], "on");
  EXPECT_LT(rows[2]["value_nmse"], rows[1]["value_nmse"]);
  EXPECT_LT(rows[2]["key_nmse"], rows[1]["key_nmse"]);
  EXPECT_EQ(rows[2]["kv_bytes"], rows[1]["kv_bytes"]);
}

TEST_F(RealModelCommandTest, ASweepRanksAGridAndLeavesItsFiles) {
  const std::string folder = model() + "sweeps/first";
  ASSERT_EQ(Benchmark({"--sweep", "--quick", "--text", Text(), "--context", "150", "--prompt",
                       "The cache keeps", "--max-new-tokens", "4", "--max-kl", "0.01",
                       "--output-dir", folder}),
            0)
      << err_;
  EXPECT_THAT(out_, HasSubstr("pass the gates (KL <= 0.01); smallest first"));
  const auto json = nlohmann::json::parse(test::ReadWholeFile(folder + "/results.json"));
  std::ifstream file(TURBOQUANT_SOURCE_DIR "/docs/benchmark.schema.json");
  EXPECT_THAT(test::JsonSchema(nlohmann::json::parse(file)).Validate(json), IsEmpty());
  // Keys and values of 3 and 4 bits, three policies, and the formats beside 4 and 0 sinks.
  const auto& ranking = json["sweep"]["ranking"];
  EXPECT_EQ(ranking.size(), 3u * 4 + 2 * 7);
  EXPECT_EQ(json["rows"].size(), 2u * (1 + ranking.size()));
  for (const auto& row : json["rows"]) EXPECT_EQ(row["window"], 0) << row["policy"];
  double bytes = 0.0;
  size_t passing = 0;
  for (const auto& entry : ranking) {
    if (!entry["passes"].get<bool>()) continue;
    EXPECT_EQ(++passing, &entry - &ranking.front() + 1u);  // before all others
    EXPECT_GE(entry["bytes_per_token"].get<double>(), bytes);
    bytes = entry["bytes_per_token"];
  }
  EXPECT_GT(passing, 0u);
  EXPECT_LT(passing, ranking.size());
  const std::string summary = test::ReadWholeFile(folder + "/summary.md");
  EXPECT_THAT(summary, HasSubstr("# Sweep of caches: tiny\n"));
  EXPECT_EQ(std::ranges::count(summary, '\n'), 8 + static_cast<int>(ranking.size()));
  EXPECT_THAT(test::ReadWholeFile(folder + "/report.html"), HasSubstr("frontier"));
}

TEST_F(RealModelCommandTest, AGridIsWhatTheListsSay) {
  const auto sweep = [&](std::vector<std::string> flags) {
    flags.insert(flags.end(),
                 {"--sweep", "--prompt", "The cache", "--max-new-tokens", "3", "--json"});
    EXPECT_EQ(Benchmark(flags), 0) << err_;
    return nlohmann::json::parse(out_)["sweep"];
  };
  const auto grid = sweep({"--key-bits", "2,8", "--value-bits", "4", "--key-method", "mse,prod",
                           "--policy", "balanced", "--window", "0,8"});
  EXPECT_EQ(grid["ranking"].size(), 2u * 2 * 2 + 2 * 7);
  EXPECT_EQ(grid["gates"], nlohmann::json::parse(R"({"min_token_match": null,
      "min_top_k_agreement": null, "max_kl": null})"));
  // 2, 3, 4 and 8 bits of keys, 2, 3 and 4 of values, three policies; the formats beside two counts
  // of sinks.
  const auto whole =
      sweep({"--min-token-match", "0.25", "--min-top-k-agreement", "0.5", "--max-kl", "2"});
  EXPECT_EQ(whole["ranking"].size(), 3u * 4 * 3 + 2 * 7);
  EXPECT_EQ(whole["gates"], nlohmann::json::parse(R"({"min_token_match": 0.25,
      "min_top_k_agreement": 0.5, "max_kl": 2.0})"));
  const auto fails = [&](std::vector<std::string> flags, const std::string& culprit) {
    EXPECT_EQ(Benchmark(flags), 2);
    EXPECT_THAT(err_, HasSubstr(culprit));
  };
  fails({"--layer-damage"}, "--layer-damage is for caches on a text");
  fails({"--max-kl", "1"}, "need --sweep");
  fails({"--output-dir", model()}, "need --sweep");
  fails({"--sweep", "--real-eval-mode", "exact"}, "--sweep compares");
  fails({"--sweep", "--min-token-match", "1.5"}, "must be 0 to 1, got 1.5");
  fails({"--sweep", "--max-kl", "-1"}, "--max-kl must be 0 or more");
  Write("file", "");
  EXPECT_EQ(Benchmark({"--sweep", "--quick", "--prompt", "a", "--max-new-tokens", "2",
                       "--output-dir", model() + "file/x"}),
            1);
  EXPECT_THAT(err_, HasSubstr("file/x"));
}

TEST_F(RealModelCommandTest, TableReportAndCsv) {
  const std::string report = model() + "report.html";
  ASSERT_EQ(Benchmark({"--text", Text(), "--context", "150", "--max-contexts", "1", "--policy",
                       "balanced,small", "--report", report, "--layer-damage"}),
            0)
      << err_;
  EXPECT_THAT(out_, HasSubstr("real model tiny, text.txt, teacher-forced: 1 contexts of 150"));
  EXPECT_THAT(out_, HasSubstr("K3V3"));
  EXPECT_THAT(out_, HasSubstr("text.txt, balanced K4V4, 4 + 64 exact: most damage by layers "));
  EXPECT_THAT(out_, HasSubstr("lowest correlation of logits 0.9"));
  const std::string html = test::ReadWholeFile(report);
  EXPECT_THAT(html, HasSubstr("Quality against size"));
  EXPECT_THAT(html, HasSubstr("balanced K4V4"));
  EXPECT_THAT(html, Not(HasSubstr("plain formats")));
  ASSERT_EQ(Benchmark({"--text", Text(), "--context", "150", "--max-contexts", "1", "--policy",
                       "small", "--baselines", "--report", report}),
            0)
      << err_;
  EXPECT_THAT(test::ReadWholeFile(report), HasSubstr("plain formats"));
  ASSERT_EQ(
      Benchmark({"--text", Text(), "--context", "150", "--max-contexts", "1", "--format", "csv"}),
      0)
      << err_;
  EXPECT_THAT(out_, HasSubstr("perplexity_exact,perplexity"));
  EXPECT_THAT(out_, HasSubstr("\nreal-model,cache,"));
}

TEST_F(RealModelCommandTest, GenerateWritesOn) {
  ASSERT_EQ(Run({"generate", "--model", model(), "--prompt", "The cache", "--max-new-tokens", "8"}),
            0)
      << err_;
  const std::string exact = out_;
  EXPECT_GT(exact.size(), 3u);
  ASSERT_EQ(Run({"generate", "--model", model(), "--prompt", "The cache", "--max-new-tokens", "8",
                 "--policy", "paper", "--key-bits", "8", "--value-bits", "8"}),
            0)
      << err_;
  EXPECT_EQ(out_, exact);
  const std::string prompts = Write("prompts.txt", "The cache\nkeeps\n");
  ASSERT_EQ(Run({"generate", "--model", model(), "--prompts", prompts, "--max-new-tokens", "8"}), 0)
      << err_;
  EXPECT_THAT(out_, HasSubstr("> The cache\n" + exact));
  EXPECT_THAT(out_, HasSubstr("> keeps\n"));
  ASSERT_EQ(Run({"generate", "--model", model(), "--prompt", "cache", "--prompt-prefix", "The ",
                 "--max-new-tokens", "8"}),
            0)
      << err_;
  EXPECT_EQ(out_, exact);
  ASSERT_EQ(
      Run({"generate", "--model", model(), "--prompt", "The\n\tcache \\", "--max-new-tokens", "8"}),
      0)
      << err_;
  const std::string broken = out_;
  EXPECT_NE(broken, exact);
  ASSERT_EQ(Run({"generate", "--model", model(), "--prompt", "cache", "--prompt-prefix",
                 "The\\n\\t", "--prompt-suffix", " \\\\", "--max-new-tokens", "8"}),
            0)
      << err_;
  EXPECT_EQ(out_, broken);
  ASSERT_EQ(Run({"generate", "--model", model(), "--prompts", prompts, "--max-prompts", "1",
                 "--max-new-tokens", "8"}),
            0)
      << err_;
  EXPECT_EQ(out_, exact);
  ASSERT_EQ(Run({"generate", "--model", model(), "--prompt", "The cache", "--max-new-tokens", "8",
                 "--temperature", "1", "--seed", "5"}),
            0)
      << err_;
  EXPECT_NE(out_, exact);
}

TEST_F(RealModelCommandTest, WhatIsWrongIsNamed) {
  const auto fails = [&](std::vector<std::string> flags, int code, const std::string& culprit) {
    EXPECT_EQ(Run(flags), code);
    EXPECT_THAT(err_, HasSubstr(culprit));
    EXPECT_EQ(std::ranges::count(err_, '\n'), 1);
  };
  const std::vector<std::string> run = {"benchmark", "--workload", "real-model"};
  const auto with = [&](std::vector<std::string> flags) {
    flags.insert(flags.begin(), run.begin(), run.end());
    return flags;
  };
  fails(with({"--prompt", "a"}), 2, "needs --real-model-dir");
  fails(with({"--real-model-dir", model(), "--builtin-prompts", "code,poem"}), 2,
        "unknown built-in prompt \"poem\"");
  fails(with({"--real-model-dir", "/none", "--prompt", "a"}), 1, "'/none' is no folder");
  fails(with({"--real-model-dir", model(), "--prompt", "a", "--real-eval-mode", "all"}), 2,
        "unknown mode \"all\"");
  fails(with({"--real-model-dir", model(), "--prompt", "a", "--bits", "2.5"}), 2,
        "bits of caches must be 1 to 8, got 2.5");
  fails(with({"--real-model-dir", model(), "--text", "/none.txt"}), 1, "/none.txt");
  fails(with({"--real-model-dir", model(), "--prompt", "a", "--onnxruntime", "/none"}), 1, "/none");
  fails({"benchmark", "--prompt", "a"}, 2, "--prompt is for --workload real-model");
  fails({"generate", "--model", model()}, 2, "no prompt given");
  fails({"generate", "--model", model(), "--prompt", "a", "--key-bits", "4"}, 2, "--policy");
  fails({"generate", "--model", model(), "--prompt", "a", "--policy", "best"}, 2, "best");
  fails({"generate", "--model", model(), "--prompt", "a", "--policy", "safe", "--value-bits", "9"},
        2, "values.bits");
  fails({"generate", "--model", model(), "--prompt", "a", "--top-p", "2"}, 2, "top_p");
  Write("config.json", "{}");
  fails({"generate", "--model", model(), "--prompt", "a"}, 1, "config.json has no");
}

}  // namespace
}  // namespace turboquant::cli
