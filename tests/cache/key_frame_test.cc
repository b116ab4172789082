#include "src/cache/key_frame.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "src/quantizers/direction.h"
#include "tests/cache/key_statistics.h"

namespace turboquant {
namespace {

using testing::RandomRows;
using testing::TurnedBack;

TEST(KeyFrameTest, TurnsPairsByPositionTimesFrequency) {
  for (const RopePairing pairing : {RopePairing::kHalf, RopePairing::kInterleaved}) {
    for (const size_t rotary_dim : {0, 2, 6, 16}) {
      const RopeParameters rope = RopeParameters::FromTheta(10000.0, rotary_dim, pairing);
      for (const uint64_t position : {0, 1, 260, 100004}) {
        std::vector<float> turns(rotary_dim);
        MakeTurns(rope, position, turns);
        KeyFrame frame(FastestKernels(), nullptr, 0, turns.data(), rotary_dim, pairing, 16);
        const std::vector<double> row = RandomRows(1, 16, position)[0];
        std::vector<float> turned(row.begin(), row.end());
        frame.Apply(turned.data(), turned.data());
        const std::vector<double> expected = TurnedBack(rope, static_cast<double>(position), row);
        for (size_t j = 0; j < 16; ++j) ASSERT_NEAR(turned[j], expected[j], 3e-6) << j;
        for (size_t j = rotary_dim; j < 16; ++j) ASSERT_EQ(turned[j], static_cast<float>(row[j]));
        frame.Undo(turned.data());
        for (size_t j = 0; j < 16; ++j) ASSERT_NEAR(turned[j], row[j], 3e-6) << j;
      }
    }
  }
}

}  // namespace
}  // namespace turboquant
