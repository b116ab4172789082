// The attention kernels on every backend of this CPU against their definitions: bit for bit. And
// the definitions against arithmetic in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "src/base/half.h"
#include "src/kernels/attention.h"
#include "src/kernels/kernels.h"
#include "src/kernels/line_layout.h"
#include "tests/kernels/kernel_rows.h"
#include "tests/kernels/kernel_tables.h"

namespace turboquant::kernels {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();
const std::vector<size_t> kDims = {2,  7,  8,  15, 16, 17,  20,  31,  32,
                                   33, 40, 64, 80, 96, 112, 128, 130, 256};

std::vector<uint16_t> ToF16(const std::vector<float>& values) {
  std::vector<uint16_t> halves;
  for (const float x : values) halves.push_back(F32ToF16(x).bits);
  return halves;
}

TEST(Exp2Test, IsWithinTwoUnitsInTheLastPlaceAndZeroBelowItsRange) {
  double worst = 0.0;
  for (float x = 0.0f; x >= kExp2Lowest; x -= 0.000977f) {
    const double exact = std::exp2(static_cast<double>(x));
    const double ulp = std::ldexp(1.0, std::ilogb(static_cast<float>(exact)) - 23);
    worst = std::max(worst, std::fabs(reference::Exp2(x) - exact) / ulp);
  }
  EXPECT_LE(worst, 2.0);
  EXPECT_GT(worst, 0.4);
  EXPECT_EQ(reference::Exp2(0.0f), 1.0f);
  EXPECT_EQ(reference::Exp2(-3.0f), 0.125f);
  EXPECT_EQ(reference::Exp2(kExp2Lowest), std::exp2(kExp2Lowest));
  EXPECT_EQ(reference::Exp2(std::nextafter(kExp2Lowest, kNothing)), 0.0f);
  EXPECT_EQ(reference::Exp2(kNothing), 0.0f);
}

class AttentionKernelsTest : public testing::TestWithParam<const KernelTable*> {
 protected:
  const AttentionKernels& kernels() const { return *GetParam()->attention; }
  const AttentionKernels& reference() const { return reference::kAttention; }
};

// Rows of one call, each with its own range, offset and state.
struct SoftmaxCase {
  std::vector<TokenRange> ranges;
  std::vector<float> offsets;
  std::vector<SoftmaxState> states;
  std::vector<float> scores;  // [rows × kBlockTokens], NaN outside the ranges
  std::vector<float> keep;

  explicit SoftmaxCase(const std::vector<TokenRange>& ranges_in, float old_max)
      : ranges(ranges_in),
        offsets(Normal(ranges.size(), 8)),
        scores(Normal(ranges.size() * kBlockTokens, 7, 4.0f)),
        keep(ranges.size(), -1.0f) {
    for (size_t r = 0; r < ranges.size(); ++r) {
      states.push_back({old_max, old_max == kNothing ? 0.0f : 2.5f});
      float* row = scores.data() + r * kBlockTokens;
      row[ranges[r].begin % kBlockTokens] = -200.0f;  // its weight is zero
      for (size_t t = 0; t < kBlockTokens; ++t)
        if (t < ranges[r].begin || t >= ranges[r].end) row[t] = std::nanf("");
    }
  }

