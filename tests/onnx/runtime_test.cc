#include "turboquant/onnx/runtime.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"

namespace turboquant {
namespace {

using test::FailsWith;

TEST(OnnxRuntimeTest, LoadsTheLibraryThatIsHere) {
  const Result<OnnxRuntime> runtime = OnnxRuntime::Load();
  if (!runtime) GTEST_SKIP() << runtime.error().message;
  EXPECT_TRUE(runtime->version().starts_with("1.")) << runtime->version();
  const Result<OnnxRuntime> same = OnnxRuntime::Load({.library = runtime->library()});
  ASSERT_TRUE(same) << same.error().message;
  EXPECT_EQ(same->version(), runtime->version());
}

TEST(OnnxRuntimeTest, AbsenceIsUnavailableAndNamesThePlace) {
  const test::TemporaryFolder folder;
  EXPECT_TRUE(FailsWith(OnnxRuntime::Load({.library = folder / "none.so"}), ErrorCode::kUnavailable,
                        "none.so"));
  EXPECT_TRUE(
      FailsWith(OnnxRuntime::Load({.library = folder / ""}), ErrorCode::kUnavailable, folder / ""));
}

TEST(OnnxRuntimeTest, AFileThatIsNoLibraryIsUnavailable) {
  const test::TemporaryFolder folder;
  std::ofstream(folder / "libonnxruntime.so.1") << "no library";
  EXPECT_TRUE(FailsWith(OnnxRuntime::Load({.library = folder / ""}), ErrorCode::kUnavailable,
                        "libonnxruntime.so.1"));
}

}  // namespace
}  // namespace turboquant
