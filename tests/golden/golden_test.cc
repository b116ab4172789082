// The library against the NumPy reference in python/, which was written from the specification and
// shares no code with it. These values are the format: one that changes makes old files unreadable.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "src/base/random.h"
#include "src/kernels/kernels.h"
#include "tests/golden/golden_file.h"
#include "turboquant/backend.h"
#include "turboquant/codebook.h"
#include "turboquant/mse_quantizer.h"
#include "turboquant/prod_quantizer.h"
#include "turboquant/qjl.h"
#include "turboquant/rotation.h"

namespace turboquant {
namespace {

using golden::BitsOf;
using golden::Bytes;
using golden::Floats;
using golden::Halves;
using golden::Json;
using golden::ReadGolden;

constexpr std::array kScales = {Scale::kNorm, Scale::kMatched, Scale::kLeastSquares,
                                Scale::kUnbiased};

double Norm(std::span<const float> row) {
  double squares = 0.0;
  for (const float x : row) squares += static_cast<double>(x) * static_cast<double>(x);
  return std::sqrt(squares);
}

// Largest |a - b|, or infinity for different lengths.
double LargestDifference(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double largest = 0.0;
  for (size_t j = 0; j < a.size(); ++j) {
    largest = std::max(largest, std::fabs(static_cast<double>(a[j]) - static_cast<double>(b[j])));
  }
  return largest;
}

MatrixView<const float> AsRows(const std::vector<float>& values, size_t dim) {
  return {values.data(), values.size() / dim, dim};
}

TEST(GoldenTest, PhiloxGivesItsPublishedAnswers) {
  using Counter = std::array<uint32_t, 4>;
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (Counter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Counter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Counter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(GoldenTest, StreamsOfWordsBitsAndNormals) {
  const Json golden = ReadGolden("random.json");
  for (const Json& stream : golden["streams"]) {
    const uint64_t seed = stream["seed"];
    const StreamId id = {stream["layer"], stream["head"], stream["side"], stream["stage"],
                         stream["round"]};
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomBits words(seed, id);
    for (const Json& word : stream["words"]) {
      EXPECT_EQ(words.NextWord(), golden::Words(golden::Text(word), 8)[0]);
    }
    RandomBits bits(seed, id);
    for (const char bit : golden::Text(stream["bits"])) EXPECT_EQ(bits.NextBit(), bit == '1');
    RandomBits normals(seed, id);
    for (const double normal : stream["normals"]) {
      EXPECT_NEAR(normals.NextNormal(), normal, 1e-15 * std::max(1.0, std::fabs(normal)));
    }
  }
}

TEST(GoldenTest, HadamardRotations) {
  const Json golden = ReadGolden("rotation.json");
  for (const Json& expected : golden["hadamard"]) {
    const size_t dim = expected["dim"];
    SCOPED_TRACE("dim " + std::to_string(dim));
    const std::vector<float> row = Floats(expected["row"]);
    const std::vector<uint8_t> negative = Bytes(expected["negative"]);
    for (int rounds = 1; rounds <= 3; ++rounds) {
      const auto rotation =
          Rotation::Create({.dim = dim, .rounds = rounds, .seed = expected["seed"]});
      ASSERT_TRUE(rotation.has_value()) << rotation.error().message;
      const auto masks = rotation->sign_masks();
      ASSERT_EQ(masks.size() * 3,
                expected["sign_count"].get<size_t>() * static_cast<size_t>(rounds));
      for (size_t j = 0; j < masks.size(); ++j) {
        ASSERT_EQ(masks[j], negative[j / 8] >> (j % 8) & 1 ? 0x80000000u : 0u) << "sign " << j;
      }
      std::vector<float> rotated(dim);
      ASSERT_TRUE(rotation->Apply(AsRows(row, dim), {rotated.data(), 1, dim}).has_value());
      const Json& expected_row = expected["rotated"][static_cast<size_t>(rounds - 1)];
      EXPECT_EQ(BitsOf(rotated), BitsOf(Floats(expected_row))) << rounds << " rounds";
      ASSERT_TRUE(
          rotation->ApplyInverse(AsRows(rotated, dim), {rotated.data(), 1, dim}).has_value());
      EXPECT_LT(LargestDifference(rotated, row), 1e-6 * Norm(row)) << rounds << " rounds";
    }
  }
}

TEST(GoldenTest, DenseRotations) {
  const Json golden = ReadGolden("rotation.json");
  for (const Json& expected : golden["dense"]) {
    const auto rotation =
        Rotation::Create({.dim = expected["dim"],
                          .kind = RotationKind::kDense,
                          .seed = expected["seed"],
                          .stream = {expected["layer"], expected["head"], expected["side"]}});
    ASSERT_TRUE(rotation.has_value()) << rotation.error().message;
    EXPECT_LT(LargestDifference(rotation->matrix(), Floats(expected["matrix"])), 1.2e-7)
        << "dim " << expected["dim"];
  }
}

TEST(GoldenTest, Codebooks) {
  const Json golden = ReadGolden("codebook.json");
  for (const Json& expected : golden["codebooks"]) {
    SCOPED_TRACE("dim " + expected["dim"].dump() + " bits " + expected["bits"].dump());
    const bool uniform = expected["uniform"];
    const auto codebook =
        Codebook::Create({.dim = expected["dim"],
                          .bits = expected["bits"],
                          .kind = uniform ? CodebookKind::kUniform : CodebookKind::kLloydMax});
    ASSERT_TRUE(codebook.has_value()) << codebook.error().message;
    const auto levels = codebook->levels();
    const std::vector<int16_t> upper = expected["levels"];
    EXPECT_EQ(
        std::vector<int16_t>(levels.end() - static_cast<ptrdiff_t>(upper.size()), levels.end()),
        upper);
    for (size_t i = 0; i < levels.size(); ++i) EXPECT_EQ(levels[i], -levels[levels.size() - 1 - i]);
    EXPECT_EQ(codebook->step(), expected["step"].get<double>());
    EXPECT_EQ(codebook->fingerprint(), expected["fingerprint"].get<uint32_t>());
  }
}

TEST(GoldenTest, OptimalCentroids) {
  const Json golden = ReadGolden("codebook.json");
  for (const Json& expected : golden["optima"]) {
    SCOPED_TRACE("dim " + expected["dim"].dump() + " bits " + expected["bits"].dump());
    const bool gaussian = expected["dim"].is_null();
    const auto optimum =
        OptimalCentroids(gaussian ? 64 : expected["dim"].get<size_t>(), expected["bits"],
                         gaussian ? CodebookDensity::kGaussian : CodebookDensity::kSphere);
    ASSERT_TRUE(optimum.has_value()) << optimum.error().message;
    EXPECT_NEAR(optimum->distortion, expected["distortion"], 1e-10);
    const size_t half = optimum->centroids.size() / 2;
    const std::vector<double> positive(optimum->centroids.end() - static_cast<ptrdiff_t>(half),
                                       optimum->centroids.end());
    const std::vector<double> shown = expected["positive_centroids"];  // all, or two at either end
    for (size_t i = 0; i < shown.size(); ++i) {
      const size_t at = i < shown.size() / 2 ? i : half - (shown.size() - i);
      EXPECT_NEAR(positive[at], shown[i], 1e-9) << "centroid " << at;
    }
  }
}

// Rows alone would not tell: the outer candidates seldom win.
TEST(GoldenTest, CandidatesOfTheScaleSearch) {
  EXPECT_EQ(std::vector<int>(std::begin(kernels::kCandidateQ14), std::end(kernels::kCandidateQ14)),
            ReadGolden("mse.json")["candidates_q14"].get<std::vector<int>>());
}

// One codebook and rotation of mse.json, with the rows it was tried on.
struct MseCase {
  MseOptions options;
  std::vector<float> rows;
  std::vector<float> query;
  Json expected;

  std::string Name() const {
    return "dim " + std::to_string(options.dim) + " bits " + std::to_string(options.bits) +
           (options.codebook == CodebookKind::kUniform ? " uniform" : "") + " on " +
           std::string(BackendName(options.backend));
  }
};

// Every case on every backend of this CPU.
std::vector<MseCase> MseCases() {
  const Json golden = ReadGolden("mse.json");
  std::vector<MseCase> cases;
  for (const Backend backend : AvailableBackends()) {
    for (const Json& of_dim : golden["dims"]) {
      for (const Json& expected : of_dim["cases"]) {
        MseOptions options;
        options.dim = of_dim["dim"];
        options.bits = expected["bits"];
        options.codebook = expected["uniform"] ? CodebookKind::kUniform : CodebookKind::kLloydMax;
        options.rotation_rounds = of_dim["rounds"];
        options.seed = of_dim["seed"];
        options.backend = backend;
        cases.push_back({options, Floats(of_dim["rows"]), Floats(of_dim["query"]), expected});
      }
    }
  }
  return cases;
}

std::vector<uint8_t> CanonicalBytes(const MseRows& rows) {
  std::vector<uint8_t> packed(rows.size() * rows.CanonicalRowBytes());
  EXPECT_TRUE(rows.ExportCanonical(packed).has_value());
  return packed;
}

std::vector<float> ScalesOf(const MseRows& rows) {
  std::vector<float> scales(rows.size());
  for (size_t r = 0; r < rows.size(); ++r) scales[r] = rows.ScaleOf(r);
  return scales;
}

// Codes and scales of all rows with f32 scales; the scale of the first also as f16.
void ExpectEncoding(MseOptions options, const std::vector<float>& rows, Tiling tiling,
                    size_t scale_kind, const Json& expected) {
  options.scale = kScales[scale_kind];
  const size_t row_count = rows.size() / options.dim;
  options.scale_type = ScaleType::kF32;
  const auto quantizer = MseQuantizer::Create(options);
  ASSERT_TRUE(quantizer.has_value()) << quantizer.error().message;
  const auto encoded = quantizer->Encode(AsRows(rows, options.dim), tiling);
  ASSERT_TRUE(encoded.has_value()) << encoded.error().message;
  EXPECT_EQ(CanonicalBytes(*encoded), Bytes(expected["codes"]));
  const std::vector<float> all_scales = Floats(expected["scales"]);
  const auto first = all_scales.begin() + static_cast<ptrdiff_t>(scale_kind * row_count);
  EXPECT_EQ(ScalesOf(*encoded),
            std::vector<float>(first, first + static_cast<ptrdiff_t>(row_count)));

  options.scale_type = ScaleType::kF16;
  const auto half_quantizer = MseQuantizer::Create(options);
  ASSERT_TRUE(half_quantizer.has_value()) << half_quantizer.error().message;
  const auto one = half_quantizer->Encode(AsRows(rows, options.dim).Slice(0, 1), tiling);
  ASSERT_TRUE(one.has_value()) << one.error().message;
  EXPECT_EQ(one->ScaleOf(0), Halves(expected["scales_f16"])[scale_kind]);
}

TEST(GoldenTest, CodesAndScalesOnEveryBackend) {
  for (const MseCase& mse : MseCases()) {
    for (const bool search : {false, true}) {
      for (size_t kind = 0; kind < kScales.size(); ++kind) {
        SCOPED_TRACE(mse.Name() + " scale " + std::to_string(kind) + (search ? " search" : ""));
        MseOptions options = mse.options;
        options.scale_search = search;
        const Tiling tiling = kind % 2 == 0 ? Tiling::kKeys : Tiling::kValues;
        ExpectEncoding(options, mse.rows, tiling, kind, mse.expected[search ? "search" : "plain"]);
        if (HasFailure()) return;
      }
    }
  }
}

TEST(GoldenTest, ZeroRowsHaveNoCodesAndNoScale) {
  for (const MseCase& mse : MseCases()) {
    SCOPED_TRACE(mse.Name());
    const auto quantizer = MseQuantizer::Create(mse.options);
    ASSERT_TRUE(quantizer.has_value()) << quantizer.error().message;
    const std::vector<float> zeros(mse.options.dim);
    const auto encoded = quantizer->Encode(AsRows(zeros, mse.options.dim));
    ASSERT_TRUE(encoded.has_value()) << encoded.error().message;
    const std::vector<uint8_t> packed = CanonicalBytes(*encoded);
    EXPECT_EQ(packed, std::vector<uint8_t>(packed.size()));
    EXPECT_EQ(encoded->ScaleOf(0), 0.0f);
  }
}

TEST(GoldenTest, DecodedRowsAndScoresOnEveryBackend) {
  std::set<int> widths;
  for (const MseCase& mse : MseCases()) {
    if (!mse.expected.contains("decoded")) continue;
    SCOPED_TRACE(mse.Name());
    widths.insert(mse.options.bits);
    MseOptions options = mse.options;
    options.scale_search = true;
    options.scale_type = ScaleType::kF32;
    const size_t dim = options.dim;
    const auto quantizer = MseQuantizer::Create(options);
    ASSERT_TRUE(quantizer.has_value()) << quantizer.error().message;
    const auto encoded = quantizer->Encode(AsRows(mse.rows, dim));
    ASSERT_TRUE(encoded.has_value()) << encoded.error().message;

    const std::vector<float> expected_rows = Floats(mse.expected["decoded"]);
    std::vector<float> decoded(mse.rows.size());
    ASSERT_TRUE(quantizer->Decode(*encoded, {decoded.data(), encoded->size(), dim}).has_value());
    for (size_t r = 0; r < encoded->size(); ++r) {
      const auto expected_row = std::span(expected_rows).subspan(r * dim, dim);
      EXPECT_LT(LargestDifference(std::span(decoded).subspan(r * dim, dim), expected_row),
                1e-5 * Norm(expected_row))
          << "row " << r;
    }

    std::vector<float> scores;
    for (const int digits : {1, 2}) {
      const auto query = quantizer->Prepare(AsRows(mse.query, dim), {.digits = digits});
      ASSERT_TRUE(query.has_value()) << query.error().message;
      std::vector<float> of_digits(encoded->size());
      ASSERT_TRUE(
          quantizer->Score(*query, *encoded, {of_digits.data(), 1, of_digits.size()}).has_value());
      scores.insert(scores.end(), of_digits.begin(), of_digits.end());
    }
    EXPECT_EQ(BitsOf(scores), BitsOf(Floats(mse.expected["scores"])));
  }
  EXPECT_EQ(widths.size(), 8u);
}

SketchKind Kind(const Json& kind) {
  return golden::Text(kind) == "gaussian" ? SketchKind::kGaussian : SketchKind::kOrthogonal;
}

TEST(GoldenTest, SignSketches) {
  const Json golden = ReadGolden("sketch.json");
  for (const Json& expected : golden["sketches"]) {
    SCOPED_TRACE(expected["kind"].dump() + " dim " + expected["dim"].dump());
    QjlOptions options = {.dim = expected["dim"],
                          .sketch_rows = expected["sketch_rows"],
                          .kind = Kind(expected["kind"]),
                          .seed = expected["seed"]};
    const std::vector<float> row = Floats(expected["row"]);
    for (const ScaleType type : {ScaleType::kF32, ScaleType::kF16}) {
      options.norm_type = type;
      const auto sketch = QjlSketch::Create(options);
      ASSERT_TRUE(sketch.has_value()) << sketch.error().message;
      EXPECT_NEAR(sketch->estimator_constant(), expected["constant"], 1e-14);
      const auto encoded = sketch->Encode(AsRows(row, options.dim));
      ASSERT_TRUE(encoded.has_value()) << encoded.error().message;
      const auto signs = encoded->signs();
      EXPECT_EQ(std::vector<uint8_t>(signs.begin(), signs.end()), Bytes(expected["signs"]));
      if (type == ScaleType::kF32) {
        EXPECT_EQ(encoded->NormOf(0), Floats(expected["norm_f32"])[0]);
        continue;
      }
      EXPECT_EQ(encoded->NormOf(0), Halves(expected["norm_f16"])[0]);
      std::vector<float> decoded(options.dim);
      ASSERT_TRUE(sketch->Decode(*encoded, {decoded.data(), 1, options.dim}).has_value());
      EXPECT_LT(LargestDifference(decoded, Floats(expected["decoded"])), 1e-5 * Norm(row));
    }
  }
}

TEST(GoldenTest, ProdCodesSignsAndNormsOnEveryBackend) {
  const Json golden = ReadGolden("sketch.json");
  for (const Backend backend : AvailableBackends()) {
    for (const Json& expected : golden["prods"]) {
      SCOPED_TRACE(expected["kind"].dump() + " dim " + expected["dim"].dump() + " on " +
                   std::string(BackendName(backend)));
      const size_t dim = expected["dim"];
      const auto quantizer = ProdQuantizer::Create({.dim = dim,
                                                    .bits = expected["bits"],
                                                    .sketch = Kind(expected["kind"]),
                                                    .sketch_rows = expected["sketch_rows"],
                                                    .rotation_rounds = expected["rounds"],
                                                    .seed = expected["seed"],
                                                    .backend = backend});
      ASSERT_TRUE(quantizer.has_value()) << quantizer.error().message;
      const std::vector<float> row = Floats(expected["row"]);
      const auto encoded = quantizer->Encode(AsRows(row, dim));
      ASSERT_TRUE(encoded.has_value()) << encoded.error().message;
      EXPECT_EQ(CanonicalBytes(encoded->codes()), Bytes(expected["codes"]));
      EXPECT_EQ(encoded->codes().ScaleOf(0), Halves(expected["norm_f16"])[0]);
      const auto signs = encoded->residuals().signs();
      EXPECT_EQ(std::vector<uint8_t>(signs.begin(), signs.end()), Bytes(expected["signs"]));
      EXPECT_EQ(encoded->residuals().NormOf(0), Halves(expected["residual_norm_f16"])[0]);
      std::vector<float> decoded(dim);
      ASSERT_TRUE(quantizer->Decode(*encoded, {decoded.data(), 1, dim}).has_value());
      EXPECT_LT(LargestDifference(decoded, Floats(expected["decoded"])), 1e-5 * Norm(row));
    }
  }
}

}  // namespace
}  // namespace turboquant
