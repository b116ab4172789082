// The contract of MseQuantizer: what it refuses and how it says so, and that results depend on
// nothing but rows and options. Extreme rows are in mse_input_test.cc.
#include "turboquant/mse_quantizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/encoded_rows.h"
#include "tests/support/expect_error.h"
#include "tests/support/random_rows.h"
#include "tests/support/threads.h"

namespace turboquant {
namespace {

using test::FailsWith;
using test::MakeMse;
using test::Rows;
using test::Snapshot;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

Codebook CustomCodebook(size_t dim, const std::vector<double>& centroids) {
  auto codebook = Codebook::FromCentroids(dim, centroids);
  EXPECT_TRUE(codebook) << codebook.error().message;
  return *std::move(codebook);
}

TEST(MseQuantizerTest, CreateNamesTheOptionItRefuses) {
  struct Case {
    MseOptions options;
    std::string_view culprit;
  };
  const Codebook codebook = CustomCodebook(16, {-1.0, 0.5});
  const Case cases[] = {
      {{.dim = 0}, "dim must be 2 to 65536, got 0"},
      {{.dim = 1}, "dim must be 2 to 65536, got 1"},
      {{.dim = 65537}, "dim must be 2 to 65536, got 65537"},
      {{.dim = 16, .bits = 0}, "bits must be 1 to 8, got 0"},
      {{.dim = 16, .bits = 9}, "bits must be 1 to 8, got 9"},
      {{.dim = 16, .bits = -1}, "bits must be 1 to 8, got -1"},
      {{.dim = 16, .rotation_rounds = 0}, "rounds must be 1 to 3, got 0"},
      {{.dim = 16, .rotation_rounds = 4}, "rounds must be 1 to 3, got 4"},
      {{.dim = 8193, .rotation = RotationKind::kDense}, "dense rotation, got 8193"},
      {{.dim = 16, .bits = 7, .codebook = CodebookKind::kUniform}, "8 bits, got 7"},
      {{.dim = 16, .codebook = CodebookKind::kCustom}, "custom_codebook"},
      {{.dim = 16, .bits = 1, .custom_codebook = codebook}, "custom_codebook"},
      {{.dim = 17, .bits = 1, .codebook = CodebookKind::kCustom, .custom_codebook = codebook},
       "custom_codebook has dim 16 and 1 bits, the options ask for dim 17 and 1 bits"},
      {{.dim = 16, .bits = 2, .codebook = CodebookKind::kCustom, .custom_codebook = codebook},
       "custom_codebook has dim 16 and 1 bits, the options ask for dim 16 and 2 bits"},
      {{.dim = 16, .unit_norm_tolerance = -1e-3f}, "unit_norm_tolerance"},
      {{.dim = 16, .unit_norm_tolerance = kNan}, "unit_norm_tolerance"},
      {{.dim = 16, .stream = {.layer = 1u << 20}}, "got 1048576 and 0"},
      {{.dim = 16, .stream = {.head = 1u << 20}}, "got 0 and 1048576"},
      {{.dim = 16, .stream = {.side = 256}}, "got 256 and 0"},
  };
  for (const Case& c : cases) {
    EXPECT_TRUE(FailsWith(MseQuantizer::Create(c.options), ErrorCode::kInvalidArgument, c.culprit));
  }
  EXPECT_TRUE(MseQuantizer::Create({.dim = 2, .bits = 1}));
  EXPECT_TRUE(MseQuantizer::Create({.dim = 65536, .bits = 8}));
}

TEST(MseQuantizerTest, SearchIsOnFrom3To7BitsUnlessAskedOtherwise) {
  for (int bits = 1; bits <= 8; ++bits) {
    EXPECT_EQ(MakeMse({.dim = 16, .bits = bits}).scale_search(), bits >= 3 && bits <= 7) << bits;
    for (const bool search : {false, true}) {
      const MseQuantizer quantizer = MakeMse({.dim = 16, .bits = bits, .scale_search = search});
      EXPECT_EQ(quantizer.scale_search(), search);
    }
  }
  EXPECT_FALSE(MakeMse({.dim = 16, .bits = 8, .codebook = CodebookKind::kUniform}).scale_search());
  EXPECT_FALSE(MakeMse({.dim = 16,
                        .bits = 3,
                        .codebook = CodebookKind::kCustom,
                        .custom_codebook = CustomCodebook(16, {-3, -2, -1, -.5, .5, 1, 2, 3})})
                   .scale_search());
}

TEST(MseQuantizerTest, OptionsOfTheEncoderAloneDoNotChangeTheFingerprint) {
  const MseOptions base = {.dim = 24, .bits = 3};
  const uint64_t fingerprint = MakeMse(base).fingerprint();
  const auto with = [&](auto change) {
    MseOptions options = base;
    change(options);
    return MakeMse(options).fingerprint();
  };
  EXPECT_EQ(with([](MseOptions& o) { o.scale = Scale::kNorm; }), fingerprint);
  EXPECT_EQ(with([](MseOptions& o) { o.scale_search = false; }), fingerprint);
  EXPECT_EQ(with([](MseOptions& o) { o.backend = Backend::kScalar; }), fingerprint);
  EXPECT_EQ(with([](MseOptions& o) { o.require_unit_norm = true; }), fingerprint);
  EXPECT_NE(with([](MseOptions& o) { o.dim = 25; }), fingerprint);
  EXPECT_NE(with([](MseOptions& o) { o.bits = 4; }), fingerprint);
  EXPECT_NE(with([](MseOptions& o) { o.seed = 43; }), fingerprint);
  EXPECT_NE(with([](MseOptions& o) { o.rotation_rounds = 1; }), fingerprint);
  EXPECT_NE(with([](MseOptions& o) { o.rotation = RotationKind::kDense; }), fingerprint);
  EXPECT_NE(with([](MseOptions& o) { o.density = CodebookDensity::kGaussian; }), fingerprint);
  EXPECT_NE(with([](MseOptions& o) { o.stream.layer = 1; }), fingerprint);
  EXPECT_NE(with([](MseOptions& o) { o.stream.head = 1; }), fingerprint);
  EXPECT_NE(with([](MseOptions& o) { o.stream.side = 1; }), fingerprint);
}

TEST(MseQuantizerTest, ShapesThatDoNotAgreeAreRefused) {
  const MseQuantizer quantizer = MakeMse({.dim = 16});
  Rows rows = test::NormalRows(3, 17, 1);
  EXPECT_TRUE(FailsWith(quantizer.Encode(rows.view()), ErrorCode::kDimensionMismatch,
                        "rows have 17 columns, the quantizer has dim 16"));
  EXPECT_TRUE(FailsWith(quantizer.Prepare(rows.view()), ErrorCode::kDimensionMismatch,
                        "queries have 17 columns"));
  const MatrixView<const float> narrow(rows.values.data(), 3, 16, 15);
  EXPECT_TRUE(
      FailsWith(quantizer.Encode(narrow), ErrorCode::kInvalidArgument, "rows have stride 15"));
  EXPECT_TRUE(
      FailsWith(quantizer.Prepare(narrow), ErrorCode::kInvalidArgument, "queries have stride 15"));
  const MatrixView<const float> view(rows.values.data(), 3, 16, 17);
  const auto encoded = quantizer.Encode(view);
  const auto queries = quantizer.Prepare(view);
  ASSERT_TRUE(encoded && queries);
  Rows out(4, 17);
  const float* untouched = out.values.data();
  for (const auto& [shape, culprit] :
       {std::pair{MatrixView<float>(out.values.data(), 3, 17), "out have 17 columns"},
        {MatrixView<float>(out.values.data(), 4, 16), "out has 4 rows, there are 3"}}) {
    EXPECT_TRUE(
        FailsWith(quantizer.Decode(*encoded, shape), ErrorCode::kDimensionMismatch, culprit));
    EXPECT_TRUE(FailsWith(quantizer.DecodeRotated(*encoded, shape), ErrorCode::kDimensionMismatch,
                          culprit));
  }
  EXPECT_TRUE(FailsWith(quantizer.Decode(*encoded, {out.values.data(), 3, 16, 15}),
                        ErrorCode::kInvalidArgument, "out have stride 15"));
  EXPECT_TRUE(FailsWith(quantizer.Score(*queries, *encoded, {out.values.data(), 3, 4}),
                        ErrorCode::kDimensionMismatch, "scores are 3 × 4"));
  EXPECT_TRUE(FailsWith(quantizer.Score(*queries, *encoded, {out.values.data(), 2, 3}),
                        ErrorCode::kDimensionMismatch, "scores are 2 × 3"));
  EXPECT_TRUE(FailsWith(quantizer.Score(*queries, *encoded, {out.values.data(), 3, 3, 2}),
                        ErrorCode::kDimensionMismatch, "stride 2"));
  for (size_t i = 0; i < out.values.size(); ++i) ASSERT_EQ(untouched[i], 0.0f);
}

TEST(MseQuantizerTest, DigitsOfAQueryAreOneOrTwo) {
  const MseQuantizer quantizer = MakeMse({.dim = 16});
  const Rows queries = test::NormalRows(2, 16, 1);
  for (const int digits : {0, 3, -1}) {
    EXPECT_TRUE(FailsWith(quantizer.Prepare(queries.view(), {.digits = digits}),
                          ErrorCode::kInvalidArgument,
                          "digits must be 1 or 2, got " + std::to_string(digits)));
  }
}

TEST(MseQuantizerTest, RowsThatAreSummedAreNotScored) {
  const MseQuantizer quantizer = MakeMse({.dim = 16});
  const Rows rows = test::NormalRows(3, 16, 1);
  const auto values = quantizer.Encode(rows.view(), Tiling::kValues);
  const auto queries = quantizer.Prepare(rows.view());
  ASSERT_TRUE(values && queries);
  Rows scores(3, 3);
  EXPECT_TRUE(FailsWith(quantizer.Score(*queries, *values, scores.view()),
                        ErrorCode::kInvalidArgument, "Tiling::kValues"));
}

TEST(MseQuantizerTest, RowsAndQueriesOfAnotherQuantizerAreRefused) {
  const MseQuantizer quantizer = MakeMse({.dim = 16, .seed = 1});
  const MseQuantizer other = MakeMse({.dim = 16, .seed = 2});
  const Rows rows = test::NormalRows(3, 16, 1);
  const auto ours = quantizer.Encode(rows.view());
  auto theirs = other.Encode(rows.view());
  const auto our_queries = quantizer.Prepare(rows.view());
  const auto their_queries = other.Prepare(rows.view());
  ASSERT_TRUE(ours && theirs && our_queries && their_queries);
  const Snapshot before(*theirs);
  Rows out(3, 16);
  Rows scores(3, 3);
  constexpr auto kCode = ErrorCode::kInvalidArgument;
  EXPECT_TRUE(FailsWith(quantizer.Decode(*theirs, out.view()), kCode, "another quantizer"));
  EXPECT_TRUE(FailsWith(quantizer.DecodeRotated(*theirs, out.view()), kCode, "another quantizer"));
  EXPECT_TRUE(FailsWith(quantizer.Append(rows.view(), *theirs), kCode, "another quantizer"));
  EXPECT_TRUE(FailsWith(quantizer.Score(*our_queries, *theirs, scores.view()), kCode,
                        "rows (dim 16, 4 bits) were written by another quantizer"));
  EXPECT_TRUE(FailsWith(quantizer.Score(*their_queries, *ours, scores.view()), kCode,
                        "queries were prepared by another quantizer"));
  EXPECT_EQ(Snapshot(*theirs), before);
  // Scales of another type are no other quantizer's, but do not mix.
  auto wide = MakeMse({.dim = 16, .scale_type = ScaleType::kF32, .seed = 1}).Encode(rows.view());
  ASSERT_TRUE(wide);
  EXPECT_TRUE(FailsWith(quantizer.Append(rows.view(), *wide), kCode, "scales of another type"));
  EXPECT_TRUE(quantizer.Decode(*wide, out.view()));
}

TEST(MseQuantizerTest, EqualQuantizersReadEachOthersRows) {
  const MseQuantizer search = MakeMse({.dim = 40, .bits = 4, .scale = Scale::kUnbiased});
  const MseQuantizer plain = MakeMse({.dim = 40,
                                      .bits = 4,
                                      .scale = Scale::kNorm,
                                      .scale_search = false,
                                      .backend = Backend::kScalar});
  const Rows rows = test::NormalRows(20, 40, 1);
  auto encoded = search.Encode(rows.view());
  ASSERT_TRUE(encoded);
  Rows a(20, 40);
  Rows b(20, 40);
  ASSERT_TRUE(search.Decode(*encoded, a.view()));
  ASSERT_TRUE(plain.Decode(*encoded, b.view()));
  EXPECT_EQ(a.values, b.values);
  ASSERT_TRUE(plain.Append(rows.view(), *encoded));
  EXPECT_EQ(encoded->size(), 40u);
  EXPECT_NE(encoded->ScaleOf(0), encoded->ScaleOf(20));
}

TEST(MseQuantizerTest, EmptyBatchesAreFine) {
  const MseQuantizer quantizer = MakeMse({.dim = 16});
  const MatrixView<const float> no_rows(nullptr, 0, 16);
  const Rows rows = test::NormalRows(3, 16, 1);
  auto encoded = quantizer.Encode(no_rows);
  const auto no_queries = quantizer.Prepare(no_rows);
  const auto queries = quantizer.Prepare(rows.view());
  ASSERT_TRUE(encoded && no_queries && queries);
  EXPECT_EQ(encoded->size(), 0u);
  EXPECT_EQ(encoded->HeldBytes(), 0u);
  EXPECT_EQ(no_queries->size(), 0u);
  EXPECT_TRUE(quantizer.Decode(*encoded, {nullptr, 0, 16}));
  EXPECT_TRUE(quantizer.DecodeRotated(*encoded, {nullptr, 0, 16}));
  EXPECT_TRUE(quantizer.Score(*queries, *encoded, {nullptr, 3, 0}));
  EXPECT_TRUE(quantizer.ImportCanonical({}, {}));
  EXPECT_TRUE(encoded->ExportCanonical({}));
  ASSERT_TRUE(quantizer.Append(rows.view(), *encoded));
  const Snapshot before(*encoded);
  ASSERT_TRUE(quantizer.Append(no_rows, *encoded));
  EXPECT_EQ(Snapshot(*encoded), before);
  EXPECT_TRUE(quantizer.Score(*no_queries, *encoded, {nullptr, 0, 3}));
  EXPECT_TRUE(FailsWith(quantizer.Encode(MatrixView<const float>(nullptr, 0, 15)),
                        ErrorCode::kDimensionMismatch, "15 columns"));
}

// What lies between rows is neither read nor written.
TEST(MseQuantizerTest, StridesSkipWhatLiesBetweenRows) {
  constexpr size_t kDim = 20;
  constexpr size_t kStride = 27;
  for (const RotationKind rotation : {RotationKind::kHadamard, RotationKind::kDense}) {
    const MseQuantizer quantizer = MakeMse({.dim = kDim, .rotation = rotation});
    const Rows rows = test::NormalRows(35, kDim, 1);
    Rows spread(35, kStride);
    std::ranges::fill(spread.values, kNan);
    for (size_t r = 0; r < 35; ++r) std::ranges::copy(rows[r], spread[r].begin());
    const MatrixView<const float> strided(spread.values.data(), 35, kDim, kStride);
    const auto encoded = quantizer.Encode(rows.view());
    const auto from_strided = quantizer.Encode(strided);
    const auto queries = quantizer.Prepare(rows.view());
    const auto strided_queries = quantizer.Prepare(strided);
    ASSERT_TRUE(encoded && from_strided && queries && strided_queries);
    EXPECT_EQ(Snapshot(*from_strided), Snapshot(*encoded));

    Rows decoded(35, kDim), rotated(35, kDim), scores(35, 35);
    ASSERT_TRUE(quantizer.Decode(*encoded, decoded.view()));
    ASSERT_TRUE(quantizer.DecodeRotated(*encoded, rotated.view()));
    ASSERT_TRUE(quantizer.Score(*queries, *encoded, scores.view()));
    const auto expect_spread = [](const Rows& dense, const Rows& wide) {
      for (size_t r = 0; r < dense.rows; ++r) {
        for (size_t j = 0; j < wide.dim; ++j) {
          ASSERT_EQ(wide[r][j], j < dense.dim ? dense[r][j] : 7.0f) << r << ", " << j;
        }
      }
    };
    Rows wide(35, 50);
    std::ranges::fill(wide.values, 7.0f);
    ASSERT_TRUE(quantizer.Decode(*encoded, {wide.values.data(), 35, kDim, 50}));
    expect_spread(decoded, wide);
    std::ranges::fill(wide.values, 7.0f);
    ASSERT_TRUE(quantizer.DecodeRotated(*encoded, {wide.values.data(), 35, kDim, 50}));
    expect_spread(rotated, wide);
    std::ranges::fill(wide.values, 7.0f);
    ASSERT_TRUE(quantizer.Score(*strided_queries, *encoded, {wide.values.data(), 35, 35, 50}));
    expect_spread(scores, wide);
  }
}

TEST(MseQuantizerTest, ResultsDoNotDependOnTheCallersThreads) {
  for (const Tiling tiling : {Tiling::kKeys, Tiling::kValues}) {
    const MseQuantizer quantizer = MakeMse({.dim = 48, .bits = 3});
    const Rows rows = test::NormalRows(2700, 48, 1);
    const Rows few = test::NormalRows(5, 48, 2);
    MseRows expected = quantizer.MakeRows(tiling);
    ASSERT_TRUE(quantizer.Append(few.view(), expected));  // tasks that do not start at a block
    ASSERT_TRUE(quantizer.Append(rows.view(), expected));
    Rows expected_out(2705, 48);
    Rows expected_scores(5, 2705);
    const auto queries = quantizer.Prepare(few.view());
    ASSERT_TRUE(queries && quantizer.Decode(expected, expected_out.view()));
    if (tiling == Tiling::kKeys) {
      ASSERT_TRUE(quantizer.Score(*queries, expected, expected_scores.view()));
    }
    for (const ParallelFor& threads : {test::Backwards(), test::Threads(2), test::Threads(7)}) {
      MseRows actual = quantizer.MakeRows(tiling);
      ASSERT_TRUE(quantizer.Append(few.view(), actual, threads));
      ASSERT_TRUE(quantizer.Append(rows.view(), actual, threads));
      EXPECT_EQ(Snapshot(actual), Snapshot(expected));
      EXPECT_TRUE(std::ranges::equal(actual.blocks(), expected.blocks()));
      Rows out(2705, 48);
      ASSERT_TRUE(quantizer.Decode(actual, out.view(), threads));
      EXPECT_EQ(out.values, expected_out.values);
      if (tiling == Tiling::kValues) continue;
      Rows scores(5, 2705);
      ASSERT_TRUE(quantizer.Score(*queries, actual, scores.view(), threads));
      EXPECT_EQ(scores.values, expected_scores.values);
    }
  }
}

TEST(MseQuantizerTest, TheFirstBadRowIsNamedWhateverTheThreads) {
  const MseQuantizer quantizer = MakeMse({.dim = 16});
  Rows rows = test::NormalRows(2000, 16, 1);
  rows[300][3] = kNan;
  rows[1900][4] = kNan;
  for (const ParallelFor& threads : {ParallelFor(), test::Backwards(), test::Threads(3)}) {
    EXPECT_TRUE(FailsWith(quantizer.Encode(rows.view(), Tiling::kKeys, threads),
                          ErrorCode::kNonFinite, "rows[300] is NaN at column 3"));
  }
}

TEST(MseQuantizerTest, AppendThatFailsLeavesTheRowsAsTheyWere) {
  for (const Tiling tiling : {Tiling::kKeys, Tiling::kValues}) {
    for (const int bits : {1, 3, 6}) {
      const MseQuantizer quantizer = MakeMse({.dim = 33, .bits = bits});
      Rows bad = test::NormalRows(700, 33, 2);
      bad[650][32] = kNan;
      for (const size_t held : {0, 1, 16, 37, 64, 100}) {
        const Rows rows = test::NormalRows(held, 33, 1);
        auto encoded = quantizer.Encode(rows.view(), tiling);
        ASSERT_TRUE(encoded);
        ASSERT_TRUE(encoded->RemoveFront(held / 5));
        const Snapshot before(*encoded);
        const std::vector<uint8_t> blocks(encoded->blocks().begin(), encoded->blocks().end());
        EXPECT_TRUE(FailsWith(quantizer.Append(bad.view(), *encoded, test::Backwards()),
                              ErrorCode::kNonFinite, "rows[650]"));
        EXPECT_EQ(encoded->size(), held - held / 5);
        EXPECT_EQ(Snapshot(*encoded), before);
        // And nothing of the failed rows shows under those that come next.
        ASSERT_TRUE(quantizer.Append(rows.view(), *encoded));
        auto fresh = quantizer.Encode(rows.view(), tiling);
        ASSERT_TRUE(fresh && fresh->RemoveFront(held / 5) && quantizer.Append(rows.view(), *fresh));
        EXPECT_EQ(Snapshot(*encoded), Snapshot(*fresh));
      }
    }
  }
}

}  // namespace
}  // namespace turboquant
