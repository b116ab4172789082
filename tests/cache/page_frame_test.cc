#include "src/cache/page_frame.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "tests/cache/key_statistics.h"

namespace turboquant {
namespace {

using testing::RandomRows;
using testing::TurnedBack;

std::vector<float> Turns(const RopeParameters& rope, uint64_t position) {
  std::vector<float> turns(rope.rotary_dim());
  MakeTurns(rope, position, turns);
  return turns;
}

TEST(PageFrameTest, TurnsPairsByPositionTimesFrequency) {
  for (const RopePairing pairing : {RopePairing::kHalf, RopePairing::kInterleaved}) {
    for (const size_t rotary_dim : {0, 2, 6, 16}) {
      const RopeParameters rope = RopeParameters::FromTheta(10000.0, rotary_dim, pairing);
      for (const uint64_t position : {0, 1, 260, 100004}) {
        const std::vector<double> row = RandomRows(1, 16, position)[0];
        std::vector<float> turned(row.begin(), row.end());
        TurnBack(Turns(rope, position), pairing, turned.data());
        const std::vector<double> expected = TurnedBack(rope, static_cast<double>(position), row);
        for (size_t j = 0; j < 16; ++j) ASSERT_NEAR(turned[j], expected[j], 3e-6) << j;
        TurnForward(Turns(rope, position), pairing, turned.data());
        for (size_t j = 0; j < 16; ++j) {
          ASSERT_NEAR(turned[j], row[j], 3e-6) << j;
          if (j >= rotary_dim) {
            ASSERT_EQ(turned[j], static_cast<float>(row[j]));
          }
        }
      }
    }
  }
}

TEST(PageFrameTest, TheUsualFrequencies) {
  const RopeParameters rope = RopeParameters::FromTheta(10000.0, 8);
  ASSERT_EQ(rope.rotary_dim(), 8u);
  EXPECT_EQ(rope.inverse_frequencies[0], 1.0);
  EXPECT_NEAR(rope.inverse_frequencies[1], 0.1, 1e-16);
  EXPECT_NEAR(rope.inverse_frequencies[3], 1e-3, 1e-18);
  EXPECT_EQ(rope.pairing, RopePairing::kHalf);
}

}  // namespace
}  // namespace turboquant
