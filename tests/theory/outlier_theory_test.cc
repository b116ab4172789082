// Outlier split: each part has the distortion of its own dim and bits.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/support/random_rows.h"
#include "turboquant/outlier_quantizer.h"

namespace turboquant {
namespace {

using test::Rows;

// Mean |x - decoded|² / |x|² over the given channels.
double PartNmse(const Rows& rows, const Rows& decoded, std::span<const uint32_t> channels) {
  double mean = 0.0;
  for (size_t r = 0; r < rows.rows; ++r) {
    double error = 0.0;
    double square = 0.0;
    for (const uint32_t channel : channels) {
      const double x = static_cast<double>(rows[r][channel]);
      const double difference = x - static_cast<double>(decoded[r][channel]);
      error += difference * difference;
      square += x * x;
    }
    mean += error / square / static_cast<double>(rows.rows);
  }
  return mean;
}

// D_32 and D_96 of algorithms.md for 2/3 and 3/4 bits.
TEST(OutlierTheoryTest, PartsHaveTheDistortionOfTheirDimAndBits) {
  const double outlier_nmse[] = {.0322611, .0087738};
  const double regular_nmse[] = {.1155078, .0337735};
  Rows rows = test::NormalRows(8000, 128, 1);
  for (size_t r = 0; r < rows.rows; ++r) {
    for (size_t j = 0; j < 128; j += 4) rows[r][j] *= 10.0f;
  }
  const auto channels = ChooseOutlierChannels(rows.view());
  ASSERT_TRUE(channels);
  for (uint32_t i = 0; i < 32; ++i) ASSERT_EQ((*channels)[i], 4 * i);
  for (const int bits : {2, 3}) {
    const auto quantizer = OutlierQuantizer::Create({.dim = 128,
                                                     .bits = bits,
                                                     .outlier_channels = *channels,
                                                     .scale = Scale::kNorm,
                                                     .scale_search = false});
    ASSERT_TRUE(quantizer);
    const auto encoded = quantizer->Encode(rows.view());
    ASSERT_TRUE(encoded);
    Rows decoded(rows.rows, 128);
    ASSERT_TRUE(quantizer->Decode(*encoded, decoded.view()));
    const size_t i = static_cast<size_t>(bits) - 2;
    EXPECT_NEAR(PartNmse(rows, decoded, quantizer->outlier_channels()), outlier_nmse[i],
                0.02 * outlier_nmse[i]);
    EXPECT_NEAR(PartNmse(rows, decoded, quantizer->regular_channels()), regular_nmse[i],
                0.02 * regular_nmse[i]);
  }
}

// What it is for: where a quarter of the channels carries most of the energy, the whole row's error
// falls to nearly that of the bits of that quarter.
TEST(OutlierTheoryTest, SplitPaysWhereChannelsDiffer) {
  Rows rows = test::NormalRows(2000, 128, 2);
  for (size_t r = 0; r < rows.rows; ++r) {
    for (size_t j = 0; j < 128; j += 4) rows[r][j] *= 10.0f;
  }
  const auto split =
      OutlierQuantizer::Create({.dim = 128,
                                .bits = 2,
                                .outlier_channels = *ChooseOutlierChannels(rows.view()),
                                .scale = Scale::kNorm,
                                .scale_search = false});
  ASSERT_TRUE(split);
  Rows decoded(rows.rows, 128);
  ASSERT_TRUE(split->Decode(*split->Encode(rows.view()), decoded.view()));
  test::Sample nmse;
  for (size_t r = 0; r < rows.rows; ++r) {
    nmse.Add(test::SquaredDistance(rows[r], decoded[r]) / test::Dot(rows[r], rows[r]));
  }
  // Energies 100 to 3: (100 · .0322611 + 3 · .1155078) / 103.
  EXPECT_NEAR(nmse.mean(), 0.0347, 0.03 * 0.0347);
}

}  // namespace
}  // namespace turboquant
