// Random calls on a family of caches: one cache and its forks, each beside a naive one.
#ifndef TURBOQUANT_TESTS_CACHE_CACHE_FAMILY_H_
#define TURBOQUANT_TESTS_CACHE_CACHE_FAMILY_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/cache/cache_support.h"
#include "tests/cache/naive_cache.h"
#include "turboquant/kv_cache.h"

namespace turboquant::test {

enum class StepKind {
  kAppend,
  kAppendBad,
  kObserve,
  kTruncate,
  kClear,
  kFork,
  kForget,
  kAttend,
  kReconstruct,
  kSnapshot,
};

// What is done, in numbers that have a meaning in whatever state the caches are: so that a sequence
// without some of its steps is a sequence.
struct Step {
  StepKind kind;
  uint32_t cache;
  uint32_t a;
  uint32_t b;
  uint32_t c;
};

std::string ToString(const Step& step);
std::vector<Step> RandomSteps(size_t count, uint64_t seed);

class CacheFamily {
 public:
  // Tokens come from the pool, rows of keys and values of all heads in turn.
  CacheFamily(const KvCacheOptions& options, const Rows& pool);

  // Does the step, then compares the cache and another one.
  Complaint Do(const Step& step);

  const PackingErrors& errors() const { return errors_; }

 private:
  struct Member {
    KvCache cache;
    NaiveCache naive;
  };
  Complaint Act(const Step& step, size_t own);
  Complaint Append(Member& member, const Step& step);
  Complaint AppendBad(Member& member, const Step& step);
  bool TooLongIsRefused(const Member& member, size_t count) const;
  Complaint Observe(Member& member, const Step& step);
  Complaint Truncate(Member& member, const Step& step);
  Complaint Attend(Member& member, const Step& step);
  Complaint Snapshot(Member& member);
  Complaint Compare(Member& member, const Step& step, bool all);

  KvCacheOptions options_;
  const Rows& pool_;
  std::vector<Member> members_;
  PackingErrors errors_;
};

}  // namespace turboquant::test

#endif  // TURBOQUANT_TESTS_CACHE_CACHE_FAMILY_H_