  void Run(const AttentionKernels& kernels) {
    kernels.softmax({scores.data(), kBlockTokens}, ranges.size(), ranges.data(), offsets.data(),
                    states.data(), keep.data());
  }
  std::vector<float> Written(size_t r) const {
    const size_t written = ranges[r].empty() ? 0 : (ranges[r].end + 15) / 16 * 16;
    const auto row = scores.begin() + static_cast<ptrdiff_t>(r * kBlockTokens);
    return {row, row + static_cast<ptrdiff_t>(written)};
  }
};

void ExpectEqual(const SoftmaxCase& actual, const SoftmaxCase& expected, const std::string& what) {
  for (size_t r = 0; r < actual.ranges.size(); ++r) {
    SCOPED_TRACE("row " + std::to_string(r) + " of " + std::to_string(actual.ranges.size()));
    ExpectSameBits(actual.Written(r), expected.Written(r), "weights " + what);
    EXPECT_EQ(actual.keep[r], expected.keep[r]) << what;
    EXPECT_EQ(actual.states[r].max, expected.states[r].max) << what;
    EXPECT_EQ(actual.states[r].sum, expected.states[r].sum) << what;
  }
}

TEST_P(AttentionKernelsTest, SoftmaxEqualsReferenceForEveryRange) {
  for (size_t end = 1; end <= kBlockTokens; end += end < 40 ? 1 : 23) {
    for (const size_t begin : {size_t{0}, size_t{1}, end / 3, end / 2, end - 1}) {
      for (const float old_max : {kNothing, -3.0f, 50.0f}) {
        SoftmaxCase actual({{begin, end}}, old_max);
        SoftmaxCase expected = actual;
        actual.Run(kernels());
        expected.Run(reference());
        ExpectEqual(actual, expected, "to " + std::to_string(end));
      }
    }
  }
}

// Every row is what it is alone; one whose range is empty is left as it is.
TEST_P(AttentionKernelsTest, SoftmaxOfManyRows) {
  for (size_t rows = 1; rows <= 19; ++rows) {
    std::vector<TokenRange> ranges;
    for (size_t r = 0; r < rows; ++r) {
      const size_t end = 1 + 37 * (r + rows) % kBlockTokens;
      ranges.push_back(r % 5 == 3 ? TokenRange{end, end} : TokenRange{end / (2 + r), end});
    }
    SoftmaxCase actual(ranges, -1.5f);
    SoftmaxCase expected = actual;
    const SoftmaxCase before = actual;
    actual.Run(kernels());
    expected.Run(reference());
    ExpectEqual(actual, expected, "side by side");
    for (size_t r = 0; r < rows; ++r) {
      if (!ranges[r].empty()) continue;
      EXPECT_EQ(actual.keep[r], 1.0f);
      EXPECT_EQ(actual.states[r].max, before.states[r].max);
      EXPECT_EQ(actual.states[r].sum, before.states[r].sum);
      const auto row = [&](const SoftmaxCase& of) {
        const auto first = of.scores.begin() + static_cast<ptrdiff_t>(r * kBlockTokens);
        return std::vector<float>(first, first + kBlockTokens);
      };
      ExpectSameBits(row(actual), row(before), "an empty range");
    }
  }
}

// Rows of weights: of usual ones, tiny ones, ones too small to count and zeros.
struct DigitsCase {
  size_t count;
  std::vector<float> weights;  // [4 × kBlockTokens]
  std::vector<uint16_t> scales;
  std::vector<uint8_t> high, low;
  std::vector<float> gain;

