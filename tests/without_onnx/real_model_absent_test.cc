// The program of a build without ONNX Runtime's headers: this folder's program has
// src/cli/real_model_absent.cc in place of what a build with them has.
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/cli/command_line.h"
#include "src/cli/real_model_command.h"
#include "tests/support/expect_error.h"

namespace turboquant::cli {
namespace {

using test::FailsWith;

TEST(RealModelAbsentTest, CommandsAreUnavailable) {
  eval::BenchmarkResult result;
  EXPECT_TRUE(FailsWith(RunRealModelWorkload({}, Backend::kAuto, {}, {}, result),
                        ErrorCode::kUnavailable, "no real models"));
  std::ostringstream out;
  EXPECT_TRUE(FailsWith(RunGenerate({}, out), ErrorCode::kUnavailable, "no real models"));
}

TEST(RealModelAbsentTest, TheProgramSaysSoInOneLine) {
  const std::vector<std::vector<std::string>> commands = {
      {"benchmark", "--workload", "real-model", "--real-model-dir", "x", "--text", "y"},
      {"benchmark", "--workload", "real-model", "--real-model-dir", "x", "--sweep", "--json"},
      {"generate", "--model", "x", "--prompt", "a"}};
  for (const std::vector<std::string>& command : commands) {
    std::ostringstream out;
    std::ostringstream err;
    EXPECT_EQ(RunCommandLine(command, out, err, /*err_is_terminal=*/false), 1);
    EXPECT_EQ(out.str(), "");
    EXPECT_EQ(err.str(), "turboquant " + command[0] +
                             ": this build runs no real models: ONNX Runtime's headers were not "
                             "found when it was made\n");
  }
}

}  // namespace
}  // namespace turboquant::cli
