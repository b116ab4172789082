#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

#include "src/base/half.h"
#include "tests/support/random_rows.h"
#include "tests/support/threads.h"
#include "turboquant/polar_quantizer.h"

namespace turboquant {
namespace {

using test::Rows;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

PolarQuantizer MakeQuantizer(const PolarOptions& options) {
  auto quantizer = PolarQuantizer::Create(options);
  EXPECT_TRUE(quantizer) << quantizer.error().message;
  return *std::move(quantizer);
}

std::vector<PolarOptions> Shapes() {
  std::vector<PolarOptions> shapes;
  for (const size_t dim : {16, 48, 80, 128}) shapes.push_back({.dim = dim});
  shapes.push_back({.dim = 32, .level_bits = {3, 1, 5, 7}});
  shapes.push_back({.dim = 64, .radius_type = ScaleType::kF32, .rotation = RotationKind::kDense});
  for (const size_t dim : {2, 4, 8, 64, 256}) {
    shapes.push_back({.dim = dim, .form = PolarForm::kFull});
    const size_t levels = static_cast<size_t>(std::countr_zero(dim));
    for (const int bits : {1, 3, 8}) {
      shapes.push_back(
          {.dim = dim, .form = PolarForm::kFull, .level_bits = std::vector<int>(levels, bits)});
    }
  }
  return shapes;
}

std::string Describe(const PolarOptions& options) {
  std::string text = options.form == PolarForm::kFull ? "full " : "blocks ";
  text += std::to_string(options.dim) + ":";
  for (const int bits : options.level_bits) text.append(" ").append(std::to_string(bits));
  return text;
}

// A row's codes by the wording of the format: one bit at a time.
unsigned CodeAt(std::span<const uint8_t> packed, size_t first_bit, int bits) {
  unsigned code = 0;
  for (size_t k = 0; k < static_cast<size_t>(bits); ++k) {
    const size_t bit = first_bit + k;
    code |= static_cast<unsigned>(packed[bit / 8] >> (bit % 8) & 1) << k;
  }
  return code;
}

// Encodes by arc tangents and decodes by cosines, straight from the paper.
struct PolarReference {
  std::vector<std::vector<double>> angles;  // per level
  std::vector<double> radii;