  DigitsCase(size_t count_in, bool two)
      : count(count_in),
        weights(Normal(4 * kBlockTokens, 3)),
        scales(ToF16(Normal(count, 4))),
        high(4 * kBlockTokens, 255),
        low(two ? 4 * kBlockTokens : 0, 255),
        gain(4, -1.0f) {
    constexpr float kLargest[4] = {1.0f, 1e-20f, 1e-31f, 0.0f};
    for (size_t i = 0; i < weights.size(); ++i)
      weights[i] = std::fabs(weights[i]) * kLargest[i / kBlockTokens];
    for (uint16_t& scale : scales) scale &= 0x7FFF;
  }
  void Run(const AttentionKernels& kernels) {
    kernels.weight_digits({weights.data(), kBlockTokens}, 4, scales.data(), count, high.data(),
                          low.empty() ? nullptr : low.data(), gain.data());
  }
};

TEST_P(AttentionKernelsTest, WeightDigitsEqualReference) {
  for (size_t count = 16; count <= kBlockTokens; count += 16) {
    for (const bool two : {true, false}) {
      DigitsCase actual(count, two);
      DigitsCase expected = actual;
      actual.Run(kernels());
      expected.Run(reference());
      EXPECT_EQ(actual.high, expected.high) << count;  // and nothing behind the digits
      EXPECT_EQ(actual.low, expected.low) << count;
      EXPECT_EQ(actual.gain, expected.gain) << count;
    }
  }
}

// Every weight is what its digits say, to half a step.
TEST_P(AttentionKernelsTest, WeightDigitsAreTheWeights) {
  for (const bool two : {true, false}) {
    DigitsCase made(kBlockTokens, two);
    made.Run(kernels());
    for (size_t r = 0; r < 4; ++r) {
      EXPECT_EQ(made.gain[r] == 0.0f, r >= 2);
      const auto row = made.high.begin() + static_cast<ptrdiff_t>(r * kBlockTokens);
      EXPECT_EQ(*std::max_element(row, row + kBlockTokens), r >= 2 ? 0 : 127);
      for (size_t t = 0; t < kBlockTokens && r < 2; ++t) {
        const size_t at = r * kBlockTokens + t;
        const double p = static_cast<double>(made.weights[at]) * F16ToF32({made.scales[t]});
        const double digit = two ? 128 * made.high[at] + made.low[at] : made.high[at];
        EXPECT_NEAR(digit * made.gain[r], p, 0.501 * made.gain[r]);
      }
    }
  }
}

// Random codes in value blocks, and the plan to read them.
struct ValueBlocks {
  std::vector<int16_t> levels = std::vector<int16_t>(256, 0);
  std::vector<uint8_t> bytes;
  ScorePlan plan;

  ValueBlocks(size_t dim, int bits, bool int8_levels, size_t blocks, bool extreme) {
    std::mt19937 generator(11);
    const int codes = bits == 8 && int8_levels ? 255 : 1 << bits;
    for (int i = 0; i < codes; ++i) {
      levels[i] = static_cast<int16_t>(bits == 8 && int8_levels
                                           ? i - 127
                                           : (2 * i - codes + 1) * (int8_levels ? 127 : 8192) /
                                                 std::max(1, codes - 1));
    }
    bytes.assign(blocks * ValueBlockBytes(dim, static_cast<size_t>(bits)), 0);
    std::vector<uint8_t> row(dim);
    for (size_t t = 0; t < 64 * blocks; ++t) {
      for (uint8_t& code : row)
        code = static_cast<uint8_t>(extreme ? codes - 1 : static_cast<int>(generator() % codes));
      reference::PackCodes({bytes.data(), dim, bits, true}, t, 1, row.data());
    }
    plan = {dim, bits, codes, levels.data(), int8_levels};
  }
};

TEST_P(AttentionKernelsTest, AccumulateValuesEqualsReference) {
  for (const size_t dim : kDims) {
    for (int bits = 1; bits <= 8; ++bits) {
      const bool int8_levels = bits <= 4 || (bits == 8 && dim % 2 == 0);
      const size_t blocks = 1 + (dim + static_cast<size_t>(bits)) % 4;
      const bool extreme = dim % 3 == 0;
      const ValueBlocks values(dim, bits, int8_levels, blocks, extreme);
      for (const size_t queries : {1, 2, 3, 4, 5, 8, 13}) {
        for (const bool two : {true, false}) {
          std::mt19937 generator(5);
          std::vector<uint8_t> high(queries * kBlockTokens), low(high.size());
          for (uint8_t& digit : high) digit = extreme ? 127 : generator() % 128;
          for (uint8_t& digit : low) digit = extreme ? 127 : generator() % 128;
          const std::vector<float> keep = Normal(queries, 1), gain = Normal(queries, 2);
          const size_t stride = dim + 3;
          std::vector<float> sums = Normal(queries * stride, 6), expected = sums;
          const WeightDigits weights = {high.data(), two ? low.data() : nullptr};
          kernels().accumulate_values(values.plan,
                                      {values.bytes.data(), blocks, {high.data(), 100}}, weights,
                                      queries, keep.data(), gain.data(), {sums.data(), stride});
          reference().accumulate_values(values.plan, {values.bytes.data(), blocks}, weights,
                                        queries, keep.data(), gain.data(),
                                        {expected.data(), stride});
          ExpectSameBits(sums, expected,
                         "dim " + std::to_string(dim) + ", bits " + std::to_string(bits) +
                             ", queries " + std::to_string(queries));
        }
      }
    }
  }
}

// The first `count` of them, in memory that ends there: nothing may be read behind it.
template <class T>
std::vector<T> First(const std::vector<T>& all, size_t count) {
  return {all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count)};
}

