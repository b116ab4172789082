// A cache that moves its tokens one by one.
#ifndef TURBOQUANT_TESTS_CACHE_TOKEN_MODEL_H_
#define TURBOQUANT_TESTS_CACHE_TOKEN_MODEL_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>

#include "tests/cache/cache_support.h"
#include "turboquant/kv_cache.h"

namespace turboquant::test {

// The rules of kv_cache.h, token by token, without a key map.
class TokenModel {
 public:
  explicit TokenModel(const KvCacheOptions& options) : options_(options) {}

  void Append(size_t id) {
    const uint64_t position = next_position();
    if (sinks_.size() < options_.sinks) {
      sinks_.push_back({id, position});
      return;
    }
    window_.push_back({id, position});
    Pack();
    const size_t limit = options_.max_tokens == 0 ? SIZE_MAX : options_.max_tokens;
    while (size() > limit) Evict();
  }

  void Truncate(size_t n) {
    while (size() > n) {
      std::deque<Token>& last = !window_.empty() ? window_ : !packed_.empty() ? packed_ : sinks_;
      if (&last == &packed_) --end_lane_;
      if (&last == &sinks_) behind_sinks_ = 0;
      if (&last != &sinks_) --behind_sinks_;
      last.pop_back();
      ForgetPagesIfNone();
    }
  }

  void Clear() { *this = TokenModel(options_); }

  size_t size() const { return sinks_.size() + packed_.size() + window_.size(); }
  uint64_t next_position() const {
    return options_.first_position + sinks_.size() + (sinks_full() ? behind_sinks() : 0);
  }

  void ExpectSame(const KvCache& cache, const Decoded& packed_rows, const Tokens& exact) const {
    const KvView view = cache.view();
    ASSERT_EQ(cache.size(), size());
    ASSERT_EQ(view.sinks.count, sinks_.size());
    ASSERT_EQ(view.packed_tokens, packed_.size());
    ASSERT_EQ(view.window.count, window_.size());
    ASSERT_EQ(view.tokens(), size());
    EXPECT_EQ(cache.next_position(), next_position());
    EXPECT_EQ(view.first_position, options_.first_position);
    if (!packed_.empty()) {
      EXPECT_EQ(view.first_lane, first_lane());
      EXPECT_EQ(view.packed_position, packed_.front().position);
    } else if (!window_.empty()) {
      EXPECT_EQ(view.packed_position, window_.front().position);
    }
    EXPECT_EQ(view.pages.size(), (view.first_lane + packed_.size() + 255) / 256);
    const Decoded shown(cache);
    size_t token = 0;
    for (const Token& t : sinks_) ExpectRows(shown, token++, exact, t.id);
    for (const Token& t : packed_) ExpectRows(shown, token++, packed_rows, t.id);
    for (const Token& t : window_) ExpectRows(shown, token++, exact, t.id);
  }

 private:
  struct Token {
    size_t id;
    uint64_t position;
  };

  bool sinks_full() const { return sinks_.size() == options_.sinks; }
  // Tokens that ever came behind the sinks and were not truncated.
  uint64_t behind_sinks() const { return behind_sinks_; }
  size_t first_lane() const { return (end_lane_ - packed_.size()) % 256; }

  void Pack() {
    ++behind_sinks_;
    if (options_.window == 0) {
      MoveToPages(window_.size());
      return;
    }
    const size_t open = 64 - end_lane_ % 64;
    if (window_.size() >= options_.window + open) MoveToPages(open);
  }

  void MoveToPages(size_t count) {
    for (; count > 0; --count, ++end_lane_) {
      packed_.push_back(window_.front());
      window_.pop_front();
    }
  }

  void Evict() {
    if (!packed_.empty()) {
      packed_.pop_front();
    } else {
      window_.pop_front();
    }
    ForgetPagesIfNone();
  }

  void ForgetPagesIfNone() {
    if (packed_.empty()) end_lane_ = 0;
  }

  template <class Source>
  static void ExpectRows(const Decoded& shown, size_t token, const Source& source, size_t id) {
    for (size_t head = 0; head < source.heads; ++head) {
      for (const bool values : {false, true}) {
        ASSERT_TRUE(
            std::ranges::equal(shown.Row(values, token, head), source.Row(values, id, head)))
            << "token " << token << " is not " << id;
      }
    }
  }

  KvCacheOptions options_;
  std::deque<Token> sinks_;
  std::deque<Token> packed_;
  std::deque<Token> window_;
  size_t end_lane_ = 0;
  uint64_t behind_sinks_ = 0;
};

}  // namespace turboquant::test

#endif  // TURBOQUANT_TESTS_CACHE_TOKEN_MODEL_H_