  PolarReference(std::span<const float> rotated, size_t levels)
      : radii(rotated.begin(), rotated.end()) {
    for (size_t level = 0; level < levels; ++level) {
      std::vector<double> next;
      angles.emplace_back();
      for (size_t i = 0; i < radii.size(); i += 2) {
        double angle = std::atan2(radii[i + 1], radii[i]);
        if (angle < 0.0) angle += 2.0 * std::numbers::pi;
        angles.back().push_back(angle);
        next.push_back(std::hypot(radii[i], radii[i + 1]));
      }
      radii = next;
    }
  }
};

TEST(PolarTest, CodesAreTheNearestAngles) {
  for (const PolarOptions& options : Shapes()) {
    const PolarQuantizer quantizer = MakeQuantizer(options);
    const size_t levels = quantizer.levels().size();
    const Rows rows = test::NormalRows(4, options.dim, 1);
    const auto encoded = quantizer.Encode(rows.view());
    ASSERT_TRUE(encoded) << encoded.error().message;
    Rows rotated(4, options.dim);
    ASSERT_TRUE(quantizer.rotation().Apply(rows.view(), rotated.view()));
    for (size_t r = 0; r < 4; ++r) {
      const PolarReference reference(rotated[r], levels);
      const auto packed = encoded->packed().subspan(r * encoded->RowBytes(), encoded->RowBytes());
      size_t at = 0;
      for (size_t level = 0; level < levels; ++level) {
        const PolarLevel& book = quantizer.levels()[level];
        for (const double angle : reference.angles[level]) {
          const unsigned code = CodeAt(packed, at, book.bits);
          at += static_cast<size_t>(book.bits);
          const size_t below = static_cast<size_t>(
              std::ranges::lower_bound(book.boundaries, angle) - book.boundaries.begin());
          const bool on_boundary = std::ranges::any_of(
              book.boundaries, [&](double b) { return std::fabs(b - angle) < 1e-5; });
          if (!on_boundary) {
            EXPECT_EQ(code, below) << Describe(options) << " level " << level;
          }
        }
      }
      for (; at < 8 * packed.size(); ++at) EXPECT_EQ(CodeAt(packed, at, 1), 0u) << "padding";
      ASSERT_EQ(encoded->RadiiPerRow(), reference.radii.size());
      for (size_t block = 0; block < reference.radii.size(); ++block) {
        EXPECT_NEAR(encoded->RadiusOf(r, block), reference.radii[block],
                    0x1p-10 * reference.radii[block]);
      }
      EXPECT_TRUE(std::isnan(encoded->RadiusOf(r, reference.radii.size())));
    }
    EXPECT_TRUE(std::isnan(encoded->RadiusOf(4, 0)));
  }
}

TEST(PolarTest, DecodeIsRadiusTimesCosinesAndSines) {
  for (const PolarOptions& options : Shapes()) {
    const PolarQuantizer quantizer = MakeQuantizer(options);
    const auto encoded = quantizer.Encode(test::NormalRows(2, options.dim, 2).view());
    ASSERT_TRUE(encoded);
    Rows decoded(2, options.dim);
    ASSERT_TRUE(quantizer.Decode(*encoded, decoded.view()));
    Rows rotated(2, options.dim);
    ASSERT_TRUE(quantizer.rotation().Apply(decoded.view(), rotated.view()));
    for (size_t r = 0; r < 2; ++r) {
      std::vector<double> expected;
      for (size_t block = 0; block < encoded->RadiiPerRow(); ++block) {
        expected.push_back(static_cast<double>(encoded->RadiusOf(r, block)));
      }
      size_t at = 0;
      for (const PolarLevel& level : quantizer.levels()) {
        const size_t step = static_cast<size_t>(&level - quantizer.levels().data()) + 1;
        at += (options.dim >> step) * static_cast<size_t>(level.bits);
      }
      const auto packed = encoded->packed().subspan(r * encoded->RowBytes(), encoded->RowBytes());
      for (size_t level = quantizer.levels().size(); level-- > 0;) {
        const PolarLevel& book = quantizer.levels()[level];
        at -= expected.size() * static_cast<size_t>(book.bits);
        std::vector<double> next;
        for (size_t i = 0; i < expected.size(); ++i) {
          const size_t bit = at + i * static_cast<size_t>(book.bits);
          const double angle = book.angles[CodeAt(packed, bit, book.bits)];
          next.push_back(expected[i] * std::cos(angle));
          next.push_back(expected[i] * std::sin(angle));
        }
        expected = next;
      }
      ASSERT_EQ(at, 0u);
      for (size_t j = 0; j < options.dim; ++j) {
        EXPECT_NEAR(rotated[r][j], expected[j], 2e-6 * test::Norm(rotated[r])) << Describe(options);
      }
    }
  }
}

TEST(PolarTest, ScoreIsDecodeThenDot) {
  for (const PolarOptions& options : Shapes()) {
    const PolarQuantizer quantizer = MakeQuantizer(options);
    const Rows queries = test::NormalRows(3, options.dim, 4);
    const auto encoded = quantizer.Encode(test::NormalRows(5, options.dim, 3).view());
    const auto prepared = quantizer.Prepare(queries.view());
    ASSERT_TRUE(encoded && prepared);
    Rows decoded(5, options.dim);
    Rows scores(3, 5);
    ASSERT_TRUE(quantizer.Decode(*encoded, decoded.view()));
    ASSERT_TRUE(quantizer.Score(*prepared, *encoded, scores.view()));
    for (size_t q = 0; q < 3; ++q) {
      for (size_t r = 0; r < 5; ++r) {
        EXPECT_NEAR(scores[q][r], test::Dot(queries[q], decoded[r]),
                    1e-5 * test::Norm(queries[q]) * test::Norm(decoded[r]))
            << Describe(options);
      }
    }
  }
}

TEST(PolarTest, RotationDrawsFromItsOwnStage) {
  const PolarQuantizer quantizer =
      MakeQuantizer({.dim = 32, .seed = 5, .stream = {.layer = 1, .head = 2, .side = 1}});
  const RotationOptions& rotation = quantizer.rotation().options();
  EXPECT_EQ(rotation.stage, 2u);
  EXPECT_EQ(rotation.seed, 5u);
  EXPECT_EQ(rotation.stream.layer, 1u);
  EXPECT_EQ(rotation.stream.head, 2u);
  EXPECT_EQ(rotation.stream.side, 1u);
}

TEST(PolarTest, PracticalFormTakes3875BitsPerCoordinate) {
  const PolarRows rows = MakeQuantizer({.dim = 128}).MakeRows();
  EXPECT_EQ(static_cast<double>(rows.CanonicalBytesPerRow()) * 8.0 / 128.0, 3.875);
  const PolarRows full =
      MakeQuantizer({.dim = 128, .form = PolarForm::kFull, .level_bits = std::vector<int>(7, 4)})
          .MakeRows();
  EXPECT_EQ(full.RowBytes(), (127u * 4 + 7) / 8);
  EXPECT_EQ(full.RadiiPerRow(), 1u);
}

TEST(PolarTest, ZeroRowsAndEmptyBatches) {
  for (const PolarOptions& options : Shapes()) {
    const PolarQuantizer quantizer = MakeQuantizer(options);
    const auto encoded = quantizer.Encode(Rows(1, options.dim).view());
    ASSERT_TRUE(encoded);
    EXPECT_TRUE(std::ranges::all_of(encoded->packed(), [](uint8_t byte) { return byte == 0; }));
    Rows decoded = test::NormalRows(1, options.dim, 5);
    const auto prepared = quantizer.Prepare(decoded.view());
    ASSERT_TRUE(quantizer.Decode(*encoded, decoded.view()));
    EXPECT_EQ(decoded.values, Rows(1, options.dim).values);
    Rows scores(1, 1);
    scores[0][0] = kNan;
    ASSERT_TRUE(quantizer.Score(*prepared, *encoded, scores.view()));
    EXPECT_EQ(scores[0][0], 0.0f);
    const auto none = quantizer.Encode(Rows(0, options.dim).view());
    ASSERT_TRUE(none);
    EXPECT_TRUE(quantizer.Decode(*none, Rows(0, options.dim).view()));
  }
}

TEST(PolarTest, EveryNormIsServed) {
  for (const PolarForm form : {PolarForm::kBlocks, PolarForm::kFull}) {
    const PolarQuantizer quantizer =
        MakeQuantizer({.dim = 64, .form = form, .radius_type = ScaleType::kF32});
    const Rows rows = test::UnitRows(1, 64, 6);
    const auto unit = quantizer.Encode(rows.view());
    ASSERT_TRUE(unit);
    Rows expected(1, 64);
    ASSERT_TRUE(quantizer.Decode(*unit, expected.view()));
    for (const float factor : {0x1p-90f, 50.0f, 0x1p126f}) {
      Rows scaled = rows;
      for (float& x : scaled.values) x *= factor;
      const auto encoded = quantizer.Encode(scaled.view());
      ASSERT_TRUE(encoded) << encoded.error().message;
      EXPECT_TRUE(std::ranges::equal(encoded->packed(), unit->packed()));
      Rows decoded(1, 64);
      ASSERT_TRUE(quantizer.Decode(*encoded, decoded.view()));
      for (size_t j = 0; j < 64; ++j) {
        EXPECT_NEAR(decoded[0][j] / factor, expected[0][j], 1e-6f) << factor;
      }
    }
  }
}

TEST(PolarTest, TakesHalfPrecisionRowsAsTheirFloatValues) {
  const PolarQuantizer quantizer = MakeQuantizer({.dim = 32});
  const Rows rows = test::NormalRows(2, 32, 7);
  std::vector<BFloat16> half;
  Rows exact(2, 32);
  for (size_t i = 0; i < 64; ++i) {
    half.push_back(F32ToBF16(rows.values[i]));
    exact.values[i] = BF16ToF32(half[i]);
  }
  const auto a = quantizer.Encode(MatrixView<const BFloat16>{half.data(), 2, 32});
  const auto b = quantizer.Encode(exact.view());
  ASSERT_TRUE(a && b);
  EXPECT_TRUE(std::ranges::equal(a->packed(), b->packed()));
}

TEST(PolarTest, ResultsDoNotDependOnThreadsOrBatches) {
  const PolarQuantizer quantizer = MakeQuantizer({.dim = 48});
  const Rows rows = test::NormalRows(200, 48, 8);
  const auto whole = quantizer.Encode(rows.view());
  const auto threaded = quantizer.Encode(rows.view(), test::Threads(3));
  PolarRows appended = quantizer.MakeRows();
  for (size_t first = 0; first < 200; first += 9) {
    const size_t count = std::min<size_t>(9, 200 - first);
    ASSERT_TRUE(quantizer.Append(rows.view().Slice(first, count), appended));
  }
  ASSERT_TRUE(whole && threaded);
  EXPECT_TRUE(std::ranges::equal(whole->packed(), threaded->packed()));
  EXPECT_TRUE(std::ranges::equal(whole->packed(), appended.packed()));
  Rows expected(200, 48);
  Rows decoded(200, 48);
  ASSERT_TRUE(quantizer.Decode(*whole, expected.view()));
  ASSERT_TRUE(quantizer.Decode(*threaded, decoded.view(), test::Backwards()));
  EXPECT_EQ(decoded.values, expected.values);
  const auto prepared = quantizer.Prepare(rows.view().Slice(0, 2));
  Rows scores(2, 200);
  Rows threaded_scores(2, 200);
  ASSERT_TRUE(quantizer.Score(*prepared, *whole, scores.view()));
  ASSERT_TRUE(quantizer.Score(*prepared, *whole, threaded_scores.view(), test::Threads(2)));
  EXPECT_EQ(scores.values, threaded_scores.values);
}

}  // namespace
}  // namespace turboquant
