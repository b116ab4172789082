#include "src/eval/method.h"

#include <algorithm>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/eval/metrics.h"
#include "tests/support/random_rows.h"

namespace turboquant::eval {
namespace {

using ::testing::HasSubstr;

const Policy kDefaultOnly[] = {Policy::kDefault};

Result<std::vector<MethodSpec>> Expand(std::vector<MethodKind> kinds, std::vector<double> bits,
                                       MissingWidth missing = MissingWidth::kError) {
  return ExpandMethods(kinds, bits, kDefaultOnly, missing);
}

TEST(MethodTest, NamesAreReadBack) {
  for (const MethodKind kind : AllMethods()) EXPECT_EQ(ParseMethod(MethodName(kind)), kind);
  EXPECT_EQ(AllMethods().size(), 12u);
  for (const Policy policy : {Policy::kDefault, Policy::kNoSearch, Policy::kPaper}) {
    EXPECT_EQ(ParsePolicy(PolicyName(policy)), policy);
  }
  const auto unknown = ParseMethod("q5_0");
  ASSERT_FALSE(unknown.has_value());
  EXPECT_EQ(unknown.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(unknown.error().message, HasSubstr("q5_0"));
  EXPECT_THAT(unknown.error().message, HasSubstr("int8-hadamard"));
  EXPECT_FALSE(ParsePolicy("fast").has_value());
}

TEST(MethodTest, FractionalWidthsOfMseAreTheOutlierSplit) {
  const auto specs = Expand({MethodKind::kMse, MethodKind::kOutlier}, {2.5});
  ASSERT_TRUE(specs.has_value());
  ASSERT_EQ(specs->size(), 1u);  // both names mean the same
  EXPECT_EQ(specs->front().kind, MethodKind::kOutlier);
}

TEST(MethodTest, AMissingWidthIsAnErrorOrIsDroppedAsAsked) {
  for (const double bits : {0.0, 9.0, 2.25, -1.0}) {
    EXPECT_FALSE(Expand({MethodKind::kMse}, {bits}).has_value()) << bits;
  }
  const auto prod = Expand({MethodKind::kProd}, {4, 1});
  ASSERT_FALSE(prod.has_value());
  EXPECT_EQ(prod.error().message, "method prod has no width of 1 bits; it has 2 to 8");
  const auto dropped = Expand({MethodKind::kProd}, {4, 1}, MissingWidth::kDrop);
  ASSERT_TRUE(dropped.has_value());
  EXPECT_EQ(dropped->size(), 1u);
  EXPECT_FALSE(Expand({MethodKind::kProd}, {1}, MissingWidth::kDrop).has_value());
}

TEST(MethodTest, FixedRateMethodsAndPoliciesWithoutEffectAppearOnce) {
  const Policy policies[] = {Policy::kDefault, Policy::kNoSearch, Policy::kPaper};
  const double bits[] = {3, 4};
  const auto specs = ExpandMethods({}, bits, policies, MissingWidth::kDrop);
  ASSERT_TRUE(specs.has_value());
  const auto count = [&](MethodKind kind) {
    return std::ranges::count(*specs, kind, &MethodSpec::kind);
  };
  EXPECT_EQ(count(MethodKind::kMse), 6);
  EXPECT_EQ(count(MethodKind::kProd), 4);  // no search to leave out
  EXPECT_EQ(count(MethodKind::kQjl), 4);
  EXPECT_EQ(count(MethodKind::kOutlier), 0);
  EXPECT_EQ(count(MethodKind::kPolar), 1);
  EXPECT_EQ(count(MethodKind::kQ40Hadamard), 1);
}

TEST(MethodTest, SketchesKeepTheirValuesAsMse) {
  EXPECT_EQ(ValueMethod({MethodKind::kProd, 3, Policy::kPaper}),
            (MethodSpec{MethodKind::kMse, 3, Policy::kPaper}));
  EXPECT_EQ(ValueMethod({MethodKind::kFp8, 8, Policy::kDefault}),
            (MethodSpec{MethodKind::kFp8, 8, Policy::kDefault}));
}

struct Expectation {
  MethodSpec spec;
  double true_bits;  // at dim 128
};

class EveryMethodTest : public ::testing::TestWithParam<Expectation> {};

// What is decoded, what is scored and what theory says have to agree with each other.
TEST_P(EveryMethodTest, ScoresAreInnerProductsWithDecodedRows) {
  constexpr size_t kDim = 128;
  MethodContext context;
  context.dim = kDim;
  const auto method = MakeRowMethod(GetParam().spec, context);
  ASSERT_TRUE(method.has_value()) << method.error().message;
  const test::Rows rows = test::UnitRows(2000, kDim, 5);
  const test::Rows queries = test::UnitRows(9, kDim, 6);
  ASSERT_TRUE((*method)->Encode(rows.view(), {}).has_value());
  test::Rows decoded(rows.rows, kDim);
  ASSERT_TRUE((*method)->Decode(decoded.view(), {}).has_value());
  ASSERT_TRUE((*method)->Prepare(queries.view()).has_value());
  test::Rows scores(queries.rows, rows.rows);
  ASSERT_TRUE((*method)->Score(scores.view(), {}).has_value());
  for (size_t q = 0; q < queries.rows; ++q) {
    for (size_t t = 0; t < rows.rows; ++t) {
      // Queries are rounded to two digits.
      EXPECT_NEAR(scores[q][t], test::Dot(queries[q], decoded[t]), 2e-4);
    }
  }
  EXPECT_DOUBLE_EQ((*method)->BitsPerCoordinate(), GetParam().true_bits);

  RowErrors errors;
  AddRowErrors(rows.view(), decoded.view(), errors);
  if (const auto theory = (*method)->TheoryNmse()) {
    // Scale search, where it is on by default, gains up to a quarter.
    const bool search = (GetParam().spec.kind == MethodKind::kMse ||
                         GetParam().spec.kind == MethodKind::kOutlier) &&
                        GetParam().spec.policy == Policy::kDefault && GetParam().spec.bits > 2;
    EXPECT_LT(errors.relative.Value(), 1.03 * *theory);
    EXPECT_GT(errors.relative.Value(), (search ? 0.72 : 0.97) * *theory);
  } else {
    EXPECT_TRUE(IsBaseline(GetParam().spec.kind));
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, EveryMethodTest,
    ::testing::Values(Expectation{{MethodKind::kMse, 2, Policy::kDefault}, 2.125},
                      Expectation{{MethodKind::kMse, 4, Policy::kDefault}, 4.125},
                      Expectation{{MethodKind::kMse, 4, Policy::kNoSearch}, 4.125},
                      Expectation{{MethodKind::kMse, 3, Policy::kPaper}, 3.125},
                      Expectation{{MethodKind::kMse, 8, Policy::kDefault}, 8.125},
                      Expectation{{MethodKind::kOutlier, 2.5, Policy::kNoSearch}, 2.5},
                      Expectation{{MethodKind::kOutlier, 3.5, Policy::kDefault}, 3.5},
                      Expectation{{MethodKind::kProd, 2, Policy::kDefault}, 2.25},
                      Expectation{{MethodKind::kProd, 4, Policy::kPaper}, 4.25},
                      Expectation{{MethodKind::kQjl, 1, Policy::kDefault}, 1.125},
                      Expectation{{MethodKind::kQjl, 2, Policy::kPaper}, 2.125},
                      Expectation{{MethodKind::kPolar, 3.875, Policy::kDefault}, 3.875},
                      Expectation{{MethodKind::kInt8, 8, Policy::kDefault}, 8.125},
                      Expectation{{MethodKind::kInt8Hadamard, 8, Policy::kDefault}, 8.125},
                      Expectation{{MethodKind::kQ80, 8, Policy::kDefault}, 8.5},
                      Expectation{{MethodKind::kQ80Hadamard, 8, Policy::kDefault}, 8.5},
                      Expectation{{MethodKind::kQ40, 4, Policy::kDefault}, 4.5},
                      Expectation{{MethodKind::kQ40Hadamard, 4, Policy::kDefault}, 4.5},
                      Expectation{{MethodKind::kFp8, 8, Policy::kDefault}, 8.0}));

TEST(MethodTest, HadamardTamesARowOfOneSpike) {
  const auto nmse = [](MethodKind kind) {
    MethodContext context;
    context.dim = 64;
    const auto method = MakeRowMethod({kind, 4, Policy::kDefault}, context);
    test::Rows rows = test::NormalRows(200, 64, 1);
    for (size_t r = 0; r < rows.rows; ++r) rows[r][r % 64] = 30.0f;
    EXPECT_TRUE((*method)->Encode(rows.view(), {}).has_value());
    test::Rows decoded(rows.rows, 64);
    EXPECT_TRUE((*method)->Decode(decoded.view(), {}).has_value());
    RowErrors errors;
    AddRowErrors(rows.view(), decoded.view(), errors);
    return errors.relative.Value();
  };
  EXPECT_LT(nmse(MethodKind::kQ40Hadamard), 0.6 * nmse(MethodKind::kQ40));
}

TEST(MethodTest, ErrorsComeThrough) {
  MethodContext context;
  context.dim = 100;  // polar needs a multiple of 16
  EXPECT_FALSE(MakeRowMethod({MethodKind::kPolar, 3.875, Policy::kDefault}, context).has_value());
  EXPECT_FALSE(MakeRowMethod({MethodKind::kMse, 9, Policy::kDefault}, context).has_value());
  for (const MethodKind kind : {MethodKind::kMse, MethodKind::kQ40}) {
    const auto method = MakeRowMethod({kind, 4, Policy::kDefault}, context);
    ASSERT_TRUE(method.has_value());
    const test::Rows narrow = test::UnitRows(2, 99, 1);
    EXPECT_FALSE((*method)->Encode(narrow.view(), {}).has_value());
    test::Rows scores(1, 2);
    EXPECT_FALSE((*method)->Score(scores.view(), {}).has_value());
  }
}

}  // namespace
}  // namespace turboquant::eval
