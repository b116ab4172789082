#include "tests/cache/cache_family.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "src/base/half.h"
#include "src/base/random.h"
#include "turboquant/snapshot.h"

namespace turboquant::test {
namespace {

const char* const kNames[] = {"append", "append bad", "observe", "truncate",    "clear",
                              "fork",   "forget",     "attend",  "reconstruct", "snapshot"};
constexpr uint32_t kShares[] = {40, 10, 4, 8, 1, 6, 5, 14, 10, 2};  // per cent

// Tokens on their way to an Append, in one of the types and layouts.
class Batch {
 public:
  // Tokens [first, first + count) of a pool.
  Batch(const Rows& pool, size_t heads, size_t first, size_t count, uint32_t form)
      : heads_(heads), dim_(pool.dim), count_(count), type_(static_cast<RowType>(form % 3)) {
    head_major_ = form / 3 % 2 != 0;
    for (size_t t = 0; t < count; ++t) {
      NaiveCache::Token& token = tokens_.emplace_back();
      for (size_t r = 0; r < 2 * heads; ++r) {
        for (const float x : pool[(first + t) % (pool.rows / (2 * heads)) * 2 * heads + r])
          token.push_back(Rounded(x));
      }
    }
  }

  const std::vector<NaiveCache::Token>& tokens() const { return tokens_; }
  float& At(size_t token, size_t element) { return tokens_[token][element]; }

  // Valid until the next call.
  HeadsView View(bool values) {
    std::vector<float>& singles = singles_[values];
    std::vector<uint16_t>& halves = halves_[values];
    singles.assign(count_ * heads_ * dim_, 0.0f);
    for (size_t i = 0; i < singles.size(); ++i) {
      const size_t outer = i / dim_;
      const size_t token = head_major_ ? outer % count_ : outer / heads_;
      const size_t head = head_major_ ? outer / count_ : outer % heads_;
      singles[i] = tokens_[token][((values ? heads_ : 0) + head) * dim_ + i % dim_];
    }
    halves.clear();
    for (const float x : singles)
      halves.push_back(type_ == RowType::kF16 ? F32ToF16(x).bits : F32ToBF16(x).bits);
    HeadsView view = head_major_ ? HeadsView::HeadMajor(singles.data(), count_, heads_, dim_)
                                 : HeadsView::TokenMajor(singles.data(), count_, heads_, dim_);
    if (type_ != RowType::kF32) view.data = halves.data();
    view.type = type_;
    return view;
  }

