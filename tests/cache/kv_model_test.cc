// Random sequences of calls on a family of caches, each beside a naive one. A sequence that fails
// is shrunk, and printed with its seed.
#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "tests/cache/cache_family.h"
#include "turboquant/kv_cache.h"

namespace turboquant {
namespace {

using test::CacheFamily;
using test::Complaint;
using test::RandomSteps;
using test::Rows;
using test::Step;

struct Failure {
  size_t step;
  std::string what;
};

std::optional<Failure> RunSteps(const KvCacheOptions& options, const Rows& pool,
                                const std::vector<Step>& steps,
                                test::PackingErrors* errors = nullptr) {
  CacheFamily family(options, pool);
  for (size_t i = 0; i < steps.size(); ++i) {
    if (Complaint complaint = family.Do(steps[i])) return Failure{i, *complaint};
  }
  if (errors != nullptr) *errors = family.errors();
  return {};
}

// Leaves out what the failure does not need: halves, quarters, ... single steps.
std::vector<Step> Shrink(const KvCacheOptions& options, const Rows& pool, std::vector<Step> steps) {
  for (size_t length = steps.size() / 2; length > 0; length /= 2) {
    for (size_t first = 0; first + length <= steps.size();) {
      std::vector<Step> fewer = steps;
      const auto begin = fewer.begin() + static_cast<ptrdiff_t>(first);
      fewer.erase(begin, begin + static_cast<ptrdiff_t>(length));
      if (RunSteps(options, pool, fewer)) {
        steps = std::move(fewer);
      } else {
        first += length;
      }
    }
  }
  return steps;
}

struct OptionSet {
  const char* name;
  void (*change)(KvCacheOptions&);
};

void PrintTo(const OptionSet& set, std::ostream* out) { *out << set.name; }

const OptionSet kSets[] = {
    {"Defaults", [](KvCacheOptions&) {}},
    {"Bare",
     [](KvCacheOptions& o) {
       o.sinks = o.window = 0;
       o.format.keys = {.method = KvMethod::kProd, .bits = 4};
     }},
    {"EvictsPages",
     [](KvCacheOptions& o) {
       o.max_tokens = 600;
       o.window = 0;
       o.format.values.bits = 8;
     }},
    {"EvictsPagesOfAPool",
     [](KvCacheOptions& o) {
       o.max_tokens = 600;
       o.window = 0;
       o.page_pool = *PagePool::Create({.slab_bytes = size_t{2} << 20});
     }},
    {"EvictsBehindAWindow",
     [](KvCacheOptions& o) {
       o.max_tokens = 410;
       o.exact_type = RowType::kF16;
       o.format.keys.bits = 3;
     }},
    {"NeverPacks",
     [](KvCacheOptions& o) {
       o.max_tokens = 130;
       o.window = 80;
     }},
    {"EstimatesADiagonal",
     [](KvCacheOptions& o) {
       o.rope = RopeParameters::FromTheta(1e4, 16);
       o.query_heads = 4;
       o.first_position = 123456;
       o.window = 10;
     }},
    {"EstimatesACentreAndEvicts",
     [](KvCacheOptions& o) {
       o.key_map = KeyMapKind::kCenter;
       o.rope = RopeParameters::FromTheta(1e3, 8, RopePairing::kInterleaved);
       o.max_tokens = 333;
       o.window = 0;
     }},
    {"FullMap",
     [](KvCacheOptions& o) {
       o.key_map = KeyMapKind::kFull;
       o.rope = RopeParameters::FromTheta(1e4, 12);
       o.query_heads = 2;
       o.format.values = {.method = KvMethod::kF16};
     }},
    {"Outliers",
     [](KvCacheOptions& o) {
       o.format.keys = {.bits = 3, .outlier_channels = 4};
       o.format.values = {.bits = 2, .outlier_channels = 5};
       o.max_tokens = 900;
     }},
    {"Unquantized",
     [](KvCacheOptions& o) {
       o.format.keys = {.method = KvMethod::kF32};
       o.format.values = {.method = KvMethod::kF32};
       o.key_map = KeyMapKind::kCenter;
       o.window = 5;
       o.sinks = 1;
     }},
};

class KvModelTest : public testing::TestWithParam<OptionSet> {};

// Fails with the shrunk sequence if there is one.
void RunSeed(const KvCacheOptions& options, const Rows& pool, uint64_t seed) {
  constexpr size_t kSteps = 1050;  // eleven sets: more than 10,000 in all
  std::vector<Step> steps = RandomSteps(kSteps, seed);
  test::PackingErrors errors;
  if (const auto failure = RunSteps(options, pool, steps, &errors)) {
    steps.resize(failure->step + 1);
    steps = Shrink(options, pool, std::move(steps));
    const auto again = RunSteps(options, pool, steps);
    std::string list;
    for (const Step& step : steps) list += "\n  " + ToString(step);
    FAIL() << "seed " << seed << ", step " << failure->step << ": " << failure->what
           << "\nshrunk to " << steps.size() << " steps:" << list << "\n"
           << (again ? again->what : "which do not fail again");
  }
  // Too good would be wrong as well.
  const KvSideOptions& values = options.format.values;
  const bool four_bits =
      values.method == KvMethod::kMse && values.outlier_channels == 0 && values.bits == 4;
  if (four_bits && errors.mean() > 0.0) {
    EXPECT_NEAR(errors.mean(), 0.0047, 0.0004);  // dim 16 with scale search
  }
}

TEST_P(KvModelTest, BehavesAsTheNaiveCache) {
  constexpr size_t kHeads = 2;
  constexpr size_t kDim = 16;
  KvCacheOptions options;
  options.format = {.head_dim = kDim, .kv_heads = kHeads};
  GetParam().change(options);
  const Rows pool = test::NormalRows(2000 * 2 * kHeads, kDim, 3);
  const uint64_t seeds = std::getenv("TURBOQUANT_LONG_TESTS") == nullptr ? 1 : 25;
  for (uint64_t seed = 1; seed <= seeds && !HasFailure(); ++seed) RunSeed(options, pool, seed);
}

INSTANTIATE_TEST_SUITE_P(Options, KvModelTest, testing::ValuesIn(kSets),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace turboquant
