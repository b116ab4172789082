#include "src/cli/command_line.h"

#include <algorithm>
#include <fstream>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/cli/supported_models.h"
#include "turboquant/backend.h"

namespace turboquant::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

struct Outcome {
  int code;
  std::string out;
  std::string err;
};

Outcome Turboquant(const std::vector<std::string>& arguments, bool terminal = false) {
  std::ostringstream out, err;
  const int code = RunCommandLine(arguments, out, err, terminal);
  return {code, out.str(), err.str()};
}

TEST(CommandLineTest, HelpAndVersionAreNoFailures) {
  for (const auto& arguments : std::vector<std::vector<std::string>>{
           {"--help"}, {"benchmark", "--help"}, {"encode", "--help"}, {"--version"}}) {
    const Outcome outcome = Turboquant(arguments);
    EXPECT_EQ(outcome.code, kExitOk) << arguments.front();
    EXPECT_THAT(outcome.out, Not(IsEmpty()));
    EXPECT_THAT(outcome.err, IsEmpty());
  }
  EXPECT_THAT(Turboquant({"--help"}).out, HasSubstr("benchmark"));
}

TEST(CommandLineTest, BadUsageIsTwoAndOneLine) {
  const std::vector<std::vector<std::string>> bad = {
      {},
      {"fly"},
      {"benchmark", "--bitz", "4"},
      {"benchmark", "--bits", "four"},
      {"benchmark", "--bits", "9"},
      {"benchmark", "--bits", "0"},
      {"benchmark", "--methods", "q5_0"},
      {"benchmark", "--methods", "prod", "--bits", "1"},
      {"benchmark", "--methods", "q8_0", "--bits", "3"},
      {"benchmark", "--policy", "fast"},
      {"benchmark", "--workload", "real-model"},
      {"benchmark", "--workload", "trace"},
      {"benchmark", "--trace", "x.safetensors"},
      {"benchmark", "--max-queries", "3"},
      {"benchmark", "--workload", "trace", "--trace", "x", "--dims", "64"},
      {"benchmark", "--format", "xml"},
      {"benchmark", "--json", "--format", "csv"},
      {"benchmark", "--threads", "0"},
      {"benchmark", "--repeats", "0"},
      {"benchmark", "--dims", "1"},
      {"benchmark", "--tokens", "-5"},
      {"benchmark", "--logit-std", "0"},
      {"benchmark", "--backend", "cuda"},
      {"benchmark", "--tokens", "16", "32"},
      {"benchmark", "--key-bits", "4"},
      {"benchmark", "--policy", "balanced"},
      {"benchmark", "--query-heads", "8"},
      {"benchmark", "--workload", "trace", "--trace", "x", "--policy", "fast"},
      {"benchmark", "--workload", "trace", "--trace", "x", "--key-map", "pair"},
      {"benchmark", "--workload", "trace", "--trace", "x", "--key-method", "q4_0"},
      {"benchmark", "--workload", "trace", "--trace", "x", "--value-method", "prod"},
      {"benchmark", "--workload", "trace", "--trace", "x", "--head-dim", "64"},
      {"benchmark", "--workload", "attention", "--methods", "mse"},
      {"benchmark", "--workload", "attention", "--window", "64"},
      {"benchmark", "--workload", "attention", "--policy", "no-search"},
      {"benchmark", "--workload", "attention", "--tokens", "0"},
      {"benchmark", "--workload", "attention", "--tokens", "64", "--key-bits", "9"},
      {"benchmark", "--workload", "attention", "--query-heads", "7"},
      {"encode", "x.safetensors"},
      {"encode", "x", "--tensor", "keys", "-o", "y", "--method", "pq"},
      {"encode", "x", "--tensor", "keys", "-o", "y", "--method", "polar", "--bits", "4"},
      {"encode", "x", "--tensor", "keys", "-o", "y", "--method", "qjl", "--scale", "norm"},
      {"encode", "x", "--tensor", "keys", "-o", "y", "--sketch", "gaussian"},
      {"encode", "x", "--tensor", "keys", "-o", "y", "--rotation", "dense", "--rotation-rounds",
       "1"},
      {"decode"},
      {"inspect", "x", "--format", "yaml"},
      {"info", "extra"},
  };
  for (const auto& arguments : bad) {
    std::string shown;
    for (const std::string& argument : arguments) shown += argument + " ";
    const Outcome outcome = Turboquant(arguments);
    EXPECT_EQ(outcome.code, kExitBadUsage) << shown << outcome.err;
    EXPECT_EQ(std::ranges::count(outcome.err, '\n'), 1) << shown << outcome.err;
    EXPECT_THAT(outcome.out, IsEmpty()) << shown;
  }
}