 private:
  float Rounded(float x) const {
    if (type_ == RowType::kF16) return F16ToF32(F32ToF16(x));
    return type_ == RowType::kBF16 ? BF16ToF32(F32ToBF16(x)) : x;
  }
  size_t heads_;
  size_t dim_;
  size_t count_;
  RowType type_;
  bool head_major_ = false;
  std::vector<NaiveCache::Token> tokens_;
  std::vector<float> singles_[2];
  std::vector<uint16_t> halves_[2];
};

constexpr size_t kMostTokens = 1500;
constexpr size_t kMostCaches = 4;

size_t Count(const Step& step) { return step.b % 4 == 0 ? 1 + step.a % 300 : 1 + step.a % 5; }

Complaint Refused(const Result<void>& done) {
  if (!done) return {};
  return "a bad call succeeded";
}

}  // namespace

std::string ToString(const Step& step) {
  return std::string(kNames[static_cast<size_t>(step.kind)]) + " {" + std::to_string(step.cache) +
         "u, " + std::to_string(step.a) + "u, " + std::to_string(step.b) + "u, " +
         std::to_string(step.c) + "u}";
}

std::vector<Step> RandomSteps(size_t count, uint64_t seed) {
  RandomBits bits(seed, {.stage = kTestStage});
  std::vector<Step> steps;
  while (steps.size() < count) {
    uint32_t share = bits.NextWord() % 100;
    size_t kind = 0;
    while (share >= kShares[kind]) share -= kShares[kind++];
    steps.push_back({static_cast<StepKind>(kind), bits.NextWord() % 64, bits.NextWord() % 4096,
                     bits.NextWord() % 4096, bits.NextWord() % 4096});
  }
  return steps;
}

CacheFamily::CacheFamily(const KvCacheOptions& options, const Rows& pool)
    : options_(options), pool_(pool) {
  members_.push_back({MakeCache(options), NaiveCache(options)});
}

Complaint CacheFamily::Do(const Step& step) {
  const size_t own = step.cache % members_.size();
  if (Complaint complaint = Act(step, own)) return complaint;
  for (const size_t i : {own, static_cast<size_t>(step.c)}) {
    Member& member = members_[i % members_.size()];
    if (Complaint complaint = member.naive.CompareShape(member.cache)) return complaint;
    const bool all = step.b % 4 == 0 || step.kind == StepKind::kSnapshot;
    if (Complaint complaint = Compare(member, step, all)) return complaint;
  }
  return {};
}

Complaint CacheFamily::Act(const Step& step, size_t own) {
  Member& member = members_[own];
  switch (step.kind) {
    case StepKind::kAppend:
      return Append(member, step);
    case StepKind::kAppendBad:
      return AppendBad(member, step);
    case StepKind::kObserve:
      return Observe(member, step);
    case StepKind::kTruncate:
      return Truncate(member, step);
    case StepKind::kClear:
      member.cache.Clear();
      member.naive.Clear();
      return {};
    case StepKind::kFork:
      if (members_.size() < kMostCaches) members_.push_back({member.cache.Fork(), member.naive});
      return {};
    case StepKind::kForget:
      if (members_.size() > 1) members_.erase(members_.begin() + static_cast<ptrdiff_t>(own));
      return {};
    case StepKind::kAttend:
      return Attend(member, step);
    case StepKind::kReconstruct:
      return Compare(member, step, false);
    case StepKind::kSnapshot:
      return Snapshot(member);
  }
  return "no such step";
}

Complaint CacheFamily::Append(Member& member, const Step& step) {
  const size_t count = Count(step);
  if (member.naive.size() + count > kMostTokens) return Truncate(member, step);
  Batch batch(pool_, options_.format.kv_heads, step.a, count, step.c);
  const auto done = member.cache.Append(batch.View(false), batch.View(true));
  if (!done) return done.error().message;
  member.naive.Append(batch.tokens());
  return {};
}

// NaN, infinity or too long a row somewhere, or a wrong shape: refused, and nothing has changed.
Complaint CacheFamily::AppendBad(Member& member, const Step& step) {
  const size_t count = Count(step);
  Batch batch(pool_, options_.format.kv_heads, step.a, count, 3 * (step.c % 2));
  const size_t elements = 2 * options_.format.kv_heads * options_.format.head_dim;
  float& spoilt = batch.At(step.c % count, step.a * 31 % elements);
  HeadsView keys = batch.View(false);
  HeadsView values = batch.View(true);
  switch (step.c % 5) {
    case 0:
      spoilt = std::numeric_limits<float>::quiet_NaN();
      break;
    case 1:
      spoilt = -std::numeric_limits<float>::infinity();
      break;
    case 2:  // more than is packed, and more than an f16 holds: a sink may be so long
      if (!TooLongIsRefused(member, count)) return {};
      batch.At(count - 1, step.a * 31 % elements) = 7e4f;
      break;
    case 3:
      --keys.heads;
      return Refused(member.cache.Append(keys, values));
    default:
      ++values.tokens;
      return Refused(member.cache.Append(keys, values));
  }
  keys = batch.View(false);
  values = batch.View(true);
  return Refused(member.cache.Append(keys, values));
}

bool CacheFamily::TooLongIsRefused(const Member& member, size_t count) const {
  if (options_.exact_type == RowType::kF16) return true;
  for (const KvSideOptions& side : {options_.format.keys, options_.format.values})
    if (side.method == KvMethod::kF32) return false;
  return member.naive.size() + count > options_.sinks;
}

// Wherever queries are wanted, those of the next Append or of others.
Complaint CacheFamily::Observe(Member& member, const Step& step) {
  if (options_.query_heads == 0) return {};
  const size_t count = 1 + step.a % 200;
  const Rows queries = NormalRows(count * options_.query_heads, options_.format.head_dim, step.b);
  const auto done = member.cache.ObserveQueries(HeadsView::TokenMajor(
      queries.values.data(), count, options_.query_heads, options_.format.head_dim));
  return done ? Complaint() : done.error().message;
}

Complaint CacheFamily::Truncate(Member& member, const Step& step) {
  const size_t n = step.a % (member.naive.size() + 1);
  // What is dropped and what stays packed must have been seen as it was.
  if (Complaint complaint = Compare(member, step, true)) return complaint;
  if (member.cache.Truncate(member.naive.size() + 1 + step.b)) return "kept more than there is";
  const auto done = member.cache.Truncate(n);
  if (!done) return done.error().message;
  member.naive.Truncate(n);
  return {};
}

Complaint CacheFamily::Attend(Member& member, const Step& step) {
  if (Complaint complaint = Compare(member, step, true)) return complaint;
  const size_t size = member.naive.size();
  const size_t query_tokens = 1 + std::min<size_t>(step.a % 3, size == 0 ? 0 : size - 1);
  AttendOptions options;
  options.causal = step.b % 8 != 0;
  if (step.b % 3 == 0) options.sliding_window = 1 + step.c % 500;
  uint64_t position = member.cache.next_position() - query_tokens;
  if (step.c % 3 == 0 || size == 0) {
    position = options_.first_position + (step.a * 7 + step.c) % (size + 20);
    options.query_position = position;
  }
  const size_t heads = options_.format.kv_heads * 2;
  const Rows queries = NormalRows(query_tokens * heads, options_.format.head_dim, step.a % 16);
  return member.naive.CompareAttention(member.cache, queries, query_tokens, position, options);
}

Complaint CacheFamily::Snapshot(Member& member) {
  const auto bytes = SerializeKvCache(member.cache);
  if (!bytes) return bytes.error().message;
  auto loaded = ReadKvCache(*bytes);
  if (!loaded) return loaded.error().message;
  const auto again = SerializeKvCache(*loaded);
  if (!again || *again != *bytes) return "a loaded cache saves to other bytes";
  member.cache = *std::move(loaded);
  return {};
}

Complaint CacheFamily::Compare(Member& member, const Step& step, bool all) {
  const size_t size = member.naive.size();
  const size_t first = all ? 0 : step.c % (size + 1);
  const size_t count = all ? size : std::min<size_t>(size - first, step.a % 32);
  return member.naive.CompareTokens(member.cache, first, count, errors_);
}

}  // namespace turboquant::test
