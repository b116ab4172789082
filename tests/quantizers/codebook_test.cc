#include "turboquant/codebook.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "src/base/checksum.h"
#include "src/math/lloyd_max.h"

namespace turboquant {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Codebook Created(const CodebookOptions& options) {
  Result<Codebook> codebook = Codebook::Create(options);
  EXPECT_TRUE(codebook) << codebook.error().message;
  return *std::move(codebook);
}

std::vector<int16_t> LevelsOf(const Codebook& codebook) {
  return {codebook.levels().begin(), codebook.levels().end()};
}

// `error` must be kInvalidArgument and name the culprit.
template <class T>
void ExpectInvalid(const Result<T>& result, const std::string& culprit) {
  ASSERT_FALSE(result) << culprit;
  EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(result.error().message, HasSubstr(culprit));
}

TEST(CodebookTest, FrozenLevelsUpTo4Bits) {
  for (const size_t dim : {64, 80, 128, 1536, 65536}) {
    const Codebook one = Created({.dim = dim, .bits = 1});
    EXPECT_THAT(one.levels(), ElementsAre(-127, 127));
    EXPECT_EQ(one.step(), 0.0062826);
    const Codebook two = Created({.dim = dim, .bits = 2});
    EXPECT_THAT(two.levels(), ElementsAre(-110, -33, 33, 110));
    EXPECT_EQ(two.step(), 0.0137304);
    const Codebook three = Created({.dim = dim, .bits = 3});
    EXPECT_THAT(three.levels(), ElementsAre(-88, -55, -31, -10, 10, 31, 55, 88));
    EXPECT_EQ(three.step(), 0.0244456);
    const Codebook four = Created({.dim = dim, .bits = 4});
    EXPECT_THAT(four.levels(), ElementsAre(-104, -79, -62, -48, -36, -25, -15, -5, 5, 15, 25, 36,
                                           48, 62, 79, 104));
    EXPECT_EQ(four.step(), 0.0262169);
  }
}

TEST(CodebookTest, FineLevelsAreTheRoundedOptimum) {
  for (const size_t dim : {2, 3, 16, 63, 64, 128}) {
    for (int bits = 5; bits <= 8; ++bits) {
      const Codebook codebook = Created({.dim = dim, .bits = bits});
      const auto optimum = OptimalCentroids(dim, bits, CodebookDensity::kAuto);
      ASSERT_TRUE(optimum);
      ASSERT_EQ(codebook.size(), size_t{1} << bits);
      EXPECT_EQ(codebook.step(), 1.0 / 1024.0);
      EXPECT_FALSE(codebook.int8_levels());
      for (size_t i = 0; i < codebook.size(); ++i) {
        ASSERT_EQ(codebook.levels()[i], std::nearbyint(1024.0 * optimum->centroids[i]))
            << dim << ", " << bits << " bits, centroid " << i;
      }
    }
  }
}

// The file format's 5-bit Gaussian levels, as numbers: a change of the optimiser may not move them.
TEST(CodebookTest, FrozenLevelsOf5Bits) {
  const Codebook codebook = Created({.dim = 128, .bits = 5});
  EXPECT_THAT(codebook.levels().subspan(16),
              ElementsAre(67, 203, 339, 478, 619, 765, 916, 1074, 1241, 1420, 1614, 1830, 2077,
                          2373, 2756, 3339));
}

TEST(CodebookTest, EveryCodebookIsAscendingOddAndInRange) {
  std::vector<CodebookOptions> all;
  for (size_t dim = 2; dim <= 66; ++dim) {
    for (int bits = 1; bits <= 8; ++bits) all.push_back({.dim = dim, .bits = bits});
    all.push_back({.dim = dim, .bits = 8, .kind = CodebookKind::kUniform});
    all.push_back({.dim = dim, .bits = 3, .density = CodebookDensity::kGaussian});
  }
  all.push_back({.dim = 1536, .bits = 4, .density = CodebookDensity::kSphere});
  for (const CodebookOptions& options : all) {
    const Codebook codebook = Created(options);
    const std::string name = std::to_string(options.dim) + ", " + std::to_string(options.bits);
    EXPECT_EQ(codebook.dim(), options.dim) << name;
    EXPECT_EQ(codebook.bits(), options.bits) << name;
    EXPECT_EQ(codebook.kind(), options.kind) << name;
    const size_t size = codebook.size();
    const bool uniform = options.kind == CodebookKind::kUniform;
    ASSERT_EQ(size, uniform ? 255u : size_t{1} << options.bits) << name;
    EXPECT_EQ(codebook.int8_levels(), uniform || options.bits <= 4) << name;
    const int largest = codebook.int8_levels() ? 127 : 8192;
    for (size_t i = 0; i < size; ++i) {
      ASSERT_EQ(codebook.levels()[i], -codebook.levels()[size - 1 - i]) << name;
      ASSERT_LE(std::abs(codebook.levels()[i]), largest) << name;
      ASSERT_DOUBLE_EQ(codebook.Centroid(i), codebook.levels()[i] * codebook.step()) << name;
      if (i > 0) {
        ASSERT_LT(codebook.levels()[i - 1], codebook.levels()[i]) << name;
        ASSERT_DOUBLE_EQ(codebook.Boundary(i - 1),
                         0.5 * (codebook.Centroid(i - 1) + codebook.Centroid(i)))
            << name;
      }
    }
  }
}

TEST(CodebookTest, UniformHas255EqualSteps) {
  const Codebook uniform = Created({.dim = 128, .bits = 8, .kind = CodebookKind::kUniform});
  EXPECT_EQ(uniform.step(), 0.0308);
  EXPECT_TRUE(uniform.int8_levels());
  for (int i = 0; i < 255; ++i) EXPECT_EQ(uniform.levels()[static_cast<size_t>(i)], i - 127);
  EXPECT_NEAR(uniform.Distortion(), 8.83e-5, 0.005e-5);
}

// The best step for given levels, by parabolas through the error at three steps: shares nothing
// with the library's fixpoint but the density.
std::pair<double, double> BestStep(const CoordinateDensity& density,
                                   const std::vector<int16_t>& levels, double step) {
  const auto error = [&](double at) {
    std::vector<double> centroids;
    for (const int16_t level : levels) centroids.push_back(level * at);
    return Distortion(density, centroids);
  };
  for (const double reach : {3e-3, 3e-4, 1e-4}) {
    const double narrow = error(step * (1.0 - reach));
    const double middle = error(step);
    const double wide = error(step * (1.0 + reach));
    step *= 1.0 + 0.5 * reach * (narrow - wide) / (narrow - 2.0 * middle + wide);
  }
  return {step, error(step)};
}

// "The same routine": of the roundings with the largest level at 64 to 127 the smallest error.
void ExpectBestInt8Rounding(size_t dim, int bits, CodebookDensity kind, double step_tolerance) {
  const CoordinateDensity density = kind == CodebookDensity::kGaussian
                                        ? CoordinateDensity::Gaussian()
                                        : CoordinateDensity::Sphere(dim);
  const std::vector<double> optimum = LloydMax(density, bits).centroids;
  double least = INFINITY;
  std::vector<int16_t> best_levels;
  double best_step = 0.0;
  for (int top = 64; top <= 127; ++top) {
    std::vector<int16_t> levels;
    for (const double centroid : optimum) {
      levels.push_back(static_cast<int16_t>(std::lround(top * centroid / optimum.back())));
    }
    const auto [step, error] = BestStep(density, levels, optimum.back() / top);
    if (error < least * (1.0 - 1e-9)) {
      least = error;
      best_levels = levels;
      best_step = step;
    }
  }
  const Codebook codebook = Created({.dim = dim, .bits = bits, .density = kind});
  EXPECT_EQ(LevelsOf(codebook), best_levels) << dim << ", " << bits << " bits";
  EXPECT_NEAR(codebook.step() / best_step, 1.0, step_tolerance) << dim << ", " << bits << " bits";
  EXPECT_NEAR(codebook.Distortion() / least, 1.0, 1e-8) << dim << ", " << bits << " bits";
}

TEST(CodebookTest, SmallDimsTakeTheBestInt8Rounding) {
  for (const size_t dim : {2, 3, 4, 5, 7, 16, 33, 48, 63}) {
    ExpectBestInt8Rounding(dim, 2, CodebookDensity::kAuto, 1e-7);
    ExpectBestInt8Rounding(dim, 3, CodebookDensity::kAuto, 1e-7);
  }
  for (const size_t dim : {2, 5, 32}) ExpectBestInt8Rounding(dim, 4, CodebookDensity::kAuto, 1e-7);
}

TEST(CodebookTest, FrozenLevelsOf3And4BitsComeFromTheSameRoutine) {
  // The frozen steps are within 5e-5 of the best, which costs under 1e-8 of the error.
  ExpectBestInt8Rounding(64, 3, CodebookDensity::kGaussian, 5e-5);
  ExpectBestInt8Rounding(64, 4, CodebookDensity::kGaussian, 5e-5);
}

TEST(CodebookTest, OneBitIsTheMeanMagnitude) {
  for (const size_t dim : {2, 3, 17, 63}) {
    const Codebook codebook = Created({.dim = dim, .bits = 1});
    EXPECT_THAT(codebook.levels(), ElementsAre(-127, 127)) << dim;
    const double mean = LloydMax(CoordinateDensity::Sphere(dim), 1).centroids[1];
    EXPECT_NEAR(codebook.Centroid(1), mean, 1e-5) << dim;
  }
}

TEST(CodebookTest, AutoIsTheSphereBelow64DimsAndTheGaussianFrom64) {
  for (int bits = 1; bits <= 8; ++bits) {
    const auto with = [bits](size_t dim, CodebookDensity density) {
      return Created({.dim = dim, .bits = bits, .density = density});
    };
    EXPECT_EQ(with(63, CodebookDensity::kAuto), with(63, CodebookDensity::kSphere));
    EXPECT_EQ(with(64, CodebookDensity::kAuto), with(64, CodebookDensity::kGaussian));
    EXPECT_FALSE(with(16, CodebookDensity::kAuto) == with(16, CodebookDensity::kGaussian));
    EXPECT_FALSE(with(64, CodebookDensity::kAuto) == with(64, CodebookDensity::kSphere)) << bits;
    EXPECT_EQ(LevelsOf(with(16, CodebookDensity::kGaussian)),
              LevelsOf(with(128, CodebookDensity::kAuto)));
    // The reported distortion is that on the density the codebook was made for.
    EXPECT_LT(with(16, CodebookDensity::kSphere).Distortion(),
              with(16, CodebookDensity::kGaussian).Distortion());
    EXPECT_EQ(with(16, CodebookDensity::kGaussian).Distortion(),
              with(128, CodebookDensity::kAuto).Distortion());
  }
}

TEST(CodebookTest, FingerprintIsTheChecksumOfLevelsAndStep) {
  const Codebook codebook = Created({.dim = 128, .bits = 2});
  // -110 -33 33 110 and 0.0137304, byte by byte.
  std::vector<std::byte> bytes;
  for (const unsigned byte : {0x92u, 0xFFu, 0xDFu, 0xFFu, 0x21u, 0x00u, 0x6Eu, 0x00u}) {
    bytes.push_back(static_cast<std::byte>(byte));
  }
  const uint64_t step = std::bit_cast<uint64_t>(0.0137304);
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<std::byte>(step >> (8 * i)));
  EXPECT_EQ(codebook.fingerprint(), Crc32(bytes));
  EXPECT_EQ(codebook.fingerprint(), 2735478125u);  // frozen