// Kernels of exact rows, each once though several tables have it; the definition is not among them.
std::vector<const KernelTable*> TablesOfExactRows() {
  std::vector<const KernelTable*> tables = {&reference::kTable};
  for (const KernelTable* table : TestedTables()) {
    const auto same = [&](const KernelTable* other) {
      return other->attention->score_exact == table->attention->score_exact &&
             other->attention->accumulate_exact == table->attention->accumulate_exact;
    };
    if (std::ranges::none_of(tables, same)) tables.push_back(table);
  }
  tables.erase(tables.begin());
  return tables;
}

// All backends in one test: the definition takes longer than they do, and is asked once.
TEST(ExactRowsTest, EqualReferenceOnEveryBackend) {
  const std::vector<const KernelTable*> tables = TablesOfExactRows();
  ASSERT_FALSE(tables.empty());  // emulated ones, if no others
  for (const size_t dim : kDims) {
    const size_t stride = dim + 5;
    const std::vector<float> all_rows = Normal(256 * stride, 8);
    const std::vector<float> all_queries = Normal(9 * stride, 9);
    for (const size_t count : {1, 3, 63, 64, 65, 130, 256}) {
      const std::vector<float> singles = First(all_rows, (count - 1) * stride + dim);
      const std::vector<uint16_t> halves = ToF16(singles);
      for (const size_t queries : {1, 3, 4, 6, 9}) {
        const std::vector<float> query = First(all_queries, (queries - 1) * stride + dim);
        const std::vector<float> keep = Normal(queries, 1);
        const std::vector<float> earlier = Normal(queries * stride, 2);
        for (const ExactType type : {ExactType::kF16, ExactType::kF32}) {
          const void* rows = type == ExactType::kF32 ? static_cast<const void*>(singles.data())
                                                     : static_cast<const void*>(halves.data());
          const ExactRows exact = {rows, type, stride, dim};
          std::vector<float> scores(queries * 256), sums;
          const auto run = [&](const KernelTable& table) {
            std::ranges::fill(scores, 0.5f);
            sums = earlier;
            table.attention->score_exact(exact, count, {query.data(), stride}, queries,
                                         {scores.data(), 256});
            table.attention->accumulate_exact(exact, count, {scores.data(), 256}, queries,
                                              keep.data(), {sums.data(), stride});
          };
          run(reference::kTable);
          const std::vector<float> expected = scores, expected_sums = sums;
          for (const KernelTable* table : tables) {
            SCOPED_TRACE(TableName(*table) + ", dim " + std::to_string(dim));
            run(*table);
            ExpectSameBits(scores, expected, "scores");
            ExpectSameBits(sums, expected_sums, "sums");
            if (HasFatalFailure()) return;
          }
        }
      }
    }
  }
}

TEST_P(AttentionKernelsTest, MergeEqualsReference) {
  for (const size_t count : kDims) {
    for (const float max : {kNothing, -7.0f, 0.0f, 140.0f}) {
      std::vector<float> into = Normal(count, 1), expected = into;
      const std::vector<float> from = Normal(count, 2);
      SoftmaxState state = {3.0f, 1.5f}, expected_state = state;
      kernels().merge(state, into.data(), {max, 4.0f}, from.data(), count);
      reference().merge(expected_state, expected.data(), {max, 4.0f}, from.data(), count);
      ExpectSameBits(into, expected, "merged");
      EXPECT_EQ(state.max, expected_state.max);
      EXPECT_EQ(state.sum, expected_state.sum);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, AttentionKernelsTest, testing::ValuesIn(TestedTables()),
                         [](const auto& test) { return TableName(*test.param); });

}  // namespace
}  // namespace turboquant::kernels
