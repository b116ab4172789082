#include "tests/cache/attend_cases.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

namespace turboquant::test {
namespace {

constexpr size_t kUnset = SIZE_MAX;

// Which pairs of levels are in no case yet.
class OpenPairs {
 public:
  explicit OpenPairs(const std::vector<size_t>& levels) : levels_(levels) {
    for (const size_t count : levels) {
      starts_.push_back(total_);
      total_ += count;
    }
    open_.assign(total_ * total_, true);
  }

  bool open(size_t f, size_t level, size_t g, size_t other) const {
    return open_[Index(f, level, g, other)];
  }
  // Pairs that `level` of factor f would close.
  size_t Gain(const std::vector<size_t>& row, size_t f, size_t level) const {
    size_t gain = 0;
    for (size_t g = 0; g < row.size(); ++g)
      if (g != f && row[g] != kUnset) gain += open(f, level, g, row[g]);
    return gain;
  }
  void Close(const std::vector<size_t>& row) {
    for (size_t f = 0; f < row.size(); ++f) {
      for (size_t g = 0; g < row.size(); ++g)
        if (f != g) open_[Index(f, row[f], g, row[g])] = false;
    }
  }
  // A row with the first open pair alone; empty if none is open.
  std::vector<size_t> Seed() const {
    for (size_t f = 0; f < levels_.size(); ++f) {
      for (size_t g = f + 1; g < levels_.size(); ++g) {
        for (size_t i = 0; i < levels_[f]; ++i) {
          for (size_t k = 0; k < levels_[g]; ++k) {
            if (!open(f, i, g, k)) continue;
            std::vector<size_t> row(levels_.size(), kUnset);
            row[f] = i;
            row[g] = k;
            return row;
          }
        }
      }
    }
    return {};
  }

