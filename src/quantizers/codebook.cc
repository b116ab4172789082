#include "turboquant/codebook.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <map>
#include <mutex>
#include <numeric>
#include <tuple>
#include <utility>

#include "src/base/checksum.h"
#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/math/lloyd_max.h"
#include "src/math/sphere.h"

namespace turboquant {
namespace {

constexpr size_t kSphereBelow = 64;       // kAuto: exact sphere optimum below this dim
constexpr double kFineStep = 1.0 / 1024;  // of 5 to 8 bits and custom codebooks
constexpr double kUniformStep = 0.0308;
constexpr double kCustomLimit = 8.0;  // sigma; the grid of rotated coordinates ends there

struct Levels {
  std::vector<int16_t> levels;  // ascending
  double step;
};

// Positive halves for N(0, 1), frozen: part of the file format (docs/algorithm.md, "Codebooks").
struct FrozenHalf {
  std::array<int16_t, 8> levels;
  size_t count;
  double step;
};
constexpr FrozenHalf kFrozen[] = {
    {{127}, 1, 0.0062826},
    {{33, 110}, 2, 0.0137304},
    {{10, 31, 55, 88}, 4, 0.0244456},
    {{5, 15, 25, 36, 48, 62, 79, 104}, 8, 0.0262169},
};

Levels Mirrored(std::span<const int16_t> positive, double step) {
  Levels mirrored{{}, step};
  for (size_t i = positive.size(); i-- > 0;) {
    mirrored.levels.push_back(static_cast<int16_t>(-positive[i]));
  }
  mirrored.levels.insert(mirrored.levels.end(), positive.begin(), positive.end());
  return mirrored;
}

std::vector<double> Scaled(std::span<const int16_t> levels, double step) {
  std::vector<double> centroids(levels.size());
  std::ranges::transform(levels, centroids.begin(), [&](int16_t level) { return level * step; });
  return centroids;
}

// sum level · E[z; cell] and sum level² · P[cell] over the positive half, the cells those of
// `step`.
struct Moments {
  double level_z = 0.0;
  double level_level = 0.0;

