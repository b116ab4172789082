#include "src/base/shared_library.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"

namespace turboquant {
namespace {

using test::FailsWith;

constexpr std::string_view kThing[] = {"libthing.so.1", "libthing.so"};
constexpr std::string_view kMath[] = {"libno-such-thing.so", "libm.so.6"};
constexpr LibraryNames kNames = {"Thing", kThing, "libthing.so.", {}};

TEST(SharedLibraryTest, TheSystemsPathIsTheLastResort) {
  const test::TemporaryFolder folder;
  const auto found = LoadSharedLibrary({"libm", kMath, {}, {}}, {}, {folder / ""});
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(found->path, "libm.so.6");
  EXPECT_NE(found->handle, nullptr);
}

TEST(SharedLibraryTest, WhatWasLookedForIsTold) {
  const test::TemporaryFolder folder;
  const auto nothing = LoadSharedLibrary(kNames, {}, {folder / ""});
  EXPECT_TRUE(FailsWith(nothing, ErrorCode::kUnavailable,
                        "no Thing library found; looked in '" + folder / ""));
  EXPECT_TRUE(
      FailsWith(nothing, ErrorCode::kUnavailable, "libthing.so.1 on the system's library path"));
  const std::string built = folder / "";
  const LibraryNames known = {"Thing", kThing, {}, built};
  EXPECT_TRUE(FailsWith(LoadSharedLibrary(known, {}, {}), ErrorCode::kUnavailable, built));
}

TEST(SharedLibraryTest, TheBestNameOfAFolderIsTaken) {
  const test::TemporaryFolder folder;
  const auto taken = [&] { return LoadSharedLibrary(kNames, folder / "", {}); };
  EXPECT_TRUE(FailsWith(taken(), ErrorCode::kUnavailable, "no Thing library in '"));
  for (const char* name : {"libthing.so.4", "libthing.so.5", "libthing.so", "libthing.so.1"}) {
    std::ofstream(folder / name) << "no library";
    EXPECT_TRUE(FailsWith(taken(), ErrorCode::kUnavailable, "Thing cannot be loaded: "));
    EXPECT_TRUE(FailsWith(taken(), ErrorCode::kUnavailable, folder / name + ": ")) << name;
  }
}

}  // namespace
}  // namespace turboquant
