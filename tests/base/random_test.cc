#include "src/base/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <tuple>
#include <vector>

namespace turboquant {
namespace {

constexpr uint32_t kTestStage = 15;

using Words = std::array<uint32_t, 4>;

// The known answers published with the generator (Random123, kat_vectors, philox4x32 10).
TEST(Philox4x32Test, EqualsThePublishedKnownAnswers) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomBitsTest, WordsAreTheBlocksOfTheStreamsCounter) {
  const uint64_t seed = 0x0123456789ABCDEFull;
  RandomBits random(seed, {.layer = 0xABCDE, .head = 0x12345, .side = 1, .stage = 2, .round = 3});
  // id = layer + head 2^20 + side 2^40 + stage 2^48 + round 2^56
  const uint64_t id = 0x03'02'01'12345'ABCDEull;
  for (uint32_t block = 0; block < 3; ++block) {
    const Words expected =
        Philox4x32({block, 0, static_cast<uint32_t>(id), static_cast<uint32_t>(id >> 32)},
                   {0x89ABCDEFu, 0x01234567u});
    for (const uint32_t word : expected) EXPECT_EQ(random.NextWord(), word) << "block=" << block;
  }
}

TEST(RandomBitsTest, BitsComeLowestFirst) {
  RandomBits bits(7, {.stage = kTestStage});
  RandomBits words(7, {.stage = kTestStage});
  for (int w = 0; w < 9; ++w) {
    const uint32_t word = words.NextWord();
    for (int bit = 0; bit < 32; ++bit) {
      EXPECT_EQ(bits.NextBit(), ((word >> bit) & 1u) != 0) << "word " << w << " bit " << bit;
    }
  }
}

TEST(RandomBitsTest, EveryFieldOfTheStreamAndTheSeedGivesOtherNumbers) {
  std::set<std::tuple<uint32_t, uint32_t>> firsts;
  size_t streams = 0;
  const auto add = [&](uint64_t seed, const StreamId& stream) {
    RandomBits random(seed, stream);
    const uint32_t first = random.NextWord();
    firsts.insert({first, random.NextWord()});
    ++streams;
  };
  for (uint64_t seed : {0ull, 1ull, 1ull << 32, ~0ull}) {
    add(seed, {});
    for (uint32_t i : {1u, 2u, 100u, 0xFFFFFu}) add(seed, {.layer = i});
    for (uint32_t i : {1u, 2u, 100u, 0xFFFFFu}) add(seed, {.head = i});
    for (uint32_t i : {1u, 2u, 255u}) add(seed, {.side = i});
    for (uint32_t i : {1u, 2u, 255u}) add(seed, {.stage = i});
    for (uint32_t i : {1u, 2u, 255u}) add(seed, {.round = i});
  }
  EXPECT_EQ(firsts.size(), streams);
}

TEST(RandomBitsTest, UniformIsTheMiddleOfItsCell) {
  RandomBits words(3, {.stage = kTestStage});
  RandomBits uniforms(3, {.stage = kTestStage});
  for (int i = 0; i < 1000; ++i) {
    const uint64_t low = words.NextWord();
    const uint64_t high = words.NextWord();
    const double expected = (static_cast<double>(high << 20 | low >> 12) + 0.5) / 0x1p52;
    ASSERT_EQ(uniforms.NextUniform(), expected);
  }
}

// Moments of N draws against their own standard errors, from both sides: 5 s.e. off fails, and so
// does a sequence that is too regular (all four within 0.001 s.e. does not happen by chance).
TEST(RandomBitsTest, NormalHasTheMomentsOfANormal) {
  constexpr int kDraws = 200000;
  RandomBits random(11, {.stage = kTestStage});
  double sums[4] = {};
  for (int i = 0; i < kDraws; ++i) {
    const double z = random.NextNormal();
    double power = 1.0;
    for (double& sum : sums) sum += (power *= z);
  }
  const double expected[] = {0, 1, 0, 3};
  const double variance[] = {1, 2, 15, 96};  // of z, z^2, z^3, z^4
  double largest = 0;
  for (int k = 0; k < 4; ++k) {
    const double deviation = (sums[k] / kDraws - expected[k]) / std::sqrt(variance[k] / kDraws);
    EXPECT_LT(std::fabs(deviation), 5.0) << "moment " << k + 1;
    largest = std::max(largest, std::fabs(deviation));
  }
  EXPECT_GT(largest, 0.001);
}

TEST(RandomBitsTest, BitsAreBalancedAndUncorrelated) {
  constexpr int kBits = 1 << 18;
  RandomBits random(5, {.stage = kTestStage});
  int ones = 0;
  int repeats = 0;
  bool last = false;
  for (int i = 0; i < kBits; ++i) {
    const bool bit = random.NextBit();
    ones += bit;
    repeats += (i > 0 && bit == last);
    last = bit;
  }
  const double standard_error = std::sqrt(kBits) / 2;
  EXPECT_LT(std::fabs(ones - kBits / 2), 5 * standard_error);
  EXPECT_LT(std::fabs(repeats - kBits / 2), 5 * standard_error);
}

TEST(InverseNormalTest, GivesKnownQuantiles) {
  // scipy.stats.norm.ppf
  EXPECT_EQ(InverseNormal(0.5), 0.0);
  EXPECT_NEAR(InverseNormal(0.975), 1.959963984540054, 2e-15);
  EXPECT_NEAR(InverseNormal(0.9), 1.2815515655446004, 2e-15);
  EXPECT_NEAR(InverseNormal(1e-10), -6.361340902404056, 1e-14);
  EXPECT_NEAR(InverseNormal(0x1p-53), -8.209536151601387, 1e-14);
}

// Phi(InverseNormal(p)) = p, with the C library's erfc as the witness; all three branches.
TEST(InverseNormalTest, InvertsTheDistribution) {
  for (double p = 0x1p-53; p < 0.5; p *= 1.01) {
    const double z = InverseNormal(p);
    const double back = 0.5 * std::erfc(-z / std::sqrt(2.0));
    // dPhi/Phi = dz phi/Phi ~ dz |z|: an error of a few ulp in z grows by z^2.
    EXPECT_NEAR(back / p, 1.0, 1e-15 * (4 + 2 * z * z)) << "p=" << p;
    const double q = 1.0 - p;  // 1 - q is exact
    if (q < 1.0) {
      EXPECT_EQ(InverseNormal(q), -InverseNormal(1.0 - q)) << "p=" << p;
    }
  }
}

}  // namespace
}  // namespace turboquant
