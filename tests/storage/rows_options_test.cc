#include "src/storage/rows_options.h"

#include <gtest/gtest.h>

#include "tests/storage/storage_testing.h"

namespace turboquant {
namespace {

const StringMap kCommon = {{"dim", "32"},         {"head", "0"},  {"layer", "0"},
                           {"scale_type", "f16"}, {"seed", "42"}, {"side", "0"}};

StringMap With(StringMap options, const StringMap& more) {
  for (const auto& [key, text] : more) options[key] = text;
  return options;
}

StringMap OptionsOf(const std::string& method) {
  const StringMap hadamard = With(kCommon, {{"rotation", "hadamard"}, {"rotation_rounds", "2"}});
  const StringMap book = {
      {"codebook", "lloyd-max"}, {"codebook_crc32", "0000abcd"}, {"codebook_density", "auto"}};
  const StringMap sketch = {{"sketch", "orthogonal"}, {"sketch_rows", "32"}};
  if (method == "mse") {
    return With(With(hadamard, book),
                {{"bits", "4"}, {"scale", "unbiased"}, {"scale_search", "true"}});
  }
  if (method == "prod") return With(With(With(hadamard, book), sketch), {{"bits", "4"}});
  if (method == "qjl") return With(kCommon, sketch);
  if (method == "polar") return With(hadamard, {{"form", "blocks"}, {"level_bits", "4,2,2,2"}});
  return With(hadamard, {{"bits", "2"},
                         {"codebook_density", "auto"},
                         {"outlier_codebook_crc32", "00000001"},
                         {"outlier_dim", "8"},
                         {"regular_codebook_crc32", "00000002"},
                         {"scale", "norm"},
                         {"scale_search", "auto"}});
}

constexpr const char* kMethods[] = {"mse", "prod", "qjl", "polar", "outlier"};

TEST(CheckRowsOptionsTest, TakesCompleteOptions) {
  for (const char* method : kMethods) {
    const auto checked = CheckRowsOptions(method, OptionsOf(method));
    EXPECT_TRUE(checked.has_value()) << checked.error().message;
  }
}

TEST(CheckRowsOptionsTest, RefusesEachOptionMissingAndAnyOther) {
  for (const char* method : kMethods) {
    for (const auto& [name, text] : OptionsOf(method)) {
      StringMap options = OptionsOf(method);
      options.erase(name);
      EXPECT_TRUE(
          FailsWith(CheckRowsOptions(method, options), ErrorCode::kCorruptData, {"'" + name + "'"}))
          << method;
    }
    EXPECT_TRUE(FailsWith(CheckRowsOptions(method, With(OptionsOf(method), {{"extra", "1"}})),
                          ErrorCode::kCorruptData, {"no option 'extra'"}));
  }
  EXPECT_TRUE(
      FailsWith(CheckRowsOptions("qjl", OptionsOf("mse")), ErrorCode::kCorruptData, {"sketch"}));
  EXPECT_TRUE(FailsWith(CheckRowsOptions("trellis", {}), ErrorCode::kUnsupported, {"'trellis'"}));
  EXPECT_TRUE(FailsWith(CheckRowsOptions("", {}), ErrorCode::kUnsupported, {"''"}));
}

TEST(CheckRowsOptionsTest, RefusesTextsOutOfRangeAndNamesThem) {
  struct Case {
    const char* method;
    const char* option;
    std::vector<const char*> bad;
    std::vector<const char*> good;
  };
  const Case cases[] = {
      {"mse", "dim", {"0", "1", "65537", "-4", "04", "32.0", ""}, {"2", "65536"}},
      {"mse", "bits", {"0", "9", "4.5"}, {"1", "8"}},
      {"mse", "seed", {"18446744073709551616", "-1", "x"}, {"0", "18446744073709551615"}},
      {"mse", "layer", {"1048576"}, {"1048575"}},
      {"mse", "head", {"1048576"}, {"1048575"}},
      {"mse", "side", {"256"}, {"255"}},
      {"mse", "scale_type", {"f64", "F16", "f16|f32", ""}, {"f32"}},
      {"mse", "scale", {"biased", "|"}, {"norm", "matched", "least-squares"}},
      {"mse", "scale_search", {"auto", "1"}, {"false"}},
      {"mse", "rotation_rounds", {"0", "4"}, {"1", "3"}},
      {"mse", "rotation", {"none"}, {}},
      {"mse", "codebook", {"other"}, {}},
      {"mse", "codebook_density", {"uniform"}, {"sphere", "gaussian"}},
      {"mse", "codebook_crc32", {"ABCD0000", "abcd", "0xabcdef"}, {"ffffffff"}},
      {"prod", "bits", {"1", "9"}, {"2", "8"}},
      {"prod", "codebook", {"uniform"}, {}},
      {"prod", "sketch", {"dense"}, {"gaussian"}},
      {"prod", "sketch_rows", {"0", "2049"}, {"1", "2048"}},
      {"polar", "form", {"half"}, {}},
      {"polar", "dim", {"24", "8"}, {"48"}},
      {"polar",
       "level_bits",
       {"", "4", "4,2,2", "4,2,2,2,2", "4,2,2,9", "4,2,2,0", "4,2,2,", "4,,2,2", ",4,2,2",
        "4;2;2;2", "42,2,2"},
       {"1,8,3,5"}},
      {"outlier", "bits", {"0", "8"}, {"7"}},
      {"outlier", "outlier_dim", {"1", "31", "32"}, {"2", "30"}},
      {"outlier", "side", {"128"}, {"127"}},
      {"outlier", "scale_search", {"maybe"}, {"true"}},
  };
  for (const Case& test : cases) {
    const auto check = [&](const char* text) {
      return CheckRowsOptions(test.method, With(OptionsOf(test.method), {{test.option, text}}));
    };
    for (const char* text : test.bad) {
      EXPECT_TRUE(
          FailsWith(check(text), ErrorCode::kCorruptData, {"'" + std::string(test.option) + "'"}))
          << text;
    }
    for (const char* text : test.good) {
      EXPECT_TRUE(check(text).has_value()) << test.option << " " << text;
    }
  }
}

TEST(CheckRowsOptionsTest, SomeOptionsStandOnlyBesideOthers) {
  StringMap dense = With(OptionsOf("mse"), {{"rotation", "dense"}});
  EXPECT_TRUE(FailsWith(CheckRowsOptions("mse", dense), ErrorCode::kCorruptData,
                        {"no option 'rotation_rounds'"}));
  dense.erase("rotation_rounds");
  EXPECT_TRUE(CheckRowsOptions("mse", dense).has_value());

  StringMap uniform = With(OptionsOf("mse"), {{"codebook", "uniform"}, {"bits", "8"}});
  EXPECT_TRUE(FailsWith(CheckRowsOptions("mse", uniform), ErrorCode::kCorruptData,
                        {"no option 'codebook_density'"}));
  uniform.erase("codebook_density");
  EXPECT_TRUE(CheckRowsOptions("mse", uniform).has_value());
  uniform["bits"] = "4";
  EXPECT_TRUE(
      FailsWith(CheckRowsOptions("mse", uniform), ErrorCode::kCorruptData, {"'bits'", "4", "8"}));

  StringMap full = With(OptionsOf("polar"), {{"form", "full"}, {"level_bits", "4,2,2,2,2"}});
  EXPECT_TRUE(CheckRowsOptions("polar", full).has_value());
  full["dim"] = "48";
  EXPECT_TRUE(FailsWith(CheckRowsOptions("polar", full), ErrorCode::kCorruptData,
                        {"'dim'", "48", "power of two"}));
}

}  // namespace
}  // namespace turboquant
