#include "src/cli/sweep_files.h"

#include <filesystem>
#include <system_error>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/cli/text_file.h"
#include "src/eval/report.h"
#include "src/eval/result_output.h"
#include "src/eval/sweep.h"

namespace turboquant::cli {

Result<void> WriteSweepFiles(const std::string& folder, const eval::BenchmarkResult& result) {
  const std::filesystem::path path(folder);
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) {
    return Fail(ErrorCode::kIo, "folder '", folder, "' could not be made: ", error.message());
  }
  const std::string model =
      result.real_model_rows.empty() ? std::string() : result.real_model_rows.front().model;
  TQ_CHECK(WriteTextFile(path / "results.json", eval::ToJson(result)));
  TQ_CHECK(WriteTextFile(path / "summary.md", eval::SweepMarkdown(*result.sweep, model)));
  return WriteTextFile(path / "report.html", eval::RenderReport(result));
}

}  // namespace turboquant::cli
