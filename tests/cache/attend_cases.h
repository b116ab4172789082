// Caches and queries of the attention tests: every pair of settings in some case.
#ifndef TURBOQUANT_TESTS_CACHE_ATTEND_CASES_H_
#define TURBOQUANT_TESTS_CACHE_ATTEND_CASES_H_

#include <cstddef>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "tests/cache/attend_reference.h"
#include "turboquant/kv_cache.h"

namespace turboquant::test {

struct AttendCase {
  std::string name;
  KvCacheOptions options;
  size_t group;         // query heads of a KV head
  size_t tokens;        // in the cache
  size_t query_tokens;  // at most tokens
  int digits;
  double deviation;  // of the logits
};

// What GoogleTest prints of a case.
inline void PrintTo(const AttendCase& attend_case, std::ostream* out) { *out << attend_case.name; }

// Pairwise: for every two settings, each pair of their choices is in some case.
std::vector<AttendCase> PairwiseAttendCases();

// Keys N(0, 1) plus a constant a channel, values N(0, 1).
Tokens AttendTokens(size_t tokens, const KvFormatOptions& format, uint64_t seed = 5);

// A map of random numbers, well conditioned.
std::shared_ptr<const KeyMap> RandomKeyMap(KeyMapKind kind, size_t kv_heads, size_t head_dim);

// For each case a level of every factor, so that each pair of levels of two factors is in some
// case. Greedy and deterministic.
std::vector<std::vector<size_t>> PairwiseLevels(const std::vector<size_t>& levels);

}  // namespace turboquant::test

#endif  // TURBOQUANT_TESTS_CACHE_ATTEND_CASES_H_
