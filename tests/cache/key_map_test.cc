#include "turboquant/key_map.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "src/cache/key_frame.h"
#include "src/cache/page_frame.h"
#include "src/quantizers/direction.h"
#include "tests/cache/key_statistics.h"

namespace turboquant {
namespace {

using testing::RandomRows;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Numbers of `heads` heads: centres around 1, scales of 0.25 to 4, matrices far from diagonal.
std::vector<float> Center(size_t heads, size_t dim) {
  return testing::Flat(RandomRows(heads, dim, 10));
}
std::vector<float> MapNumbers(KeyMapKind kind, size_t heads, size_t dim) {
  std::vector<float> numbers;
  if (kind == KeyMapKind::kDiagonal) {
    for (size_t i = 0; i < heads * dim; ++i) {
      numbers.push_back(0.25f * static_cast<float>(1 + i % 16));
    }
  } else if (kind == KeyMapKind::kFull) {
    numbers = testing::Flat(RandomRows(heads * dim, dim, 11));
    for (size_t i = 0; i < numbers.size(); ++i) {
      numbers[i] = 0.05f * numbers[i] + (i / dim % dim == i % dim ? 1.0f : 0.0f);
    }
  }
  return numbers;
}

KeyMap Make(KeyMapKind kind, size_t heads, size_t dim) {
  return *KeyMap::FromNumbers(kind, heads, dim, Center(heads, dim), MapNumbers(kind, heads, dim));
}

// The product with a diagonal or a matrix, or the row itself.
std::vector<double> Mapped(std::span<const float> diagonal, std::span<const float> matrix,
                           const std::vector<double>& row) {
  const size_t dim = row.size();
  std::vector<double> mapped = row;
  for (size_t i = 0; i < dim; ++i) {
    if (!diagonal.empty()) mapped[i] *= diagonal[i];
    if (matrix.empty()) continue;
    mapped[i] = 0.0;
    for (size_t j = 0; j < dim; ++j) mapped[i] += matrix[i * dim + j] * row[j];
  }
  return mapped;
}

// (A^-T R_-s q) · (A (R_-s k - m)) + (R_-s q) · m, the frames as the library turns them.
double MetThroughTheMap(const KeyMap& map, size_t head, const RopeParameters& rope, uint64_t base,
                        const std::vector<double>& key, const std::vector<double>& query) {
  std::vector<float> turns(rope.rotary_dim());
  MakeTurns(rope, base, turns);
  std::vector<float> turned_key(key.begin(), key.end());
  std::vector<float> turned_query(query.begin(), query.end());
  TurnBack(turns, rope.pairing, turned_key.data());
  TurnBack(turns, rope.pairing, turned_query.data());
  std::vector<double> k(turned_key.begin(), turned_key.end());
  const std::vector<double> q(turned_query.begin(), turned_query.end());
  double offset = 0.0;
  for (size_t j = 0; j < k.size(); ++j) {
    k[j] -= map.center(head)[j];
    offset += q[j] * map.center(head)[j];
  }
  return testing::DotOf(Mapped(map.inverse_scale(head), map.inverse_transpose(head), q),
                        Mapped(map.scale(head), map.matrix(head), k)) +
         offset;
}

TEST(KeyMapTest, InnerProductsAreExactThroughAnyMap) {
  constexpr size_t kDim = 24;
  constexpr size_t kHeads = 3;
  for (const KeyMapKind kind : {KeyMapKind::kCenter, KeyMapKind::kDiagonal, KeyMapKind::kFull}) {
    const KeyMap map = Make(kind, kHeads, kDim);
    for (const RopePairing pairing : {RopePairing::kHalf, RopePairing::kInterleaved}) {
      for (const size_t rotary_dim : {size_t{0}, size_t{10}, kDim}) {
        const RopeParameters rope = RopeParameters::FromTheta(1e4, rotary_dim, pairing);
        for (const uint64_t base : {uint64_t{4}, uint64_t{260}, uint64_t{6404}}) {
          for (size_t head = 0; head < kHeads; ++head) {
            const std::vector<double> key = RandomRows(1, kDim, base + head)[0];
            const std::vector<double> query = RandomRows(1, kDim, base + head + 100)[0];
            const double size = std::sqrt(testing::DotOf(key, key) * testing::DotOf(query, query));
            EXPECT_NEAR(MetThroughTheMap(map, head, rope, base, key, query) / size,
                        testing::DotOf(query, key) / size, 1e-5)
                << "kind " << static_cast<int>(kind) << " rotary_dim " << rotary_dim;
          }
        }
      }
    }
  }
}

// What packed keys decode through is the way they came in.
TEST(KeyMapTest, FramesAreUndone) {
  constexpr size_t kDim = 24;
  for (const KeyMapKind kind : {KeyMapKind::kCenter, KeyMapKind::kDiagonal, KeyMapKind::kFull}) {
    const KeyMap map = Make(kind, 2, kDim);
    for (const RopePairing pairing : {RopePairing::kHalf, RopePairing::kInterleaved}) {
      const RopeParameters rope = RopeParameters::FromTheta(1e4, 16, pairing);
      std::vector<float> turns(rope.rotary_dim());
      MakeTurns(rope, 516, turns);
      KeyFrame frame(FastestKernels(), &map, 1, turns.data(), 16, pairing, kDim);
      const std::vector<double> key = RandomRows(1, kDim, 5)[0];
      std::vector<float> row(key.begin(), key.end());
      frame.Apply(row.data(), row.data());
      frame.Undo(row.data());
      for (size_t j = 0; j < kDim; ++j) EXPECT_NEAR(row[j], key[j], 2e-5) << j;
    }
  }
}

TEST(KeyMapTest, HoldsTheNumbersGiven) {
  constexpr size_t kDim = 6;
  const KeyMap center = Make(KeyMapKind::kCenter, 2, kDim);
  EXPECT_EQ(center.kind(), KeyMapKind::kCenter);
  EXPECT_EQ(center.kv_heads(), 2u);
  EXPECT_EQ(center.head_dim(), kDim);
  EXPECT_EQ(center.center(1)[2], Center(2, kDim)[kDim + 2]);
  EXPECT_TRUE(center.scale(1).empty() && center.inverse_scale(0).empty());
  EXPECT_TRUE(center.matrix(1).empty() && center.inverse_transpose(0).empty());
  EXPECT_GE(center.HeldBytes(), 2 * kDim * 4);

  const KeyMap diagonal = Make(KeyMapKind::kDiagonal, 2, kDim);
  EXPECT_EQ(diagonal.scale(1)[3], MapNumbers(KeyMapKind::kDiagonal, 2, kDim)[kDim + 3]);
  EXPECT_EQ(diagonal.inverse_scale(1)[3], 1.0f / diagonal.scale(1)[3]);
  EXPECT_TRUE(diagonal.matrix(0).empty());
  EXPECT_GE(diagonal.HeldBytes(), 6 * kDim * 4);

  const KeyMap full = Make(KeyMapKind::kFull, 2, kDim);
  EXPECT_EQ(full.matrix(1)[5], MapNumbers(KeyMapKind::kFull, 2, kDim)[kDim * kDim + 5]);
  EXPECT_TRUE(full.scale(0).empty());
  EXPECT_GE(full.HeldBytes(), (2 * kDim + 4 * kDim * kDim) * 4);
}

TEST(KeyMapTest, FingerprintTellsMapsApart) {
  std::set<uint64_t> seen;
  for (const KeyMapKind kind : {KeyMapKind::kCenter, KeyMapKind::kDiagonal, KeyMapKind::kFull}) {
    const std::vector<float> center = Center(2, 4);
    const std::vector<float> map = MapNumbers(kind, 2, 4);
    const auto fingerprint = [&](const std::vector<float>& c, const std::vector<float>& m) {
      return KeyMap::FromNumbers(kind, 2, 4, c, m)->fingerprint();
    };
    EXPECT_EQ(fingerprint(center, map), fingerprint(center, map));
    EXPECT_TRUE(seen.insert(fingerprint(center, map)).second);
    for (size_t i = 0; i < center.size() + map.size(); ++i) {
      std::vector<float> c = center;
      std::vector<float> m = map;
      float& number = i < c.size() ? c[i] : m[i - c.size()];
      number = std::nextafter(number, 100.0f);
      EXPECT_TRUE(seen.insert(fingerprint(c, m)).second) << i;
    }
  }
  const std::vector<float> center = Center(2, 4);
  EXPECT_TRUE(seen.insert(KeyMap::FromNumbers(KeyMapKind::kCenter, 4, 2, center, {})->fingerprint())
                  .second);
}

struct BadNumbers {
  std::string name;
  KeyMapKind kind;
  size_t heads;
  size_t dim;
  std::vector<float> center;
  std::vector<float> map;
  ErrorCode code;
  std::string message;
};

TEST(KeyMapTest, RefusesBadNumbers) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::vector<float> c(4, 0.5f);
  const std::vector<BadNumbers> cases = {
      {"none", KeyMapKind::kNone, 2, 2, c, {}, ErrorCode::kInvalidArgument, "kind none"},
      {"no heads", KeyMapKind::kCenter, 0, 2, {}, {}, ErrorCode::kDimensionMismatch, "0 and 2"},
      {"no dim", KeyMapKind::kCenter, 2, 0, {}, {}, ErrorCode::kDimensionMismatch, "2 and 0"},
      {"short", KeyMapKind::kCenter, 2, 3, c, {}, ErrorCode::kDimensionMismatch, "centre has 4"},
      {"map of a centre", KeyMapKind::kCenter, 2, 2, c, c, ErrorCode::kDimensionMismatch,
       "map has 4 numbers, expected 0"},
      {"no map", KeyMapKind::kDiagonal, 2, 2, c, {}, ErrorCode::kDimensionMismatch, "map has 0"},
      {"scales for a matrix", KeyMapKind::kFull, 2, 2, c, c, ErrorCode::kDimensionMismatch,
       "expected 4 for each of 2"},
      {"overflow", KeyMapKind::kFull, 2, size_t{1} << 62, c, c, ErrorCode::kDimensionMismatch, ""},
      {"centre NaN",
       KeyMapKind::kCenter,
       2,
       2,
       {1, 1, 1, kNan},
       {},
       ErrorCode::kCorruptData,
       "centre of KV head 1 is not finite at 1"},
      {"scale infinite",
       KeyMapKind::kDiagonal,
       2,
       2,
       c,
       {1, kInfinity, 1, 1},
       ErrorCode::kCorruptData,
       "map of KV head 0 is not finite at 1"},
      {"scale zero",
       KeyMapKind::kDiagonal,
       2,
       2,
       c,
       {1, 1, 0, 1},
       ErrorCode::kCorruptData,
       "scale of KV head 1 at 0 must be positive"},
      {"scale negative",
       KeyMapKind::kDiagonal,
       2,
       2,
       c,
       {1, -2, 1, 1},
       ErrorCode::kCorruptData,
       "got -2"},
      {"scale subnormal",
       KeyMapKind::kDiagonal,
       2,
       2,
       c,
       {1, 1e-40f, 1, 1},
       ErrorCode::kCorruptData,
       "have an inverse"},
      {"singular",
       KeyMapKind::kFull,
       2,
       2,
       c,
       {1, 0, 0, 1, 1, 2, 2, 4},
       ErrorCode::kCorruptData,
       "matrix of KV head 1 is singular"},
      {"inverse overflows",
       KeyMapKind::kFull,
       1,
       2,
       {0, 0},
       {1e-40f, 0, 0, 1e-40f},
       ErrorCode::kCorruptData,
       "matrix of KV head 0 is singular"},
      {"matrix NaN",
       KeyMapKind::kFull,
       1,
       2,
       {0, 0},
       {1, 0, kNan, 1},
       ErrorCode::kCorruptData,
       "map of KV head 0 is not finite at 2"},
  };
  for (const BadNumbers& bad : cases) {
    const Result<KeyMap> map =
        KeyMap::FromNumbers(bad.kind, bad.heads, bad.dim, bad.center, bad.map);
    ASSERT_FALSE(map) << bad.name;
    EXPECT_EQ(map.error().code, bad.code) << bad.name;
    EXPECT_NE(map.error().message.find(bad.message), std::string::npos)
        << bad.name << ": " << map.error().message;
  }
}

}  // namespace
}  // namespace turboquant
