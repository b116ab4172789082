// Encoded bytes, decoded rows and scores are the same bits on every backend.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "src/base/half.h"
#include "src/quantizers/backend_order.h"
#include "tests/support/encoded_rows.h"
#include "tests/support/expect_error.h"
#include "tests/support/random_rows.h"
#include "turboquant/backend.h"
#include "turboquant/mse_quantizer.h"

namespace turboquant {
namespace {

using test::Bits;
using test::FailsWith;
using test::MakeMse;
using test::Rows;

constexpr Backend kConcrete[] = {Backend::kScalar, Backend::kAvx2, Backend::kAvx512, Backend::kAmx,
                                 Backend::kNeon};

bool IsAvailable(Backend backend) { return std::ranges::count(AvailableBackends(), backend) > 0; }

TEST(BackendTest, NamesRoundTrip) {
  for (const auto& [backend, name] : {std::pair{Backend::kAuto, "auto"},
                                      {Backend::kScalar, "scalar"},
                                      {Backend::kAvx2, "avx2"},
                                      {Backend::kAvx512, "avx512"},
                                      {Backend::kAmx, "amx"},
                                      {Backend::kNeon, "neon"}}) {
    EXPECT_EQ(BackendName(backend), name);
    EXPECT_EQ(ParseBackend(name), backend);
  }
  for (const std::string_view name : {"", "AVX2", "avx", "avx2 ", "wgpu"}) {
    EXPECT_TRUE(
        FailsWith(ParseBackend(name), ErrorCode::kInvalidArgument,
                  "'" + std::string(name) + "' is none of auto, scalar, avx2, avx512, amx"));
  }
}

TEST(BackendTest, AutoIsTheFastestOfThoseAvailable) {
  const std::vector<Backend> available = AvailableBackends();
  ASSERT_FALSE(available.empty());
  EXPECT_EQ(available.front(), Backend::kScalar);
  EXPECT_EQ(ResolveBackend(Backend::kAuto), available.back());
  EXPECT_EQ(std::ranges::count(available, Backend::kAuto), 0);
  EXPECT_EQ(MakeMse({.dim = 8}).backend(), available.back());
}

TEST(BackendTest, AutoTakesTilesWhereTheyAre) {
  EXPECT_EQ(ResolveBackend(Backend::kAuto) == Backend::kAmx, IsAvailable(Backend::kAmx));
}

TEST(BackendTest, BackendsThatAreNotHereAreUnavailable) {
  for (const Backend backend : kConcrete) {
    const MseOptions options = {.dim = 16, .backend = backend};
    if (IsAvailable(backend)) {
      EXPECT_EQ(ResolveBackend(backend), backend);
      EXPECT_EQ(MakeMse(options).backend(), backend);
      continue;
    }
    const std::string culprit = "backend " + std::string(BackendName(backend));
    EXPECT_TRUE(FailsWith(ResolveBackend(backend), ErrorCode::kUnavailable, culprit));
    EXPECT_TRUE(FailsWith(MseQuantizer::Create(options), ErrorCode::kUnavailable, culprit));
  }
}

// All that a quantizer says about rows, as bits.
struct Outcome {
  test::Snapshot snapshot;
  std::vector<uint8_t> blocks;
  std::vector<uint32_t> decoded;
  std::vector<uint32_t> rotated;
  std::vector<uint32_t> scores;
  bool operator==(const Outcome&) const = default;
};

// Rows of every kind: dense, sparse, zero, constant, of norms 2^-149 to 2^120.
Rows MixedRows(size_t count, size_t dim) {
  Rows rows = test::NormalRows(count, dim, dim);
  for (size_t r = 0; r < count; ++r) {
    if (r % 8 == 1) std::ranges::fill(rows[r], 0.0f);
    if (r % 16 == 1) rows[r][r % dim] = -1.0f;
    if (r % 8 == 3) std::ranges::fill(rows[r], 1.0f);
    if (r % 8 == 5) {
      const int exponent = static_cast<int>(r * 13 % 270) - 149;
      for (float& x : rows[r]) x = std::ldexp(x, exponent);
    }
  }
  return rows;
}

// Encodes in two batches behind a few removed rows, so that no batch starts where a block does.
Outcome Run(const MseOptions& options, Tiling tiling, size_t count) {
  const MseQuantizer quantizer = MakeMse(options);
  const Rows rows = MixedRows(count, options.dim);
  std::vector<BFloat16> brain_floats;
  for (const float x : rows.values) brain_floats.push_back(F32ToBF16(x));
  MseRows encoded = quantizer.MakeRows(tiling);
  EXPECT_TRUE(quantizer.Append(rows.view(), encoded));
  EXPECT_TRUE(encoded.RemoveFront(3));
  EXPECT_TRUE(quantizer.Append(MatrixView<const BFloat16>(brain_floats.data(), count, options.dim),
                               encoded));
  Outcome outcome{test::Snapshot(encoded), {}, {}, {}, {}};
  outcome.blocks.assign(encoded.blocks().begin(), encoded.blocks().end());
  Rows out(encoded.size(), options.dim);
  EXPECT_TRUE(quantizer.Decode(encoded, out.view()));
  outcome.decoded = Bits(out.values);
  EXPECT_TRUE(quantizer.DecodeRotated(encoded, out.view()));
  outcome.rotated = Bits(out.values);
  if (tiling == Tiling::kValues) return outcome;
  for (const size_t queries : {1, 2, 3, 4, 5, 8, 9}) {
    for (const int digits : {1, 2}) {
      const auto prepared = quantizer.Prepare(MixedRows(queries, options.dim).view(), {digits});
      Rows scores(queries, encoded.size());
      EXPECT_TRUE(prepared && quantizer.Score(*prepared, encoded, scores.view()));
      const std::vector<uint32_t> bits = Bits(scores.values);
      outcome.scores.insert(outcome.scores.end(), bits.begin(), bits.end());
    }
  }
  return outcome;
}

void ExpectEqualOnAllBackends(MseOptions options, size_t count, const std::string& what) {
  for (const Tiling tiling : {Tiling::kKeys, Tiling::kValues}) {
    options.backend = Backend::kScalar;
    const Outcome expected = Run(options, tiling, count);
    for (const Backend backend : AvailableBackends()) {
      options.backend = backend;
      const Outcome actual = Run(options, tiling, count);
      const std::string where = what + " on " + std::string(BackendName(backend));
      EXPECT_EQ(actual.snapshot, expected.snapshot) << where;
      EXPECT_EQ(actual.blocks, expected.blocks) << where;
      EXPECT_EQ(actual.decoded, expected.decoded) << where;
      EXPECT_EQ(actual.rotated, expected.rotated) << where;
      EXPECT_EQ(actual.scores, expected.scores) << where;
    }
  }
}

class BackendEqualityTest : public testing::TestWithParam<int> {};

TEST_P(BackendEqualityTest, EveryDimSearchAndNumberOfRounds) {
  for (const size_t dim : {2, 3, 5, 16, 17, 31, 33, 64, 80, 96, 112, 128, 130}) {
    for (const bool search : {false, true}) {
      for (int rounds = 1; rounds <= 3; ++rounds) {
        ExpectEqualOnAllBackends({.dim = dim,
                                  .bits = GetParam(),
                                  .scale_search = search,
                                  .scale_type = ScaleType::kF32,
                                  .rotation_rounds = rounds},
                                 22,
                                 "dim " + std::to_string(dim) + " rounds " +
                                     std::to_string(rounds) + (search ? " with search" : ""));
      }
    }
  }
}

// Custom codebooks whose levels fit int8, which the kernels treat apart, odd-symmetric or not.
TEST_P(BackendEqualityTest, NarrowCustomCodebooks) {
  const int bits = GetParam();
  if (bits == 8) return;  // 256 levels do not fit
  for (const double skew : {0.0, 3.0}) {
    std::vector<double> centroids;
    const int codes = 1 << bits;
    for (int i = 0; i < codes; ++i) {
      const double level = std::round((2 * i + 1 - codes) * 120.0 / codes) + skew;
      centroids.push_back(level / 1024);
    }
    for (const size_t dim : {16, 33, 128}) {
      auto codebook = Codebook::FromCentroids(dim, centroids);
      ASSERT_TRUE(codebook);
      ASSERT_TRUE(codebook->int8_levels());
      ExpectEqualOnAllBackends({.dim = dim,
                                .bits = bits,
                                .scale = Scale::kNorm,
                                .scale_search = bits % 2 == 0,
                                .scale_type = ScaleType::kF32,
                                .codebook = CodebookKind::kCustom,
                                .custom_codebook = *codebook},
                               22, "dim " + std::to_string(dim) + " skew " + std::to_string(skew));
    }
  }
}

// 2048 is the last dim whose scores fit int32.
TEST_P(BackendEqualityTest, LargeDims) {
  for (const size_t dim : {256, 1000, 2048, 2080}) {
    ExpectEqualOnAllBackends(
        {.dim = dim, .bits = GetParam(), .scale_type = ScaleType::kF32, .rotation_rounds = 1}, 9,
        "dim " + std::to_string(dim));
  }
}

TEST_P(BackendEqualityTest, CustomCodebooks) {
  const size_t size = size_t{1} << GetParam();
  for (const bool even : {false, true}) {
    std::vector<double> centroids;
    for (size_t i = 0; i < size; ++i) {
      const double at = static_cast<double>(i + 1) / static_cast<double>(size + 1);
      centroids.push_back(even ? 4.0 * (at - 0.5) : 5.0 * at * at + 3.0 * at - 1.5);
    }
    for (const size_t dim : {33, 64, 96}) {
      ExpectEqualOnAllBackends({.dim = dim,
                                .bits = GetParam(),
                                .scale = Scale::kNorm,
                                .scale_search = even,
                                .scale_type = ScaleType::kF32,
                                .codebook = CodebookKind::kCustom,
                                .custom_codebook = *Codebook::FromCentroids(dim, centroids)},
                               22, "custom codebook, dim " + std::to_string(dim));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Bits, BackendEqualityTest, testing::Range(1, 9));

TEST(BackendEqualityTest, UniformCodebookAndDenseRotation) {
  for (const size_t dim : {2, 33, 64, 80, 128, 2112}) {
    for (const bool search : {false, true}) {
      ExpectEqualOnAllBackends({.dim = dim,
                                .bits = 8,
                                .scale_search = search,
                                .scale_type = ScaleType::kF32,
                                .codebook = CodebookKind::kUniform},
                               22, "uniform codebook, dim " + std::to_string(dim));
    }
    if (dim > 128) continue;
    ExpectEqualOnAllBackends(
        {.dim = dim, .scale_type = ScaleType::kF32, .rotation = RotationKind::kDense}, 22,
        "dense rotation, dim " + std::to_string(dim));
  }
}

TEST(BackendEqualityTest, F16Scales) {
  for (const Scale scale :
       {Scale::kNorm, Scale::kMatched, Scale::kLeastSquares, Scale::kUnbiased}) {
    std::vector<test::Snapshot> snapshots;
    std::vector<std::vector<float>> scores;
    const Rows rows = test::NormalRows(75, 80, 1);
    for (const Backend backend : AvailableBackends()) {
      const MseQuantizer quantizer = MakeMse({.dim = 80, .scale = scale, .backend = backend});
      const auto encoded = quantizer.Encode(rows.view());
      ASSERT_TRUE(encoded);
      snapshots.emplace_back(*encoded);
      Rows out(75, 75);
      ASSERT_TRUE(quantizer.Score(*quantizer.Prepare(rows.view()), *encoded, out.view()));
      scores.push_back(out.values);
      EXPECT_EQ(snapshots.back(), snapshots.front()) << BackendName(backend);
      EXPECT_EQ(scores.back(), scores.front()) << BackendName(backend);
    }
  }
}

// Rows of one backend are read by the quantizer of another.
TEST(BackendEqualityTest, RowsMoveBetweenBackends) {
  const Rows rows = test::NormalRows(75, 80, 1);
  const MseQuantizer scalar = MakeMse({.dim = 80, .backend = Backend::kScalar});
  const auto expected = scalar.Encode(rows.view());
  ASSERT_TRUE(expected);
  for (const Backend backend : AvailableBackends()) {
    const MseQuantizer quantizer = MakeMse({.dim = 80, .backend = backend});
    auto encoded = quantizer.Encode(rows.view().Slice(0, 21));
    ASSERT_TRUE(encoded);
    ASSERT_TRUE(scalar.Append(rows.view().Slice(21, 30), *encoded));
    ASSERT_TRUE(encoded->Append(*scalar.Encode(rows.view().Slice(51, 24))));
    EXPECT_EQ(test::Snapshot(*encoded), test::Snapshot(*expected)) << BackendName(backend);
  }
}

}  // namespace
}  // namespace turboquant