  double BestStep() const { return level_z / level_level; }
  // Squared error with the best step, these cells kept.
  double SquaredError() const { return 1.0 - 2.0 * level_z * level_z / level_level; }
};

Moments MomentsOf(const CoordinateDensity& density, std::span<const int16_t> positive,
                  double step) {
  Moments moments;
  for (size_t i = 0; i < positive.size(); ++i) {
    const double from = i == 0 ? 0.0 : 0.5 * (positive[i - 1] + positive[i]) * step;
    const double to =
        i + 1 == positive.size() ? density.Limit() : 0.5 * (positive[i] + positive[i + 1]) * step;
    moments.level_z += positive[i] * density.FirstMoment(from, to);
    moments.level_level += positive[i] * positive[i] * density.Mass(from, to);
  }
  return moments;
}

// The best step for given levels: the cells move with it, so step -> BestStep is iterated to its
// fixpoint (two plain rounds, then Aitken's jump).
double FitStep(const CoordinateDensity& density, std::span<const int16_t> positive, double step) {
  for (int round = 0; round < 50; ++round) {
    const double first = MomentsOf(density, positive, step).BestStep();
    const double second = MomentsOf(density, positive, first).BestStep();
    const double bend = second - 2.0 * first + step;
    if (std::fabs(second - first) <= 1e-14 * second || bend == 0.0) return second;
    const double move = first - step;
    step -= move * move / bend;
  }
  return step;
}

// To 24 bits, so that no platform's last digits of exp or pow reach the fingerprint.
double RoundedStep(double step) { return static_cast<double>(static_cast<float>(step)); }

// Up to 4 bits on the sphere: the int8 rounding with the smallest distortion, the largest level at
// 64 to 127; the smaller one on a tie.
Levels RoundToInt8(const CoordinateDensity& density, const std::vector<double>& optimum) {
  const size_t half = optimum.size() / 2;
  const double largest = optimum.back();
  struct Candidate {
    double error;
    std::vector<int16_t> positive;
    double step;
  };
  std::vector<Candidate> candidates;
  for (int top = 64; top <= 127; ++top) {
    Candidate candidate{0.0, std::vector<int16_t>(half), largest / top};
    for (size_t i = 0; i < half; ++i) {
      candidate.positive[i] = static_cast<int16_t>(std::lround(top * optimum[half + i] / largest));
    }
    candidate.error = MomentsOf(density, candidate.positive, candidate.step).SquaredError();
    candidates.push_back(std::move(candidate));
  }
  // The fit of the step changes an error in second order only, so that the best is among the best
  // few before it, and those that tie with them.
  constexpr size_t kFitted = 6;
  std::vector<double> errors;
  for (const Candidate& candidate : candidates) errors.push_back(candidate.error);
  std::ranges::nth_element(errors, errors.begin() + (kFitted - 1));
  const double admitted = errors[kFitted - 1] * (1.0 + 1e-9);
  std::erase_if(candidates, [&](const Candidate& c) { return c.error > admitted; });
  for (Candidate& candidate : candidates) {
    candidate.step = FitStep(density, candidate.positive, candidate.step);
    candidate.error =
        Distortion(density, Scaled(Mirrored(candidate.positive, 0).levels, candidate.step));
  }
  const Candidate* best = &candidates.front();
  for (const Candidate& candidate : candidates) {
    if (candidate.error < best->error * (1.0 - 1e-12)) best = &candidate;
  }
  return Mirrored(best->positive, RoundedStep(best->step));
}

Levels RoundToFineStep(const std::vector<double>& optimum) {
  std::vector<int16_t> positive(optimum.size() / 2);
  for (size_t i = 0; i < positive.size(); ++i) {
    // The default rounding mode: half to even.
    positive[i] = static_cast<int16_t>(std::lrint(optimum[positive.size() + i] / kFineStep));
  }
  return Mirrored(positive, kFineStep);
}

Levels LloydMaxLevels(size_t dim, int bits, bool sphere) {
  if (!sphere && bits <= 4) {
    const FrozenHalf& frozen = kFrozen[bits - 1];
    return Mirrored(std::span(frozen.levels).first(frozen.count), frozen.step);
  }
  const CoordinateDensity density =
      sphere ? CoordinateDensity::Sphere(dim) : CoordinateDensity::Gaussian();
  if (bits == 1) {
    const std::array<int16_t, 1> positive = {127};
    return Mirrored(positive, RoundedStep(FitStep(density, positive, 1.0 / 127)));
  }
  const std::vector<double> optimum = LloydMax(density, bits).centroids;
  return bits <= 4 ? RoundToInt8(density, optimum) : RoundToFineStep(optimum);
}

// Every codebook is computed once per process; the Gaussian ones are the same for all dims.
Levels RememberedLevels(size_t dim, int bits, bool sphere) {
  static std::mutex mutex;
  static std::map<std::tuple<size_t, int>, Levels> remembered;
  const std::tuple key(sphere ? dim : 0, bits);
  const std::lock_guard lock(mutex);
  if (const auto found = remembered.find(key); found != remembered.end()) return found->second;
  return remembered.emplace(key, LloydMaxLevels(dim, bits, sphere)).first->second;
}

Levels UniformLevels() {
  Levels uniform{std::vector<int16_t>(255), kUniformStep};
  std::iota(uniform.levels.begin(), uniform.levels.end(), int16_t{-127});
  return uniform;
}

bool IsSphere(size_t dim, CodebookDensity density) {
  return density == CodebookDensity::kSphere ||
         (density == CodebookDensity::kAuto && dim < kSphereBelow);
}

Result<void> CheckDimAndBits(size_t dim, int bits) {
  if (dim < 2) return Fail(ErrorCode::kInvalidArgument, "dim must be at least 2, got ", dim);
  if (bits < 1 || bits > 8) {
    return Fail(ErrorCode::kInvalidArgument, "bits must be 1 to 8, got ", bits);
  }
  return {};
}

uint32_t LevelsChecksum(std::span<const int16_t> levels, double step) {
  std::vector<std::byte> bytes;
  const auto append = [&](uint64_t word, int count) {
    for (int i = 0; i < count; ++i) bytes.push_back(static_cast<std::byte>(word >> (8 * i)));
  };
  for (const int16_t level : levels) append(static_cast<uint16_t>(level), 2);
  append(std::bit_cast<uint64_t>(step), 8);
  return Crc32(bytes);
}

}  // namespace

Codebook::Codebook(size_t dim, int bits, CodebookKind kind, bool sphere,
                   std::vector<int16_t> levels, double step)
    : dim_(dim),
      bits_(bits),
      kind_(kind),
      sphere_(sphere),
      int8_levels_(std::ranges::all_of(levels, [](int level) { return std::abs(level) <= 127; })),
      levels_(std::move(levels)),
      step_(step),
      fingerprint_(LevelsChecksum(levels_, step)) {}

Result<Codebook> Codebook::Create(const CodebookOptions& options) {
  TQ_CHECK(CheckDimAndBits(options.dim, options.bits));
  const bool sphere = IsSphere(options.dim, options.density);
  switch (options.kind) {
    case CodebookKind::kLloydMax: {
      Levels levels = RememberedLevels(options.dim, options.bits, sphere);
      return Codebook(options.dim, options.bits, options.kind, sphere, std::move(levels.levels),
                      levels.step);
    }
    case CodebookKind::kUniform: {
      if (options.bits != 8) {
        return Fail(ErrorCode::kInvalidArgument, "the uniform codebook has 8 bits, got ",
                    options.bits);
      }
      Levels levels = UniformLevels();
      return Codebook(options.dim, options.bits, options.kind, sphere, std::move(levels.levels),
                      levels.step);
    }
    case CodebookKind::kCustom:
      break;
  }
  return Fail(ErrorCode::kInvalidArgument,
              "a custom codebook is made by Codebook::FromCentroids, not by Create");
}

Result<Codebook> Codebook::FromCentroids(size_t dim, std::span<const double> centroids) {
  int bits = 1;
  while (bits < 8 && (size_t{1} << bits) < centroids.size()) ++bits;
  TQ_CHECK(CheckDimAndBits(dim, bits));
  if (centroids.size() != size_t{1} << bits) {
    return Fail(ErrorCode::kInvalidArgument, "a codebook has 2, 4, 8, ... or 256 centroids, got ",
                centroids.size());
  }
  std::vector<int16_t> levels;
  for (size_t i = 0; i < centroids.size(); ++i) {
    if (!(std::fabs(centroids[i]) <= kCustomLimit)) {
      return Fail(ErrorCode::kInvalidArgument, "centroids[", i, "] is ", centroids[i],
                  ", not within 8 sigma");
    }
    levels.push_back(static_cast<int16_t>(std::lrint(centroids[i] / kFineStep)));
    if (i > 0 && !(centroids[i] > centroids[i - 1])) {
      return Fail(ErrorCode::kInvalidArgument, "centroids[", i, "] is ", centroids[i],
                  ", not above centroids[", i - 1, "]");
    }
    if (i > 0 && levels[i] == levels[i - 1]) {
      return Fail(ErrorCode::kInvalidArgument, "centroids[", i - 1, "] and centroids[", i,
                  "] are one on the grid of 1/1024 sigma");
    }
  }
  return Codebook(dim, bits, CodebookKind::kCustom, /*sphere=*/false, std::move(levels), kFineStep);
}

double Codebook::Distortion() const {
  const CoordinateDensity density =
      sphere_ ? CoordinateDensity::Sphere(dim_) : CoordinateDensity::Gaussian();
  return turboquant::Distortion(density, Scaled(levels_, step_));
}

Result<LloydMaxOptimum> OptimalCentroids(size_t dim, int bits, CodebookDensity density) {
  TQ_CHECK(CheckDimAndBits(dim, bits));
  LloydMaxQuantizer optimum = LloydMax(
      IsSphere(dim, density) ? CoordinateDensity::Sphere(dim) : CoordinateDensity::Gaussian(),
      bits);
  return LloydMaxOptimum{std::move(optimum.centroids), optimum.distortion};
}

}  // namespace turboquant