 private:
  size_t Index(size_t f, size_t level, size_t g, size_t other) const {
    return (starts_[f] + level) * total_ + starts_[g] + other;
  }
  std::vector<size_t> levels_;
  std::vector<size_t> starts_;
  size_t total_ = 0;
  std::vector<bool> open_;
};

struct NamedSide {
  const char* name;
  KvSideOptions side;
  size_t outlier_divisor = 0;  // head_dim / this many channels are outliers
};

const NamedSide kKeySides[] = {
    {"k1", {.bits = 1}},
    {"k2", {.bits = 2}},
    {"k3", {.bits = 3}},
    {"k4", {.bits = 4}},
    {"k5", {.bits = 5, .scale = Scale::kNorm}},
    {"k8", {.bits = 8}},
    {"kProd2", {.method = KvMethod::kProd, .bits = 2}},
    {"kProd4", {.method = KvMethod::kProd, .bits = 4, .sketch = SketchKind::kGaussian}},
    {"kF16", {.method = KvMethod::kF16}},
    {"kF32", {.method = KvMethod::kF32}},
    {"k2o4", {.bits = 2}, 4},
    {"k3o5", {.bits = 3, .scale = Scale::kMatched}, 5},
};

const NamedSide kValueSides[] = {
    {"v1", {.bits = 1}},
    {"v2", {.bits = 2, .scale = Scale::kLeastSquares}},
    {"v3", {.bits = 3}},
    {"v4", {.bits = 4}},
    {"v5", {.bits = 5}},
    {"v8", {.bits = 8}},
    {"vF16", {.method = KvMethod::kF16}},
    {"vF32", {.method = KvMethod::kF32}},
    {"v3o4", {.bits = 3}, 4},
};

struct NamedMap {
  const char* name;
  KeyMapKind kind;
  int rotary_quarters;  // of head_dim; 0: no rope
  RopePairing pairing;
};

const NamedMap kMaps[] = {
    {"plain", KeyMapKind::kNone, 4, RopePairing::kHalf},
    {"centre", KeyMapKind::kCenter, 0, RopePairing::kHalf},
    {"centreRope", KeyMapKind::kCenter, 2, RopePairing::kInterleaved},
    {"diagonal", KeyMapKind::kDiagonal, 4, RopePairing::kHalf},
    {"diagonalPart", KeyMapKind::kDiagonal, 1, RopePairing::kInterleaved},
    {"full", KeyMapKind::kFull, 4, RopePairing::kInterleaved},
    {"fullPart", KeyMapKind::kFull, 2, RopePairing::kHalf},
};

constexpr size_t kDims[] = {32, 64, 80, 96, 112, 128, 256, 37};
constexpr size_t kGroups[] = {1, 2, 4, 8};
constexpr std::pair<size_t, size_t> kExact[] = {{0, 0}, {0, 4}, {64, 0}, {64, 4}};
constexpr uint64_t kPositions[] = {0, 100000};
constexpr size_t kLengths[] = {1, 15, 16, 17, 63, 64, 65, 255, 256, 257, 600, 2349};
constexpr size_t kQueryTokens[] = {1, 3};
constexpr double kDeviations[] = {0.5, 2.0, 4.0};
constexpr size_t kHeads[] = {1, 3};

KvSideOptions SideOf(const NamedSide& named, size_t dim) {
  KvSideOptions side = named.side;
  if (named.outlier_divisor != 0) side.outlier_channels = dim / named.outlier_divisor;
  return side;
}

AttendCase CaseOf(const std::vector<size_t>& row) {
  const NamedSide& keys = kKeySides[row[0]];
  const NamedSide& values = kValueSides[row[1]];
  const NamedMap& map = kMaps[row[5]];
  AttendCase result;
  KvCacheOptions& options = result.options;
  const size_t dim = kDims[row[2]];
  options.format.head_dim = dim;
  options.format.kv_heads = kHeads[row[10]];
  options.format.keys = SideOf(keys, dim);
  options.format.values = SideOf(values, dim);
  options.format.rotation = row[11] == 2 ? RotationKind::kDense : RotationKind::kHadamard;
  options.format.rotation_rounds = row[11] == 1 ? 2 : 1;
  options.window = kExact[row[4]].first;
  options.sinks = kExact[row[4]].second;
  options.exact_type = row[12] == 0 ? RowType::kF32 : RowType::kF16;
  options.first_position = kPositions[row[6]];
  options.key_map = map.kind;
  if (map.rotary_quarters != 0) {
    const size_t rotary_dim = dim * static_cast<size_t>(map.rotary_quarters) / 8 * 2;
    options.rope = RopeParameters::FromTheta(1e4, rotary_dim, map.pairing);
  }
  if (map.kind != KeyMapKind::kNone)
    options.known_key_map = RandomKeyMap(map.kind, options.format.kv_heads, dim);
  result.group = kGroups[row[3]];
  result.tokens = kLengths[row[7]];
  result.query_tokens = std::min(result.tokens, kQueryTokens[row[8]]);
  result.digits = row[13] == 0 ? 1 : 2;
  result.deviation = kDeviations[row[9]];
  result.name = std::string(keys.name) + "_" + values.name + "_d" + std::to_string(dim) + "_n" +
                std::to_string(result.tokens) + "_" + map.name + "_g" +
                std::to_string(result.group) + "_w" + std::to_string(options.window) + "_s" +
                std::to_string(options.sinks) + "_q" + std::to_string(result.query_tokens) +
                "_digits" + std::to_string(result.digits);
  return result;
}

}  // namespace

std::vector<std::vector<size_t>> PairwiseLevels(const std::vector<size_t>& levels) {
  OpenPairs pairs(levels);
  std::vector<std::vector<size_t>> rows;
  for (std::vector<size_t> row = pairs.Seed(); !row.empty(); row = pairs.Seed()) {
    for (size_t f = 0; f < levels.size(); ++f) {
      if (row[f] != kUnset) continue;
      size_t best = 0;
      size_t best_gain = 0;
      for (size_t i = 0; i < levels[f]; ++i) {
        const size_t level = (i + rows.size()) % levels[f];  // ties take turns
        const size_t gain = pairs.Gain(row, f, level);
        if (i != 0 && gain <= best_gain) continue;
        best = level;
        best_gain = gain;
      }
      row[f] = best;
    }
    pairs.Close(row);
    rows.push_back(std::move(row));
  }
  return rows;
}

std::vector<AttendCase> PairwiseAttendCases() {
  std::vector<AttendCase> cases;
  const std::vector<size_t> levels = {std::size(kKeySides),
                                      std::size(kValueSides),
                                      std::size(kDims),
                                      std::size(kGroups),
                                      std::size(kExact),
                                      std::size(kMaps),
                                      std::size(kPositions),
                                      std::size(kLengths),
                                      std::size(kQueryTokens),
                                      std::size(kDeviations),
                                      std::size(kHeads),
                                      3,
                                      2,
                                      3};
  for (const std::vector<size_t>& row : PairwiseLevels(levels)) {
    cases.push_back(CaseOf(row));
    cases.back().name = std::to_string(cases.size()) + "_" + cases.back().name;
  }
  return cases;
}

Tokens AttendTokens(size_t tokens, const KvFormatOptions& format, uint64_t seed) {
  Tokens made(tokens, format.kv_heads, format.head_dim, seed);
  const Rows offsets = NormalRows(format.kv_heads, format.head_dim, seed + 1000);
  for (size_t r = 0; r < made.keys.rows; ++r) {
    for (size_t j = 0; j < format.head_dim; ++j) made.keys[r][j] += offsets[r % format.kv_heads][j];
  }
  return made;
}

std::shared_ptr<const KeyMap> RandomKeyMap(KeyMapKind kind, size_t kv_heads, size_t head_dim) {
  const Rows center = NormalRows(kv_heads, head_dim, 50);
  Rows map = NormalRows(kv_heads, kind == KeyMapKind::kFull ? head_dim * head_dim : head_dim, 51);
  if (kind == KeyMapKind::kCenter) map.values.clear();
  const float root = std::sqrt(static_cast<float>(head_dim));
  for (float& x : map.values)
    x = kind == KeyMapKind::kDiagonal ? std::exp(0.5f * x) : 0.3f * x / root;
  if (kind == KeyMapKind::kFull) {
    for (size_t i = 0; i < kv_heads * head_dim; ++i)
      map.values[i * head_dim + i % head_dim] += 1.0f;
  }
  auto result = KeyMap::FromNumbers(kind, kv_heads, head_dim, center.values, map.values);
  EXPECT_TRUE(result) << result.error().message;
  return std::make_shared<const KeyMap>(*std::move(result));
}

}  // namespace turboquant::test
