// PolarQuant: optimal angle codebooks, level densities, and the distortion they give.
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <vector>

#include "tests/support/random_rows.h"
#include "turboquant/polar_quantizer.h"

namespace turboquant {
namespace {

using test::Rows;

constexpr double kPi = std::numbers::pi;

// ∫ of weight · density over [from, to] for the angles of a level, unnormalised: midpoints.
template <class Weight>
double Moment(int level, double from, double to, const Weight& weight) {
  const double power = level == 1 ? 0.0 : std::ldexp(1.0, level - 1) - 1.0;
  constexpr int kSteps = 20000;
  const double step = (to - from) / kSteps;
  double sum = 0.0;
  for (int i = 0; i < kSteps; ++i) {
    const double angle = from + (i + 0.5) * step;
    sum += weight(angle) * std::pow(std::fabs(std::sin(2.0 * angle)), power);
  }
  return sum * step;
}

double End(int level) { return level == 1 ? 2.0 * kPi : kPi / 2.0; }

// Cell i of a level.
std::pair<double, double> CellOf(const PolarLevel& book, int level, size_t i) {
  return {i == 0 ? 0.0 : book.boundaries[i - 1],
          i + 1 == book.angles.size() ? End(level) : book.boundaries[i]};
}

// NMSE with exact radii. <y, decoded> / |y|² is the product over levels of cos(angle - centroid),
// angles being independent, and |decoded| = |y|.
double PredictedNmse(std::span<const PolarLevel> levels) {
  double cosine = 1.0;
  for (size_t l = 0; l < levels.size(); ++l) {
    const int level = static_cast<int>(l) + 1;
    double mean = 0.0;
    for (size_t i = 0; i < levels[l].angles.size(); ++i) {
      const auto [from, to] = CellOf(levels[l], level, i);
      mean += Moment(level, from, to,
                     [&](double angle) { return std::cos(angle - levels[l].angles[i]); });
    }
    cosine *= mean / Moment(level, 0.0, End(level), [](double) { return 1.0; });
  }
  return 2.0 - 2.0 * cosine;
}

double MeasuredNmse(const PolarQuantizer& quantizer, size_t count) {
  const Rows rows = test::UnitRows(count, quantizer.options().dim, 1);
  const auto encoded = quantizer.Encode(rows.view());
  Rows decoded(count, quantizer.options().dim);
  EXPECT_TRUE(quantizer.Decode(*encoded, decoded.view()));
  test::Sample errors;
  for (size_t r = 0; r < count; ++r) errors.Add(test::SquaredDistance(rows[r], decoded[r]));
  return errors.mean();
}

TEST(PolarTheoryTest, CentroidsAreThePublishedOnes) {
  const std::vector<std::vector<double>> expected = {
      {.3094, .6334, .9365, 1.2598}, {.4283, .6766, .8974, 1.1449}, {.5254, .7060, .8642, 1.0461}};
  for (int level = 2; level <= 4; ++level) {
    const auto book = OptimalPolarLevel(level, 2);
    ASSERT_TRUE(book);
    for (size_t i = 0; i < 4; ++i) {
      // The published ones were fitted to samples: they miss symmetry about pi/4 by as much.
      EXPECT_NEAR(book->angles[i], expected[static_cast<size_t>(level) - 2][i], 2.5e-3) << level;
    }
  }
  const auto first = OptimalPolarLevel(1, 4);
  ASSERT_TRUE(first);
  for (size_t i = 0; i < 16; ++i) {
    EXPECT_DOUBLE_EQ(first->angles[i], (2.0 * static_cast<double>(i) + 1.0) * kPi / 16.0);
  }
}

TEST(PolarTheoryTest, EveryCentroidIsTheMeanOfItsCell) {
  for (const int level : {2, 3, 4, 7, 11}) {
    for (const int bits : {1, 2, 3, 5}) {
      const auto book = OptimalPolarLevel(level, bits);
      ASSERT_TRUE(book);
      ASSERT_EQ(book->angles.size(), size_t{1} << bits);
      double error = 0.0;
      for (size_t i = 0; i < book->angles.size(); ++i) {
        const auto [from, to] = CellOf(*book, level, i);
        const double centroid = book->angles[i];
        const double mass = Moment(level, from, to, [](double) { return 1.0; });
        if (mass > 1e-12) {
          EXPECT_NEAR(Moment(level, from, to, [](double angle) { return angle; }) / mass, centroid,
                      1e-6)
              << "level " << level << " bits " << bits << " centroid " << i;
        }
        error += Moment(level, from, to,
                        [&](double angle) { return (angle - centroid) * (angle - centroid); });
        EXPECT_NEAR(centroid + book->angles[book->angles.size() - 1 - i], kPi / 2.0, 1e-12);
      }
      const double mass = Moment(level, 0.0, End(level), [](double) { return 1.0; });
      EXPECT_NEAR(book->distortion, error / mass, 1e-4 * book->distortion);
    }
  }
}

TEST(PolarTheoryTest, DistortionFallsByAboutFourABit) {
  for (const int level : {2, 4, 9, 16}) {
    for (int bits = 1; bits < 8; ++bits) {
      const double ratio = OptimalPolarLevel(level, bits)->distortion /
                           OptimalPolarLevel(level, bits + 1)->distortion;
      EXPECT_GT(ratio, 3.0) << level << ", " << bits;
      EXPECT_LT(ratio, 4.2) << level << ", " << bits;
    }
  }
}

TEST(PolarTheoryTest, PracticalFormHasNmse0320) {
  const auto quantizer = PolarQuantizer::Create({.dim = 128});
  ASSERT_TRUE(quantizer);
  EXPECT_NEAR(PredictedNmse(quantizer->levels()), 0.0320, 0.02 * 0.0320);
  EXPECT_NEAR(MeasuredNmse(*quantizer, 4000), 0.0320, 0.02 * 0.0320);
}

TEST(PolarTheoryTest, FullRecursionHasThePredictedNmse) {
  for (const int bits : {2, 3, 4, 6}) {
    const auto quantizer = PolarQuantizer::Create(
        {.dim = 64, .form = PolarForm::kFull, .level_bits = std::vector<int>(6, bits)});
    ASSERT_TRUE(quantizer);
    const double predicted = PredictedNmse(quantizer->levels());
    EXPECT_NEAR(MeasuredNmse(*quantizer, 4000), predicted, 0.02 * predicted) << bits << " bits";
  }
}

// χ² of the codes of each level against the mass of their cells, 4.5 sigma to both sides.
TEST(PolarTheoryTest, CodesFollowTheLevelDensities) {
  constexpr size_t kRows = 4000;
  constexpr size_t kDim = 64;
  const auto quantizer = PolarQuantizer::Create({.dim = kDim, .level_bits = {4, 4, 4, 4}});
  ASSERT_TRUE(quantizer);
  const auto encoded = quantizer->Encode(test::UnitRows(kRows, kDim, 2).view());
  ASSERT_TRUE(encoded);
  size_t first_byte = 0;
  for (int level = 1; level <= 4; ++level) {
    const size_t codes = kDim >> level;
    std::vector<double> counts(16, 0.0);
    for (size_t r = 0; r < kRows; ++r) {
      const uint8_t* packed = encoded->packed().data() + r * encoded->RowBytes() + first_byte;
      for (size_t i = 0; i < codes; ++i) counts[packed[i / 2] >> (i % 2 * 4) & 15] += 1.0;
    }
    first_byte += codes / 2;
    const PolarLevel& book = quantizer->levels()[static_cast<size_t>(level) - 1];
    const double whole = Moment(level, 0.0, End(level), [](double) { return 1.0; });
    double chi_square = 0.0;
    for (size_t i = 0; i < 16; ++i) {
      const auto [from, to] = CellOf(book, level, i);
      const double expected = static_cast<double>(kRows * codes) *
                              Moment(level, from, to, [](double) { return 1.0; }) / whole;
      chi_square += (counts[i] - expected) * (counts[i] - expected) / expected;
    }
    EXPECT_LT(chi_square, 15.0 + 4.5 * std::sqrt(30.0)) << "level " << level;
    EXPECT_GT(chi_square, 2.0) << "level " << level;
  }
}

}  // namespace
}  // namespace turboquant