  std::set<uint32_t> fingerprints;
  for (int bits = 1; bits <= 8; ++bits) {
    for (const size_t dim : {2, 3, 16, 63, 64}) {
      fingerprints.insert(Created({.dim = dim, .bits = bits}).fingerprint());
    }
  }
  EXPECT_EQ(fingerprints.size(), 8u * 5u);
}

TEST(CodebookTest, EqualOptionsGiveEqualCodebooksOnAnyThread) {
  const Codebook expected = Created({.dim = 37, .bits = 4});
  std::array<uint32_t, 8> fingerprints{};
  std::vector<std::thread> threads;
  for (size_t i = 0; i < fingerprints.size(); ++i) {
    threads.emplace_back([&fingerprints, i] {
      for (const size_t dim : {38 + i, size_t{37}}) {
        const Result<Codebook> codebook = Codebook::Create({.dim = dim, .bits = 4});
        if (codebook) fingerprints[i] = codebook->fingerprint();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const uint32_t fingerprint : fingerprints) EXPECT_EQ(fingerprint, expected.fingerprint());
}

TEST(CodebookTest, RefusesBadOptions) {
  ExpectInvalid(Codebook::Create({.dim = 0}), "dim must be at least 2, got 0");
  ExpectInvalid(Codebook::Create({.dim = 1}), "dim must be at least 2, got 1");
  for (const int bits : {-1, 0, 9, 255}) {
    const std::string message = "bits must be 1 to 8, got " + std::to_string(bits);
    ExpectInvalid(Codebook::Create({.dim = 128, .bits = bits}), message);
    ExpectInvalid(Codebook::Create({.dim = 16, .bits = bits}), message);
    ExpectInvalid(OptimalCentroids(128, bits, CodebookDensity::kAuto), message);
  }
  ExpectInvalid(Codebook::Create({.dim = 128, .bits = 4, .kind = CodebookKind::kUniform}), "got 4");
  ExpectInvalid(Codebook::Create({.dim = 128, .bits = 4, .kind = CodebookKind::kCustom}),
                "FromCentroids");
  ExpectInvalid(OptimalCentroids(1, 4, CodebookDensity::kSphere), "dim must be at least 2, got 1");
}

TEST(CodebookTest, CustomCentroidsAreRoundedToTheGrid) {
  // 0.5 / 1024 is a tie: to even, as 2.5 / 1024 is.
  const std::vector<double> centroids = {-8.0, 0.5 / 1024, 2.5 / 1024, 8.0};
  const Result<Codebook> codebook = Codebook::FromCentroids(96, centroids);
  ASSERT_TRUE(codebook) << codebook.error().message;
  EXPECT_THAT(codebook->levels(), ElementsAre(-8192, 0, 2, 8192));
  EXPECT_EQ(codebook->step(), 1.0 / 1024);
  EXPECT_EQ(codebook->kind(), CodebookKind::kCustom);
  EXPECT_EQ(codebook->dim(), 96u);
  EXPECT_EQ(codebook->bits(), 2);
  EXPECT_FALSE(codebook->int8_levels());
  EXPECT_EQ(codebook->Centroid(3), 8.0);
  EXPECT_EQ(codebook->Boundary(0), -4.0);
  for (int bits = 1; bits <= 8; ++bits) {
    std::vector<double> equal_steps(size_t{1} << bits);
    for (size_t i = 0; i < equal_steps.size(); ++i) equal_steps[i] = static_cast<double>(i) / 64.0;
    const Result<Codebook> custom = Codebook::FromCentroids(2, equal_steps);
    ASSERT_TRUE(custom);
    EXPECT_EQ(custom->bits(), bits);
  }
}

TEST(CodebookTest, CustomLevelsThatFitInt8AreSaidTo) {
  const double fit[] = {-127.0 / 1024, -5.0 / 1024, 5.0 / 1024, 127.0 / 1024};
  const double high[] = {-127.0 / 1024, -5.0 / 1024, 5.0 / 1024, 128.0 / 1024};
  const double low[] = {-128.0 / 1024, -5.0 / 1024, 5.0 / 1024, 127.0 / 1024};
  EXPECT_TRUE(Codebook::FromCentroids(16, fit)->int8_levels());
  EXPECT_FALSE(Codebook::FromCentroids(16, high)->int8_levels());
  EXPECT_FALSE(Codebook::FromCentroids(16, low)->int8_levels());
}

TEST(CodebookTest, CustomCodebookReportsItsGaussianDistortion) {
  const double centroids[] = {-1.5, -0.5, 0.5, 1.5};
  const Result<Codebook> codebook = Codebook::FromCentroids(16, centroids);
  ASSERT_TRUE(codebook);
  // Max 1960, table II: the best uniform quantizer of 4 levels, step .9957, has .1188.
  EXPECT_NEAR(codebook->Distortion(), 0.1188, 1e-4);
}

TEST(CodebookTest, RefusesBadCustomCentroids) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  const auto from = [](const std::vector<double>& centroids) {
    return Codebook::FromCentroids(128, centroids);
  };
  ExpectInvalid(from({}), "got 0");
  ExpectInvalid(from({0.0}), "got 1");
  ExpectInvalid(from({-1.0, 0.0, 1.0}), "got 3");
  std::vector<double> many(257);
  for (size_t i = 0; i < many.size(); ++i) many[i] = static_cast<double>(i) / 64.0;
  ExpectInvalid(from(many), "got 257");
  many.resize(512, 7.0);
  ExpectInvalid(from(many), "got 512");
  ExpectInvalid(from({-1.0, 0.0, nan, 1.0}), "centroids[2] is nan, not within");
  ExpectInvalid(from({nan, 0.0}), "centroids[0] is nan, not within");
  ExpectInvalid(from({0.0, inf}), "centroids[1] is inf");
  ExpectInvalid(from({-inf, 0.0}), "centroids[0] is -inf");
  ExpectInvalid(from({-1.0, 8.0001}), "centroids[1] is 8.0001");
  ExpectInvalid(from({-8.0001, 1.0}), "centroids[0] is -8.0001");
  ExpectInvalid(from({-1.0, 1.0, 0.5, 2.0}), "centroids[2] is 0.5, not above");
  ExpectInvalid(from({1.0, 1.0}), "centroids[1] is 1, not above");
  ExpectInvalid(from({0.0, 0.4 / 1024}), "centroids[0] and centroids[1] are one");
  const double fine[] = {-1.0, 1.0};
  ExpectInvalid(Codebook::FromCentroids(0, fine), "dim must be at least 2, got 0");
  ExpectInvalid(Codebook::FromCentroids(1, fine), "dim must be at least 2, got 1");
}

}  // namespace
}  // namespace turboquant