TEST(CommandLineTest, OtherFailuresAreOneAndOneLine) {
  for (const auto& arguments : std::vector<std::vector<std::string>>{
           {"benchmark", "--workload", "trace", "--trace", "/nonexistent/t.safetensors"},
           {"encode", "/nonexistent/x", "--tensor", "keys", "-o", "/nonexistent/y"},
           {"decode", "/nonexistent/x", "-o", "/nonexistent/y"},
           {"inspect", "/nonexistent/x"}}) {
    const Outcome outcome = Turboquant(arguments);
    EXPECT_EQ(outcome.code, kExitFailure) << arguments.front() << outcome.err;
    EXPECT_EQ(std::ranges::count(outcome.err, '\n'), 1);
    EXPECT_THAT(outcome.err, HasSubstr("/nonexistent/"));
    EXPECT_TRUE(outcome.err.starts_with("turboquant " + arguments.front() + ": "));
  }
}

TEST(CommandLineTest, ProgressGoesToATerminalOnly) {
  const std::vector<std::string> quick = {
      "benchmark", "--methods", "q8_0",      "--dims", "32",        "--tokens", "16",
      "--queries", "2",         "--samples", "1",      "--repeats", "1"};
  EXPECT_THAT(Turboquant(quick, false).err, IsEmpty());
  EXPECT_THAT(Turboquant(quick, true).err, HasSubstr("dim 32, q8_0"));
  EXPECT_THAT(Turboquant(quick, true).out, Not(HasSubstr("\033")));
}

TEST(CommandLineTest, ListsTakeCommasAndSpaces) {
  const auto run = [](std::vector<std::string> lists) {
    std::vector<std::string> arguments = {
        "benchmark", "--tokens", "16",       "--queries", "2",        "--samples", "1",
        "--repeats", "1",        "--format", "csv",       "--policy", "default"};
    arguments.insert(arguments.end(), lists.begin(), lists.end());
    const Outcome outcome = Turboquant(arguments);
    EXPECT_EQ(outcome.code, kExitOk) << outcome.err;
    return std::ranges::count(outcome.out, '\n');
  };
  EXPECT_EQ(run({"--methods", "mse,q8_0", "--bits", "3,4", "--dims", "32,48"}), 1 + 2 * 3);
  EXPECT_EQ(run({"--methods", "mse", "q8_0", "--bits", "3", "4", "--dims", "32", "48"}), 1 + 2 * 3);
}

TEST(CommandLineTest, AliasesMeanTheSame) {
  const std::vector<std::string> start = {
      "benchmark", "--methods", "int8", "--dims",    "32", "--tokens",  "16",   "--queries",
      "2",         "--samples", "1",    "--repeats", "1",  "--backend", "simd", "--json"};
  const Outcome outcome = Turboquant(start);
  EXPECT_EQ(outcome.code, kExitOk) << outcome.err;
  EXPECT_TRUE(outcome.out.starts_with("{"));
  const auto attention = [](const std::string& flag, const std::string& name) {
    return Turboquant({"benchmark", "--workload", "attention", "--tokens", "64", "--head-dim", "32",
                       "--repeats", "1", flag, name, "--json"})
        .out;
  };
  for (const std::string flag : {"--key-method", "--real-key-strategy"}) {
    EXPECT_THAT(attention(flag, "prod"), HasSubstr("\"key_method\": \"prod\""));
  }
}

// The list says what python/turboquant_tools/presets.py does, in its order.
TEST(CommandLineTest, SupportedModelsAreTheExportersPresets) {
  const Outcome outcome = Turboquant({"benchmark", "--supported-real-models"});
  EXPECT_EQ(outcome.code, kExitOk);
  EXPECT_THAT(outcome.err, IsEmpty());
  std::ifstream file(TURBOQUANT_SOURCE_DIR "/python/turboquant_tools/presets.py");
  std::string names;
  std::string hub_ids;
  for (std::string line; std::getline(file, line);) {
    std::smatch found;
    if (std::regex_search(line, found, std::regex(R"re(^    "([^"]+)": ModelPreset\()re"))) {
      names += found.str(1) + "\n";
    }
    if (std::regex_search(line, found, std::regex(R"re("([A-Za-z]+/[A-Za-z0-9._-]+)")re"))) {
      hub_ids += found.str(1) + "\n";
    }
  }
  std::string listed;
  std::string listed_ids;
  for (const SupportedModel& model : SupportedModels()) {
    listed += std::string(model.name) + "\n";
    listed_ids += std::string(model.hub_id) + "\n";
    EXPECT_THAT(outcome.out,
                HasSubstr(std::string(model.name) + "\n  " + std::string(model.hub_id) + ": "));
  }
  EXPECT_EQ(listed, names);
  EXPECT_EQ(listed_ids, hub_ids);
}

TEST(CommandLineTest, InfoNamesTheScalarBackend) {
  EXPECT_THAT(Turboquant({"info"}).out, HasSubstr("scalar"));
  EXPECT_THAT(Turboquant({"info", "--format", "json"}).out, HasSubstr("\"turboquant.info/1\""));
  const Result<Backend> amx = ResolveBackend(Backend::kAmx);
  EXPECT_THAT(Turboquant({"info"}).out, HasSubstr(amx ? "here" : amx.error().message));
  EXPECT_TRUE(Turboquant({"info", "--format", "csv"}).out.starts_with("name,value\nversion,"));
}

}  // namespace
}  // namespace turboquant::cli
