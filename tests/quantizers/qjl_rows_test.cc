#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/random_rows.h"
#include "turboquant/qjl.h"

namespace turboquant {
namespace {

using test::Rows;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

QjlSketch MakeSketch(const QjlOptions& options) {
  auto sketch = QjlSketch::Create(options);
  EXPECT_TRUE(sketch) << sketch.error().message;
  return *std::move(sketch);
}

TEST(QjlRowsTest, RowsAppendRemoveAndTruncate) {
  for (const ScaleType type : {ScaleType::kF16, ScaleType::kF32}) {
    const QjlSketch sketch = MakeSketch({.dim = 9, .norm_type = type});
    const Rows rows = test::NormalRows(6, 9, 13);
    const auto all = sketch.Encode(rows.view());
    ASSERT_TRUE(all);
    const auto expect_rows = [&](const SignRows& actual, std::vector<size_t> expected) {
      ASSERT_EQ(actual.size(), expected.size());
      ASSERT_EQ(actual.signs().size(), expected.size() * actual.RowBytes());
      for (size_t i = 0; i < expected.size(); ++i) {
        EXPECT_TRUE(std::ranges::equal(actual.SignsOf(i), all->SignsOf(expected[i])));
        EXPECT_EQ(actual.NormOf(i), all->NormOf(expected[i]));
      }
      EXPECT_TRUE(std::isnan(actual.NormOf(expected.size())));
    };
    SignRows some = *all;
    ASSERT_TRUE(some.RemoveFront(4));
    expect_rows(some, {4, 5});
    ASSERT_TRUE(some.Append(some));
    expect_rows(some, {4, 5, 4, 5});
    ASSERT_TRUE(some.Append(*all));
    ASSERT_TRUE(some.Truncate(5));
    expect_rows(some, {4, 5, 4, 5, 0});
    for (const auto& refused : {some.RemoveFront(6), some.Truncate(6)}) {
      ASSERT_FALSE(refused);
      EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
    }
    expect_rows(some, {4, 5, 4, 5, 0});
    ASSERT_TRUE(some.RemoveFront(5));
    expect_rows(some, {});
    EXPECT_GE(all->HeldBytes(), 6 * all->CanonicalBytesPerRow());
    EXPECT_EQ(all->CanonicalBytesPerRow(), type == ScaleType::kF16 ? 4u : 6u);
  }
}

TEST(QjlRowsTest, ImportIsTheReverseOfExport) {
  for (const ScaleType type : {ScaleType::kF16, ScaleType::kF32}) {
    const QjlSketch sketch = MakeSketch({.dim = 33, .sketch_rows = 70, .norm_type = type});
    const auto encoded = sketch.Encode(test::NormalRows(4, 33, 14).view());
    ASSERT_TRUE(encoded);
    std::vector<uint8_t> signs(4 * 9);
    std::vector<float> norms(4);
    ASSERT_TRUE(sketch.Export(*encoded, signs, norms));
    const auto imported = sketch.Import(signs, norms);
    ASSERT_TRUE(imported) << imported.error().message;
    EXPECT_TRUE(std::ranges::equal(imported->signs(), encoded->signs()));
    for (size_t r = 0; r < 4; ++r) EXPECT_EQ(imported->NormOf(r), encoded->NormOf(r));
    EXPECT_EQ(imported->sketch_fingerprint(), sketch.fingerprint());
    EXPECT_EQ(sketch.Export(*encoded, std::span(signs).first(35), norms).error().code,
              ErrorCode::kDimensionMismatch);
    EXPECT_EQ(sketch.Export(*encoded, signs, std::span(norms).first(3)).error().code,
              ErrorCode::kDimensionMismatch);
  }
}

TEST(QjlRowsTest, ImportRefusesDamageNamingTheRow) {
  const QjlSketch sketch = MakeSketch({.dim = 12});  // 2 bytes a row, 4 padding bits
  const std::vector<uint8_t> signs(6, 0);
  const std::vector<float> norms = {1.0f, 0.0f, 2.0f};
  ASSERT_TRUE(sketch.Import(signs, norms));
  const auto fails = [&](std::vector<uint8_t> bad_signs, std::vector<float> bad_norms,
                         ErrorCode code, std::string_view words) {
    const auto imported = sketch.Import(bad_signs, bad_norms);
    ASSERT_FALSE(imported) << words;
    EXPECT_EQ(imported.error().code, code);
    EXPECT_NE(imported.error().message.find(words), std::string::npos) << imported.error().message;
  };
  fails({0, 0, 0, 0, 0}, norms, ErrorCode::kDimensionMismatch, "5 bytes");
  fails(signs, {1.0f, 1.0f}, ErrorCode::kDimensionMismatch, "2 rows");
  fails({0, 0, 0, 0x10, 0, 0}, norms, ErrorCode::kCorruptData, "signs[1] has padding bits");
  fails(signs, {1.0f, 1.0f, -1.0f}, ErrorCode::kCorruptData, "norms[2] is -1");
  fails(signs, {1.0f, -0.0f, 1.0f}, ErrorCode::kCorruptData, "norms[1] is -0");
  fails(signs, {1.0f, kNan, 1.0f}, ErrorCode::kCorruptData, "norms[1]");
  fails(signs, {kInfinity, 1.0f, 1.0f}, ErrorCode::kCorruptData, "norms[0]");
  fails(signs, {1.0f, 1.0f, 1.0001f}, ErrorCode::kCorruptData, "norms[2]");
  fails(signs, {1.0f, 1.0f, 70000.0f}, ErrorCode::kCorruptData, "which no f16 equals");
}

TEST(QjlRowsTest, RefusesBadRowsAndLeavesTheOthersAlone) {
  const QjlSketch sketch = MakeSketch({.dim = 8});
  SignRows rows = *sketch.Encode(test::NormalRows(2, 8, 15).view());
  const auto append = [&](const Rows& added) {
    const auto done = sketch.Append(added.view(), rows);
    EXPECT_FALSE(done);
    EXPECT_EQ(rows.size(), 2u);
    EXPECT_EQ(rows.signs().size(), 2u);
    return done ? Error{} : done.error();
  };
  Rows bad = test::NormalRows(200, 8, 16);
  bad[150][3] = kNan;
  bad[170][1] = kInfinity;
  Error error = append(bad);
  EXPECT_EQ(error.code, ErrorCode::kNonFinite);
  EXPECT_EQ(error.message, "rows[150] is NaN at column 3");
  bad[150][3] = -kInfinity;
  EXPECT_EQ(append(bad).message, "rows[150] is infinite at column 3");
  bad = test::NormalRows(200, 8, 16);
  for (float& x : bad[77]) x = 60000.0f;
  error = append(bad);
  EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
  EXPECT_NE(error.message.find("rows[77]"), std::string::npos);
  EXPECT_NE(error.message.find("ScaleType::kF32"), std::string::npos);
  EXPECT_EQ(append(Rows(1, 7)).code, ErrorCode::kDimensionMismatch);
  const QjlSketch wide = MakeSketch({.dim = 8, .norm_type = ScaleType::kF32});
  EXPECT_TRUE(wide.Encode(bad.view()));
  for (float& x : bad[5]) x = std::numeric_limits<float>::max();
  EXPECT_EQ(wide.Encode(bad.view()).error().code, ErrorCode::kInvalidArgument);
  Rows query = test::NormalRows(2, 8, 17);
  query[1][7] = kNan;
  EXPECT_EQ(sketch.Prepare(query.view()).error().message, "queries[1] is NaN at column 7");
}

TEST(QjlRowsTest, RefusesRowsAndQueriesOfAnotherSketch) {
  const QjlOptions options = {.dim = 16};
  const QjlSketch sketch = MakeSketch(options);
  const Rows rows = test::NormalRows(2, 16, 18);
  Rows out(2, 16);
  Rows scores(2, 2);
  const auto prepared = sketch.Prepare(rows.view());
  const auto encoded = sketch.Encode(rows.view());
  ASSERT_TRUE(prepared && encoded);
  std::vector<QjlOptions> others(6, options);
  others[0].seed = 1;
  others[1].sketch_rows = 17;
  others[2].kind = SketchKind::kGaussian;
  others[3].stream.layer = 1;
  others[4].stream.head = 1;
  others[5].stream.side = 1;
  for (const QjlOptions& other_options : others) {
    const QjlSketch other = MakeSketch(other_options);
    EXPECT_NE(other.fingerprint(), sketch.fingerprint());
    const auto foreign = other.Encode(rows.view());
    ASSERT_TRUE(foreign);
    EXPECT_FALSE(std::ranges::equal(foreign->signs(), encoded->signs()));
    SignRows mine = *encoded;
    EXPECT_EQ(sketch.Decode(*foreign, out.view()).error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(mine.Append(*foreign).error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(other.Append(rows.view(), mine).error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(sketch.Score(*prepared, *foreign, scores.view()).error().code,
              ErrorCode::kInvalidArgument);
    EXPECT_EQ(sketch.Score(*other.Prepare(rows.view()), *encoded, scores.view()).error().code,
              ErrorCode::kInvalidArgument);
  }
  EXPECT_EQ(sketch.Decode(*encoded, Rows(1, 16).view()).error().code,
            ErrorCode::kDimensionMismatch);
  EXPECT_EQ(sketch.Score(*prepared, *encoded, Rows(2, 3).view()).error().code,
            ErrorCode::kDimensionMismatch);
}

TEST(QjlRowsTest, RefusesOptionsByName) {
  const auto message = [](const QjlOptions& options) {
    const auto sketch = QjlSketch::Create(options);
    EXPECT_FALSE(sketch);
    if (sketch) return std::string();
    EXPECT_EQ(sketch.error().code, ErrorCode::kInvalidArgument);
    return sketch.error().message;
  };
  EXPECT_EQ(message({.dim = 0}), "dim must be 2 to 65536, got 0");
  EXPECT_EQ(message({.dim = 65537}), "dim must be 2 to 65536, got 65537");
  EXPECT_EQ(message({.dim = 8, .sketch_rows = 513}),
            "sketch_rows must be 1 to 64 dim = 512, got 513");
  EXPECT_NE(message({.dim = 65536, .kind = SketchKind::kGaussian}).find("kOrthogonal"),
            std::string::npos);
  for (const SketchKind kind : {SketchKind::kGaussian, SketchKind::kOrthogonal}) {
    EXPECT_NE(message({.dim = 8, .kind = kind, .stream = {.layer = 1u << 20}}).find("1048576"),
              std::string::npos);
    EXPECT_NE(message({.dim = 8, .kind = kind, .stream = {.side = 256}}).find("256"),
              std::string::npos);
  }
  EXPECT_TRUE(QjlSketch::Create({.dim = 8, .sketch_rows = 512}));
}

}  // namespace
}  // namespace turboquant
